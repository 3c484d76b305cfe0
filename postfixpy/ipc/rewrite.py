"""Client of trivial-rewrite(8): rewriting addresses to their canonical form, and resolving them to a delivery route.

One connection, kept between requests, closed when it was idle for `idle` seconds or is `ttl` seconds old; the service
may ask for the disconnect too. A request is repeated, one second apart, until the service answers: mail cannot do
without it. When nobody listens for about two minutes the client gives up with FatalError, as Postfix does.

Answers are remembered for `CACHE_TIME` seconds. Postfix remembers the last one; this client, which many concurrent
requests share, remembers the last `CACHE_SIZE`, but not that a table could not answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from postfixpy import log
from postfixpy.errors import FatalError

from .attributes import ProtocolError, encode
from .channel import Channel, connect
from .message import Message, attribute
from .persistent import PersistentClient

PROTOCOL = "trivial_rewrite_protocol"
ANNOUNCEMENT = encode([("protocol", PROTOCOL)])

REWRITE, RESOLVE, VERIFY = "rewrite", "resolve", "verify"
"""Values of the attribute `request`."""

LOCAL, REMOTE = "local", "remote"
"""Rewriting contexts (rules): of our own users' addresses, and of strangers'."""

# Bits of Resolved.flags.
RESOLVE_FLAG_FINAL = 1 << 0  # unused by Postfix
RESOLVE_FLAG_ROUTED = 1 << 1  # the localpart holds more routing: @ ! %
RESOLVE_FLAG_ERROR = 1 << 2  # the address is syntactically bad
RESOLVE_FLAG_FAIL = 1 << 3  # a table could not answer: try later
RESOLVE_CLASS_LOCAL = 1 << 8
RESOLVE_CLASS_ALIAS = 1 << 9
RESOLVE_CLASS_VIRTUAL = 1 << 10
RESOLVE_CLASS_RELAY = 1 << 11
RESOLVE_CLASS_DEFAULT = 1 << 12
RESOLVE_CLASS_FINAL = RESOLVE_CLASS_LOCAL | RESOLVE_CLASS_ALIAS | RESOLVE_CLASS_VIRTUAL
RESOLVE_CLASS_MASK = RESOLVE_CLASS_FINAL | RESOLVE_CLASS_RELAY | RESOLVE_CLASS_DEFAULT

M = TypeVar("M", bound=Message)

CACHE_TIME = 30.0
CACHE_SIZE = 100


@dataclass(slots=True)
class Rewrite(Message):
    """Rewrite `address`, in external (quoted) form, in the context `rule`."""

    request: str
    rule: str
    address: str


@dataclass(slots=True)
class Rewritten(Message):
    """The answer to Rewrite. `flags` not 0: the service asks to disconnect."""

    flags: int
    address: str


@dataclass(slots=True)
class Resolve(Message):
    """Resolve `address` for mail from `sender`, both internal form. `request` is "resolve" or "verify"."""

    request: str
    sender: str
    address: str


@dataclass(slots=True)
class ResolveReply(Message):
    """The answer to Resolve. `server_flags` not 0: the service asks to disconnect."""

    server_flags: int = attribute("flags")
    transport: str = attribute()
    nexthop: str = attribute()
    recipient: str = attribute()
    flags: int = attribute()


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where an address goes: master.cf service, its destination, the recipient (internal form), RESOLVE_* bits."""

    transport: str
    nexthop: str
    recipient: str
    flags: int


