"""MTA-STS in deliveries: what a domain's policy does to its servers, and what it does not."""

import hashlib
import json
import subprocess
from typing import Any

import pytest

from postfixpy.mail.delivery import TLS_NOT_REQUIRED
from postfixpy.migrate.scenario import CERTIFICATES
from postfixpy.smtp import sts
from postfixpy.smtp.peers import Network
from postfixpy.smtp.policy_table import parse_entry
from postfixpy.smtp.sts_policy import STSPolicy
from postfixpy.tls.level import Level

CA = f"smtp_tls_CAfile = {CERTIFICATES}/root-ca.pem\n"
STS = CA + "smtp_tls_policy_maps = mta-sts:\nsmtp_tls_loglevel = 1\n"
MAY = "smtp_tls_security_level = may\n"
DANE = "smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n"
REPORTS = "smtp_tlsrpt_enable = yes\nsmtp_tlsrpt_socket_name = private/tlsrpt\n"
ZONE = [
    '_mta-sts.server.example TXT "v=STSv1; id=1;"', "server.example MX 10 mx.server.example",
    "mx.server.example A 127.0.0.11", '_smtp._tls.server.example TXT "v=TLSRPTv1; rua=mailto:a@server.example"',
]  # fmt: skip
TX = ["< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data", "> 250 ok", "< QUIT", "> 221 bye"]
PLAIN = ["> 220 a ESMTP", "< EHLO", "> 250 a", *TX]
ENFORCE = "version: STSv1\nmode: enforce\nmx: *.server.example\nmax_age: 1000\n"
TESTING = ENFORCE.replace("enforce", "testing")


def server(certificate: str) -> list[str]:
    head = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 STARTTLS", "< STARTTLS", "> 220 go"]
    return [*head, f"starttls {certificate} tickets=0", "< EHLO", "> 250 a", *TX]


def world_of(make_world: Any, text: str, script: list[str], policy: str = "", zone: list[str] = ZONE) -> Any:
    world = make_world(text, zone=zone)
    network = Network({"127.0.0.11:25": [script]}, world.clock, str(CERTIFICATES))
    world.network = world.memory.network = network
    if policy:
        world.memory.sites["server.example"] = policy
    return world


def deliver(world: Any, **fields: Any) -> tuple[str, str, str]:
    world.deliver(world.request(fields.pop("nexthop", "server.example"), **fields))
    outcome = world.outcomes[-1]
    return outcome.result, outcome.dsn.status, outcome.dsn.reason


def lines_of(log_lines: list[str], word: str) -> list[str]:
    return [line for line in log_lines if word in line]


def report(world: Any) -> dict[str, Any]:
    ((path, data),) = world.memory.reports
    assert path == "private/tlsrpt"
    (policy,) = json.loads(data)["policies"]
    return dict(policy)


SENT = ("sent", "2.0.0")
UNVERIFIED = ("deferred", "4.7.5", "Server certificate not verified")


@pytest.mark.parametrize("level", ["", MAY, "smtp_tls_security_level = encrypt\n"])
@pytest.mark.parametrize("release", ["3.11", "3.7"])
def test_enforce(make_settings: Any, make_world: Any, log_lines: list[str], level: str, release: str) -> None:
    text = STS + level
    world = make_world(text, zone=ZONE, release=release)
    world.network = world.memory.network = Network({"127.0.0.11:25": [server("good")]}, world.clock, str(CERTIFICATES))
    world.memory.sites["server.example"] = ENFORCE
    assert deliver(world)[0] == "sent"
    (line,) = lines_of(log_lines, "TLS connection established")
    assert line.startswith("Verified TLS connection established to mx.server.example[127.0.0.11]:25")
    assert world.network.peers[0][1].tls.sni == "mx.server.example"
    assert world.memory.fetched == ["server.example"]


@pytest.mark.parametrize("script", [server("wrong"), server("self-signed"), server("expired"), PLAIN])
def test_enforce_against_a_server_that_fails(make_world: Any, log_lines: list[str], script: list[str]) -> None:
    world = world_of(make_world, STS + MAY, script, ENFORCE)
    result, status, _ = deliver(world)
    assert result == "deferred" and status[:3] == "4.7"
    assert b"MAIL" not in world.wire()


def test_enforce_wants_the_name_of_the_mx_host(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + MAY, server("good"), ENFORCE.replace("*.server", "*.other"))
    assert deliver(world)[0] == "deferred"
    assert world.network.peers == []
    assert "warning: MX name 'mx.server.example' does not match STS MX pattern for 'server.example'" in log_lines


