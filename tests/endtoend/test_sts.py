"""MTA-STS in a whole mail system: our smtp under the real master, in a chroot jail and without, and our whole system,
with a name server, HTTPS servers for the policies, and mail servers in TLS."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from real_postfix import PYTHON, RealPostfix, releases

pytestmark = pytest.mark.real

NEWEST = releases()[-1]
JAILS = [
    *((release, chroot, False) for release in ("3.7", NEWEST) for chroot in (False, True)),
    (NEWEST, True, True),
]
POLICIES = {
    "good.example": "enforce mx.good.example",
    "wrong.example": "enforce mx.wrong.example",
    "moved.example": "enforce mx.elsewhere.example",
    "plain.example": "enforce *.plain.example",
    "testing.example": "testing mx.testing.example",
    "forged.example": "enforce mx.forged.example",
    "gone.example": "enforce mx.gone.example",
}
"""What each domain publishes. The web server of forged.example is not certified; gone.example has none."""
SERVERS = {
    "10.0.0.1": "good.example moved.example gone.example nothing.example",  # with a certificate for its name
    "10.0.0.2": "wrong.example",  # with one for another
    "10.0.0.3": "plain.example testing.example forged.example",  # without TLS
}
WEB, FORGED, NOBODY = "10.0.0.7", "10.0.0.8", "10.0.0.9"

WEB_SERVER = """
import http.server, ssl, sys
address, certificate, *policies = sys.argv[1:]
texts = dict(word.split("=") for word in policies)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        domain = self.headers["Host"].removeprefix("mta-sts.")
        print(domain, self.path, flush=True)
        mode, mx = texts[domain].split()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"version: STSv1\\nmode: {mode}\\nmx: {mx}\\nmax_age: 86400\\n".encode())
    def log_message(self, *words):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
