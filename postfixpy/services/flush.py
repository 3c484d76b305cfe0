"""flush(8): remembers for each destination domain the messages that wait for it, and has them delivered on request.

    add site id       remember that the message waits for the domain; delivery agents ask this when they defer
    send_site site    deliver what waits for the domain now (postqueue -s, sendmail -qR, ETRN)
    send_file id      deliver one message now (postqueue -i, sendmail -qI)
    rfrsh, wakeup     the wakeup by master: deliver the logs that nobody read for fast_flush_refresh_time, because
                      they grow; remove those that are empty and unchanged for fast_flush_purge_time
    purge             deliver all logs

Only domains that match fast_flush_domains are served. The log of a domain is a file in the flush queue directory, named
as the domain with every character but letters and digits replaced by "_": a queue id a line. "Deliver now" moves a
message from the deferred to the incoming queue, with the time stamp of now, and wakes up the queue manager. send_site
also has it forget dead destinations before; send_file marks the queue file for that (group read permission).

A log may be locked for long, so the work of one request is done in a thread.

Source: flush(8), ETRN_README. Differs from Postfix: what it dies of (a log that cannot be opened) is a logged error
and status -1, as its client concludes from the missing answer; a request that nobody knows is answered, too;
the complaint about what is no domain has our words, and comes each time.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.ipc import flush as wire
from postfixpy.ipc.attributes import Pair, ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import Message
from postfixpy.ipc.service import Context, Service
from postfixpy.ipc.trigger import trigger_blocking
from postfixpy.mail import queue_id as ids
from postfixpy.mail.printable import printable
from postfixpy.mail.queue import DEFERRED, FLUSH, INCOMING, READY, UNTHROTTLE, Queue, QueueFile, lock

MAX_REMEMBERED = 10_000
"""Ids of one log that are kept in memory to skip those that come again."""

_TRIGGER_SIZE = 2  # the longest trigger; any attribute list is longer
_FORGET_DEAD, _SCAN_INCOMING = b"F", b"I"
_REQUESTS: dict[str, type[Message]] = {"add": wire.Add, "send_site": wire.SendSite, "send_file": wire.SendFile}


def log_name(site: str) -> str | None:
    """The name of a domain's log; None, after a warning, for what is no domain, such as an address literal."""
    from postfixpy.config.domain import domain_to_ascii

    domain, problem = domain_to_ascii(site)
    if problem:
        shown = printable(site[:100], utf8=True)
        log.warning(f'midna_domain_to_ascii_create: Problem translating domain "{shown}" to ASCII form: {problem}')
        return None
    return "".join(char.lower() if char.isalnum() else "_" for char in domain)