def test_enforce_and_reports(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + MAY + REPORTS, server("wrong"), ENFORCE)
    assert deliver(world) == UNVERIFIED
    found = report(world)
    assert (found["policy-type"], found["policy-domain"], found["mx-host"]) == (
        2,
        "server.example",
        ["*.server.example"],
    )
    assert found["policy-string"] == ["version: STSv1", "mode: enforce", "mx: *.server.example", "max_age: 1000"]
    assert found["failure-details"][0]["c"] == 202


@pytest.mark.parametrize(
    ("certificate", "policy", "code", "why"),
    [
        ("good", TESTING, None, ""),
        ("wildcard", TESTING, None, ""),  # *.server.example
        ("wrong", TESTING, 202, "its certificate is for another name"),
        ("self-signed", TESTING, 203, "its certificate is not trusted"),
        ("good", TESTING.replace("*.server", "*.other"), 205, "its name is not in the policy"),
    ],
)
def test_testing(  # type: ignore[no-untyped-def]
    make_world, log_lines: list[str], certificate: str, policy: str, code: int | None, why: str
) -> None:
    world = world_of(make_world, STS + MAY + REPORTS, server(certificate), policy)
    assert deliver(world)[0] == "sent"
    found = report(world)
    assert found["policy-type"] == 2
    if code is None:
        assert found["f"] == 0 and not lines_of(log_lines, "(testing)")
        return
    assert found["failure-details"][0]["c"] == code
    (line,) = lines_of(log_lines, "(testing)")
    where = "mx.server.example[127.0.0.11]:25"
    assert line == f"ABC: MTA-STS policy of server.example (testing): {where} would be refused: {why}"


def test_testing_without_tls(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + MAY + REPORTS, PLAIN, TESTING)
    assert deliver(world)[0] == "sent"
    assert lines_of(log_lines, "(testing)")[0].endswith("would be refused: no TLS")
    assert report(world)["failure-details"][0]["c"] == 201


def test_none_is_no_policy(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + MAY, PLAIN, "version: STSv1\nmode: none\nmax_age: 1000\n")
    assert deliver(world)[0] == "sent"
    assert not lines_of(log_lines, "MTA-STS")


def test_expired_and_new_id(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + MAY, server("wrong"), ENFORCE)
    records = world.memory.resolver
    assert deliver(world) == UNVERIFIED
    # Record and server are gone: the policy counts, to its end.
    world.memory.sites.clear()
    exchange = world_of(make_world, STS, [], zone=ZONE[1:]).memory.resolver
    world.memory.resolver = exchange
    world.clock.now += 900
    assert deliver(world) == UNVERIFIED
    world.clock.now += 101
    assert deliver(world)[0] == "sent"
    # Another policy, and another after that, which only the id tells.
    world.memory.resolver = records
    world.memory.sites["server.example"] = ENFORCE
    assert deliver(world) == UNVERIFIED
    world.memory.sites["server.example"] = TESTING
    assert deliver(world) == UNVERIFIED
    newer = [line.replace("id=1", "id=2") for line in ZONE]
    world.memory.resolver = world_of(make_world, STS, [], zone=newer).memory.resolver
    assert deliver(world)[0] == "sent"


@pytest.mark.parametrize("script", [server("wrong"), PLAIN], ids=["tls", "plain"])
@pytest.mark.parametrize("kind", ["sts-policy-fetch-error", "sts-webpki-invalid", "sts-policy-invalid"])
def test_a_policy_that_cannot_be_had(make_world: Any, log_lines: list[str], kind: str, script: list[str]) -> None:
    codes = {"sts-policy-fetch-error": 301, "sts-policy-invalid": 302, "sts-webpki-invalid": 303}
    world = world_of(make_world, STS + MAY + REPORTS, script, kind)
    assert deliver(world)[0] == "sent"
    found = report(world)
    assert (found["policy-type"], found["failure-details"][0]["c"]) == (2, codes[kind])
    assert deliver(world)[0] == "sent"
    assert world.memory.fetched == ["server.example"]