class RewriteClient(PersistentClient):
    """A client of the service at `path`. `timeout`, `idle` and `ttl` are ipc_timeout, ipc_idle and ipc_ttl, seconds."""

    protocol = PROTOCOL

    def __init__(self, path: str = "private/rewrite", *, timeout: float = 3600.0, **more: Any) -> None:
        super().__init__(path, timeout=timeout, **more)
        self._cache: dict[tuple[str, str, str], tuple[float, str | Resolved]] = {}

    async def rewrite(self, rule: str, address: str) -> str:
        """`address` (external form) in canonical form, external. `rule` is `LOCAL` or `REMOTE`.

        Raises FatalError when the service does not exist.
        """
        key = (REWRITE, rule, address)
        known = self._cached(key)
        if isinstance(known, str):
            return known
        async with self._turn:
            reply = await self._exchange(Rewrite(*key), Rewritten, lambda reply: reply.flags, lambda reply: "")
        self._remember(key, reply.address)
        return reply.address

    async def rewrite_internal(self, rule: str, address: str) -> str:
        """As `rewrite`, from and to internal (unquoted) form. Raises FatalError."""
        from postfixpy.mail.addresses import quote_822_local, unquote_822_local

        return unquote_822_local(await self.rewrite(rule, quote_822_local(address)))

    async def resolve(self, sender: str, address: str, *, verify: bool = False) -> Resolved:
        """Where mail from `sender` (may be empty) to `address` goes; both internal form.

        `verify` asks for the route of an address probe (the address_verify_* parameters). Check `flags` for
        RESOLVE_FLAG_FAIL (try later) and RESOLVE_FLAG_ERROR (bad address) before using the route. Raises FatalError.
        """
        key = (VERIFY if verify else RESOLVE, sender, address)
        known = self._cached(key)
        if isinstance(known, Resolved):
            return known

        def useless(reply: ResolveReply) -> str:
            if not reply.transport:
                return f"resolve_clnt: null transport result for: <{address}>"
            if not reply.recipient and address:
                return f"resolve_clnt: null recipient result for: <{address}>"
            return ""

        async with self._turn:
            reply = await self._exchange(Resolve(*key), ResolveReply, lambda reply: reply.server_flags, useless)
        result = Resolved(reply.transport, reply.nexthop, reply.recipient, reply.flags)
        if address and not result.flags & RESOLVE_FLAG_FAIL:  # the next one may find the table well again
            self._remember(key, result)
        return result

    def _cached(self, key: tuple[str, str, str]) -> str | Resolved | None:
        entry = self._cache.get(key)
        return entry[1] if entry is not None and self._clock() < entry[0] else None

    def _remember(self, key: tuple[str, str, str], result: str | Resolved) -> None:
        self._cache.pop(key, None)
        if len(self._cache) >= CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = (self._clock() + CACHE_TIME, result)

    async def _connect(self) -> Channel:
        for count in range(1, 12):
            try:
                return await connect(self.path, timeout=self.timeout)
            except OSError as error:
                text = f"connect #{count} to subsystem {self.path}: {error.strerror or 'Connection timed out'}"
                if count > 10:
                    raise FatalError(text) from None
                log.warning(text)
            await self._sleep(10)
        raise AssertionError

    async def _exchange(
        self, query: Message, kind: type[M], server_flags: Callable[[M], int], useless: Callable[[M], str]
    ) -> M:
        """The service's answer to `query`; asked again until there is one that is not `useless` (a warning, or "").

        Raises FatalError when nobody listens.
        """
        count = 0
        while True:
            reused = self._channel is not None
            try:
                channel = await self._access()
                channel.send_message(query)
                reply = await channel.read(kind)
            except (ProtocolError, OSError) as error:
                self.close()
                if reused:
                    continue  # the service hung up while we were idle; nothing is wrong
                count += 1
                reason = error.strerror if isinstance(error, OSError) else error.reason
                if count > 1:
                    log.warning(f"problem talking to service {self.path.rpartition('/')[2]}: {reason}")
            except asyncio.CancelledError:
                self.close()  # the answer would be taken for that of the next question
                raise
            else:
                if server_flags(reply):
                    self.close()
                else:
                    self._keep()
                complaint = useless(reply)
                if not complaint:
                    return reply
                log.warning(complaint)
                self.close()
            await self._sleep(1)
