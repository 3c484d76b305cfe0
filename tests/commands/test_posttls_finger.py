"""posttls-finger in memory: what it says of servers, and what it makes of DANE."""

from pathlib import Path

import pytest

from postfixpy import config, log
from postfixpy.migrate import scenario
from postfixpy.smtp.finger import Finger, Options
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.names import Zone
from postfixpy.smtp.peers import Network
from postfixpy.smtp.settings import Settings
from postfixpy.tls.level import Level

SCRIPT = [
    *("> 220 server.example ESMTP", "< EHLO", "> 250-server.example", "> 250 STARTTLS", "< STARTTLS", "> 220 go"),
    *("starttls good", "< EHLO", "> 250 server.example", "< QUIT", "> 221 bye", "close"),
]
ZONE = ["server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11"]


@pytest.fixture
def lines() -> list[str]:
    return []


def finger(tmp_path: Path, lines: list[str], zone: list[str], script: list[str], **options: object) -> list[str]:
    """The log of a run."""
    (tmp_path / "main.cf").write_text(
        "compatibility_level = 3.6\nmyhostname = client.example\ninet_protocols = ipv4\n"
        "smtp_dns_support_level = dnssec\nsmtp_tls_security_level = dane\nsmtp_tls_fingerprint_digest = sha256\n"
        f"smtp_tls_CAfile = {scenario.CERTIFICATES}/root-ca.pem\n"
    )
    settings = Settings(
        config.load(str(tmp_path), profile="upstream").view(process_name="smtp"), interfaces=["127.0.0.1"]
    )
    clock = Clock()
    network = Network({"127.0.0.11:25": [script]}, clock, str(scenario.CERTIFICATES))
    memory = Memory(network, clock, lambda outcome: 0, Zone(zone))
    probe = Options("server.example", lines.append, match=["nexthop", "dot-nexthop"])
    for name, value in options.items():
        setattr(probe, name, value)
    previous = log.set_sink(lambda severity, text: lines.append(text))
    try:
        memory.run(Finger(settings, probe, settings.tls_context, clock).run())
    finally:
        log.set_sink(previous)
    return lines


def test_a_conversation(tmp_path: Path, lines: list[str]) -> None:
    found = finger(tmp_path, lines, ZONE, SCRIPT, level=Level.SECURE)
    assert found == [
        "Connected to mx.server.example[127.0.0.11]:25",
        "< 220 server.example ESMTP",
        "> EHLO client.example",
        "< 250-server.example",
        "< 250 STARTTLS",
        "> STARTTLS",
        "< 220 go",
        "mx.server.example[127.0.0.11]:25: matched peername: mx.server.example",
        *[line for line in found if "subject_CN" in line or "Verified TLS connection" in line],
        "> EHLO client.example",
        "< 250 server.example",
        "> QUIT",
        "< 221 bye",
    ]
    assert any(line.startswith("Verified TLS connection established to mx.server.example") for line in found)


def test_the_session_is_resumed(tmp_path: Path, lines: list[str]) -> None:
    found = finger(tmp_path, lines, ZONE, SCRIPT, level=Level.ENCRYPT, chat=False, reconnect=5)
    assert "Reconnecting after 5 seconds" in found
    assert "mx.server.example[127.0.0.11]:25: Reusing old session" in found
    assert found[-1] == "Found a previously used server.  Done reconnecting."


def test_without_tlsa_records_dane_becomes_secure(tmp_path: Path, lines: list[str]) -> None:
    found = finger(tmp_path, lines, ZONE, SCRIPT, chat=False, level=Level.DANE_ONLY)
    text = " ".join(found)
    assert "MX RRset is insecure: try to encrypt" in text or 'resorting to "secure"' in text


def test_the_chain_is_printed(tmp_path: Path, lines: list[str]) -> None:
    found = finger(tmp_path, lines, ZONE, SCRIPT, chat=False, level=Level.SECURE, log=0, print_chain=True)
    assert found[:5] == [
        "",
        "---",
        "Certificate chain",
        " 0 subject: /CN=mx.server.example",
        "    issuer: /CN=Test Root",
    ]
    assert found[-1].endswith("-----END CERTIFICATE-----")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["> 554 no", "close"], "SMTP service not available: 554 no"),
        (["close"], "lost connection while reading server greeting"),
        (["stall"], "timeout while reading server greeting"),
        (["> 220 x", "< EHLO", "> 500 what", "close"], "EHLO rejected: 500 what"),
        (["> 220 x", "< EHLO", "> 250 STARTTLS", "< STARTTLS", "> 454 no", "close"], "STARTTLS rejected: 454 no"),
    ],
)
def test_servers_that_refuse(tmp_path: Path, lines: list[str], script: list[str], said: str) -> None:
    assert said in finger(tmp_path, lines, ZONE, script, level=Level.SECURE)


def test_no_such_domain(tmp_path: Path, lines: list[str]) -> None:
    found = finger(tmp_path, lines, [], SCRIPT, level=Level.SECURE)
    assert found[0].startswith("Destination address lookup failed: ")
