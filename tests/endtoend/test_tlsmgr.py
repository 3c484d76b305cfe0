"""Our tlsmgr in a real Postfix: it seeds the real smtp(8), and keeps its TLS sessions and those of ours, under the same
keys to the byte: what one of them began, the other goes on with."""

import hashlib
import re
import ssl

import pytest
from real_postfix import RealPostfix, releases

from postfixpy.migrate.scenario import CERTIFICATES

pytestmark = pytest.mark.real

TLSA = "3 1 1 54c4b21dd1bf7de6d93f213c735a55fc9380c22c3aa575b0fe2686dd05751a4e"
KEY = ":".join(re.findall("..", TLSA[6:].upper()))
"""The fingerprint of the key in good.pem, and the TLSA record."""
DIGEST = "AA:" * 31 + "AA"
POLICIES = {
    "may": "may",
    "protocols": "may protocols=TLSv1.2",
    "encrypt": "encrypt",
    "ciphers": "encrypt ciphers=high exclude=CAMELLIA:SHA1",
    "sni": "encrypt servername=hostname",
    "verify": "verify",
    "names": "secure match=mx.server.example:.other.example",
    "named": "secure match=hostname servername=nexthop",
    "anchor": "secure match=mx.server.example tafile=PLACE/root-ca.pem",
    "anchors": "secure match=mx.server.example tafile=PLACE/other-ca.pem tafile=PLACE/root-ca.pem",
    "dane": "dane",
    "danish": "dane-only",
    "print": "fingerprint match=PRINT",
    "prints": f"fingerprint match={DIGEST}|PRINT",
}
"""A destination for each sort of policy: everything that is in a key differs somewhere."""
RAW = {"raw": "encrypt enable_rpk=yes"}
"""Since 3.9."""


def fingerprint() -> str:
    """Of the server's certificate, as main.cf has it."""
    certificate = re.search(r"-----BEGIN CERT.*?-----END CERT[^\n]*", (CERTIFICATES / "good.pem").read_text(), re.S)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[0])).digest().hex(":").upper()


def sessions(system: RealPostfix, word: str, start: int) -> list[str]:
    """The keys of sessions that smtp has "looking for", "reloaded" or "save" in its log from `start`."""
    return sorted(re.findall(rf"{word} session (\S+) (?:in|from|to) smtp cache", system.text()[start:]))


@pytest.mark.parametrize("release", ["3.7", releases()[-1]])
@pytest.mark.parametrize("manager", ["ours", "real"])
def test_sessions_go_from_one_to_the_other(release: str, manager: str) -> None:
    policies = POLICIES | (RAW if release != "3.7" else {})
    zone = ["@ad", ". NS a.root.", "mx.server.example A 10.0.0.1", f"_25._tcp.mx.server.example TLSA {TLSA}"]
    zone += [f"{name}.example MX 10 mx.server.example" for name in policies]
    database = "btree" if release == "3.7" else "lmdb"
    rows = ["smtp unix - - n - - ../../../local/libexec/smtp -o max_idle=1"]
    system = RealPostfix(
        release, ours=["tlsmgr"] if manager == "ours" else ["nothing"], zone=zone, rows=rows,
        smtp_tls_policy_maps="texthash:/etc/postfix/policy", smtp_dns_support_level="dnssec",
        smtp_tls_CAfile=f"{CERTIFICATES}/root-ca.pem", smtp_tls_loglevel="2", tls_random_source="dev:/dev/urandom",
        smtp_tls_session_cache_database=f"{database}:$data_directory/smtp_scache", smtp_tls_fingerprint_digest="sha256",
    )  # fmt: skip
    text = "".join(f"{name}.example {value}\n" for name, value in policies.items())
    text = text.replace("PRINT", fingerprint()).replace("PLACE", str(CERTIFICATES))
    system.path("/etc/postfix/policy").write_text(text)
    programs = {"ours": "/usr/local/libexec/postfixpy/smtp", "real": "/usr/lib/postfix/sbin/smtp"}
    everybody = [f"b@{name}.example" for name in policies]
    seen = {}
    with system:
        system.sink("10.0.0.1:25", options=["--tls-cert", f"{CERTIFICATES}/good.pem"])
        place = system.path("/usr/local/libexec/smtp")
        for turn, program in enumerate(["real", "ours", "real"], 1):
            place.unlink(missing_ok=True)
            place.symlink_to(programs[program])
            start = len(system.text())
            system.send("a@client.example", *everybody)
            system.wait(lambda n=turn: system.text().count("status=sent") == n * len(everybody), f"turn {turn}")
            system.wait(lambda: not system.processes("smtp"), "the processes to end", 30)
            seen[turn] = [sessions(system, word, start) for word in ("looking for", "reloaded", "save")]
            reused = system.text()[start:].count("Reusing old session")
            assert reused == (0 if turn == 1 else len(policies)), system.text()
        assert len(set(seen[1][0])) == len(policies)  # every policy has a key of its own
        assert seen[1][1] == [] and sorted(set(seen[1][2])) == seen[1][0]
        assert seen[2][0] == seen[3][0] == seen[1][0]
        assert seen[2][1] == seen[3][1] == seen[1][0]
        assert system.processes("tlsmgr")
        assert system.troubles() == []
