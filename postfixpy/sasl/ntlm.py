"""NTLM (MS-NLMP), by the library pyspnego: the extra ``postfixpy[ntlm]``.

Without the library the mechanism is not there, as in a Cyrus SASL without its plug-in. Differs from that plug-in: the
answer is NTLMv2, where Cyrus sends NTLMv1 (unless its option ntlm_v2 is set); a server that is content with NTLMv1
takes it. The domain is the part of the user name before a backslash, if there is one, and else the server's.
"""

import importlib.util
from typing import Any

from .mechanism import BADPROT, Credentials, Mechanism, SASLError

_SIGNATURE = b"NTLMSSP\0"
_MAX_CHALLENGE = 16384


def available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("spnego") is not None


class Ntlm(Mechanism):
    name = "NTLM"
    slow = True  # its first use imports the library

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._context: Any = None

    def _step(self, challenge: bytes) -> bytes:
        import spnego
        from spnego.exceptions import SpnegoError

        if len(challenge) > _MAX_CHALLENGE:
            raise SASLError(BADPROT)
        user = self.credentials.name.decode("utf-8", "replace")
        password = self.credentials.secret.decode("utf-8", "replace")
        try:
            if self._context is None:
                self._context = spnego.client(
                    user, password, protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm,
                    context_req=spnego.ContextReq.none,
                )  # fmt: skip
                return self._context.step() or b""
            if challenge[:8] != _SIGNATURE or challenge[8:12] != b"\x02\0\0\0":
                raise SASLError(BADPROT, "server didn't issue valid NTLM challenge")
            answer = self._context.step(challenge) or b""
        except (SpnegoError, ValueError, IndexError, KeyError, OverflowError):
            # The texts of the library could hold what it was given.
            raise SASLError(BADPROT, "server didn't issue valid NTLM challenge") from None
        self.done = True
        return answer
