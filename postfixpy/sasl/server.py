"""The server's side of SASL: mechanisms as generators, and what a back end is.

A mechanism is a generator. It yields `Challenge`, and gets the client's response; or a question that somebody else must
answer: `Check` a password, `Secret` of a user for SCRAM, `CheckToken`. It returns the name of the user, or raises
`Refused`. So it needs no input and output, and any back end that can answer the questions serves it.

For a server, a `Backend` makes an `Exchange` for each authentication: `LocalExchange` runs one of these mechanisms,
the back end of dovecot (postfixpy.sasl.dovecot) hands the whole conversation on.
"""

import base64
import binascii
import hmac
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .saslprep import saslprep
from .scram import BINDINGS, Scram, ScramSHA1, ScramSHA256, keys

MAX_RESPONSE = 12288
"""Bytes of a client's response before decoding (smtpd_sasl_response_limit's default)."""


class Refused(Exception):
    """The client is not authenticated. str() is for the log, without secrets.

    temporary   the back end does not work: try again later (454)
    protocol    the client's response makes no sense (501)
    """

    def __init__(self, text: str, *, temporary: bool = False, protocol: bool = False) -> None:
        super().__init__(text)
        self.temporary, self.protocol = temporary, protocol


@dataclass(frozen=True, slots=True)
class Challenge:
    """What to send to the client. Its response is the result."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """Whether the password is the user's: the result is a bool."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Whether the access token is the user's: the result is a bool."""

    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """What is known of a user's password for SCRAM with this hash: a `ScramSecret`, or None."""

    user: str
    digest: str


@dataclass(frozen=True, slots=True)
class ScramSecret:
    """What a server keeps of a password (RFC 5803)."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, digest: str, salt: bytes, iterations: int = 4096) -> "ScramSecret":
        """That of a password. Takes milliseconds. Raises ValueError for a password that SASLprep does not allow."""
        import hashlib

        salted = hashlib.pbkdf2_hmac(digest, saslprep(password, stored=True).encode(), salt, iterations)
        client_key, server_key = keys(digest, salted)
        return cls(salt, iterations, hashlib.new(digest, client_key).digest(), server_key)


Run = Generator[Challenge | Check | CheckToken | Secret, Any, str]
"""A mechanism at work; it returns the user's name."""


# Mechanisms


def plain(initial: bytes | None) -> Run:
    """PLAIN (RFC 4616)."""
    response = initial if initial is not None else (yield Challenge(b""))
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise Refused("malformed PLAIN response", protocol=True)
    acting_for, user, password = (_text(part) for part in parts)
    if acting_for not in ("", user):
        raise Refused(f"{user} may not act for {acting_for}")
    return (yield from _checked(user, password))


def login(initial: bytes | None) -> Run:
    """LOGIN, in the form that everybody understands."""
    user = _text(initial if initial is not None else (yield Challenge(b"Username:")))
    password = _text((yield Challenge(b"Password:")))
    return (yield from _checked(user, password))


def _checked(user: str, password: str) -> Run:
    if not (yield Check(user, password)):
        raise Refused(f"wrong password, or no such user: {user}")
    return user


def oauthbearer(initial: bytes | None) -> Run:
    """OAUTHBEARER (RFC 7628)."""
    response = initial if initial is not None else (yield Challenge(b""))
    header, *fields = response.split(b"\x01")
    if not header.startswith((b"n,", b"y,")) or not header.endswith(b","):
        raise Refused("malformed OAUTHBEARER response", protocol=True)
    name = header[2:-1]
    user = _name(name[2:]) if name.startswith(b"a=") else ""
    return (yield from _bearer(user, fields))


def xoauth2(initial: bytes | None) -> Run:
    """XOAUTH2."""
    response = initial if initial is not None else (yield Challenge(b""))
    header, *fields = response.split(b"\x01")
    if not header.startswith(b"user="):
        raise Refused("malformed XOAUTH2 response", protocol=True)
    return (yield from _bearer(_text(header[5:]), fields))


