"""proxymap(8) and proxywrite: tables for processes that cannot, or should not, open them themselves.

Only tables that proxy_read_maps (proxywrite: proxy_write_maps) lists as ``proxy:type:name`` are opened; lists in files,
in restriction classes and inside pipemap and unionmap count, too. One process serves all clients; lookups that wait for
a server do not hold up others. A table whose file has changed is opened again at the next request.

proxywrite also changes tables. A change is on disk before the client is told; changes that arrive while a table is
being written are written together. hash and btree files are written anew as a whole each time (see lookup.build), so
large caches belong into lmdb.

Differs from Postfix: a table that cannot be opened or fails fatally answers "try later" and the process lives on. A
listing belongs to the client that began it, not to all. The service names export-all-proxymap and the like, which list
the tables, are not there.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import proxymap as wire
from postfixpy.ipc.attributes import Pair, ProtocolError, Value
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import system_release
from postfixpy.ipc.service import Context, Service
from postfixpy.lookup import build, open_table
from postfixpy.lookup.registry import is_type
from postfixpy.lookup.syntax import braced, logical_lines, tokens
from postfixpy.lookup.table import Flags, Table, TableError, error_text

PROXY = "proxy:"
FOLDING = Flags.FOLD_FIX | Flags.FOLD_MUL
FILES = ("hash", "btree", "lmdb")
"""Types whose files are changed by `lookup.build`."""
_ALSO = {"update": int(Flags.SYNC_UPDATE | Flags.DUP_REPLACE), "delete": int(Flags.SYNC_UPDATE)}
"""Flags that requests are carried out with beside their own."""
_NESTED = ("unionmap:", "pipemap:")


def approved(text: str, origin: str) -> Iterator[str]:
    """The tables that a list approves, without ``proxy:``. `origin` names the list in warnings."""
    for item in tokens(text):
        if item.startswith("{"):
            inside, error = braced(item)
            if error:
                log.warning(f"bad syntax in {origin} content: {error}")
                continue
            item = next(tokens(inside), "")
        if item.startswith("/"):
            yield from _approved_in_file(item)
            continue
        if not (item[:1].isascii() and item[:1].isalnum()) or ":" not in item:
            continue  # [ipv6::address], a name
        nested = next((item[len(kind) :] for kind in _NESTED if item.startswith(kind)), None)
        if nested is not None:
            if nested.startswith("{"):
                inside, error = braced(nested)
                if error:
                    log.warning(f"bad syntax in {origin} content: {error}")
                else:
                    yield from approved(inside, origin)
        elif item.startswith(PROXY):
            yield bare(item)


def _approved_in_file(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        log.warning(f"{'read' if isinstance(error, IsADirectoryError) else 'open'} {path}: {error_text(error)}")
        return
    for _, line in logical_lines(data, path):
        yield from approved(line.decode("utf-8", "surrogateescape"), path)


def bare(name: str) -> str:
    """A table's name without ``proxy:``."""
    while name.startswith(PROXY):
        name = name.removeprefix(PROXY)
    return name


@dataclass(slots=True)
class Change:
    """A change that waits to be written. `value` is None for a deletion."""

    key: str
    value: str | None
    flags: Flags
    done: "asyncio.Future[bool]"


@dataclass(slots=True)
class Queue:
    """The changes of one table that wait, and the task that writes them."""

    waiting: list[Change] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None


class Denied(Exception):
    """A request is refused; the argument is the status."""


