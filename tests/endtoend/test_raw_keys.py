"""Raw public keys (RFC 7250) in place of certificates: our smtp and the real one of 3.11, with the real smtpd of 3.11,
under each policy that can ask for them. The machine's own OpenSSL may be too old for them; the root's is not."""

import re

import pytest
from real_postfix import RealPostfix, releases

from postfixpy.migrate.scenario import CERTIFICATES
from tests.endtoend.test_tlsmgr import DIGEST, KEY, TLSA, fingerprint

pytestmark = pytest.mark.real

NEWEST = releases()[-1]
POLICIES = {
    "may": "may enable_rpk=yes",
    "encrypt": "encrypt enable_rpk=yes",
    "without": "encrypt",
    "key": f"fingerprint match={KEY} enable_rpk=yes",
    "certificate": "fingerprint match=PRINT enable_rpk=yes",  # which a raw key does not have
    "either": f"fingerprint match={KEY}",
    "wrong": f"fingerprint match={DIGEST} enable_rpk=yes",
    "secure": "secure match=mx.server.example enable_rpk=yes",
    "dane": "dane",  # its only TLSA record is of the key
    "other-dane": "dane-only",  # one of a certificate, too
    "wrong-dane": "dane",
}
HOSTS = {"other-dane": "both.server.example", "wrong-dane": "wrong.server.example"}
WITH_KEY = {"may", "encrypt", "key", "certificate", "wrong", "dane", "wrong-dane"}
"""The policies under which the server's key comes raw."""


def told(system: RealPostfix, start: int) -> list[str]:
    """What smtp logged, without what differs from run to run."""
    lines = re.findall(r"postfix/smtp\[\d+\]: (.*)", system.text()[start:])
    lines = [re.sub(r"\b[0-9A-F]{6,}: |delays?=[^ ]+ |queued as \w+", "", line) for line in lines]
    return [line for line in lines if not line.startswith("initializing")]


def test_as_the_real_one() -> None:
    zone = ["@ad", ". NS a.root."]
    for host, records in {
        "mx.server.example": [TLSA],
        "both.server.example": [TLSA, "3 0 1 " + "ab" * 32],
        "wrong.server.example": ["3 1 1 " + "ab" * 32],
    }.items():
        zone += [f"{host} A 10.0.0.1", *(f"_25._tcp.{host} TLSA {record}" for record in records)]
    zone += [f"{name}.example MX 10 {HOSTS.get(name, 'mx.server.example')}" for name in POLICIES]
    server = "10.0.0.1:smtp inet n - n - - smtpd -o myhostname=mx.server.example -o smtpd_tls_security_level=may"
    rows = [f"{server} -o smtpd_tls_chain_files={CERTIFICATES}/good.pem -o syslog_name=server"]
    real, mine = (deliveries(ours, zone, rows) for ours in ([], ["smtp"]))
    assert {name for name, lines in real.items() if any("raw public key" in line for line in lines)} == WITH_KEY
    assert mine == real


def deliveries(ours: list[str], zone: list[str], rows: list[str]) -> dict[str, list[str]]:
    """What smtp logged for each policy, one after the other."""
    system = RealPostfix(
        NEWEST, ours=ours, zone=zone, rows=rows, smtp_tls_policy_maps="texthash:/etc/postfix/policy",
        smtp_dns_support_level="dnssec", smtp_tls_CAfile=f"{CERTIFICATES}/root-ca.pem", smtp_tls_loglevel="2",
    )  # fmt: skip
    text = "".join(f"{name}.example {value}\n" for name, value in POLICIES.items())
    system.path("/etc/postfix/policy").write_text(text.replace("PRINT", fingerprint()))
    found = {}
    with system:
        for number, name in enumerate(POLICIES, 1):
            start = len(system.text())
            system.send("", f"b@{name}.example")
            system.wait(lambda n=number: len(re.findall(r"smtp\[.*status=", system.text())) == n, name)
            found[name] = told(system, start)
    return found
