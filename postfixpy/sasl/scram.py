"""SCRAM (RFC 5802, 7677) of the client, with SHA-1, SHA-224, SHA-256, SHA-384 and SHA-512, and with channel binding.

Errors and limits are those of Cyrus SASL's plug-in, 2.1.28 (so there is no least number of iterations; later ones want
4096). Differs from it:
passwords are prepared by SASLprep, as the RFC demands. A server that does not offer the -PLUS form is told ``n``, not
``y`` (which would let it find out that somebody took that form off the list): so does Postfix, and a server that could
bind channels, but is configured not to, would refuse ``y``.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import ClassVar

from .mechanism import BADAUTH, BADPROT, Credentials, Mechanism, SASLError
from .saslprep import prepared

MAX_ITERATIONS = 0x10000
_MAX_CHALLENGE = 2048
BINDINGS = ("tls-unique", "tls-exporter", "tls-server-end-point")
"""Channel bindings, best first. Below TLS 1.3, where it exists, tls-unique is what every server knows (RFC 9266)."""


class Scram(Mechanism):
    """One class for each hash; `plus` is set by the choice of the -PLUS form."""

    active = False
    mutual = True
    can_bind = True
    slow = True
    digest: ClassVar[str]

    def __init__(self, credentials: Credentials, *, plus: bool = False) -> None:
        super().__init__(credentials)
        self._binding = next((name for name in BINDINGS if name in credentials.bindings), "") if plus else ""
        self._nonce = self._first = self._header = b""
        self._signature: bytes | None = None
        self._state = 0

    def _step(self, challenge: bytes) -> bytes:
        if len(challenge) > _MAX_CHALLENGE:
            raise SASLError(BADPROT, f"{self.name} input longer than ({_MAX_CHALLENGE}) bytes")
        self._state += 1
        if self._state == 1:
            return self._client_first()
        if self._state == 2:
            return self._client_final(challenge)
        self._verify(challenge)
        self.done = True
        return b""

    def _client_first(self) -> bytes:
        credentials = self.credentials
        flag = b"p=" + self._binding.encode() if self._binding else b"n"
        acting_for = credentials.acting_for
        self._header = flag + b"," + (b"a=" + escaped(acting_for) if acting_for else b"") + b","
        self._nonce = credentials.nonce().encode()
        self._first = b"n=" + escaped(credentials.name) + b",r=" + self._nonce
        return self._header + self._first

    def _client_final(self, challenge: bytes) -> bytes:
        server_nonce, salt, iterations = self._read(challenge)
        bound = self.credentials.bindings[self._binding] if self._binding else b""
        final = b"c=" + base64.b64encode(self._header + bound) + b",r=" + server_nonce
        message = b",".join((self._first, challenge, final))
        salted = hashlib.pbkdf2_hmac(self.digest, prepared(self.credentials.secret), salt, iterations)
        key, server_key = keys(self.digest, salted)
        signature = hmac.digest(hashlib.new(self.digest, key).digest(), message, self.digest)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._signature = hmac.digest(server_key, message, self.digest)
        return final + b",p=" + base64.b64encode(proof)

    def _read(self, challenge: bytes) -> tuple[bytes, bytes, int]:
        """Nonce, salt and iteration count of the server's first message. Raises SASLError."""
        name = self.name
        if not challenge:
            raise SASLError(BADPROT, f"{name} input expected")
        if len(challenge) < 3 or challenge[1:2] != b"=":
            raise SASLError(BADPROT, f"Invalid {name} input")
        if challenge[:1] == b"m":
            raise SASLError(BADPROT, f"Unsupported mandatory extension to {name}")
        if challenge[:1] != b"r":
            raise SASLError(BADPROT, f"Nonce (r=) expected in {name} input")
        if b"\0" in challenge:
            raise SASLError(BADPROT, f"NULs found in {name} input")
        server_nonce, _, rest = challenge[2:].partition(b",")
        if not rest.startswith(b"s="):
            raise SASLError(BADPROT, f"Salt expected after the nonce in {name} input")
        text, _, rest = rest[2:].partition(b",")
        if not rest.startswith(b"i="):
            raise SASLError(BADPROT, f"iteration-count expected after the salt in {name} input")
        count = rest[2:].partition(b",")[0]
        if not re.fullmatch(rb"[ \t\n\v\f\r]*[+-]?[0-9]{1,20}", count):
            raise SASLError(BADPROT, f"Invalid iteration-count in {name} input")
        iterations = max(int(count) & 0xFFFFFFFF, 1)
        if iterations > MAX_ITERATIONS:
            raise SASLError(BADPROT, "iteration-count is too big, refusing to compute")
        if len(server_nonce) <= len(self._nonce) or not server_nonce.startswith(self._nonce):
            what = "The nonce received from the server doesn't start from the nonce sent by the client"
            raise SASLError(BADPROT, what)
        return server_nonce, self._salt(text), iterations

    def _salt(self, text: bytes) -> bytes:
        if not text:
            raise SASLError(BADPROT, "The salt can't be empty")
        if len(text) % 4:
            raise SASLError(BADPROT, "Invalid base64 encoding of the salt")
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise SASLError(BADPROT, f"Invalid base64 encoding of the salt in {self.name} input") from None

    def _verify(self, challenge: bytes) -> None:
        """Raises SASLError unless the server knows the password, too."""
        name = self.name
        if len(challenge) < 3:
            raise SASLError(BADPROT, f"Invalid {name} input expected")
        if not challenge.startswith(b"v="):
            raise SASLError(BADPROT, f"ServerSignature expected in {name} input")
        try:
            signature = base64.b64decode(challenge[2:].partition(b",")[0], validate=True)
        except binascii.Error:
            raise SASLError(BADPROT, f"Invalid base64 encoding of the server proof in {name} input") from None
        if self._signature is None or len(signature) != len(self._signature):
            raise SASLError(BADPROT, f"Invalid server proof (truncated) in {name} input")
        if not hmac.compare_digest(signature, self._signature):
            raise SASLError(BADAUTH, "ServerSignature mismatch")


def keys(digest: str, salted: bytes) -> tuple[bytes, bytes]:
    """The client's and the server's key, of a salted password."""
    return hmac.digest(salted, b"Client Key", digest), hmac.digest(salted, b"Server Key", digest)


def escaped(name: bytes) -> bytes:
    """A name as it stands in a message."""
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")


class ScramSHA1(Scram):
    name, digest = "SCRAM-SHA-1", "sha1"


class ScramSHA224(Scram):
    name, digest = "SCRAM-SHA-224", "sha224"


class ScramSHA256(Scram):
    name, digest = "SCRAM-SHA-256", "sha256"


class ScramSHA384(Scram):
    name, digest = "SCRAM-SHA-384", "sha384"


class ScramSHA512(Scram):
    name, digest = "SCRAM-SHA-512", "sha512"
