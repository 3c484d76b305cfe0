"""What the client asks of the world: every wait and every side effect is a value that a generator yields.

The client's modules are generators. They read from top to bottom, and ``reply = yield from Read(...)`` hands an effect
to whoever drives them: `postfixpy.smtp.edge` over sockets, `postfixpy.smtp.memory` over scripts and a virtual clock.
The driver sends the effect's result back, or throws its error in:

* `StreamError` from `Write` and `Read`; `ConnectError` from `Connect`;
* `postfixpy.tls.handshake.HandshakeError` from `StartTLS`;
* `postfixpy.lookup.table.TableError` from `Find`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from postfixpy.dns.record import Answer
from postfixpy.lookup.maps import Maps, maps_find
from postfixpy.lookup.search import Search as TableSearch
from postfixpy.lookup.table import Table, TableError
from postfixpy.mail.delivery import MessageStats, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.tls.handshake import TLSRequest, TLSState

from .sts_policy import Found

T = TypeVar("T")


class Effect(Generic[T]):
    """Base. `T` is the type of the result."""

    __slots__ = ()

    def __iter__(self) -> Generator["Effect[Any]", Any, T]:
        result: T = yield self
        return result


Run = Generator[Effect[Any], Any, T]
"""A generator of effects that returns a T."""


class StreamError(Exception):
    """The connection is of no more use. `kind` is "eof" (lost, also by reset) or "time" (a time limit passed)."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class LocalDataError(Exception):
    """A table that the session needs cannot answer; the warning has been logged."""


class ConnectError(Exception):
    """No connection. str() is the system's text, "Connection refused"."""


@dataclass(slots=True)
class Connect(Effect[Any]):
    """Open a connection; the result is a link, a value for the driver.

    family      4, 6, or 0 for a UNIX-domain path in `address`
    bind        local address or ""; `must_bind`: fail with BindError when that does not work
    limit       seconds; 0 is the system's own
    window      socket buffer size in bytes, 0 is the system's own
    """

    family: int
    address: str
    port: int = 0
    limit: float = 30.0
    bind: str = ""
    must_bind: bool = False
    window: int = 0


class BindError(Exception):
    """The local address could not be bound, and must be. The warning has been logged."""


@dataclass(slots=True)
class Write(Effect[None]):
    """Send all of `data`; `limit` seconds for each wait."""

    link: Any
    data: bytes
    limit: float


@dataclass(slots=True)
class Read(Effect[bytes]):
    """Whatever arrives next, at least one byte; b"" at the end of input."""

    link: Any
    limit: float


@dataclass(slots=True)
class Peek(Effect[bool]):
    """Whether input is waiting (or the peer has hung up), without reading it."""

    link: Any


@dataclass(slots=True)
class Hangup(Effect[None]):
    """Close the connection."""

    link: Any


@dataclass(slots=True)
class StartTLS(Effect[TLSState]):
    """Negotiate TLS over the link within `limit` seconds for each wait. Raises HandshakeError, and nothing else.

    Afterwards Write, Read, Peek and Hangup on the link go through TLS.
    """

    link: Any
    request: TLSRequest
    limit: float


@dataclass(slots=True)
class FindSession(Effect[bytes]):
    """A TLS session from the cache `kind` ("smtp", "lmtp"); b"" if there is none."""

    kind: str
    key: str


@dataclass(slots=True)
class SaveSession(Effect[None]):
    """Keep a TLS session in the cache `kind`; b"" removes what is there."""

    kind: str
    key: str
    data: bytes


@dataclass(slots=True)
class SendReport(Effect[None]):
    """Send a TLSRPT datagram to a local socket. That it cannot be sent is logged, and nothing else."""

    path: str
    data: bytes


@dataclass(slots=True)
class Sleep(Effect[None]):
    seconds: float


@dataclass(slots=True)
class Resolve(Effect[Answer]):
    """One DNS lookup. `options` are RES_* bits of postfixpy.dns.lookup."""

    name: str
    rtype: int
    options: int = 0
    dnssec: bool = False


