"""OAuth 2.0 access tokens in SASL: XOAUTH2 (Google's and Microsoft's) and OAUTHBEARER (RFC 7628).

A server that refuses a token says why in a challenge; the answer is empty (XOAUTH2) or a lone ^A, and `refusal` has
the status of the server.
"""

import json

from .mechanism import Credentials, Mechanism, encode


class _Bearer(Mechanism):
    plaintext = True

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._sent = False
        self.refusal = ""

    def _step(self, challenge: bytes) -> bytes:
        if not self._sent:
            self._sent = True
            return self._message()
        self.done = True
        self.refusal = _status(challenge)
        return self._give_up()

    def _message(self) -> bytes:
        raise NotImplementedError

    def _give_up(self) -> bytes:
        raise NotImplementedError


class XOAuth2(_Bearer):
    name = "XOAUTH2"

    def _message(self) -> bytes:
        return b"user=" + self.credentials.name + b"\x01auth=Bearer " + self.credentials.token.encode() + b"\x01\x01"

    def _give_up(self) -> bytes:
        return b""


class OAuthBearer(_Bearer):
    name = "OAUTHBEARER"

    def _message(self) -> bytes:
        credentials = self.credentials
        user = credentials.name.replace(b"=", b"=3D").replace(b",", b"=2C")
        fields = [b"n,a=" + user + b",", b"host=" + encode(credentials.host)]
        if credentials.port:
            fields.append(f"port={credentials.port}".encode())
        fields += [b"auth=Bearer " + credentials.token.encode(), b"", b""]
        return b"\x01".join(fields)

    def _give_up(self) -> bytes:
        return b"\x01"


def _status(challenge: bytes) -> str:
    """What the server's error message has as status, shortened to what can be shown."""
    try:
        found = json.loads(challenge)
    except (ValueError, RecursionError):
        return "unknown"
    status = found.get("status", "unknown") if isinstance(found, dict) else "unknown"
    return "".join(c for c in str(status)[:40] if c.isascii() and c.isprintable()) or "unknown"