class Flush(Service):
    """The service. `now` gives seconds since the epoch."""

    protocol = wire.PROTOCOL
    unlimited = True

    def __init__(self, context: Context, now: Callable[[], float] = time.time) -> None:
        super().__init__(context)
        self._now = now

    async def pre_jail(self) -> None:
        view = self.view
        if self.context.words:
            raise FatalError(f"unexpected command-line argument: {self.context.words[0]}")
        self.domains = wire.flush_domains(view)
        self.store = Store(
            Queue("", view.hash_queue_names, view.hash_queue_depth),
            lambda requests: trigger(f"public/{view.queue_service_name}", requests, view.trigger_timeout),
            self._now,
            view.fast_flush_purge_time,
        )
        self.refresh_time: int = view.fast_flush_refresh_time

    def tables_changed(self) -> str | None:
        for pattern in self.domains.patterns if self.domains is not None else ():
            if pattern.table is not None and pattern.table.changed():
                return f"{pattern.table.kind}:{pattern.table.label}"
        return None

    async def serve(self, channel: Channel) -> None:
        """One request. Never raises for a request that fails."""
        try:
            data = await channel.read_bytes()
            if not data:
                log.warning(f"end-of-input while reading request from {channel.peer}")
                return
            if len(data) <= _TRIGGER_SIZE:
                request = {b"W": "rfrsh"}.get(data.rstrip(b"\0"), "")
                pairs: Sequence[Pair] = (("request", request),)
            else:
                channel.unread(data)
                pairs = await channel.read_list()
        except ProtocolError as error:
            log.warning(str(error))
            channel.send_message(wire.Status(wire.BAD))
            return
        age = _age(pairs, self.refresh_time)
        if age is None:
            channel.send_message(wire.Status(await self.answer(pairs, channel.peer)))
            return
        channel.send_message(wire.Status(wire.OK))
        channel.close()  # it does not wait for the work
        try:
            await asyncio.to_thread(self.store.refresh, age)
        except TemporaryError as error:
            log.error(str(error))

    async def answer(self, pairs: Sequence[Pair], peer: str) -> int:
        """Carry out a request whose client waits; its status."""
        kind = _REQUESTS.get(pairs[0][1]) if pairs and pairs[0][0] == "request" else None
        if kind is None:
            return wire.BAD
        try:
            message = kind.parse(pairs, peer)
        except ProtocolError as error:
            log.warning(str(error))
            return wire.BAD
        try:
            return await self._execute(message)
        except TemporaryError as error:
            log.error(str(error))
            return wire.FAIL

    async def _execute(self, message: Message) -> int:
        if isinstance(message, wire.SendFile):
            if not ids.valid(message.queue_id):
                return wire.BAD
            await asyncio.to_thread(self.store.send_file, message.queue_id)
            return wire.OK
        assert isinstance(message, wire.Add | wire.SendSite)
        if isinstance(message, wire.Add) and not ids.valid(message.queue_id):
            return wire.BAD
        refusal = await self._refusal(message.site)
        if refusal != wire.OK:
            return refusal
        name = log_name(message.site)
        if name is None:
            return wire.DENY
        if isinstance(message, wire.Add):
            await asyncio.to_thread(self.store.add, name, message.queue_id)
        else:
            await asyncio.to_thread(self.store.send, name, forget_dead=True)
        return wire.OK

    async def _refusal(self, site: str) -> int:
        """OK when `site` is in fast_flush_domains; else DENY, or FAIL when the list cannot tell."""
        from postfixpy.lookup import TableError

        try:
            return wire.OK if self.domains is not None and await self.domains.amatch(site) else wire.DENY
        except TableError:
            return wire.FAIL


def _age(pairs: Sequence[Pair], refresh_time: int) -> int | None:
    """Of a request to refresh logs: the age in seconds from which on; None for another request."""
    return {("request", "rfrsh"): refresh_time, ("request", "purge"): 0}.get(pairs[0]) if len(pairs) == 1 else None


def trigger(path: str, requests: bytes, timeout: float) -> None:
    """Tell the queue manager. When it is down that is only logged: it looks at the queue when it starts."""
    try:
        trigger_blocking(path, requests, timeout)
    except FileNotFoundError as error:
        log.warning(f"unable to look up {path}: {error.strerror}")
    except OSError as error:
        log.warning(f"connect to {path}: {error.strerror or 'Connection timed out'}")


