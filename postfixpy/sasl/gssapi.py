"""GSSAPI (RFC 4752): Kerberos, by the library gssapi: the extra ``postfixpy[gssapi]``.

The ticket comes from the credential cache of the process (KRB5CCNAME in import_environment, as with Cyrus SASL), not
from the password map; an entry there is what turns authentication on. No security layer: TLS is for that. Without the
library the mechanism is not there, as in a Cyrus SASL without its plug-in.
"""

import importlib
import importlib.util
from typing import Any

from .mechanism import BADAUTH, BADPROT, FAIL, TOOWEAK, Credentials, Mechanism, SASLError

_NO_LAYER = 1
_MAX_CHALLENGE = 65536


def available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("gssapi") is not None


class Gssapi(Mechanism):
    name = "GSSAPI"
    active = False
    dictionary = True
    mutual = True
    slow = True  # it asks the key distribution centre

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._context: Any = None

    def _step(self, challenge: bytes) -> bytes:
        gssapi: Any = importlib.import_module("gssapi")
        if len(challenge) > _MAX_CHALLENGE:
            raise SASLError(BADPROT)
        try:
            if self._context is None:
                credentials = self.credentials
                target = gssapi.Name(f"{credentials.service}@{credentials.host}", gssapi.NameType.hostbased_service)
                flags = gssapi.RequirementFlag.mutual_authentication | gssapi.RequirementFlag.out_of_sequence_detection
                flags |= gssapi.RequirementFlag.integrity
                self._context = gssapi.SecurityContext(name=target, flags=flags, usage="initiate")
            if not self._context.complete:
                return self._context.step(challenge or None) or b""
            answer = self._layers(self._context.unwrap(challenge).message)
        except gssapi.exceptions.GSSError as error:
            text = "GSSAPI Error: " + " ".join(str(error).split())
            raise SASLError(FAIL if self._context is None else BADAUTH, text) from None
        self.done = True
        return answer

    def _layers(self, offer: bytes) -> bytes:
        """The answer to the server's offer of security layers: none, and whom to act for."""
        if len(offer) != 4:
            raise SASLError(FAIL)
        if not offer[0] & _NO_LAYER:
            raise SASLError(TOOWEAK)
        answer = bytes((_NO_LAYER, 0, 0, 0)) + self.credentials.acting_for
        return bytes(self._context.wrap(answer, False).message)
