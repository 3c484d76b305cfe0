"""The mail queue: directories of queue files, and the life of a file in them.

    maildrop    mail from sendmail(1), not yet inspected        incoming    complete mail, the queue manager's inbox
    active      mail being delivered                            deferred    mail to be tried again later
    hold        mail that waits for a person                    corrupt     files that could not be read
    bounce, defer, trace    a log file for each message: what happened to its recipients
    flush       a log file for each domain: the messages that wait for it

A file is created with mode 0600, which every reader ignores, and becomes visible when its owner mode is set to 0700
after its content has reached the disk (`QueueFile.commit`). It is renamed from queue to queue and keeps its name,
which is its queue id. Queues named in hash_queue_names have subdirectories of one character.

Source: mail_queue(3), mail_stream(3), mail_open_ok(3), mail_scan_dir(3), spec/smtp-client.md 1.2, 15.11. Differs
from Postfix: `QueueFile.commit` also syncs the directory, so that an accepted message survives a crash of the
machine on every file system; a file that cannot be created is a TemporaryError at once, where Postfix waits and
tries again for ever.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError

from . import queue_id as ids
from .records import Kind

MAILDROP, HOLD, INCOMING, ACTIVE, DEFERRED = "maildrop", "hold", "incoming", "active", "deferred"
TRACE, DEFER, BOUNCE, CORRUPT, FLUSH, SAVED = "trace", "defer", "bounce", "corrupt", "flush", "saved"

READY = 0o700  # owner mode bits of a complete message
DAMAGED = 0o400  # owner mode bits of one that could not be read: the queue manager moves it to the corrupt queue
UNTHROTTLE = 0o040  # group read: postqueue -i, ignore the back-off and dead destinations
EXPIRE = 0o010  # group execute: postsuper -e, return to sender at the next attempt

_MAX_TRIES = 1000
_MINUTE = 60


class QueueFile:
    """An open queue file: its descriptor, queue, id and path. Closed by `close` or as a context manager."""

    __slots__ = ("arrival", "fd", "id", "path", "queue")

    def __init__(self, fd: int, queue: str, queue_id: str, path: str, arrival: int = 0) -> None:
        self.fd = fd
        self.queue = queue
        self.id = queue_id
        self.path = path
        self.arrival = arrival
        """Microseconds since the epoch that the id was made from; 0 when the file was not created here."""

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    def close(self) -> None:
        """Close the descriptor, which also drops its lock. Closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "QueueFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from the current position; everything when negative. For `records.RecordFile`."""
        if size >= 0:
            return os.read(self.fd, size)
        out = bytearray()
        while block := os.read(self.fd, 1 << 20):
            out += block
        return bytes(out)

    def write(self, data: bytes) -> int:
        """Write all of `data` at the current position. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the current position; returns it."""
        return os.lseek(self.fd, offset, whence)

    def tell(self) -> int:
        """The current position."""
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def seekable(self) -> bool:
        """True: queue files are regular files."""
        return True

    def commit(self, mode: int = 0) -> None:
        """Make the message visible to readers: content on disk, owner mode 0700 (and `mode` bits), name on disk.

        Raises OSError, and then the message has not been accepted.

        The mode is set before the content is synced, as in Postfix: one journal commit takes both to the disk. When
        that fails, a queue manager that was faster may deliver a message whose client is told no, and sends it again:
        a duplicate, where the disk is failing. Synced before and after, nobody would see it too early, but a writer
        made 18 to 39 percent fewer files a second (ext4, files of 4 kB).
        """
        os.fchmod(self.fd, READY | mode)
        os.fsync(self.fd)
        sync_directory(os.path.dirname(self.path) or ".")

    def mark_corrupt(self) -> None:
        """Ask the queue manager to move the message to the corrupt queue, with a warning. Raises OSError."""
        log.warning(f"corrupted queue file: {self.path}")
        os.fchmod(self.fd, DAMAGED)

    def mark_done(self, offset: int) -> None:
        """Record that the recipient whose record is at `offset` needs no more attempts; -1 does nothing.

        Raises OSError, and ValueError when the offset is impossible.
        """
        if offset == -1:
            return
        if offset <= 0:
            raise ValueError(f"deliver_completed: bad offset {offset}")
        os.pwrite(self.fd, Kind.DONE.encode(), offset)


def sync_directory(path: str) -> None:
    """Put the names in directory `path` on stable storage. Raises OSError.

    A directory that we may write but not read is not synced: the maildrop queue, by its mode, for users in its group.
    Postfix's postdrop never syncs it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without directory sync
            raise
    finally:
        os.close(fd)


def lock(fd: int, *, exclusive: bool, wait: bool = False) -> bool:
    """Take an advisory lock on an open file, the way Postfix's internal locks are (flock). False: another has it.

    Raises OSError for other failures.
    """
    operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(fd, operation if wait else operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Drop the lock."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def _has_writer(fd: int) -> bool:
    """Whether another process is writing this file (`Queue.create`). Raises OSError."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    return False


