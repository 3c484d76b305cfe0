"""pickup(8): takes what postdrop(1) and sendmail(1) left in the maildrop queue, and hands it to cleanup.

It looks when it is told to (a trigger, or master's wakeup timer) and goes on until there is nothing more. A file must
be regular, its owner mode 0700 (complete), and hold only the records that a submission may have; it is removed only
after cleanup has answered for the message. The Received: header that is added names the file's owner by number.

Sources: pickup(8), postsuper(1) for mail that is re-queued. Differs from Postfix: a malformed file is moved to the
corrupt queue, where Postfix deletes it; and several messages are handed over at the same time.

Postfix submits a message twice when pickup is killed between cleanup's answer and the removal of the file. Ours takes
the queue id that cleanup announces as the file's new name. A file whose name does not hold its own inode number has
thus been handed over before; when the queue has a complete message of that name, only the file's removal was missing.
"""

import asyncio
import os
import pwd
import stat
import time
from typing import BinaryIO, ClassVar, cast

from postfixpy import log
from postfixpy.config import split_name_value
from postfixpy.errors import FatalError
from postfixpy.ipc import cleanup
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.service import Service
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.headers import mail_date
from postfixpy.mail.queue import CORRUPT, MAILDROP, Queue, QueueFile, lock
from postfixpy.mail.queue_id import inode_of
from postfixpy.mail.records import CONTENT, ENVELOPE, EXTRACT, Kind, RecordError, RecordFile, encode_record

from .cleaning.envelope import pseudo_kind
from .cleaning.releases import complete
from .cleaning.settings import mask

PARALLEL = 8
"""Messages handed to cleanup at a time: it waits for the disk with each."""

_DAY, _HOUR = 86400, 3600
_TRANSPARENCY = {
    "no_unknown_recipient_checks": 0,
    "no_address_mappings": cleanup.FLAG_BCC_OK | cleanup.FLAG_MAP_OK,
    "no_header_body_checks": cleanup.FLAG_FILTER,
    "no_milters": cleanup.FLAG_MILTER,
}
"""Words of receive_override_options, and the cleanup flags that each takes away."""


class Pickup(Service):
    """The service. Triggers that come while it is at work make it look once more."""

    triggers: ClassVar[bool] = True
    single: ClassVar[bool] = True

    async def pre_jail(self) -> None:
        view = self.view = complete(self.view)
        if self.context.words:
            raise FatalError(f"unexpected command-line argument: {self.context.words[0]}")
        without = mask("receive_override_options", _TRANSPARENCY, view.receive_override_options)
        self.flags = (cleanup.FLAG_BOUNCE | cleanup.FLAGS_EXTERNAL) & ~without
        self.utf8_flag = cleanup.autodetect_flag(view, "sendmail")
        try:
            self.owner = pwd.getpwnam(view.mail_owner).pw_uid
        except KeyError:
            self.owner = os.geteuid()

    async def start(self) -> None:
        self.queue = Queue("", self.view.hash_queue_names, self.view.hash_queue_depth)
        self._turn = asyncio.Lock()
        self._waiting = False

    async def triggered(self, requests: bytes) -> None:
        if self._waiting:
            return  # the scan that is about to begin will see what this one is about
        self._waiting = True
        async with self._turn:
            self._waiting = False
            while await self._scan():
                pass

    async def _scan(self) -> int:
        """Hand over everything that is there; how many files are gone now."""
        removed = 0
        pending: set[asyncio.Task[bool]] = set()
        for queue_id in self.queue.scan(MAILDROP):
            found = self.queue.open_ok(MAILDROP, queue_id, time.time())
            if found is None:
                continue
            if inode_of(queue_id) != found.st_ino:
                accepted = self.queue.accepted(queue_id)
                if accepted is None:
                    continue  # cleanup is still at it; the next scan sees what came of it
                if accepted:
                    removed += self._remove(self.queue.path(MAILDROP, queue_id))
                    continue
            pending.add(asyncio.create_task(self._take(queue_id, found)))
            if len(pending) >= PARALLEL:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                removed += sum(task.result() for task in done)
        return removed + sum([await task for task in pending])

    async def _take(self, queue_id: str, found: os.stat_result) -> bool:
        """Hand over one file. True when it is gone."""
        hand = Hand(self, self.queue.path(MAILDROP, queue_id), found)
        try:
            remove = await hand.over()
        except CorruptError:
            return self._save(os.path.basename(hand.place))
        return remove and self._remove(hand.place)

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning(f"remove {path}: {error.strerror}")
            return False
        return True

    def _save(self, queue_id: str) -> bool:
        log.warning(f'saving corrupt file "{queue_id}" from queue "{MAILDROP}" to queue "{CORRUPT}"')
        try:
            self.queue.rename(queue_id, MAILDROP, CORRUPT)
        except OSError as error:
            log.warning(f"move {queue_id} to queue {CORRUPT}: {error.strerror}")
            return False
        return True


