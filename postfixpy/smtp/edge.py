"""The driver of the client's generators in a real process: sockets, DNS, the mail system's services (DESIGN 2B).

One `Edge` serves all requests of a process; `run` drives one generator to its end, performing each effect it yields.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from postfixpy import log
from postfixpy.dns.lookup import Resolver
from postfixpy.mail.outcome import Outcome
from postfixpy.sasl.mechanism import TokenError

from . import effects, sockets, trace
from .effects import Effect, Run
from .pool import Pool
from .session_store import SessionStore
from .sts_policy import Found

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.sasl.oauth2 import Tokens

    from .settings import Settings
    from .sts_store import Policies

T = TypeVar("T")
Dispose = Callable[[Outcome], Awaitable[int]]


_OPENING = (effects.Connect, effects.CacheFind)
_CLOSING = (effects.Hangup, effects.CacheSave)

_TURNS = 64
"""Effects of one request after which others have a turn: a server that never lets us wait must not have us alone."""


class Edge:
    """Effects that do not depend on the request. `extra` has handlers for more of them, by effect type."""

    def __init__(
        self,
        resolver: Resolver,
        extra: "dict[type, Callable[[Any], Awaitable[Any]]] | None" = None,
        tokens: "Tokens | None" = None,
        policies: "Policies | None" = None,
    ) -> None:
        self.resolver = resolver
        self.handlers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            effects.Connect: sockets.connect,
            effects.Write: self._write,
            effects.Read: self._read,
            effects.Peek: self._peek,
            effects.Hangup: self._hangup,
            effects.StartTLS: self._start_tls,
            effects.Sleep: self._sleep,
            effects.Resolve: self._resolve,
            effects.Native: self._native,
            effects.Find: self._find,
            effects.Store: self._store,
            effects.Compute: self._compute,
            effects.FetchToken: self._fetch_token,
            effects.FetchPolicy: self._fetch_policy,
            effects.CacheFind: self._cache_find,
            effects.CacheSave: self.keep,
            effects.FindSession: self._find_session,
            effects.SaveSession: self._save_session,
            effects.SendReport: self._send_report,
            effects.Trace: self._trace,
        }
        self.pool = Pool(time.time, lambda link: link.close())
        self.sessions = SessionStore(time.time)
        self._tokens = tokens
        self._policies = policies
        self._expiry: asyncio.TimerHandle | None = None
        if extra:
            self.handlers.update(extra)

    async def run(self, generator: Run[T], handlers: "dict[type, Callable[[Any], Awaitable[Any]]] | None" = None) -> T:
        """Drive `generator`; `handlers` are those of this request.

        Connections that are still open when it ends, by whatever error, are closed.
        """
        links: set[Any] = set()
        turns = 0
        known = {**self.handlers, **handlers} if handlers else self.handlers
        send, throw = generator.send, generator.throw
        try:
            effect: Effect[Any] = next(generator)
            while True:
                turns += 1
                if not turns % _TURNS:
                    await asyncio.sleep(0)
                try:
                    result = await known[type(effect)](effect)
                except Exception as error:
                    effect = throw(error)
                else:
                    kind = type(effect)
                    if kind in _OPENING:
                        if result is not None:
                            links.add(result[0] if kind is effects.CacheFind else result)
                    elif kind in _CLOSING:
                        links.discard(effect.link)  # type: ignore[attr-defined]  # both have one
                    effect = send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            generator.close()
            for link in links:
                link.close()

    @staticmethod
    async def _write(effect: effects.Write) -> None:
        await effect.link.send(effect.data, effect.limit)

    @staticmethod
    async def _read(effect: effects.Read) -> bytes:
        data: bytes = await effect.link.receive(effect.limit)
        return data

    @staticmethod
    async def _peek(effect: effects.Peek) -> bool:
        return bool(effect.link.pending())

    @staticmethod
    async def _trace(effect: effects.Trace) -> None:
        trace.append(effect.directory, effect.name, effect.record)

    @staticmethod
    async def _hangup(effect: effects.Hangup) -> None:
        effect.link.close()

    @staticmethod
    async def _start_tls(effect: effects.StartTLS) -> Any:
        return await effect.link.start_tls(effect.request, effect.limit)

    @staticmethod
    async def _sleep(effect: effects.Sleep) -> None:
        await asyncio.sleep(effect.seconds)

    async def _resolve(self, effect: effects.Resolve) -> Any:
        return await self.resolver.lookup(effect.name, effect.rtype, options=effect.options, dnssec=effect.dnssec)

    @staticmethod
    async def _native(effect: effects.Native) -> list[str]:
        return await native_lookup(effect.name, effect.family)

    @staticmethod
    async def _find(effect: effects.Find) -> str | None:
        return await effect.table.find(effect.key)

    @staticmethod
    async def _store(effect: effects.Store) -> bool:
        table, key, value = effect.table, effect.key, effect.value
        if value is None:
            return await asyncio.to_thread(table.remove, key)
        return await asyncio.to_thread(table.update, key, value)

    @staticmethod
    async def _compute(effect: effects.Compute) -> Any:
        return await asyncio.to_thread(effect.function)

    @staticmethod
    async def _send_report(effect: effects.SendReport) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.connect(effect.path)
                sock.send(effect.data)
            except OSError as error:
                text = f"{error.strerror} (errno {error.errno})"
                log.warning(f"Could not report TLS handshake result to tlsrpt library: {text}")

    async def _find_session(self, effect: effects.FindSession) -> bytes:
        return self.sessions.find(effect.kind, effect.key)

    async def _save_session(self, effect: effects.SaveSession) -> None:
        self.sessions.save(effect.kind, effect.key, effect.data)

    async def _fetch_token(self, effect: effects.FetchToken) -> tuple[str, str]:
        if self._tokens is None:
            raise TokenError("OAuth2 is not set up")
        return await self._tokens.get(effect.source, effect.refused)

    async def _fetch_policy(self, effect: effects.FetchPolicy) -> Found:
        assert self._policies is not None  # `policies_of` the settings that ask
        return await self._policies.get(effect.domain, effect.ident)

    async def _cache_find(self, effect: effects.CacheFind) -> Any:
        return self.pool.find(effect)

    async def keep(self, effect: effects.CacheSave) -> None:
        """Keep a connection in the pool, and hang up when its time is over."""
        self.pool.save(effect)
        if self._expiry is None:
            self._expire()

    def _expire(self) -> None:
        """Hang up idle connections in time."""
        self._expiry = None
        wait = self.pool.expire()
        if wait > 0:
            self._expiry = asyncio.get_running_loop().call_later(wait + 0.01, self._expire)

    def close(self) -> None:
        """Hang up kept connections."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.pool.clear()
        if self._tokens is not None:
            self._tokens.close()
        if self._policies is not None:
            self._policies.close()


