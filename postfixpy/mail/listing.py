"""What is in the queue: messages and recipients, with the reasons why they wait, for showq(8) and postqueue(1).

Messages come queue by queue, in the directories' own order. The recipients of the logs (defer, and bounce: returned
soon) come first, with their reasons, then those of the queue file that no log has.

Source: showq(8). The bounce log, the original recipient and the log's name are listed since Postfix 3.11.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from postfixpy import log
from postfixpy.errors import FatalError

from . import queue as queues
from .addresses import quote_822_local
from .printable import printable
from .queue import Queue, QueueFile
from .records import Kind, RecordError, RecordFile, leading_int

if TYPE_CHECKING:
    from postfixpy.config import View

QUEUES = (queues.MAILDROP, queues.ACTIVE, queues.INCOMING, queues.DEFERRED, queues.HOLD)
_SIZE_CHARACTERS = b"0123456789 "


class Recipient(NamedTuple):
    """A recipient, external form. `log`: "defer" or "bounce", which gave the reason; both empty when there is none."""

    original: str
    address: str
    log: str
    reason: str


class Message(NamedTuple):
    """A message. `arrival`: seconds since the epoch; `size`: bytes; `expire`: to be returned at the next attempt.

    `recipients` is read from the file as it is consumed: to its end, before the next message.
    """

    queue: str
    id: str
    arrival: int
    size: int
    expire: bool
    sender: str
    recipients: Iterator[Recipient]


class Lister:
    """Lists a queue.

    `empty_address` is empty_address_recipient, `duplicates` duplicate_filter_limit (0: none), `utf8` smtputf8_enable;
    `logs`: the logs to read; `now` in seconds; `maildrop_sizes`: believe size records in maildrop files, too, as
    releases before 3.11 do.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        empty_address: str,
        duplicates: int,
        utf8: bool,
        now: Callable[[], float],
        logs: tuple[str, ...] = (queues.DEFER, queues.BOUNCE),
        maildrop_sizes: bool = False,
    ) -> None:
        self.queue = queue
        self.empty_address = empty_address
        self.duplicates = duplicates
        self.utf8 = utf8
        self.now = now
        self.logs = logs
        self.maildrop_sizes = maildrop_sizes

    @classmethod
    def of(cls, view: "View", queue: Queue) -> "Lister":
        """The lister that a configuration describes."""
        return cls(
            queue,
            empty_address=view.empty_address_recipient,
            duplicates=view.duplicate_filter_limit,
            utf8=view.smtputf8_enable,
            now=time.time,
            logs=(queues.DEFER, queues.BOUNCE) if view.release >= (3, 11) else (queues.DEFER,),
            maildrop_sizes=view.release < (3, 11),
        )

    def messages(self) -> Iterator[Message]:
        """Every complete message. A file that cannot be read gets a warning.

        Raises FatalError for a directory: a queue that cannot be read is not an empty one.
        """
        for name in QUEUES:
            for queue_id in self._ids(name):
                state = self.queue.open_ok(name, queue_id, self.now())
                if state is None:
                    continue
                try:
                    file = self.queue.open(name, queue_id, os.O_RDONLY)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    log.warning(f"open {name} {queue_id}: {error.strerror}")
                    continue
                with file:
                    message = self._message(file, state)
                    if message is not None:
                        yield message

    def _ids(self, name: str) -> Iterator[str]:
        if name != queues.MAILDROP:
            yield from self.queue.scan(name, strict=True)
            return
        # Users can write there: its subdirectories are not entered.
        directory = os.path.dirname(self.queue.path(name, "x"))
        try:
            yield from os.listdir(directory)
        except OSError as error:
            raise FatalError(f"open directory {directory}: {error.strerror}") from None

    def _shown(self, payload: bytes) -> str:
        """An address of a queue file: external form, printable."""
        address = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return printable(quote_822_local(address), utf8=self.utf8)

    def _message(self, file: QueueFile, state: os.stat_result) -> Message | None:
        """The message in `file`, as far as its sender; None when there is none."""
        records = RecordFile(file, file.path)
        arrival, size = 0, -1
        try:
            for record in records:
                kind, payload = record.kind, record.payload
                if kind == Kind.TIME and not arrival:
                    arrival = leading_int(payload)
                elif kind == Kind.SIZE and size < 0 and (file.queue != queues.MAILDROP or self.maildrop_sizes):
                    size = self._size(file.id, payload)
                elif kind in (Kind.ORIGINAL, Kind.RECIPIENT):
                    text = "missing sender address:  -- skipping remainder of this file"
                    log.warning(f"{file.id}: {text}")
                    return None
                elif kind == Kind.FROM:
                    sender = self._shown(payload or self.empty_address.encode("utf-8", "surrogateescape"))
                    return Message(
                        file.queue,
                        file.id,
                        arrival if arrival > 0 else int(state.st_mtime),
                        size if size >= 0 else state.st_size,
                        bool(stat.S_IMODE(state.st_mode) & queues.EXPIRE),
                        sender,
                        self._recipients(file, records, size),
                    )
        except RecordError as error:
            log.warning(str(error))
        return None

    def _size(self, queue_id: str, payload: bytes) -> int:
        """The size of the content segment; -1, after a warning, when the record is not one."""
        if payload.strip(_SIZE_CHARACTERS):
            text = printable(payload[:100].decode("utf-8", "surrogateescape"), utf8=self.utf8)
            log.warning(f"{queue_id}: malformed size record: {text} -- using file size instead")
            return -1
        return leading_int(payload)

    def _recipients(self, file: QueueFile, records: RecordFile, size: int) -> Iterator[Recipient]:
        seen: set[str] = set()
        for name in self.logs:
            yield from self._logged(name, file.id, seen)
        original = ""
        try:
            for record in records:
                kind, payload = record.kind, record.payload
                if kind == Kind.ORIGINAL:
                    original = self._shown(payload)
                elif kind == Kind.RECIPIENT:
                    address = self._shown(payload or self.empty_address.encode("utf-8", "surrogateescape"))
                    if address not in seen:
                        yield Recipient(original or address, address, "", "")
                    original = ""
                elif kind == Kind.MESSAGE and size > 0:
                    records.seek(records.tell() + size)
                elif kind == Kind.FROM:
                    text = f"duplicate sender address: {self._shown(payload)} -- skipping remainder of this file"
                    log.warning(f"{file.id}: {text}")
                    return
        except RecordError as error:
            log.warning(str(error))

    def _logged(self, name: str, queue_id: str, seen: set[str]) -> Iterator[Recipient]:
        from . import bounce_log  # here, because postqueue needs the types above and no logs, and starts for each use

        try:
            entries = bounce_log.read(self.queue, name, queue_id, utf8=self.utf8) or []
        except OSError as error:
            log.warning(f"open {name} {queue_id}: {error.strerror}")
            return
        for recipient, dsn in entries:
            if not self.duplicates or len(seen) < self.duplicates:
                seen.add(recipient.address)
            yield Recipient(recipient.original, recipient.address, name, dsn.reason)
