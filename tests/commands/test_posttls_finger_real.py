"""The same servers, looked at by Debian's posttls-finger and by ours: the same output and exit status."""

import hashlib
import os
import re
import ssl
import subprocess
import sys

import pytest
from recorder.programs import machine_release
from recorder.servers import ScriptedServer

from postfixpy.migrate import scenario

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

C = f"{scenario.CERTIFICATES}/"
HOST = "mx.server.example"


def fingerprint() -> str:
    text = (scenario.CERTIFICATES / "good.pem").read_text()
    start, end = text.index("-----BEGIN CERTIFICATE"), text.index("END CERTIFICATE-----") + 20
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[start:end])).hexdigest()


def script(step: str) -> list[str]:
    start = ["> 220 server.example ESMTP", "< EHLO", "> 250-server.example", "> 250 STARTTLS", "< STARTTLS", "> 220 go"]
    rest = ["< EHLO", "> 250-server.example in TLS", "> 250 PIPELINING", "< QUIT", "> 221 bye", "close"]
    return [*start, f"starttls {step}", *rest]


CASES: dict[str, tuple[str, list[str]]] = {
    "plain": ("good", ["[HOST]:PORT"]),
    "chain": ("good", ["-c", "-C", "-l", "secure", "-F", f"{C}root-ca.pem", "[HOST]:PORT", HOST]),
    "issuers": ("chained", ["-C", "-l", "verify", "-L", "1,peercert", "-F", f"{C}root-ca.pem", "[HOST]:PORT", HOST]),
    "wrong name": ("wrong", ["-l", "verify", "-F", f"{C}root-ca.pem", "[HOST]:PORT", HOST]),
    "fingerprint": ("good", ["-l", "fingerprint", "-d", "sha256", "[HOST]:PORT", "@"]),
    "other fingerprint": ("good", ["-l", "fingerprint", "-d", "sha256", "[HOST]:PORT", "00:11"]),
    "trust anchor": ("good", ["-l", "secure", "-A", f"{C}root-ca.pem", "[HOST]:PORT", HOST]),
    "again": ("good", ["-l", "encrypt", "-r", "1", "[HOST]:PORT"]),
    "again without tickets": ("good tickets=0", ["-l", "encrypt", "-r", "1", "[HOST]:PORT"]),
    "verbose": ("good protocols=TLSv1.2", ["-l", "may", "-L", "verbose", "-p", "!TLSv1.3", "[HOST]:PORT", "x"]),
    "debug": ("good", ["-L", "2", "-l", "may", "[HOST]:PORT"]),
    "protocol": ("good protocols=TLSv1.2", ["-p", ">=TLSv1.3", "-l", "encrypt", "[HOST]:PORT"]),
    "anonymous": ("anonymous", ["-l", "may", "[HOST]:PORT"]),
    "client certificate": ("good verify=root", ["-l", "may", "-k", f"{C}client.pem", "[HOST]:PORT"]),
    "chain file, SNI": ("good verify=root", ["-l", "may", "-H", f"{C}client-ecdsa.pem", "-s", "a.test", "[HOST]:PORT"]),
    "level": ("good", ["-l", "nonsense", "[HOST]:PORT"]),
    "grade": ("good", ["-g", "nonsense", "-l", "may", "[HOST]:PORT"]),
    "family": ("good", ["-a", "nonsense", "[HOST]:PORT"]),
    "two kinds of certificate": ("good", ["-H", "x", "-k", "y", "[HOST]:PORT"]),
    "no TLS": ("good", ["-l", "none", "[HOST]:PORT"]),
    "nobody there": ("good", ["-l", "secure", "[HOST]:1"]),
    "no authorities": ("good", ["-F", "/nonexistent", "-l", "secure", "[HOST]:PORT"]),
}
_LIBRARY = re.compile(r"(TLS library problem: error:[^:]*:[^:]*:[^:]*:[^:]*):[^:]*:\d+:")


def look(command: list[str], step: str, arguments: list[str]) -> list[str]:
    server = ScriptedServer(scenario.Server("127.0.0.1:0", [script(step)]), "")
    server.start()
    port = str(server.listener.getsockname()[1])
    words = [w.replace("HOST", "127.0.0.1").replace("PORT", port).replace("@", fingerprint()) for w in arguments]
    environment = {**os.environ, "POSTFIXPY_VERSION": machine_release(), "LANG": "C"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)
    server.close()
    text = _LIBRARY.sub(r"\1:#:#:", re.sub("&[0-9A-F]{64}", "&#", done.stdout + done.stderr)).replace(port, "PORT")
    lines = [*text.splitlines(), f"exit {done.returncode}"]
    return sorted(lines) if "-C" in arguments else lines  # the real one's chain comes when its buffer is full


@pytest.mark.parametrize("case", CASES)
def test_same(case: str) -> None:
    ours = [
        sys.executable,
        "-c",
        "import sys; from postfixpy.__main__ import run; sys.exit(run(sys.argv[1], sys.argv[1:]))",
    ]
    assert look([*ours, "posttls-finger"], *CASES[case]) == look(["/usr/sbin/posttls-finger"], *CASES[case])