def tokens_of(view: "View") -> "Tokens | None":
    """The access tokens of a configuration, None when it does not authenticate. Before going to a chroot jail."""
    if not view.smtp_sasl_auth_enable:
        return None
    from postfixpy.sasl.oauth2 import Tokens

    return Tokens(view.data_directory)


def policies_of(settings: "Settings") -> "Policies | None":
    """The MTA-STS policies of a configuration, None when it does not use them. Before going to a chroot jail."""
    if not settings.sts:
        return None
    from .sts_store import Policies

    return Policies(settings.view.data_directory)


def reporting(dispose: Dispose) -> "dict[type, Callable[[Any], Awaitable[Any]]]":
    """The handler of `Report` that gives Outcomes to `dispose`."""

    async def report(effect: effects.Report) -> int:
        return await dispose(outcome_of(effect))

    return {effects.Report: report}


def outcome_of(report: effects.Report) -> Outcome:
    """The Outcome that a report stands for."""
    return Outcome(
        report.recipient,
        report.result,  # type: ignore[arg-type]  # one of its three words
        report.dsn,
        report.relay,
        report.stats,
        report.tls,
        report.scope,  # type: ignore[arg-type]  # likewise
        report.command,
        report.server,
        report.accepted_maybe,
    )


_FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}


async def native_lookup(name: str, family: int = 0) -> list[str]:
    """The addresses of a host by getaddrinfo(3), of one family (4, 6) or both (0). Raises NativeError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, family=_FAMILIES[family], type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        soft = error.errno in (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM)
        known = error.errno in (socket.EAI_AGAIN, socket.EAI_NODATA, socket.EAI_NONAME)
        raise effects.NativeError(error.strerror or str(error), soft, known) from None
    except UnicodeError:
        raise effects.NativeError("Name or service not known", False, True) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
