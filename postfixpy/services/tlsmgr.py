"""tlsmgr(8): keeps the TLS sessions of all processes, and gives out random seeds and session ticket keys.

The caches are those of smtp_tls_session_cache_database, lmtp_... and smtpd_..., each for its own time limit. Entries
are in Postfix's form, under its clients' keys. Differences: a file that is there is taken over, where Postfix starts
with an empty one; it is kept in memory and written anew when it has changed, once a minute and at the end, because a
btree cannot be changed in place here; and the kernel's random numbers need no seeding or exchange file
(tls_random_source, tls_random_exchange_name).
"""

import asyncio
import os
import struct
import time
from collections.abc import Callable
from typing import ClassVar

from postfixpy import log
from postfixpy.errors import FatalError, PostfixError
from postfixpy.ipc import tlsmgr as wire
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import Message
from postfixpy.ipc.service import Context, Service
from postfixpy.ipc.trigger import WAKEUP
from postfixpy.lookup.build import open_writer
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.table import Flags
from postfixpy.tls.loglevel import CACHE, log_mask

_WRITE_INTERVAL = 60.0
_MIN_LIFETIME, _MAX_LIFETIME = 120, 8_640_000
_MAX_SESSIONS = 100_000
_MAX_SESSION = 50_000
_STAMP = struct.Struct("<q")
_KEY_NAME, _KEY_SIZE = 16, 16 + 32 + 32
_REQUESTS: dict[str, type[Message]] = {
    "seed": wire.Seed,
    "policy": wire.Policy,
    "lookup": wire.Lookup,
    "delete": wire.Lookup,
    "update": wire.Update,
    "tktkey": wire.TicketKey,
}


class Cache:
    """The sessions of one sort. `database` is ``type:name``; `lifetime` is in seconds."""

    def __init__(self, service: "Tlsmgr", kind: str, database: str, lifetime: int) -> None:
        self._service = service
        self.kind, self.database, self.lifetime = kind, database, lifetime
        parameter = f"{kind}_tls_loglevel"
        self._verbose = bool(log_mask(parameter, service.view.text(parameter)) & CACHE)
        self.sessions: dict[str, tuple[int, bytes]] = {}
        self.changed = False

    def told(self, text: str) -> None:
        """Log at the level of the TLS log that shows caches."""
        if self._verbose:
            log.info(text)

    def find(self, key: str) -> bytes:
        """A session, b"" if there is none that is young enough."""
        self.told(f"lookup {self.kind} session id={key}")
        saved, data = self.sessions.get(key, (0, b""))
        if data and saved + self.lifetime >= self._service.clock():
            self.told(f"read {self.kind} TLS cache entry {key}: time={saved} [data {len(data)} bytes]")
            return data
        self.remove(key)
        return b""

    def save(self, key: str, data: bytes) -> None:
        """Keep a session."""
        if len(self.sessions) >= _MAX_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        now = int(self._service.clock())
        self.told(f"put {self.kind} session id={key} [data {len(data)} bytes]")
        self.told(f"write {self.kind} TLS cache entry {key}: time={now} [data {len(data)} bytes]")
        self.sessions[key] = (now, data)
        self.changed = True

    def remove(self, key: str) -> None:
        """Drop a session."""
        self.changed = self.sessions.pop(key, None) is not None or self.changed

    def expire(self) -> None:
        """Drop what is too old."""
        oldest = self._service.clock() - self.lifetime
        for key in [key for key, (saved, _) in self.sessions.items() if saved < oldest]:
            self.remove(key)

    def load(self) -> None:
        """Take over what is in the file. A file that cannot be read is as good as empty."""
        self.told(f"open {self.kind} TLS cache {self.database}")
        self.told(f"tlsmgr_cache_run_event: start TLS {self.kind} session cache cleanup")
        kind, _, name = self.database.partition(":")
        if not os.path.exists(f"{name}{_SUFFIX.get(kind, '')}"):
            return
        try:
            table = open_table(self.database, self._service.view, flags=Flags.LOCK | Flags.DUP_REPLACE)
            for key, text in table.items():
                raw = bytes.fromhex(text)
                if len(raw) > _STAMP.size:
                    self.sessions[key] = (_STAMP.unpack_from(raw)[0], raw[_STAMP.size :])
        except (PostfixError, ValueError, OSError) as error:
            log.warning(f"{self.kind} TLS session cache {self.database}: {error}: starting with an empty cache")
        self.expire()

    def write(self) -> None:
        """Write the file, if anything has changed."""
        if not self.changed:
            return
        self.changed = False
        kind, _, name = self.database.partition(":")
        try:
            writer = open_writer(kind, name, self._service.view, Flags.LOCK | Flags.DUP_REPLACE, create=True)
            if writer is None:
                return
            for key, (saved, data) in self.sessions.items():
                writer.put(key, (_STAMP.pack(saved) + data).hex().upper())
            writer.finish()
        except (PostfixError, OSError) as error:
            log.warning(f"{self.kind} TLS session cache {self.database}: {error}")


_SUFFIX = {"btree": ".db", "hash": ".db", "lmdb": ".lmdb"}


