"""The queue files that the queue manager moves, reads and updates: its whole contact with the queue directory.

Moving a file never loses it: a message is in exactly one queue at any time (rename is atomic), and what is still in
`active` when the program starts goes back to `incoming`, at once due. A file that an agent of a previous queue
manager is still delivering is locked, and comes back a minute later.

Source: qmgr(8), mail_queue(3). Everything here is quick local input and output; nothing waits.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import cast

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.queue import (
    ACTIVE,
    BOUNCE,
    CORRUPT,
    DEFER,
    DEFERRED,
    EXPIRE,
    INCOMING,
    UNTHROTTLE,
    Queue,
    QueueFile,
    lock,
)
from postfixpy.mail.queue_id import valid
from postfixpy.mail.records import Kind, encode_record

from .envelope import CorruptFile, EnvelopeReader, record_file
from .model import Message

LOCKED_DELAY = 60
"""Seconds until another try at a file that is still being delivered."""


class StillBeingDelivered(Exception):
    """An agent has the file locked."""


class Store:
    """Queue files by id. `clock` gives seconds since the epoch."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.time) -> None:
        self.queue = queue
        self.clock = clock

    def listing(self, queue: str) -> Iterator[str]:
        """The names in a queue."""
        return self.queue.scan(queue)

    def recover(self) -> int:
        """Move what was active when the last queue manager ended to incoming; returns how many. Raises FatalError."""
        moved = 0
        now = self.clock()
        for queue_id in list(self.queue.scan(ACTIVE)):
            if not valid(queue_id):
                log.warning(f"qmgr_move: ignored: queue {ACTIVE} id {queue_id}")
            elif self._touch("qmgr_move", ACTIVE, queue_id, now) and self._rename(
                "qmgr_move", queue_id, ACTIVE, INCOMING
            ):
                moved += 1
        return moved

    def claim(self, queue: str, queue_id: str, *, all_times: bool) -> os.stat_result | None:
        """Move a message to the active queue when it is complete and its time has come (or with `all_times`).

        Its state, else None. Raises FatalError when the queue is not usable.
        """
        found = self.queue.open_ok(queue, queue_id, self.clock())
        if found is None or (not all_times and found.st_mtime > self.clock() + 1):
            return None
        return found if self._rename("qmgr_active_feed", queue_id, queue, ACTIVE, colon=True) else None

    def open(self, queue_id: str) -> QueueFile | None:
        """The active message's file; None, after a warning, when it has gone. Raises FatalError."""
        try:
            return self.queue.open(ACTIVE, queue_id)
        except FileNotFoundError as error:
            log.warning(f"open {ACTIVE} {queue_id}: {error.strerror}")
            return None
        except OSError as error:
            raise FatalError(f"open {ACTIVE} {queue_id}: {error.strerror}") from error

    def load(self, message: Message, file: QueueFile, limit: int, mode: int) -> list[Recipient]:
        """Lock and read a file for the first time: its envelope, and up to `limit` recipients.

        `mode` is the file's mode: requests for this message are in it, and are noted in `message`. Raises
        StillBeingDelivered, and CorruptFile.
        """
        if not lock(file.fd, exclusive=True):
            log.info(f"{message.queue_id}: skipped, still being delivered")
            raise StillBeingDelivered
        recipients = self.read(message, file, limit)
        if mode & UNTHROTTLE:
            os.fchmod(file.fd, stat.S_IMODE(mode) & ~UNTHROTTLE)
            message.flush = message.run_deferred = True
        message.force_expire = bool(mode & EXPIRE)
        return recipients

    def read(self, message: Message, file: QueueFile, limit: int) -> list[Recipient]:
        """Read up to `limit` recipients from where reading stopped. Raises CorruptFile."""
        reader = cast(EnvelopeReader, message.reader)
        return reader.read(record_file(file, file.path), limit)

    def has_log(self, kind: str, queue_id: str) -> bool:
        """Whether there is a bounce or defer log with something in it; an empty one (which says nothing) is removed."""
        try:
            size = os.stat(self.queue.path(kind, queue_id)).st_size
        except OSError:
            return False
        if size == 0 and kind == BOUNCE:
            self._remove_log(kind, queue_id)
        return size > 0

    def reset_defer_log(self, queue_id: str) -> None:
        """Remove the defer log of the last attempt: what it says will be said again, or is over. Raises FatalError."""
        self._remove_log(DEFER, queue_id)

    def _remove_log(self, kind: str, queue_id: str) -> None:
        try:
            self.queue.remove(kind, queue_id)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise FatalError(f"remove {kind} {queue_id}: {error.strerror}") from error

    def usable(self, queue_id: str) -> bool:
        """Whether the active file is still a complete message: an agent marks a damaged one by changing its mode."""
        return self.queue.open_ok(ACTIVE, queue_id) is not None

    def mark_corrupt(self, queue_id: str) -> None:
        """Set the active file aside for a person to look at. Raises FatalError."""
        try:
            self.queue.rename(queue_id, ACTIVE, CORRUPT)
        except FileNotFoundError:
            pass
        except OSError as error:
            text = f"qmgr_active_corrupt: save corrupt file queue {ACTIVE} id {queue_id}: {error.strerror}"
            raise FatalError(text) from error
        else:
            log.warning(f'saving corrupt file "{queue_id}" from queue "{ACTIVE}" to queue "{CORRUPT}"')

    def postpone(self, queue_id: str, delay: int, queue: str = DEFERRED) -> None:
        """Move the active file to `queue`, not to be looked at for `delay` seconds. Raises FatalError."""
        self._touch("qmgr_active_defer", ACTIVE, queue_id, self.clock() + delay, quiet=True)
        self._rename("qmgr_active_defer", queue_id, ACTIVE, queue)

    def remove(self, queue_id: str) -> None:
        """Delete the active file: every recipient has been dealt with. Raises FatalError."""
        where = "qmgr_active_done_3_generic"
        try:
            self.queue.remove(ACTIVE, queue_id)
        except FileNotFoundError as error:
            log.warning(f"{where}: remove {queue_id} from {ACTIVE}: {error.strerror}")
        except OSError as error:
            raise FatalError(f"{where}: remove {queue_id} from {ACTIVE}: {error.strerror}") from error
        else:
            log.info(f"{queue_id}: removed")

    def note_warned(self, message: Message) -> None:
        """The sender has been warned of the delay: say so in the file. Raises FatalError."""
        self._patch(message.queue_id, message.envelope.warn_offset, encode_record(Kind.WARN, b"%15d" % -1))

    def kill_trace_request(self, message: Message) -> None:
        """The delivery report has been sent: it is not to be sent again. Raises FatalError."""
        self._patch(message.queue_id, message.envelope.trace_offset, Kind.KILLED.encode())

    def _patch(self, queue_id: str, offset: int, data: bytes) -> None:
        file = self.open(queue_id)
        if file is None:
            return
        with file:
            try:
                os.pwrite(file.fd, data, offset)
            except OSError as error:
                raise FatalError(f"update queue file {file.path}: {error.strerror}") from error

    def _touch(self, where: str, queue: str, queue_id: str, when: float, *, quiet: bool = False) -> bool:
        path = self.queue.path(queue, queue_id)
        try:
            os.utime(path, (int(when), int(when)))
        except FileNotFoundError as error:
            if not quiet:
                log.warning(f"{where}: update {path} time stamps: {error.strerror}")
            return False
        except OSError as error:
            raise FatalError(f"{where}: update {path} time stamps: {error.strerror}") from error
        return True

    def _rename(self, where: str, queue_id: str, old: str, new: str, *, colon: bool = False) -> bool:
        try:
            self.queue.rename(queue_id, old, new)
        except OSError as error:
            what = f"{queue_id}: rename" if colon else f"rename {queue_id}"
            text = f"{where}: {what} from {old} to {new}: {error.strerror}"
            if not isinstance(error, FileNotFoundError):
                raise FatalError(text) from error
            log.warning(text)
            return False
        return True


__all__ = ["CorruptFile", "StillBeingDelivered", "Store"]