def _bearer(user: str, fields: list[bytes]) -> Run:
    scheme, _, token = next((f[5:] for f in fields if f.startswith(b"auth=")), b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token or not user:
        raise Refused("malformed response with a token", protocol=True)
    if not (yield CheckToken(user, _text(token))):
        yield Challenge(b'{"status":"invalid_token","schemes":"bearer"}')
        raise Refused(f"the access token is not one of {user}'s")
    return user


def scram(
    kind: type[Scram], initial: bytes | None, bindings: Mapping[str, bytes], nonce: str, *, plus: bool = False
) -> Run:
    """SCRAM with the hash of `kind` (RFC 5802); `plus`: with channel binding."""
    first = initial if initial is not None else (yield Challenge(b""))
    flag, acting_for, bare = _split_first(first)
    binding = _binding(flag, bindings, plus=plus)
    fields = _fields(bare)
    user, client_nonce = _name(fields.get(b"n", b"")), fields.get(b"r", b"")
    if not user or not client_nonce or b"m" in fields:
        raise Refused("malformed SCRAM response", protocol=True)
    secret: ScramSecret | None = yield Secret(user, kind.digest)
    # Nobody shall learn from the answer whether there is such a user.
    known = secret or ScramSecret(_fake_salt(user), 4096, secrets.token_bytes(64), secrets.token_bytes(64))
    server_nonce = client_nonce + nonce.encode()
    challenge = b"r=%s,s=%s,i=%d" % (server_nonce, base64.b64encode(known.salt), known.iterations)
    final = yield Challenge(challenge)
    without, _, proof = final.rpartition(b",p=")
    said = _fields(without)
    header = first[: len(first) - len(bare)]
    if said.get(b"r") != server_nonce or _decode(said.get(b"c", b"")) != header + binding:
        raise Refused("nonce or channel binding of another exchange", protocol=True)
    message = b",".join((bare, challenge, without))
    if secret is None or not _proved(kind.digest, secret, message, _decode(proof)):
        raise Refused(f"wrong password, or no such user: {user}")
    if acting_for not in ("", user):
        raise Refused(f"{user} may not act for {acting_for}")
    signature = hmac.digest(secret.server_key, message, kind.digest)
    yield Challenge(b"v=" + base64.b64encode(signature))
    return user


def _proved(digest: str, secret: ScramSecret, message: bytes, proof: bytes) -> bool:
    import hashlib

    signature = hmac.digest(secret.stored_key, message, digest)
    if len(proof) != len(signature):
        return False
    key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.new(digest, key).digest(), secret.stored_key)


def _split_first(first: bytes) -> tuple[bytes, str, bytes]:
    """The flag, whom to act for, and the rest of a client's first message."""
    parts = first.split(b",", 2)
    if len(parts) != 3 or (parts[1] and not parts[1].startswith(b"a=")):
        raise Refused("malformed SCRAM response", protocol=True)
    return parts[0], _name(parts[1][2:]), parts[2]


def _binding(flag: bytes, bindings: Mapping[str, bytes], *, plus: bool) -> bytes:
    """The channel binding that the client uses."""
    if flag.startswith(b"p=") and plus:
        name = flag[2:].decode("ascii", "replace")
        if name in bindings:
            return bindings[name]
        raise Refused(f"channel binding {name} is not supported", protocol=True)
    if plus or flag not in (b"n", b"y"):
        raise Refused("malformed SCRAM response", protocol=True)
    if flag == b"y" and bindings:
        raise Refused("the client was told that there is no channel binding: somebody is in between")
    return b""


def _fake_salt(user: str) -> bytes:
    """The same salt each time for a user that does not exist."""
    return hmac.digest(_KEY, user.encode("utf-8", "surrogateescape"), "sha256")[:16]


_KEY = secrets.token_bytes(32)


def _fields(data: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in data.split(b",") if part[1:2] == b"="}


def _name(data: bytes) -> str:
    return _text(data.replace(b"=2C", b",").replace(b"=3D", b"="))


def _decode(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise Refused("malformed base64", protocol=True) from None


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refused("a response that is not UTF-8", protocol=True) from None
    if "\0" in text:
        raise Refused("NUL in a response", protocol=True)
    return text


SCRAM_KINDS: dict[str, type[Scram]] = {kind.name: kind for kind in (ScramSHA256, ScramSHA1)}


def start(mechanism: str, initial: bytes | None, bindings: Mapping[str, bytes], nonce: str) -> Run:
    """A mechanism at work. Raises Refused for a name that is none of ours."""
    name = mechanism.upper()
    simple = {"PLAIN": plain, "LOGIN": login, "OAUTHBEARER": oauthbearer, "XOAUTH2": xoauth2}
    if name in simple:
        return simple[name](initial)
    kind = SCRAM_KINDS.get(name.removesuffix("-PLUS"))
    if kind is None:
        raise Refused(f"no such mechanism: {name[:40]}", protocol=True)
    return scram(kind, initial, bindings, nonce, plus=name.endswith("-PLUS"))


# Back ends


@dataclass(frozen=True, slots=True)
class Peer:
    """Who wants to authenticate, and how it is connected.

    service     "smtp"
    client, server          addresses as text; client_port, server_port
    secured                 the connection is encrypted
    certified               the client's certificate has been verified
    bindings                channel bindings of the TLS session
    """

    service: str = "smtp"
    client: str = ""
    server: str = ""
    client_port: int = 0
    server_port: int = 0
    secured: bool = False
    certified: bool = False
    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Success:
    """The end: the user's name, as the back end has it."""

    user: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A mechanism that a back end has, with the properties that smtpd_sasl_security_options can exclude."""

    name: str
    plaintext: bool = False
    active: bool = False
    dictionary: bool = False
    anonymous: bool = False
    mutual: bool = False
    forward_secret: bool = False
    private: bool = False


class Exchange(ABC):
    """One authentication."""

    @abstractmethod
    async def respond(self, data: bytes | None) -> Challenge | Success:
        """What to say to the client's response; None as the first one: there was no initial response. Raises Refused.

        After Success or Refused the exchange is over.
        """

    async def cancel(self) -> None:  # noqa: B027 # most have nothing to tell
        """The client gave up (``*``), or is gone."""


class Backend(ABC):
    """What knows the users."""

    @abstractmethod
    async def offers(self, peer: Peer) -> list[Offer]:
        """The mechanisms for this peer. Raises Refused when the back end does not work."""

    @abstractmethod
    def exchange(self, mechanism: str, peer: Peer) -> Exchange:
        """Begin. Raises Refused for a mechanism that is not offered."""

    async def close(self) -> None:  # noqa: B027 # most have nothing to close
        """Release connections."""


class Users(ABC):
    """What can answer the questions of the mechanisms here."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")

    @abstractmethod
    async def check(self, user: str, password: str) -> bool:
        """Whether the password is right. Raises Refused."""

    async def secret(self, user: str, digest: str) -> ScramSecret | None:
        """What is known for SCRAM. Raises Refused."""
        return None

    async def check_token(self, user: str, token: str) -> bool:
        """Whether an access token is the user's. Raises Refused."""
        return False