class Tlsmgr(Service):
    """The service. `clock` gives the time in seconds."""

    single: ClassVar[bool] = True
    protocol: ClassVar[str] = wire.PROTOCOL

    def __init__(self, context: Context, clock: Callable[[], float] = time.time) -> None:
        super().__init__(context)
        if context.words:
            raise FatalError(f"unexpected command-line argument: {context.words[0]}")
        self.clock = clock
        self.caches: dict[str, Cache | None] = {}
        self._lifetimes: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._keys: list[tuple[float, bytes]] = []

    async def start(self) -> None:
        seen: dict[str, str] = {}
        for kind in ("smtpd", "lmtp", "smtp"):
            database: str = self.view.text(f"{kind}_tls_session_cache_database")
            lifetime = int(getattr(self.view, f"{kind}_tls_session_cache_timeout"))
            if lifetime > 0:
                lifetime = min(max(lifetime, _MIN_LIFETIME), _MAX_LIFETIME)
            self._lifetimes[kind] = lifetime
            self.caches[kind] = None
            if lifetime <= 0 or not database:
                continue
            if database in seen:
                raise FatalError(f"do not use the same TLS cache file {database} for {seen[database]} and {kind}")
            seen[database] = kind
            cache = self.caches[kind] = Cache(self, kind, database, lifetime)
            cache.load()
        self._timer = asyncio.get_running_loop().call_later(_WRITE_INTERVAL, self._write_again)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._write()

    def _write_again(self) -> None:
        self._write()
        self._timer = asyncio.get_running_loop().call_later(_WRITE_INTERVAL, self._write_again)

    def _write(self) -> None:
        for cache in self.caches.values():
            if cache is not None:
                cache.expire()
                cache.write()

    async def serve(self, channel: Channel) -> None:
        """The requests of one client, until it hangs up."""
        while await channel.wait_readable():
            data = await channel.read_bytes()
            if data.rstrip(b"\0") == WAKEUP:
                continue  # the row in master.cf has a wakeup time; ours writes by its own clock
            channel.unread(data)
            pairs = await channel.read_list()
            name = pairs[0][1] if pairs and pairs[0][0] == "request" else ""
            kind = _REQUESTS.get(name)
            try:
                request = kind.parse(pairs, channel.peer) if kind is not None else None
            except ProtocolError as error:
                log.warning(str(error))
                request = None
            channel.send_message(self.answer(request) if request is not None else wire.Status(wire.FAIL))

    def answer(self, request: Message) -> Message:
        """The answer to one request."""
        if isinstance(request, wire.Seed):
            if not 0 < request.size <= 255:
                log.warning(f'bogus seed length "{request.size}" in "seed" request')
                return wire.SeedAnswer(wire.FAIL, b"")
            return wire.SeedAnswer(wire.OK, os.urandom(request.size))
        if isinstance(request, wire.TicketKey):
            return self._ticket_key(request.keyname)
        assert isinstance(request, wire.Policy | wire.Lookup | wire.Update)
        known = request.cache_type in self.caches
        if not known:
            log.warning(f'bogus cache type "{request.cache_type}" in "{request.request}" request')
        cache = self.caches.get(request.cache_type)
        if isinstance(request, wire.Policy):
            if not known:
                return wire.PolicyAnswer(wire.FAIL, 0, 0)
            return wire.PolicyAnswer(wire.OK, int(cache is not None), self._lifetimes[request.cache_type])
        if isinstance(request, wire.Update):
            if cache is None or len(request.session) > _MAX_SESSION:
                return wire.Status(wire.FAIL)
            cache.save(request.cache_id, request.session)
            return wire.Status(wire.OK)
        if request.request == "delete":
            if cache is None:
                return wire.Status(wire.FAIL)
            found = request.cache_id in cache.sessions
            cache.told(f"delete {cache.kind} session id={request.cache_id}")
            cache.remove(request.cache_id)
            return wire.Status(wire.OK if found else wire.ERROR)
        data = cache.find(request.cache_id) if cache is not None else b""
        return wire.Session(wire.FAIL if cache is None else wire.OK if data else wire.ERROR, data)

    def _ticket_key(self, name: bytes) -> Message:
        """The key of this name; without a name the one to encrypt with, made anew when half its time is over."""
        if len(name) not in (0, _KEY_NAME):
            log.warning(f"invalid session ticket key name length: {len(name)}")
            return wire.KeyAnswer(wire.FAIL, b"")
        half = self._lifetimes["smtpd"] // 2
        now = self.clock()
        if half <= 0:
            return wire.KeyAnswer(wire.ERROR, b"")
        self._keys = [(until, key) for until, key in self._keys if until + half > now][-2:]
        if name:
            key = next((key for _, key in self._keys if key[:_KEY_NAME] == name), b"")
            return wire.KeyAnswer(wire.OK if key else wire.ERROR, key)
        if not self._keys or self._keys[-1][0] <= now:
            until = int(now) + half - 1
            self._keys.append((until, os.urandom(_KEY_SIZE) + _STAMP.pack(until)))
        return wire.KeyAnswer(wire.OK, self._keys[-1][1])