class Store:
    """The logs, and what is done about the messages in them. Blocks; `tell` sends trigger bytes to the queue manager.

    `purge_time`: seconds after which an empty log is removed.
    """

    def __init__(self, queue: Queue, tell: Callable[[bytes], None], now: Callable[[], float], purge_time: int) -> None:
        self.queue = queue
        self.tell = tell
        self.now = now
        self.purge_time = purge_time

    def add(self, name: str, queue_id: str) -> None:
        """Remember a message in the log `name`. Raises TemporaryError."""
        with self._open(name, os.O_CREAT | os.O_APPEND | os.O_WRONLY) as file:
            try:
                file.write(queue_id.encode() + b"\n")
            except OSError as error:
                log.warning(f"write fast flush logfile {name}: {error.strerror}")

    def send(self, name: str, *, forget_dead: bool = False) -> None:
        """Deliver the messages in the log `name`, and empty it. `forget_dead`: and try dead destinations.

        Raises TemporaryError.
        """
        try:
            file = self._open(name, os.O_RDWR)
        except FileNotFoundError:
            return  # nothing waits
        with file:
            if forget_dead:
                self.tell(_FORGET_DEAD)
            listed = os.fstat(file.fd).st_size > 0
            for queue_id in _remembered(file, name):
                self._deliver(queue_id)
            try:
                if listed:
                    os.ftruncate(file.fd, 0)
            except OSError as error:
                raise TemporaryError(f"truncate fast flush logfile {name}: {error.strerror}") from error
            try:
                os.utime(file.fd)  # the time of the last read, also where the file system does not keep it
            except OSError:
                pass  # then the log is refreshed sooner
        if listed:
            self.tell(_SCAN_INCOMING)

    def send_file(self, queue_id: str) -> None:
        """Deliver one message."""
        if self._deliver(queue_id, unthrottle=True):
            self.tell(_SCAN_INCOMING)

    def refresh(self, max_age: int) -> None:
        """Deliver logs that were not read for `max_age` seconds; remove those long empty. Raises TemporaryError."""
        for name in self.queue.scan(FLUSH):
            if not ids.valid(name):
                continue
            path = self.queue.path(FLUSH, name)
            try:
                found = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(f"stat {path}: {error.strerror}")
                continue
            if found.st_size:
                if int(found.st_atime) + max_age < int(self.now()):
                    self.send(name)
            elif int(found.st_mtime) + self.purge_time < int(self.now()):
                try:
                    os.unlink(path)
                except OSError as error:
                    log.warning(f"remove logfile {path}: {error.strerror}")

    def _open(self, name: str, flags: int) -> QueueFile:
        """The log `name`, locked. Raises FileNotFoundError when it is to exist and does not, else TemporaryError."""
        try:
            file = self.queue.open(FLUSH, name, flags)
        except FileNotFoundError as error:
            if not flags & os.O_CREAT:
                raise
            raise TemporaryError(f"open fast flush logfile {name}: {error.strerror}") from error
        except OSError as error:
            raise TemporaryError(f"open fast flush logfile {name}: {error.strerror}") from error
        try:
            lock(file.fd, exclusive=True, wait=True)
        except OSError as error:
            file.close()
            raise TemporaryError(f"lock fast flush logfile {name}: {error.strerror}") from error
        return file

    def _deliver(self, queue_id: str, *, unthrottle: bool = False) -> bool:
        """Make the queue manager see one message now. False: it is not deferred, nor new."""
        now = self.now()
        for where in (DEFERRED, INCOMING):  # somebody else may just have moved it
            path = self.queue.path(where, queue_id)
            try:
                os.utime(path, (now, now))
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(f"update {path} time stamps: {error.strerror}")
                continue
            if unthrottle and not self._unthrottle(queue_id, where):
                return False
            if where == DEFERRED:
                try:
                    self.queue.rename(queue_id, DEFERRED, INCOMING)
                except FileNotFoundError:
                    pass  # somebody else was faster
                except OSError as error:
                    log.warning(f"{path}: rename from {DEFERRED} to {INCOMING}: {error.strerror}")
            return True
        return False

    def _unthrottle(self, queue_id: str, where: str) -> bool:
        """Mark a complete message for delivery whatever is known of its destinations. False: there is none.

        By descriptor: the file behind a path could be exchanged between the look and the change.
        """
        for queue in (where, INCOMING):
            path = self.queue.path(queue, queue_id)
            try:
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(f"open {path}: cannot open file: {error.strerror}")
                return False
            try:
                state = os.fstat(fd)
                if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
                    log.warning(f"open {path}: file is not a regular file with one link")
                    return False
                if state.st_mode & READY != READY:
                    return False
                os.fchmod(fd, stat.S_IMODE(state.st_mode) | UNTHROTTLE)
            except OSError as error:
                log.warning(f"fchmod {path}: {error.strerror}")
            finally:
                os.close(fd)
            return True
        return False


def _remembered(file: QueueFile, name: str) -> Iterator[str]:
    """The ids in a log, each once (as long as there are not too many). Raises TemporaryError."""
    seen: set[str] = set()
    try:
        with open(os.dup(file.fd), "rb") as lines:
            for line in lines:
                queue_id = line.rstrip(b"\n").decode("utf-8", "surrogateescape")
                if not ids.valid(queue_id):
                    log.warning(f'bad queue id "{queue_id[:30]}..." in fast flush logfile {name}')
                elif queue_id not in seen:
                    if len(seen) < MAX_REMEMBERED:
                        seen.add(queue_id)
                    yield queue_id
    except OSError as error:
        raise TemporaryError(f"read fast flush logfile {name}: {error.strerror}") from error