class CorruptError(Exception):
    """The file is not a submission; what is wrong is logged."""


class Hand:
    """The way of one file to cleanup."""

    def __init__(self, service: Pickup, path: str, found: os.stat_result) -> None:
        self.service = service
        self.path = path
        self.place = path  # where the file is now; texts have the path that the submitter knows
        self.original_id = os.path.basename(path)
        self.uid = found.st_uid
        self.arrival = int(found.st_mtime)
        self.requeued = found.st_uid == service.owner and not found.st_mode & stat.S_IROTH
        self.sender: str | None = None
        self.unsure = False
        self.submission: cleanup.Submission

    async def over(self) -> bool:
        """True: the file can go. Raises CorruptError."""
        fd = self._open()
        if fd is None:
            return False
        with QueueFile(fd, MAILDROP, "", self.path) as file:
            flags = self.service.flags
            flags = flags & ~cleanup.FLAG_MILTER if self.requeued else flags | self.service.utf8_flag
            view = self.service.view
            try:
                self.submission = await cleanup.Submission.open(
                    f"public/{view.cleanup_service_name}", flags, timeout=view.ipc_timeout
                )
            except ProtocolError as error:
                log.warning(str(error))
                return False
            self._rename(self.submission.queue_id)
            refused = True
            try:
                done = await self._copy(file)
                refused = not done and not self.unsure
                return done
            except ProtocolError:
                refused = False
                return self._failed(cleanup.CleanupResult(cleanup.STAT_WRITE, ""))
            finally:
                self.submission.close()
                if refused:
                    self._rename(self.original_id)

    def _rename(self, queue_id: str) -> None:
        """Name the file after the message that it becomes. Failure costs nothing but a duplicate after a kill."""
        place = self.service.queue.path(MAILDROP, queue_id)
        if os.path.lexists(place):
            return
        try:
            os.rename(self.place, place)
        except OSError as error:
            log.warning(f"rename {self.place} to {place}: {error.strerror}")
            return
        self.place = place

    def _open(self) -> int | None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning(f"open input file {self.path}: {error.strerror}")
            return None
        state = os.fstat(fd)
        if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
            # After master was killed and started again, the pickup of before may still be at work on this file.
            if lock(fd, exclusive=True) and os.path.exists(self.path):
                return fd
            os.close(fd)
            return None
        os.close(fd)
        problem = "file is not a regular file"
        if state.st_nlink != 1:
            problem = f"file has {state.st_nlink} hard links"
        log.warning(f"open input file {self.path}: {problem}")
        return None

    async def _copy(self, file: QueueFile) -> bool:
        view, submission = self.service.view, self.submission
        self._check_age()
        name = f"{MAILDROP} {submission.queue_id}"
        records = RecordFile(cast("BinaryIO", file), name, view.line_length_limit)
        if view.content_filter:
            submission.record(Kind.FILTER, view.content_filter)
        self._envelope(records)
        if self.sender is None:
            log.warning(f"{submission.queue_id}: uid={self.uid}: no envelope sender")
            raise CorruptError
        self._log_sender()
        submission.record(Kind.MESSAGE)
        submission.line(f"Received: by {view.myhostname} ({view.mail_name}, from userid {self.uid})")
        submission.line(f"\tid {submission.queue_id}; {mail_date(self.arrival)}")
        await self._content(records)
        submission.record(Kind.EXTRACTED)
        self._extracted(records)
        submission.record(Kind.END)
        result = await submission.verdict()
        return result.ok or self._failed(result)

    def _failed(self, result: cleanup.CleanupResult) -> bool:
        if not result.reason:
            words = cleanup.detail(result.status).text
            log.warning(f"{self.path}: error writing {self.submission.queue_id}: {words}")
        # A cleanup that died without an answer may have put the message in the queue: the next scan looks there.
        self.unsure = bool(result.status & cleanup.STAT_WRITE)
        if result.status & cleanup.STAT_BAD:
            raise CorruptError
        return bool(result.status & cleanup.STAT_RCPT)

    def _check_age(self) -> None:
        now = int(time.time())
        queue_id = self.submission.queue_id
        if self.arrival > now + 2 * _HOUR:
            log.warning(f"{queue_id}: message {self.path} dated {self.arrival - now} seconds into the future")
            self.arrival = now
        elif self.arrival < now - _DAY:
            days = (now - self.arrival) // _DAY
            log.warning(f"{queue_id}: message {self.path} has been queued for {days} days")

    def _log_sender(self) -> None:
        sender = self.sender or ""
        if sender and self.service.view.info_log_address_format.lower() != "internal":
            sender = quote_822_local(sender)
        line = f"{self.submission.queue_id}: uid={self.uid} from=<{sender}>"
        log.info(f"{line} orig_id={self.original_id}" if self.requeued else line)

    # The three segments

    def _next(self, records: RecordFile, expected: str) -> tuple[str, bytes]:
        """The next record, of an expected kind. Raises CorruptError."""
        try:
            record = records.next()
        except RecordError as error:
            log.warning(str(error))
            number = -2
        else:
            if record is not None and record.kind in expected:
                return record.kind, record.payload
            number = -1 if record is None else ord(record.kind)
        raise self._malformed(number)

    def _malformed(self, number: int) -> CorruptError:
        log.warning(f"uid={self.uid}: unexpected or malformed record type {number}")
        return CorruptError()

    def _envelope(self, records: RecordFile) -> None:
        time_seen = False
        while True:
            kind, payload = self._next(records, ENVELOPE)
            if kind == Kind.MESSAGE:
                return
            if kind == Kind.FROM:
                if self.sender is None:
                    self.sender = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
                if not time_seen:
                    self.submission.record(Kind.TIME, str(self.arrival))
            elif kind == Kind.TIME:
                time_seen = True
            elif kind in (Kind.FILTER, Kind.REDIRECT):
                continue  # of a message that is re-queued: decided anew
            self.submission.record(kind, payload)

    async def _content(self, records: RecordFile) -> None:
        first = True
        while True:
            try:
                batch = records.batch()
            except RecordError as error:
                log.warning(str(error))
                raise self._malformed(-2) from None
            if not batch:
                raise self._malformed(-1)
            if first:
                first = False
                if batch[0].payload[:1] in (b" ", b"\t"):
                    self.submission.line()  # or it would continue our Received: header
            out = bytearray()
            for kind, payload, _ in batch:
                if kind == Kind.EXTRACTED:
                    self.submission.raw(out)
                    return
                if kind not in CONTENT:
                    raise self._malformed(ord(kind))
                out += encode_record(kind, payload)
            self.submission.raw(out)
            await self.submission.drain()

    def _extracted(self, records: RecordFile) -> None:
        while True:
            kind, payload = self._next(records, EXTRACT)
            if kind == Kind.END:
                return
            if kind in (Kind.FILTER, Kind.REDIRECT, Kind.RETURN_RECEIPT, Kind.ERRORS_TO):
                continue
            if kind == Kind.ATTRIBUTE:
                text = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
                try:
                    if not pseudo_kind(split_name_value(text)[0]):
                        continue  # found out anew
                except ValueError:
                    pass  # cleanup says what is wrong
            self.submission.record(kind, payload)
