"""memcache: tables (memcache_table(5)): a memcached server, with another table behind it for what it does not know."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator

from postfixpy import log
from postfixpy.lookup.build import STORED, StoredTable
from postfixpy.lookup.network import ConnectError, NetworkTable, Pool, Stream, connector, failure_text, left_over
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.search import arun
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.table import Flags, OpenError, Settings, Table, TableError, release
from postfixpy.lookup.template import Templates

_VALUE = re.compile(rb"VALUE \S+ \S+ (\d{1,10})")


class Memcache(NetworkTable):
    """``memcache:/path/of/settings``."""

    kind = "memcache"

    def __init__(self, name: str, settings: Settings, flags: Flags, surrogates: bool, writable: bool = False) -> None:
        super().__init__(name, settings, flags)
        config = SourceConfig(name, settings)
        self.key_format = config.text("key_format", "%s")
        self.digest = config.text("key_digest") if release(settings) >= (3, 11) else ""
        timeout = config.integer("timeout", 2)
        self.ttl = config.integer("ttl", 3600)
        self.mc_flags = config.integer("flags", 0)
        self.pause = config.integer("retry_pause", 1, 1)
        self.tries = config.integer("max_try", 2, 1)
        self.max_line = config.integer("line_size_limit", 1024, 1)
        self.max_data = config.integer("data_size_limit", 10240, 1)
        service = config.text("memcache", "inet:localhost:11211")
        self.connect = connector(service, timeout or 3600)
        self.reason = self.left_over = left_over(service)
        backup = config.text("backup")
        self.backup: Table | None = None
        if backup and writable and backup.partition(":")[0] in STORED:
            self.backup = StoredTable(backup, settings, flags)
        elif backup:
            self.backup = open_table(backup, settings, flags=flags, surrogates=surrogates, writable=writable)
        self.templates = Templates(self.kind, name)
        self.templates.parse(self.key_format, query=True)
        self.templates.parse_domain(config, settings)
        if self.digest:
            try:
                hashlib.new(self.digest)
            except ValueError:
                raise OpenError(f"open {name}: key digest {self.digest} is not available") from None

    async def aget(self, key: str) -> str | None:
        stored = await self._stored_key(key, "lookup", loud=False)
        if stored is None:
            return None
        error: TableError | None = None
        value: str | None = None
        try:
            value = await self._get(stored)
        except TableError as failure:
            error = failure
        if value is None and self.backup is not None:
            value = await self.backup.find(key)
            if value is not None:
                await self._set(stored, value)
            return value
        if error is not None:
            raise error
        return value

    def put(self, key: str, value: str) -> bool:
        return self.blocking(self.aput(key, value))

    async def aput(self, key: str, value: str) -> bool:
        """Store in the server and in the table behind it, whose answer counts."""
        stored = await self._stored_key(key, "update", loud=True)
        if stored is None:
            return False
        done = await self._set(stored, value)
        if self.backup is not None:
            return self.backup.update(key, value)
        if done is None:
            raise TableError(f"{self.name}: update failed", reason=self.reason)
        return done

    def delete(self, key: str) -> bool:
        return self.blocking(self.adelete(key))

    async def adelete(self, key: str) -> bool:
        """Delete from the server and from the table behind it, whose answer counts."""
        stored = await self._stored_key(key, "delete", loud=False)
        if stored is None:
            return False
        reply = await self._delete(stored)
        if self.backup is not None:
            return self.backup.remove(key)
        if reply is None:
            raise TableError(f"{self.name}: delete failed", reason=self.reason)
        return reply == b"DELETED"

    def items(self) -> Iterator[tuple[str, str]]:
        if self.backup is None:
            log.warning(f"database {self.name}: first/next support requires backup database")
            return iter(())
        return self.backup.items()

    async def _stored_key(self, key: str, operation: str, *, loud: bool) -> bytes | None:
        """The key in the server; None, with a warning if `loud`, for a key that cannot be there."""
        why, data = await self._server_key(key)
        if why and loud:
            log.warning(f'{self.label}: skipping {operation} for name "{key}": {why}')
        return None if why else data

    async def _server_key(self, key: str) -> tuple[str, bytes]:
        """Why the key is not for the server, or "", and what stands for it there."""
        if not key:
            return "empty lookup key", b""
        if not await arun(self.templates.wants(key)):
            return "domain mismatch", b""
        stored = key if self.key_format == "%s" else self.templates.query(self.key_format, key)
        if not stored:
            return "empty lookup key expansion", b""
        data = stored.encode("utf-8", "surrogateescape")
        if self.digest:
            data = hashlib.new(self.digest, data).hexdigest().encode()
        if any(byte <= 0x20 or byte == 0x7F for byte in data):
            return "name contains space or controls", b""
        return "", data

    async def _get(self, key: bytes) -> str | None:
        async def ask(stream: Stream, count: int) -> bytes | None:
            await stream.send(b"get %s\r\n" % key)
            line = (await stream.line(self.max_line)).removesuffix(b"\r")
            if line == b"END":
                return b"-"
            match = _VALUE.match(line)
            if match is None or int(match[1]) > self.max_data:
                if count:
                    log.warning(f"{self.label}: unexpected memcache server reply: {_shown(line)}")
                return None
            data = await stream.exactly(int(match[1]) + 2)
            if not data.endswith(b"\r\n"):
                return None
            await stream.line(self.max_line)  # END
            return b"+" + data[:-2]

        answer = await self._try(ask)
        if answer is None:
            raise TableError(f"{self.name}: no answer", reason=self.reason)
        return answer[1:].partition(b"\0")[0].decode("utf-8", "surrogateescape") if answer[:1] == b"+" else None

    async def _set(self, key: bytes, value: str) -> bool | None:
        data = value.encode("utf-8", "surrogateescape")
        if len(data) > self.max_data:
            shown = key.decode("utf-8", "replace")
            limit = f"(data_size_limit={self.max_data})"
            log.warning(f"database {self.name}: data for key {shown} is too long {limit} -- not stored")
            return False

        async def ask(stream: Stream, count: int) -> bytes | None:
            await stream.send(b"set %s %d %d %d\r\n%s\r\n" % (key, self.mc_flags, self.ttl, len(data), data))
            reply = (await stream.line(self.max_line)).removesuffix(b"\r")
            if reply == b"STORED":
                return reply
            if count:
                log.warning(f"database {self.name}: update failed: {_shown(reply)}")
            return None

        return True if await self._try(ask) else None

    async def _delete(self, key: bytes) -> bytes | None:
        async def ask(stream: Stream, count: int) -> bytes | None:
            await stream.send(b"delete %s\r\n" % key)
            reply = (await stream.line(self.max_line)).removesuffix(b"\r")
            if reply in (b"DELETED", b"NOT_FOUND"):
                return reply
            if count:
                log.warning(f"database {self.name}: delete failed: {_shown(reply)}")
            return None

        return await self._try(ask)

    async def _try(self, ask: Callable[[Stream, int], Awaitable[bytes | None]]) -> bytes | None:
        """What `ask` makes of a connection; it is tried again, on a new one, as often as ``max_try`` says."""
        pool = self.per_loop(lambda: Pool(self.connect))
        self.reason = self.left_over
        for count in range(self.tries):
            if count:
                await asyncio.sleep(self.pause)
            try:
                async with pool.borrow() as stream:
                    answer = await ask(stream, count)
                    if answer is not None:
                        return answer
                    raise EOFError  # the connection is out of step: never use it again
            except ConnectError as error:
                self.reason = str(error.strerror)
                return None
            except EOFError:
                pool.drop_idle()
            except (OSError, ValueError) as error:
                pool.drop_idle()
                if count:
                    why = self.left_over if isinstance(error, ValueError) else failure_text(error)
                    log.warning(f"database {self.name}: I/O error: {why}")
        return None


def _shown(line: bytes) -> str:
    return log.printable(line[:100].decode("utf-8", "replace"))