class NativeError(Exception):
    """getaddrinfo() failed. str() is its text; `soft`: it may work later; `known`: the name was looked up (x.4.4)."""

    def __init__(self, text: str, soft: bool, known: bool) -> None:
        super().__init__(text)
        self.soft, self.known = soft, known


@dataclass(slots=True)
class Native(Effect["list[str]"]):
    """Addresses of a host by the system's name service (/etc/hosts...); `family` is 4, 6, or 0 for both.

    Raises NativeError.
    """

    name: str
    family: int = 0


@dataclass(slots=True)
class Find(Effect["str | None"]):
    """Look `key` up. Raises TableError."""

    table: Table
    key: str


@dataclass(slots=True)
class Store(Effect[bool]):
    """Store `value` under `key`; None deletes the key: False when it is not there. Raises TableError."""

    table: Table
    key: str
    value: str | None


@dataclass(slots=True)
class Compute(Effect[Any]):
    """What `function` returns; it may take long, so that it does not run in the event loop. Raises what it raises."""

    function: Callable[[], Any]


@dataclass(slots=True)
class FetchToken(Effect[tuple[str, str]]):
    """An access token of OAuth 2.0, and whose it is if that is not `user`, else "". Raises TokenError.

    source  is the file that says how to get it.

    `refused` is a token that the server did not take: the result is another, if one can be had.
    """

    source: str
    user: str
    refused: str = ""


@dataclass(slots=True)
class FetchPolicy(Effect[Found]):
    """The MTA-STS policy of `domain`; `ident` is the id in its TXT record, "" if there is none."""

    domain: str
    ident: str


def listed(search: TableSearch[bool]) -> Run[bool]:
    """Whether a list has something; a list whose table cannot answer has not, after its warning."""
    try:
        return (yield from ask(search))
    except TableError:
        return False


def ask(search: TableSearch[T]) -> Run[T]:
    """The result of a search of postfixpy.lookup. Raises TableError."""
    try:
        table, key = next(search)
        while True:
            try:
                value = yield from Find(table, key)
            except TableError as error:
                table, key = search.throw(error)
            else:
                table, key = search.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result


def find(maps: Maps, key: str) -> "Run[str | None]":
    """What `maps` has for `key`. Raises TableError, after a warning."""
    return (yield from ask(maps_find(maps, key)))


@dataclass(slots=True)
class Rewrite(Effect[str]):
    """The canonical form of an address in external form (private/rewrite, rule local)."""

    address: str


@dataclass(slots=True)
class Report(Effect[int]):
    """Dispose of one recipient: `result` is "sent", "deferred" or "bounced". The result is 0, or -1 when not final.

    `command` is the command in flight, `accepted_maybe` says that the server may have taken the message all the same.
    """

    result: str
    recipient: Recipient
    dsn: DSN
    relay: str
    stats: MessageStats
    tls: str = ""
    scope: str = "recipient"
    command: str = ""
    server: str = ""
    accepted_maybe: bool = False


@dataclass(slots=True)
class PassOn(Effect[int]):
    """Hand a recipient to another delivery transport (best_mx_transport). The result is 0 or -1."""

    transport: str
    nexthop: str
    recipient: Recipient


@dataclass(slots=True)
class Corrupt(Effect[None]):
    """Mark the queue file as corrupt."""


@dataclass(slots=True)
class Notify(Effect[None]):
    """Mail the session transcript to the postmaster."""

    peer: str
    transcript: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Trace(Effect[None]):
    """Add the record of a session to the trace file `name` in `directory` (postfixpy.smtp.trace)."""

    directory: str
    name: str
    record: dict[str, Any]


@dataclass(slots=True)
class CacheFind(Effect[Any]):
    """A connection from the cache, by destination or endpoint label: (link, properties), or None."""

    label: str
    by_destination: bool


@dataclass(slots=True)
class CacheSave(Effect[None]):
    """Leave a connection in the cache for `ttl` seconds; `destination_label` may be empty."""

    ttl: float
    label: str
    properties: str
    destination_label: str
    destination_properties: str
    link: Any