class Proxymap(Service):
    """The service, under either name."""

    protocol: ClassVar[str] = wire.PROTOCOL
    multi: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.words:
            raise FatalError(f"unexpected command-line argument: {context.words[0]}")
        name = context.service
        if name not in ("proxymap", "proxywrite"):
            need = 'service name must be "proxywrite" or "proxymap"'
            raise FatalError(f'invalid service name: "{name}" - {need}')
        self.writer = name == "proxywrite"
        self.parameter = "proxy_write_maps" if self.writer else "proxy_read_maps"
        self.release = system_release()
        self._tables: dict[tuple[str, Flags], Table] = {}
        self._queues: dict[str, Queue] = {}

    async def pre_jail(self) -> None:
        self.approved = set(approved(self.view.text(self.parameter), self.parameter))
        if not self.writer:
            for name in tokens(self.view.smtpd_restriction_classes, braces=False):
                self.approved |= set(approved(self.view.text(name), "smtpd_restriction_classes"))

    async def serve(self, channel: Channel) -> None:
        listings: dict[tuple[str, Flags], Iterator[tuple[str, str]]] = {}
        while await channel.wait_readable():
            channel.send(*await self.answer(await channel.read_list(), listings))
            await channel.drain()

    async def answer(
        self, pairs: list[Pair], listings: dict[tuple[str, Flags], Iterator[tuple[str, str]]]
    ) -> list[tuple[str, Value]]:
        """The reply to one request. `listings` are those that the client has begun."""
        name = pairs[0][1] if pairs and pairs[0][0] == "request" else ""
        kind = wire.KINDS.get(name)
        if kind is None:
            log.warning(f'unrecognized request: "{name}", ignored')
            return [("status", wire.BAD)]
        flags = 0
        texts: tuple[str, ...] = ()
        try:
            request = kind.parse(wire.modern(pairs, self.release), f"{self.context.service} socket")
            table, status = self._table(request), wire.OK
            flags = _wire_flags(table) if isinstance(request, wire.Open) else request.flags | _ALSO.get(name, 0)
            found = await self._result(table, request, listings)
            if found is None:
                status = wire.NO_KEY
            else:
                texts = found
        except ProtocolError as error:
            log.warning(str(error))
            status = wire.BAD
        except Denied as error:
            status = error.args[0]
        except TableError as error:
            status = wire.CONFIG if error.config else wire.RETRY
        except FatalError as error:
            log.error(str(error))
            status = wire.RETRY
        return wire.reply(name, status, flags, texts, self.release)

    def _table(self, request: wire.Open | wire.Lookup | wire.Update | wire.Delete | wire.Sequence) -> Table:
        """The table that a request is for. Raises Denied."""
        name = bare(request.table)
        changes = isinstance(request, wire.Update | wire.Delete)
        if changes and not self.writer:
            log.warning(f"refusing {request.table} {request.request} request on non-proxywrite service")
            raise Denied(wire.DENY)
        if isinstance(request, wire.Sequence) and request.function not in (wire.FIRST, wire.NEXT):
            raise Denied(wire.BAD)
        if ":" not in name:
            raise Denied(wire.BAD)
        if name not in self.approved:
            access = "read-write" if self.writer else "read-only"
            log.warning(f'request for unapproved table: "{name}"')
            log.warning(f"to approve this table for {access} access, list proxy:{name} in main.cf:{self.parameter}")
            raise Denied(wire.DENY)
        flags = Flags(request.instance_flags & 0x7FFFFFFF)
        if not isinstance(request, wire.Open):
            flags = flags & ~FOLDING | Flags(request.flags & 0x7FFFFFFF) & FOLDING
        return self._opened(name, flags & ~(Flags.UTF8_ACTIVE | Flags.FIXED | Flags.PATTERN))

    def _opened(self, name: str, flags: Flags) -> Table:
        table = self._tables.get((name, flags))
        if table is None or table.changed():
            kind, _, path = name.partition(":")
            stored = self.writer and kind in FILES and is_type(kind, self.view)
            if stored and table is None:
                # As with O_CREAT: a table that is not there yet is made, empty.
                writer = build.open_writer(kind, path, self.view, Flags.DUP_REPLACE, create=False)
                if writer is not None:
                    writer.finish()
            # The service opens directly what its clients ask it for.
            table = open_table(name, self.view, flags=flags | Flags.NO_PROXY, writable=self.writer and not stored)
            self._tables[name, flags] = table
        return table

    async def _result(
        self,
        table: Table,
        request: wire.Open | wire.Lookup | wire.Update | wire.Delete | wire.Sequence,
        listings: dict[tuple[str, Flags], Iterator[tuple[str, str]]],
    ) -> tuple[str, ...] | None:
        """The texts of a reply, None for "not there". Raises TableError, FatalError."""
        match request:
            case wire.Lookup():
                value = await table.find(request.key)
                return None if value is None else (value,)
            case wire.Sequence():
                which = table.name, table.flags
                if request.function == wire.FIRST or which not in listings:
                    listings[which] = iter(table.items())
                return next(listings[which], None)
            case wire.Update():
                done = await self._change(table, request.key, request.value)
            case wire.Delete():
                done = await self._change(table, request.key, None)
            case _:
                done = True
        return () if done else None

    # Changes.

    async def _change(self, table: Table, key: str, value: str | None) -> bool:
        """Store or delete (`value` None); whether it was done. Raises TableError, FatalError."""
        kind = table.name.partition(":")[0]
        if kind not in FILES:
            return table.remove(key) if value is None else table.update(key, value)
        queue = self._queues.setdefault(table.name, Queue())
        change = Change(key, value, table.flags, asyncio.get_running_loop().create_future())
        queue.waiting.append(change)
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._write(table.name, queue))
        return await change.done

    async def _write(self, name: str, queue: Queue) -> None:
        """Write what waits, until nothing waits."""
        while queue.waiting:
            batch, queue.waiting = queue.waiting, []
            try:
                results = await asyncio.to_thread(self._apply, name, batch)
            except (FatalError, TableError) as error:
                for change in batch:
                    if not change.done.done():
                        change.done.set_exception(TableError(str(error)))
                log.error(str(error))
                continue
            for change, result in zip(batch, results, strict=True):
                if not change.done.done():
                    change.done.set_result(result)

    def _apply(self, name: str, batch: list[Change]) -> list[bool]:
        kind, _, path = name.partition(":")
        writer = build.open_writer(kind, path, self.view, batch[0].flags | Flags.DUP_REPLACE, create=False)
        assert writer is not None
        results = []
        for change in batch:
            writer.fold = bool(change.flags & Flags.FOLD_FIX)
            results.append(
                writer.remove(change.key) if change.value is None else writer.update(change.key, change.value)
            )
        writer.finish()
        return results

    async def stop(self) -> None:
        for queue in self._queues.values():
            if queue.task is not None:
                await queue.task
        for table in self._tables.values():
            table.close()


def _wire_flags(table: Table) -> int:
    """The flags of an open table as its clients must know them."""
    flags = table.flags & ~Flags.NO_PROXY | (Flags.PATTERN if table.pattern else Flags.FIXED)
    return int(flags | (Flags.UTF8_ACTIVE if table.utf8 else Flags.NONE))
