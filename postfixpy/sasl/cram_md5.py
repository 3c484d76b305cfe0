"""CRAM-MD5 (RFC 2195): the keyed digest of a challenge."""

import hmac

from .mechanism import BADPROT, Mechanism, SASLError

_MAX_CHALLENGE = 1024


class CramMD5(Mechanism):
    name = "CRAM-MD5"
    client_first = False

    def _step(self, challenge: bytes) -> bytes:
        if len(challenge) > _MAX_CHALLENGE:
            raise SASLError(BADPROT, f"CRAM-MD5 input longer than {_MAX_CHALLENGE} bytes")
        self.done = True
        return self.credentials.name + b" " + digest(self.credentials.secret, challenge)


def digest(secret: bytes, challenge: bytes) -> bytes:
    """The digest that belongs to a challenge, in hexadecimal digits."""
    return hmac.new(secret, challenge, "md5").hexdigest().encode()
