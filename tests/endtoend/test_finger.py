"""posttls-finger: every option of its manual, with the real one of 3.7 and of 3.11 on the same servers, beside what
tests/commands/test_posttls_finger_real.py has: name service, DANE, LMTP, wrapper mode, time limits, files."""

import re
from collections.abc import Iterator

import pytest
from real_postfix import PYTHON, RealPostfix, releases

from postfixpy.migrate.scenario import CERTIFICATES
from tests.endtoend.test_tlsmgr import TLSA

pytestmark = pytest.mark.real

C = f"{CERTIFICATES}/"
NEWEST = releases()[-1]
HOST = "mx.server.example"
ZONE = [
    "@ad", ". NS a.root.", f"server.example MX 10 {HOST}", f"{HOST} A 10.0.0.1", f"_25._tcp.{HOST} TLSA {TLSA}",
    f"_465._tcp.{HOST} TLSA {TLSA}",
    "wrong.example MX 10 wrong.server.example", "wrong.server.example A 10.0.0.1",
    f"_25._tcp.wrong.server.example TLSA 3 1 1 {'ab' * 32}",
    "unusable.example MX 10 unusable.server.example", "unusable.server.example A 10.0.0.1",
    f"_25._tcp.unusable.server.example TLSA 3 1 9 {'ab' * 32}",
    "none.example MX 10 none.server.example", "none.server.example A 10.0.0.1",
    "alias.example MX 10 alias.server.example", f"alias.server.example CNAME {HOST}",
    "fails.example MX 10 fails.server.example", "fails.server.example A 10.0.0.1",
    "_25._tcp.fails.server.example TLSA SERVFAIL",
    "many.example MX 10 gone.server.example", f"many.example MX 20 {HOST}", "gone.server.example A 10.0.0.9",
    f"_submission._tcp.server.example SRV 10 0 587 {HOST}", f"_smtp._tcp.server.example SRV 10 0 25 {HOST}",
    "null.example MX 0 .", "six.example MX 10 six.server.example", "six.server.example AAAA 2001:db8::1",
    "slow.example MX 10 slow.server.example", "slow.server.example A 10.0.0.4",
    "plain.example MX 10 plain.server.example", "plain.server.example A 10.0.0.3",
    f"insecure.example MX 10 {HOST}", "native.server.example A 10.0.0.3",
]  # fmt: skip
CASES = [
    "-l dane server.example",
    "-c server.example",
    "server.example",
    "-l dane wrong.example",
    "-l dane unusable.example",
    "-l dane-only unusable.example",
    "-l dane none.example",
    "-l dane-only none.example",
    "-l half-dane server.example",
    "-l dane alias.example",
    "-l dane fails.example",
    "-l dane many.example",
    "-f -l dane none.example",
    "-f -l dane insecure.example",
    "-M encrypt -l dane insecure.example",
    "-M may -l dane insecure.example",
    "-M nonsense -l dane insecure.example",
    "-o smtp_dns_support_level=enabled -l dane server.example",
    "-R -l encrypt server.example",
    "-R -l encrypt server.example:submission",
    "-R -l encrypt none.example",
    f"-l secure -F {C}root-ca.pem server.example",
    f"-l secure -F {C}root-ca.pem server.example nexthop hostname",
    f"-l secure -F {C}root-ca.pem server.example .server.example",
    f"-l verify -P {C}by-hash server.example",
    "-l verify -P /nonexistent server.example",
    f"-l secure -A {C}other-ca.pem -A {C}root-ca.pem server.example hostname",
    "-l secure -A /nonexistent server.example hostname",
    f"-l encrypt -k {C}client-cert.pem -K {C}client-key.pem server.example",
    f"-l encrypt -k {C}client-cert.pem server.example",
    f"-l encrypt -K {C}client-key.pem server.example",
    f"-l encrypt -H {C}client.pem,{C}client-ecdsa.pem server.example",
    "-l encrypt -s other.example server.example",
    "-l encrypt -s hostname server.example",
    f"-w -l encrypt [{HOST}]:465",
    f"-w -l dane [{HOST}]:465",
    f"-w -l encrypt [{HOST}]:25",
    f"-S -l encrypt [{HOST}]:24",
    "-S -l encrypt unix:/tmp/nothing",
    f"-S -l dane inet:{HOST}:24",
    "-l encrypt unix:/tmp/nothing",
    "-a ipv4 -l encrypt server.example",
    "-a ipv6 -l encrypt server.example",
    "-a any -l encrypt six.example",
    f"-h native -l encrypt [{HOST}]",
    "-h native -l encrypt [inhosts.example]",
    "-h dns,native -l encrypt [inhosts.example]",
    "-h dns -l encrypt [inhosts.example]",
    "-h nonsense -l encrypt server.example",
    "-T 1 -l encrypt slow.example",
    "-t 1 -l encrypt many.example",
    "-m 1 -r 1 -l encrypt server.example",
    "-m 2 -r 1 -l encrypt -p <=TLSv1.2 server.example",
    "-r 1 -m 0 -l encrypt server.example",
    "-g high -l encrypt server.example",
    "-g null -l encrypt -p <=TLSv1.2 server.example",
    "-p nonsense -l encrypt server.example",
    "-p !TLSv1.3 -l encrypt -o tls_medium_cipherlist=ECDHE-RSA-AES128-GCM-SHA256 server.example",
    "-o myhostname=other.example -l may plain.example",
    "-o nonsense -l may plain.example",
    "-o tls_config_file=relative -l may server.example",
    "-l may plain.example",
    "-l encrypt plain.example",
    "-l secure plain.example",
    "-x -l encrypt server.example",
    "-d md5 -l encrypt server.example",
    "-d nonsense -l encrypt server.example",
    "-l fingerprint server.example",
    "-L none -l encrypt server.example",
    "-L 0,summary -l encrypt server.example",
    "-L all -l none server.example",
    "-L nonsense -l encrypt server.example",
    "-L untrusted -l encrypt server.example",
    "-L cache -l encrypt -r 1 -m 1 server.example",
    "-l encrypt null.example",
    "-l encrypt nonexistent.example",
    "-l encrypt",
    "",
    "-q server.example",
    "-l encrypt [10.0.0.1]",
    "-l encrypt 10.0.0.1",
    "-l encrypt [10.0.0.1]:nonsense",
    "-l encrypt []",
]


