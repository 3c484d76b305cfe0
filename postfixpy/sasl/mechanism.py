"""What a SASL mechanism of the client is.

A mechanism is an object for one exchange: `initial` gives the initial response, `step` answers a challenge. Errors are
`SASLError`, with the texts of Cyrus SASL, which Postfix's own texts show; `log` is what Cyrus would log of them.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

# What went wrong, in the words of sasl_errstring(3).
CONTINUE = "another step is needed in authentication"
FAIL = "generic failure"
NOMECH = "no mechanism available"
BADPROT = "bad protocol / cancel"
BADSERV = "server failed mutual authentication step"
BADAUTH = "authentication failure"
BADPARAM = "invalid parameter supplied"
BUFOVER = "overflowed buffer"
TOOWEAK = "mechanism too weak for this user"

MAX_LINE = 12288
"""Longest line of an exchange, in bytes with its line end (RFC 4954, 4)."""


class SASLError(Exception):
    """The exchange cannot go on. str() says why, without secrets; `log` is a line for the log, or "".

    `problem` tells errors in the use of the mechanism ("SASL authentication problem") from failures.
    """

    def __init__(self, text: str, log: str = "", *, problem: bool = False) -> None:
        super().__init__(text)
        self.log = f"SASL authentication {'problem' if problem else 'failure'}: {log}" if log else ""


class TokenError(Exception):
    """No access token. str() says why and what to do, without secrets."""


def nonce() -> str:
    """Thirty-two random characters."""
    return secrets.token_urlsafe(24)


@dataclass(slots=True)
class Credentials:
    """What a client authenticates with, and to whom.

    user, password   as in the password map; text with surrogates for bytes that are not UTF-8
    authzid          whom to act for, "" is the user
    service, host    of the server: "smtp" or "lmtp", and its name
    local_host       our name, for ANONYMOUS
    bindings         channel bindings that the TLS session has, by name ("tls-exporter"...)
    token            an OAuth 2.0 access token
    external         the identity that TLS has proved, for EXTERNAL; "" is none
    port             of the server, for OAUTHBEARER
    memory           what this process remembers of servers, for DIGEST-MD5; by host
    """

    user: str
    password: str = field(default="", repr=False)
    authzid: str = ""
    service: str = "smtp"
    host: str = ""
    local_host: str = ""
    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    external: str = ""
    port: int = 0
    memory: dict[str, Any] = field(default_factory=dict, repr=False)
    nonce: Callable[[], str] = field(default=nonce, repr=False)

    @property
    def name(self) -> bytes:
        """The user as Cyrus canonifies it: without white space around it. Raises SASLError."""
        name = encode(self.user).strip(b" \t\n\v\f\r")
        if not name:
            raise SASLError(FAIL, "All-whitespace username.")
        return name

    @property
    def secret(self) -> bytes:
        return encode(self.password)

    @property
    def acting_for(self) -> bytes:
        """`authzid` in bytes, canonified."""
        return encode(self.authzid).strip(b" \t\n\v\f\r")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Mechanism(ABC):
    """One exchange of one mechanism, seen from the client.

    The class attributes tell what it is good for, against Postfix's security options: `plaintext` sends the password
    itself; `active` and `dictionary` can be attacked actively, or off line by guessing; `anonymous` names nobody;
    `mutual` proves the server, too; `forward_secret`. `slow`: a step may take long (a hash that is made to, a network).
    """

    name: ClassVar[str]
    plaintext: ClassVar[bool] = False
    active: ClassVar[bool] = True
    dictionary: ClassVar[bool] = True
    anonymous: ClassVar[bool] = False
    mutual: ClassVar[bool] = False
    forward_secret: ClassVar[bool] = False
    client_first: ClassVar[bool] = True
    can_bind: ClassVar[bool] = False
    slow: ClassVar[bool] = False

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.done = False

    def initial(self) -> bytes | None:
        """The initial response; None: the server speaks first. Raises SASLError."""
        return self.step(b"") if self.client_first else None

    def step(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises SASLError."""
        if self.done:
            raise SASLError(FAIL, "attempting client step after doneflag", problem=True)
        return self._step(challenge)

    @abstractmethod
    def _step(self, challenge: bytes) -> bytes:
        """The response; sets `done` when it was the last. Raises SASLError."""