TLSA = "_25._tcp.mx.server.example TLSA "


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["@ad", *ZONE, TLSA + "3 1 1 " + "ab" * 32], UNVERIFIED),  # DANE refuses; the policy does not help
        (["@ad", *ZONE, TLSA + "SERVFAIL"], ("deferred", "4.7.5", "TLSA lookup error for mx.server.example:25")),
        (["@ad", *ZONE, TLSA + "0 1 1 " + "ab" * 32], SENT),  # unusable: the policy decides
        (["@ad", *ZONE], SENT),
        (ZONE, SENT),
    ],
)
def test_dane_first(make_world: Any, log_lines: list[str], records: list[str], expected: tuple[str, ...]) -> None:
    world = world_of(make_world, STS + DANE, server("good"), ENFORCE, records)
    assert deliver(world)[: len(expected)] == expected
    assert bool(world.memory.fetched) == (expected == SENT)
    if expected == SENT:
        assert lines_of(log_lines, "Verified TLS connection")


def test_dane_with_insecure_mx_records_wants_the_name_too(make_world: Any, log_lines: list[str]) -> None:
    key = subprocess.run(
        f"openssl x509 -in {CERTIFICATES}/good.pem -noout -pubkey | openssl pkey -pubin -outform DER",
        shell=True,
        capture_output=True,
        check=True,
    ).stdout
    zone = ["@ad", ZONE[2], f"{TLSA}3 1 1 {hashlib.sha256(key).hexdigest()}", "@insecure", *ZONE[:2]]
    for policy, result in ((ENFORCE, "sent"), (ENFORCE.replace("*.server", "*.other"), "deferred")):
        world = world_of(make_world, STS + DANE, server("good"), policy, zone)
        assert deliver(world)[0] == result
    assert world.network.peers == []
    world = world_of(make_world, STS + DANE, server("wrong"), ENFORCE, zone)
    assert deliver(world) == UNVERIFIED


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (CA + MAY, {}),  # off by default
        (STS.replace("mta-sts:", "inline:{server.example=may} mta-sts:") + MAY, {}),
        (STS.replace("mta-sts:", "mta-sts:, inline:{server.example=may}") + MAY, {}),
        (STS + MAY, {"sendopts": TLS_NOT_REQUIRED}),
        (STS + MAY, {"nexthop": "[mx.server.example]"}),
        (STS + MAY, {"nexthop": "[127.0.0.11]"}),
        (STS + MAY + "smtp_dns_support_level = disabled\nsmtp_host_lookup = dns\n", {"nexthop": "[127.0.0.11]"}),
    ],
)
def test_not_asked(make_world: Any, log_lines: list[str], text: str, fields: dict[str, Any]) -> None:
    world = world_of(make_world, text, server("wrong"), ENFORCE)
    assert deliver(world, **fields)[0] == "sent"
    assert world.memory.fetched == []


@pytest.mark.parametrize("level", ["verify", "secure", "fingerprint", "dane-only"])
def test_never_lowers(make_world: Any, log_lines: list[str], level: str) -> None:
    text = f"{STS}smtp_tls_security_level = {level}\nsmtp_tls_fingerprint_cert_match = 00:11\n"
    world = world_of(make_world, text, server("wrong"), TESTING)
    assert deliver(world)[0] == "deferred"
    assert world.memory.fetched == []


def test_testing_does_not_lower_encrypt(make_world: Any, log_lines: list[str]) -> None:
    world = world_of(make_world, STS + "smtp_tls_security_level = encrypt\n", PLAIN, TESTING)
    assert deliver(world)[:2] == ("deferred", "4.7.4")


def test_warnings(make_settings: Any, log_lines: list[str]) -> None:
    maps = "smtp_tls_policy_maps = mta-sts:\nlmtp_tls_policy_maps = mta-sts:\n"
    assert make_settings(maps).sts
    assert not make_settings(maps, program="lmtp").sts
    assert not make_settings(f"{maps}disable_dns_lookups = yes\n").sts
    assert lines_of(log_lines, "mta-sts:") == [
        "warning: smtp_tls_policy_maps: without smtp_tls_CAfile or smtp_tls_CApath no server will satisfy mta-sts:",
        "warning: lmtp_tls_policy_maps: MTA-STS is not for LMTP: ignoring mta-sts:",
        "warning: smtp_tls_policy_maps: DNS is disabled: ignoring mta-sts:",
    ]


def test_the_entry_is_that_of_a_resolver() -> None:
    policy = STSPolicy("enforce", 60, ("mx.a.example", "*.b.example"))
    entry = parse_entry(sts.entry_text("a.example", policy, 59), "test", (3, 10))
    assert (entry.level, entry.match, entry.servername) == (Level.SECURE, ["mx.a.example", ".b.example"], "hostname")
    external = entry.external
    assert (external.kind, external.domain, external.ttl) == ("sts", "a.example", 59)
    assert (external.strings, external.patterns) == (policy.lines, list(policy.mx))