class Local(Backend):
    """The mechanisms here, for users that `users` knows."""

    def __init__(self, users: Users, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> None:
        self.users = users
        self.nonce = nonce

    async def offers(self, peer: Peer) -> list[Offer]:
        found = []
        for name in self.users.mechanisms:
            if name.startswith("SCRAM-"):
                if any(binding in peer.bindings for binding in BINDINGS):
                    found.append(Offer(f"{name}-PLUS", dictionary=True, mutual=True))
                found.append(Offer(name, dictionary=True, mutual=True))
            else:
                found.append(Offer(name, plaintext=True, active=True, dictionary=True))
        return found

    def exchange(self, mechanism: str, peer: Peer) -> Exchange:
        if mechanism.upper().removesuffix("-PLUS") not in self.users.mechanisms:
            raise Refused(f"no such mechanism: {mechanism[:40]}", protocol=True)
        return LocalExchange(self.users, mechanism, peer, self.nonce())


class LocalExchange(Exchange):
    """One authentication by a mechanism here."""

    def __init__(self, users: Users, mechanism: str, peer: Peer, nonce: str) -> None:
        self._users = users
        self._mechanism = mechanism
        self._peer = peer
        self._nonce = nonce
        self._run: Run | None = None
        self._over = False

    async def respond(self, data: bytes | None) -> Challenge | Success:
        if self._over:
            raise Refused("the exchange is over", protocol=True)
        try:
            return await self._respond(data)
        except BaseException:
            self._over = True
            raise

    async def _respond(self, data: bytes | None) -> Challenge | Success:
        try:
            if self._run is None:
                self._run = start(self._mechanism, data, self._peer.bindings, self._nonce)
                asked = next(self._run)
            else:
                asked = self._run.send(data or b"")
            while not isinstance(asked, Challenge):
                asked = self._run.send(await self._answer(asked))
        except StopIteration as stop:
            self._over = True
            user: str = stop.value
            return Success(user)
        return asked

    async def _answer(self, asked: Check | CheckToken | Secret) -> Any:
        if isinstance(asked, Check):
            return await self._users.check(asked.user, asked.password)
        if isinstance(asked, CheckToken):
            return await self._users.check_token(asked.user, asked.token)
        return await self._users.secret(asked.user, asked.digest)


class Several(Backend):
    """Several back ends: each mechanism belongs to the first that offers it."""

    def __init__(self, *backends: Backend) -> None:
        self._backends = backends

    async def offers(self, peer: Peer) -> list[Offer]:
        found: dict[str, Offer] = {}
        for backend in self._backends:
            for offer in await backend.offers(peer):
                found.setdefault(offer.name, offer)
        return list(found.values())

    def exchange(self, mechanism: str, peer: Peer) -> Exchange:
        return _Deferred(self._backends, mechanism, peer)

    async def close(self) -> None:
        for backend in self._backends:
            await backend.close()


class _Deferred(Exchange):
    """An exchange whose back end is found with its first response."""

    def __init__(self, backends: tuple[Backend, ...], mechanism: str, peer: Peer) -> None:
        self._backends, self._mechanism, self._peer = backends, mechanism, peer
        self._exchange: Exchange | None = None

    async def respond(self, data: bytes | None) -> Challenge | Success:
        if self._exchange is None:
            self._exchange = (await self._backend()).exchange(self._mechanism, self._peer)
        return await self._exchange.respond(data)

    async def _backend(self) -> Backend:
        name = self._mechanism.upper()
        for backend in self._backends:
            if any(offer.name == name for offer in await backend.offers(self._peer)):
                return backend
        raise Refused(f"no such mechanism: {name[:40]}", protocol=True)

    async def cancel(self) -> None:
        if self._exchange is not None:
            await self._exchange.cancel()
