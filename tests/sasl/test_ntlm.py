"""NTLM, against the server's side of the same library (dovecot has none any more)."""

from pathlib import Path

import pytest
import spnego

from postfixpy.sasl.mechanism import Credentials, SASLError
from postfixpy.sasl.ntlm import Ntlm, available


@pytest.mark.parametrize(("user", "password", "good"), [
    ("DOMAIN\\alice", "w0nder land", True),
    ("DOMAIN\\alice", "wrong", False),
    ("DOMAIN\\bob", "w0nder land", False),
])  # fmt: skip
def test_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: str, password: str, good: bool) -> None:
    assert available()
    users = tmp_path / "users"
    users.write_text("DOMAIN:alice:w0nder land\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    server = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
    client = Ntlm(Credentials(user, password))
    challenge = server.step(client.initial())
    assert challenge is not None
    answer = client.step(challenge)
    if good:
        server.step(answer)
        assert server.complete
        with pytest.raises(SASLError, match="generic failure"):
            client.step(b"")
    else:
        with pytest.raises(spnego.exceptions.SpnegoError):
            server.step(answer)
    assert password.encode() not in answer and password.encode("utf-16-le") not in answer


@pytest.mark.parametrize("challenge", [b"", b"x" * 100, b"NTLMSSP\0\x01\0\0\0", b"NTLMSSP\0\x02\0\0\0", b"x" * 20000])
def test_no_challenge(challenge: bytes) -> None:
    client = Ntlm(Credentials("alice", "secret"))
    client.initial()
    with pytest.raises(SASLError, match="bad protocol"):
        client.step(challenge)
