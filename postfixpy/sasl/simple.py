"""Mechanisms without cryptography: PLAIN (RFC 4616), LOGIN, EXTERNAL (RFC 4422), ANONYMOUS (RFC 4505)."""

from .mechanism import BADPROT, NOMECH, Credentials, Mechanism, SASLError


class Plain(Mechanism):
    name = "PLAIN"
    plaintext = True

    def _step(self, challenge: bytes) -> bytes:
        self.done = True
        return b"\0".join((self.credentials.acting_for, self.credentials.name, self.credentials.secret))


class Login(Mechanism):
    """The user, then the password, whatever the challenges say."""

    name = "LOGIN"
    plaintext = True
    client_first = False

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._user_sent = False

    def _step(self, challenge: bytes) -> bytes:
        if not self._user_sent:
            self._user_sent = True
            return self.credentials.name
        self.done = True
        return self.credentials.secret


class External(Mechanism):
    """Who we are is known from elsewhere, as from a TLS certificate. Without such an identity there is no exchange."""

    name = "EXTERNAL"
    dictionary = False

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        if not credentials.external:
            raise SASLError(NOMECH)

    def _step(self, challenge: bytes) -> bytes:
        if challenge:
            raise SASLError(BADPROT)
        self.done = True
        return self.credentials.acting_for


class Anonymous(Mechanism):
    """Nobody; the trace information is ``anonymous@`` and our name."""

    name = "ANONYMOUS"
    anonymous = True

    def _step(self, challenge: bytes) -> bytes:
        if challenge:
            raise SASLError(BADPROT, "Nonzero serverinlen in ANONYMOUS continue_step")
        self.done = True
        user = self.credentials.acting_for or b"anonymous"
        return user + b"@" + self.credentials.local_host.encode("utf-8", "surrogateescape")