class Queue:
    """The queue under `directory` ("" is the working directory, as in a service; texts then have relative names)."""

    def __init__(self, directory: str = "", hash_queue_names: Sequence[str] | str = (), hash_queue_depth: int = 1):
        if isinstance(hash_queue_names, str):
            hash_queue_names = hash_queue_names.replace(",", " ").split()
        self.directory = directory
        self.hashed = frozenset(name.lower() for name in hash_queue_names)
        self.depth = hash_queue_depth

    def _join(self, relative: str) -> str:
        return f"{self.directory}/{relative}" if self.directory else relative

    def path(self, queue: str, queue_id: str) -> str:
        """The path of a queue file. Raises ValueError for a name that is not valid."""
        if not ids.valid_queue_name(queue):
            raise ValueError(f"bad queue name: {queue}")
        if not ids.valid(queue_id):
            raise ValueError(f"bad queue id: {queue_id}")
        if queue.lower() not in self.hashed:
            return self._join(f"{queue}/{queue_id}")
        key = ids.hash_key(queue_id)[: self.depth].ljust(self.depth, "_")
        return self._join("/".join((queue, *key, queue_id)))

    def create(
        self, queue: str, mode: int = 0o600, *, long_ids: bool = False, now: int, pid: int | None = None
    ) -> QueueFile:
        """A new empty file with an id of its own, open for reading and writing, under a POSIX lock until it is closed:
        that tells a file whose writer is at work from one whose writer was killed.

        `now` is in microseconds since the epoch; a collision moves it on. Raises TemporaryError.
        """
        pid = os.getpid() if pid is None else pid
        fd = -1
        for _ in range(_MAX_TRIES):
            temporary = self._join(f"{queue}/{now % 1_000_000}.{pid}")
            try:
                fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                break
            except (FileExistsError, IsADirectoryError):
                now += 1
            except OSError as error:
                raise TemporaryError(f"mail_queue_enter: create file {temporary}: {error.strerror}") from error
        if fd < 0:
            raise TemporaryError(f"mail_queue_enter: create file {temporary}: {os.strerror(errno.EEXIST)}")
        try:
            # Not the lock of `lock`: whoever sees the mode change may take that one at once, while commit() goes on.
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inode = os.fstat(fd).st_ino
            queue_id = ids.make(now, inode, long_ids)
            path = self.path(queue, queue_id)
            try:
                _rename(temporary, path)
            except OSError as error:
                raise TemporaryError(f"mail_queue_enter: rename {temporary} to {path}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            try:
                os.unlink(temporary)
            except OSError:
                pass  # what has failed already is reported
            raise
        return QueueFile(fd, queue, queue_id, path, now)

    def accepted(self, queue_id: str) -> bool | None:
        """Whether a message is in the queue: True, False (or its writer was killed), None while it is being written."""
        for queue in (INCOMING, ACTIVE, DEFERRED, HOLD) * 2:  # twice: it moves while we look
            try:
                with self.open(queue, queue_id, os.O_RDONLY) as file:
                    busy = _has_writer(file.fd)
                    if os.fstat(file.fd).st_mode & READY == READY:
                        return True
                    return None if busy else False
            except (OSError, ValueError):
                continue
        return False

    def open(self, queue: str, queue_id: str, flags: int = os.O_RDWR, mode: int = 0o600) -> QueueFile:
        """An existing file (or a new one with O_CREAT, with its subdirectories). Raises OSError, ValueError."""
        path = self.path(queue, queue_id)
        flags |= os.O_CLOEXEC
        try:
            fd = os.open(path, flags, mode)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            make_directories(path)
            fd = os.open(path, flags, mode)
        return QueueFile(fd, queue, queue_id, path)

    def rename(self, queue_id: str, old_queue: str, new_queue: str) -> None:
        """Move a file to another queue; missing subdirectories are made. Raises OSError, ValueError."""
        _rename(self.path(old_queue, queue_id), self.path(new_queue, queue_id))

    def remove(self, queue: str, queue_id: str) -> None:
        """Delete a file. Raises OSError, ValueError."""
        os.unlink(self.path(queue, queue_id))

    def open_ok(self, queue: str, queue_id: str, now: float | None = None) -> os.stat_result | None:
        """The state of a complete message file; None (with Postfix's warning where it has one) when it is not one.

        `now` (seconds) tells a lasting second link from a rename under way; None does not look at links.
        """
        if not ids.valid_queue_name(queue):
            log.warning(f"bad mail queue name: {queue}")
            return None
        if not ids.valid(queue_id):
            return None
        path = self.path(queue, queue_id)
        try:
            found = os.lstat(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                log.warning(f"{path}: {error.strerror}")
            return None
        if not stat.S_ISREG(found.st_mode):
            log.warning(f"{path}: uid {found.st_uid}: not a regular file")
            return None
        if found.st_mode & stat.S_IRWXU != READY:
            return None
        if found.st_nlink > 1 and now is not None and found.st_ctime < now - _MINUTE:
            log.warning(f"{path}: uid {found.st_uid}: file has {found.st_nlink} links")
        return found

    def scan(self, queue: str, *, strict: bool = False) -> Iterator[str]:
        """The names in a queue, in the directory's own order, with one-character subdirectories entered.

        Names are not checked: `open_ok` does. A directory that cannot be read gets a warning, and the others are read:
        a service goes on with the mail that it can reach. `strict`: raises FatalError, for who reports what there is.
        """
        pending = [self._join(queue)]
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if len(entry.name) == 1:
                            pending.append(entry.path)
                        else:
                            yield entry.name
            except NotADirectoryError:
                continue
            except OSError as error:
                problem = f"open directory {directory}: {error.strerror}"
                if strict:
                    raise FatalError(problem) from None
                log.warning(problem)


def make_directories(path: str) -> None:
    """Make the missing directories above the file `path`, mode 0700, and put their names on stable storage: what is
    in them would else be lost with them when the machine crashes. Raises OSError."""
    missing = []
    directory = os.path.dirname(path)
    while directory and not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass  # another process was faster; what is no directory is found out by who opens a file in it
        sync_directory(os.path.dirname(directory) or ".")


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        make_directories(new)
        os.rename(old, new)
