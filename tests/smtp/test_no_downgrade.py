"""At level encrypt and above nothing of the mail goes out in the clear, whatever the server does, says or breaks.

The property is on the wire: the bytes that the client hands to the network, in TLS or not.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postfixpy.migrate.scenario import CERTIFICATES
from postfixpy.smtp import peers
from postfixpy.smtp.peers import Network
from postfixpy.smtp.requiretls import Demand
from postfixpy.tls.level import Level

CA = f"smtp_tls_CAfile = {CERTIFICATES}/root-ca.pem\n"
FINGERPRINT = "smtp_tls_fingerprint_cert_match = " + "00:11\n"
DNSSEC = "smtp_dns_support_level = dnssec\n"
POLICIES = [
    "smtp_tls_security_level = encrypt\n",
    "smtp_tls_security_level = verify\n" + CA,
    "smtp_tls_security_level = secure\n",
    "smtp_tls_security_level = fingerprint\n" + FINGERPRINT,
    "smtp_tls_security_level = dane-only\n" + DNSSEC,
    "smtp_tls_security_level = dane\n" + DNSSEC,  # the zone has validated records
    "smtp_tls_policy_maps = static:{encrypt}\n",
    "smtp_tls_policy_maps = static:{secure match=hostname}\n" + CA,
    "smtp_tls_policy_maps = static:{nonsense}\n",
    "smtp_tls_policy_maps = fail:x\n",
    "smtp_tls_security_level = may\nsmtp_tls_policy_maps = mta-sts:\n" + CA,  # the domain has a policy
    "smtp_tls_per_site = static:MUST_NOPEERMATCH\n",
    "smtp_tls_per_site = static:MUST\nsmtp_tls_security_level = may\n",
    "smtp_enforce_tls = yes\n",
    "smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no\n",
    "smtp_tls_security_level = encrypt\nsmtp_tls_wrappermode = yes\n",
    "smtp_tls_security_level = may\nsmtp_requiretls_policy = opportunistic+starttls\n",  # with REQUIRETLS
]
ZONE = [
    "@ad", ". NS a.root.", "server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11",
    '_mta-sts.server.example TXT "v=STSv1; id=1;"', "mx.server.example A 127.0.0.12",
    "_25._tcp.mx.server.example TLSA 3 1 1 " + "ab" * 32,
]  # fmt: skip
STS = "version: STSv1\nmode: enforce\nmx: mx.server.example\nmax_age: 1000\n"
GREETING = st.sampled_from(
    [["> 220 a ESMTP"], ["> 220 a"], ["> 220 ********"], ["> 554 no"], [r">> 220 a\r\n250 b\r\n"], []]
)
HELLO = st.sampled_from(
    [
        ["< EHLO", "> 250-a", "> 250 STARTTLS"],
        ["< EHLO", "> 250-a", "> 250-PIPELINING", "> 250 STARTTLS"],
        ["< EHLO", "> 250 a"],
        ["< EHLO", "> 502 no", "< HELO", "> 250 a"],
        ["< EHLO", "> 421 busy"],
        ["< EHLO", r">> 250-a\r\n250 STARTTLS\r\n220 go\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n"],
    ]
)
ANSWER = st.sampled_from(
    [
        ["< STARTTLS", "> 220 go"],
        ["< STARTTLS", "> 454 later"],
        ["< STARTTLS", "> 501 no"],
        ["< STARTTLS", r">> 220 go\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n"],
        ["< STARTTLS", "close"],
        ["< STARTTLS", "> 999 what"],
        [],
    ]
)
SHAKE = st.sampled_from(
    [
        ["starttls good"],
        ["starttls wrong"],
        ["starttls anonymous"],
        ["starttls self-signed protocols=TLSv1.2"],
        ["starttls good cut=200"],
        ["starttls good protocols=TLSv1"],
        ["hello", "close"],
        ["hello", "reset"],
        ["hello", "> 250 let us talk in plaintext"],
        ["hello", r">> \x15\x03\x03\x00\x02\x02\x28"],
        ["stall"],
        [],
    ]
)
REST = [
    "< ",
    "> 250-a",
    "> 250 REQUIRETLS",
    "< ",
    "> 250 ok",
    "< ",
    "> 250 ok",
    "< ",
    "> 354 go",
    "<data",
    "> 250 ok",
    "< ",
]
AFTER = st.sampled_from([REST, REST[:5], ["> 250 a", *REST], ["close"], ["reset"], []])


def clear(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, text: str, scripts: list[list[str]], age: int, flags: int
) -> bytes:
    """One delivery: what the client has handed to the network, in TLS or not."""
    sent: list[bytes] = []
    original = peers.Peer._send

    def send(peer: peers.Peer, data: bytes) -> None:
        sent.append(data)
        original(peer, data)

    with monkeypatch.context() as patch:
        patch.setattr(peers.Peer, "_send", send)
        world = make_world(text, zone=ZONE)
        world.network = world.memory.network = Network(
            {f"127.0.0.1{n}:25": scripts for n in (1, 2)}, world.clock, str(CERTIFICATES)
        )
        world.memory.sites["server.example"] = STS
        request = world.request("server.example", flags=flags, sendopts=32 if "requiretls" in text else 0)
        request.stats.incoming_arrival -= age * 1_000_000
        world.deliver(request)
    assert len(world.outcomes) == 1
    return b"".join(sent)


@st.composite
def connection(draw: st.DrawFn) -> list[str]:
    return draw(GREETING) + draw(HELLO) + draw(ANSWER) + draw(SHAKE) + draw(AFTER)


@pytest.mark.parametrize("text", POLICIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=st.lists(connection(), min_size=1, max_size=3),
    age=st.sampled_from([0, 1000]),
    flags=st.sampled_from([3, 0x203]),
)
def test_no_mail_in_the_clear(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, text: str, scripts: list[list[str]], age: int, flags: int
) -> None:
    wire = clear(make_world, monkeypatch, text, scripts, age, flags)
    assert b"MAIL FROM" not in wire and b"Subject" not in wire


PLAIN = ["> 220 a", "< EHLO", "> 250 a", *REST[3:]]
OFFERS = ["> 220 a", "< EHLO", "> 250-a", "> 250 STARTTLS", "< STARTTLS"]
REFUSES = [*OFFERS, "> 454 later", *REST[3:]]
BREAKS = [*OFFERS, "> 220 go", "hello", "close"]
ENCRYPT = "smtp_tls_security_level = encrypt\n"


def _yes(*_: Any) -> Any:
    return True
    yield


def _nothing(*_: Any) -> Any:
    return None
    yield


def _disabled(*_: Any) -> Any:
    return Demand.DISABLE
    yield


def _may(settings: Any, server: Any, found: Any, now: float) -> Any:
    found.level = Level.MAY
    return None
    yield


PLANTED: dict[str, tuple[str, Any, str, list[list[str]]]] = {
    "TLS is never a must": ("postfixpy.smtp.policy.Policy.must_encrypt", property(lambda _: False), ENCRYPT, [PLAIN]),
    "nor when it is refused": (
        "postfixpy.smtp.policy.Policy.must_encrypt",
        property(lambda _: False),
        ENCRYPT,
        [REFUSES],
    ),
    "plaintext after a handshake that fails": ("postfixpy.smtp.starttls.plaintext_ok", _yes, ENCRYPT, [BREAKS, PLAIN]),
    "a failed table is no table": (
        "postfixpy.smtp.policy._table_entry",
        _nothing,
        "smtp_tls_policy_maps = fail:x\n",
        [PLAIN],
    ),
    "no MTA-STS": ("postfixpy.smtp.sts.find", _nothing, POLICIES[10], [PLAIN]),
    "no REQUIRETLS": ("postfixpy.smtp.requiretls.demand", _disabled, POLICIES[-1], [PLAIN]),
    "DANE is may": ("postfixpy.smtp.dane.initialize", _may, POLICIES[4], [PLAIN]),
}
"""Mistakes: what is replaced, by what, and a configuration and servers with which mail goes out in the clear."""


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_is_noticed(make_world: Any, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    place, other, text, scripts = PLANTED[mistake]
    assert b"MAIL FROM" not in clear(make_world, monkeypatch, text, scripts, 1000, 3)
    monkeypatch.setattr(place, other)
    assert b"MAIL FROM" in clear(make_world, monkeypatch, text, scripts, 1000, 3)


def test_the_property_can_fail(make_world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At level may the same servers do get mail in the clear."""
    sent: list[bytes] = []
    original = peers.Peer._send
    monkeypatch.setattr(peers.Peer, "_send", lambda peer, data: (sent.append(data), original(peer, data))[1])
    plain = ["> 220 a", "< EHLO", "> 250-a", "> 250 STARTTLS", "< STARTTLS", "> 454 later", *REST[3:]]
    world = make_world("smtp_tls_security_level = may\n", zone=ZONE, servers={"127.0.0.11:25": [plain]})
    world.deliver(world.request("server.example"))
    assert b"MAIL FROM" in b"".join(sent)