server = http.server.HTTPServer((address, 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()
"""


def zone() -> list[str]:
    lines = []
    for address, domains in SERVERS.items():
        for domain in domains.split():
            lines += [f"{domain} MX 10 mx.{domain}", f"mx.{domain} A {address}"]
            lines += [f'_smtp._tls.{domain} TXT "v=TLSRPTv1; rua=mailto:tls@{domain}"']
    for domain in POLICIES:
        web = {"forged.example": FORGED, "gone.example": NOBODY}.get(domain, WEB)
        lines += [f'_mta-sts.{domain} TXT "v=STSv1; id=20261127;"', f"mta-sts.{domain} A {web}"]
    return [*lines, "client.example A 10.0.0.20"]


@pytest.fixture(scope="module")
def certificates(module_path: Path) -> Path:
    """An authority, and NAME.pem of it for the servers: web, good, wrong; forged.pem is of another."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=module_path)

    def request(name: str, *names: str, issuer: str = "") -> None:
        words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        words += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        if names:
            words += ["-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)]
        if issuer:
            words += [
                "-CA",
                f"{issuer}.crt",
                "-CAkey",
                f"{issuer}.key",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ]
        openssl("req", "-x509", *words)
        text = (module_path / f"{name}.crt").read_text() + (module_path / f"{name}.key").read_text()
        (module_path / f"{name}.pem").write_text(text)

    request("authority")
    request("another")
    request("web", *(f"mta-sts.{domain}" for domain in POLICIES), issuer="authority")
    request("forged", "mta-sts.forged.example", issuer="another")
    request("good", *(f"mx.{domain}" for domain in SERVERS["10.0.0.1"].split()), issuer="authority")
    request("wrong", "mx.other.example", issuer="authority")
    return module_path


def statuses(system: RealPostfix) -> dict[str, str]:
    """Recipient: the last DSN, status and reason."""
    found = re.findall(r"to=<(\S+)>.* dsn=(\S+), status=(\w+) \((.*)\)$", system.text(), re.M)
    return {address: f"{dsn} {status} {reason}" for address, dsn, status, reason in found}


@pytest.mark.parametrize(("release", "chroot", "whole"), JAILS)
def test_policies_are_fetched_kept_and_obeyed(release: str, chroot: bool, whole: bool, certificates: Path) -> None:
    row = f"smtp unix - - {'y' if chroot else 'n'} - - smtp -o smtp_tls_policy_maps=mta-sts:"
    reports = {} if release == "3.7" else {"smtp_tlsrpt_enable": "yes", "smtp_tlsrpt_socket_name": "run/tlsrpt"}
    system = RealPostfix(
        release, ours=["smtp"], zone=zone(), rows=[row], chroot=chroot, whole=whole,
        smtp_tls_loglevel="1", smtp_tls_security_level="may", smtp_tls_CAfile="/etc/ssl/certs/ca-certificates.crt",
        minimal_backoff_time="600s", **reports,
    )  # fmt: skip
    authorities = system.path("/etc/ssl/certs/ca-certificates.crt")
    authorities.parent.mkdir(parents=True, exist_ok=True)
    authorities.unlink(missing_ok=True)
    authorities.write_bytes((certificates / "authority.crt").read_bytes())
    files = system.path("/tmp/certificates")
    files.mkdir()
    for path in certificates.glob("*.pem"):
        (files / path.name).write_bytes(path.read_bytes())
    texts = [f"{domain}={text}" for domain, text in POLICIES.items()]
    if reports:
        place = system.path("/var/spool/postfix/run")
        place.mkdir(exist_ok=True)
        command = [PYTHON, "-m", "postfixpy", "tlsrpt", "collect", "/var/spool/postfix/run/tlsrpt", "/tmp/events"]
        system.popen(*command, cwd="/")
        system.wait((place / "tlsrpt").exists, "the collector", 20)
    web = {}
    for address, certificate in ((WEB, "web"), (FORGED, "forged")):
        command = [PYTHON, "-c", WEB_SERVER, address, f"/tmp/certificates/{certificate}.pem", *texts]
        web[address] = system.popen(*command, stdout=subprocess.PIPE)
        assert web[address].stdout.readline() == "ready\n"
    with system:
        system.sink("10.0.0.1:25", options=["--tls-cert", "/tmp/certificates/good.pem"])
        system.sink("10.0.0.2:25", options=["--tls-cert", "/tmp/certificates/wrong.pem"])
        system.sink("10.0.0.3:25")
        domains = [domain for group in SERVERS.values() for domain in group.split()]
        system.send("a@client.example", *(f"b@{domain}" for domain in domains))
        system.wait(lambda: len(statuses(system)) == len(domains), "the deliveries")
        found = {address.removeprefix("b@"): text for address, text in statuses(system).items()}
        assert {domain: text for domain, text in found.items() if " sent " not in text} == {
            "wrong.example": "4.7.5 deferred Server certificate not verified",
            "moved.example": "4.7.5 deferred Server certificate not verified"
            if release == "3.7"
            else "4.3.0 deferred server unavailable or unable to receive mail",
            "plain.example": "4.7.4 deferred TLS is required, but was not offered by host mx.plain.example[10.0.0.3]",
        }
        said = system.text()
        kinds = {name: kind for kind, name in re.findall(r"(\w+) TLS connection established to mx.(\w+)", said)}
        assert (kinds["good"], kinds["gone"], kinds["nothing"]) == ("Verified", "Trusted", "Trusted")
        assert "MTA-STS policy of testing.example (testing): mx.testing.example[10.0.0.3]:25 would be refused" in said
        assert "certificate of mta-sts.forged.example: unable to get local issuer certificate" in said
        assert "MTA-STS policy of gone.example: mta-sts.gone.example: Connection refused" in said
        # The policies outlive their servers and our process: another finds them in data_directory.
        for process in web.values():
            system.kill(process)
        asked = web[WEB].stdout.read().splitlines()
        assert sorted(asked) == sorted(
            f"{d} /.well-known/mta-sts.txt" for d in POLICIES if d not in ("forged.example", "gone.example")
        )
        before = set(system.processes("smtp"))
        system.reload()
        system.wait(lambda: not before & set(system.processes("smtp")), "the processes to end", 20)
        system.send("a@client.example", "c@good.example", "c@wrong.example", "c@forged.example")
        system.wait(lambda: sum(address[0] == "c" for address in statuses(system)) == 3, "the second deliveries")
        assert statuses(system)["c@wrong.example"] == "4.7.5 deferred Server certificate not verified"
        assert system.text().count("Verified TLS connection established to mx.good.example") == 2
        kept = list(system.path("/var/lib/postfix").glob("mta-sts.*"))
        assert len(kept) == len(asked) and {path.stat().st_mode & 0o777 for path in kept} == {0o600}
        unexpected = [
            line for line in system.troubles() if not re.match(r"postfix/smtp: warning: (MTA-STS policy|MX name)", line)
        ]
        assert unexpected == []
        if reports:
            check_reports(system)


def check_reports(system: RealPostfix) -> None:
    """What the collector heard, as reports of RFC 8460: policy type, sessions and failures by domain."""
    today = subprocess.run(["date", "-u", "+%F"], capture_output=True, text=True, check=True).stdout.strip()
    lines = system.ours("tlsrpt", "report", "-d", today, "/tmp/events").stdout.splitlines()
    found = {}
    for line in lines:
        (policy,) = json.loads(line)["policies"]
        kinds = [failure["result-type"] for failure in policy.get("failure-details", [])]
        summary = policy["summary"]
        counts = summary["total-successful-session-count"], summary["total-failure-session-count"]
        found[policy["policy"]["policy-domain"]] = [policy["policy"]["policy-type"], *counts, *kinds]
    assert found == {
        "forged.example": ["sts", 0, 2, "sts-webpki-invalid", "sts-policy-fetch-error"],  # its server was gone then
        "gone.example": ["sts", 0, 1, "sts-policy-fetch-error"],
        "good.example": ["sts", 2, 0],
        "nothing.example": ["no-policy-found", 1, 0],
        "plain.example": ["sts", 0, 1, "starttls-not-supported"],
        "testing.example": ["sts", 0, 1, "starttls-not-supported"],
        "wrong.example": ["sts", 0, 2, "certificate-host-mismatch"],
    }
