"""Raw public keys (smtp_tls_enable_rpk) with a server that has one: ours and the real client of 3.11.

The server is openssl(1) in wrapper mode; it gives its replies in advance. OpenSSL knows such keys from 3.2 on.
"""

import re
import subprocess

import pytest
from real_postfix import REPOSITORY, RealPostfix
from real_root import available

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available("3.11"), reason="needs Postfix 3.11: tools/real_root.py"),
]

REPLIES = "220 a\n250 a\n250 ok\n250 ok\n354 go\n250 2.0.0 queued\n221 bye\n"
LINE = (
    "Untrusted TLS connection established to 10.0.0.1[10.0.0.1]:465: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 "
    "(256/256 bits) key-exchange X25519MLKEM768 server-signature RSA-PSS (2048 {}) server-digest SHA256"
)
SETTINGS = {
    "relayhost": "[10.0.0.1]:465",
    "smtp_tls_wrappermode": "yes",
    "smtp_tls_security_level": "encrypt",
    "smtp_tls_loglevel": "1",
}


@pytest.mark.parametrize("ours", [[], ["smtp"]], ids=["real", "ours"])
@pytest.mark.parametrize("wanted", ["yes", "no"])
def test_a_raw_key_where_it_is_wanted(ours: list[str], wanted: str) -> None:
    with RealPostfix("3.11", ours=ours, **SETTINGS, smtp_tls_enable_rpk=wanted) as system:
        certificate = f"{REPOSITORY}/compat/certificates/good.pem"
        server = system.popen(
            "openssl", "s_server", "-quiet", "-enable_server_rpk", "-accept", "10.0.0.1:465", "-naccept", "1",
            "-cert", certificate, "-key", certificate, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert server.stdin is not None
        server.stdin.write(REPLIES.replace("\n", "\r\n"))
        server.stdin.flush()
        system.wait(lambda: "0100000A:01D1 00000000:0000 0A" in system.run("cat", "/proc/net/tcp").stdout, "the server")
        system.send("a@client.example", "b@example.com")
        system.wait(lambda: " status=" in system.text(), "a delivery")
        lines = [line for line in system.log() if "TLS connection established" in line]
        shown = [re.sub(r"^.*?: (?=\w+ TLS connection)", "", line) for line in lines]
        assert "status=sent (250 2.0.0 queued)" in system.text()
        assert shown == [LINE.format("bit raw public key" if wanted == "yes" else "bits")]