def serve(system: RealPostfix) -> None:
    """The servers that the cases are about."""
    system.sink("10.0.0.1:25", options=["--tls-cert", f"{C}good.pem"])
    system.sink("10.0.0.1:587", options=["--tls-cert", f"{C}good.pem"])
    system.sink("10.0.0.1:465", options=["--tls-cert", f"{C}good.pem", "--tls-wrapper"])
    system.sink("10.0.0.1:24", options=["-L", "--tls-cert", f"{C}good.pem"])
    system.sink("10.0.0.3:25")
    system.sink("10.0.0.4:25", "ehlo * delay=30 ok")
    with system.path("/etc/hosts").open("a") as file:
        file.write("10.0.0.1 inhosts.example\n")


def look(system: RealPostfix, program: str, arguments: str) -> list[str]:
    words = ["/usr/sbin/posttls-finger"] if program == "real" else [PYTHON, "-m", "postfixpy", "posttls-finger"]
    environment = ["env", f"POSTFIXPY_VERSION={system.release}"]
    done = system.run(*environment, *words, *arguments.split(), check=False, timeout=60)
    text = re.sub(r"&[0-9A-F]{64}", "&#", done.stdout + done.stderr.replace("/usr/sbin/posttls", "posttls"))
    text = re.sub(r"(TLS library problem: error:[^:]*:[^:]*:[^:]*:[^:]*):[^:]*:\d+:", r"\1:#:#:", text)
    return [*text.splitlines(), f"exit {done.returncode}"]


@pytest.fixture(scope="module", params=["3.7", NEWEST])
def system(request: pytest.FixtureRequest) -> Iterator[RealPostfix]:
    found = RealPostfix(request.param, zone=[line for line in ZONE if line])
    serve(found)
    yield found
    found.close()


@pytest.mark.parametrize("case", CASES)
def test_same(system: RealPostfix, case: str) -> None:
    assert look(system, "ours", case) == look(system, "real", case)
