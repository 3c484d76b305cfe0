"""postsuper(1): maintenance of the queue.

    postsuper [-psSv] [-c config_dir] [-d id] [-e id] [-f id] [-h id] [-H id] [-r id] [queue...]

-d delete, -e expire (return to sender at the next attempt), -f expire and release, -h hold, -H release, -r requeue:
an id, ``-`` for ids on standard input, or ALL. -p removes old temporary files, -s puts files where hash_queue_names
says and gives them the names that their inode numbers ask for, -S long names too. Without options -s and -p are
done. First come -p, -s and -S, then the others in the order given.

A file that must be renamed gets a temporary name (``NEWID#FIX``) which no reader takes for mail, and its own in a
second pass, so that two files never meet. When names were changed, actions that name an id are refused: it may now
be another message's.

Differs from Postfix: it also serves the owner of a queue that is run without root.
"""

import errno
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator

from postfixpy import log
from postfixpy.commands.queue_tools import (
    become_owner,
    command_view,
    enter_queue,
    log_as,
    owns_queue,
    read_options,
    run_command,
)
from postfixpy.errors import FatalError
from postfixpy.mail import queue as queues
from postfixpy.mail import queue_id
from postfixpy.mail.queue import Queue, make_directories

_USAGE = (
    "usage: {} [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]"
)
_LETTERS = "c:d:e:f:h:H:pr:sSv"

# Logs before messages: when a message is renamed, its logs must be where they belong.
_DEFAULT_QUEUES = (
    *(queues.DEFER, queues.BOUNCE, queues.MAILDROP, queues.INCOMING),
    *(queues.ACTIVE, queues.DEFERRED, queues.HOLD, queues.FLUSH),
)
_MESSAGES = frozenset((queues.MAILDROP, queues.INCOMING, queues.ACTIVE, queues.DEFERRED, queues.HOLD))
_LOGS = (queues.BOUNCE, queues.DEFER, queues.TRACE)
_KNOWN = _MESSAGES | {*_LOGS, queues.FLUSH}
_FLAT = frozenset((queues.MAILDROP,))  # users can write there: subdirectories are not entered

_SUFFIX = "#FIX"
_MAX_TEMPORARY_AGE = 7 * 24 * 60 * 60


def main(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    name = os.path.basename(argv[0]) or argv[0]
    return run_command([name, *argv[1:]], _main)


def _main(argv: list[str]) -> int:
    found, words = read_options(argv, _LETTERS, _USAGE.format(argv[0]))
    directory = ""
    for letter, value in found:
        if letter == "c":
            if not value.startswith("/"):
                raise FatalError("-c requires absolute pathname")
            directory = value
    view = command_view(directory, argv[0])
    if not owns_queue(view):
        raise FatalError("use of this command is reserved for the superuser")
    log_as(argv[0], view)
    os.umask(0o022)
    queue = enter_queue(view)
    become_owner(view)
    keeper = Superintendent(queue, view.enable_long_queue_ids, verbose=any(letter == "v" for letter, _ in found))
    _catch_signals(keeper)
    try:
        keeper.work(found, words or list(_DEFAULT_QUEUES))
    except FatalError:
        keeper.warn_incomplete()
        raise
    return 0


def _catch_signals(keeper: "Superintendent") -> None:
    """An interrupted structure repair must be run again: say so."""

    def interrupted(number: int, frame: object) -> None:
        keeper.warn_incomplete()
        os._exit(number)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupted)


class Superintendent:
    """The work. The working directory is the queue directory; `now` is in seconds. Counts what it did."""

    def __init__(
        self, queue: Queue, long_ids: bool, *, verbose: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        self.queue = queue
        self.long_ids = long_ids
        self.verbose = verbose
        self.now = now
        self.requeued = self.held = self.released = self.deleted = self.expired = 0
        self.inodes_fixed = self.wrong_inodes = self.wrong_places = 0

    def work(self, options: list[tuple[str, str]], names: list[str]) -> None:
        """Do what `options` ask on the queues `names`, then report. Raises FatalError."""
        letters = {letter for letter, _ in options if letter not in "cv"}
        for name in names:
            self._check(name)
        repair = letters & set("psS") or (set("sp") if not letters else set())
        if repair:
            self._sweep(names, lambda *file: self._repair(repair, *file))
            if self.wrong_inodes:
                self._sweep(names, lambda *file: self._repair(repair, *file))
        by_id = [(letter, value) for letter, value in options if letter in "defhHr"]
        if (self.wrong_inodes or self.inodes_fixed) and any(value != "ALL" for _, value in by_id):
            log.error("QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS")
            raise FatalError("CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND")
        for letter, value in by_id:
            self._act(letter, value, names)
        self._report(letters)

    def warn_incomplete(self) -> None:
        """Say that a repair was begun and not finished, if so."""
        if self.wrong_inodes or self.inodes_fixed or self.wrong_places:
            log.warning("OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST")

    def _check(self, name: str) -> None:
        if name not in _KNOWN:
            raise FatalError(f"invalid directory name: {name}")

    def _report(self, letters: set[str]) -> None:
        for wanted, text, count in (
            ("r", "Requeued", self.requeued),
            ("d", "Deleted", self.deleted),
            ("ef", "Force-expired", self.expired),
            ("h", "Placed on hold", self.held),
            ("Hf", "Released from hold", self.released),
        ):
            if letters & set(wanted):
                log.info(f"{text}: {_messages(count)}")
        if self.inodes_fixed:
            log.info(f"Renamed to match inode number: {_messages(self.inodes_fixed)}")
        if self.wrong_inodes or self.inodes_fixed:
            log.warning("QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS")

    def _act(self, letter: str, value: str, names: list[str]) -> None:
        if value == "ALL":
            action = {
                "d": self._delete_all,
                "e": self._expire_all,
                "f": self._expire_release_all,
                "h": self._hold_all,
                "H": self._release_all,
                "r": self._requeue_all,
            }[letter]
            self._sweep(names, action)
            return
        one = {
            "d": self._delete,
            "e": self._expire,
            "f": self._expire_release,
            "h": self._hold,
            "H": self._release,
            "r": self._requeue,
        }[letter]
        if value != "-":
            self._one(one, names, value)
            return
        for line in sys.stdin.buffer:
            self._one(one, names, line.rstrip(b"\n").decode("utf-8", "surrogateescape"))

    # One message, by its id

    def _one(self, action: Callable[[list[str], str], None], names: list[str], name: str) -> None:
        if not queue_id.valid(name):
            log.warning(f"invalid mail queue id: {name}")
        else:
            action(names, name)

    def _find(self, names: list[str], name: str, where: frozenset[str], tries: int = 2) -> Iterator[str]:
        """The queues, of `names` and `where`, that have a complete message `name` now; looks twice, for it may move."""
        for _ in range(tries):
            for queue in names:
                if queue in where and self.queue.open_ok(queue, name, self.now()) is not None:
                    yield queue

    def _delete(self, names: list[str], name: str) -> None:
        for queue in self._find(names, name, _MESSAGES):
            for logs in _LOGS:
                self._remove(self.queue.path(logs, name))
            if self._remove(self.queue.path(queue, name)):
                self.deleted += 1
                log.info(f"{name}: removed")
                return

    def _requeue(self, names: list[str], name: str) -> None:
        for queue in self._find(names, name, _MESSAGES - {queues.MAILDROP}):
            new = self.queue.path(queues.MAILDROP, name)
            if self._rename(self.queue.path(queue, name), new):
                try:
                    os.utime(new, (self.now(), self.now()))
                except OSError as error:
                    log.warning(f"{new}: reset time stamps: {error.strerror}")
                self.requeued += 1
                log.info(f"{name}: requeued")
                return

    def _hold(self, names: list[str], name: str) -> None:
        for queue in self._find(names, name, _MESSAGES - {queues.MAILDROP, queues.HOLD}):
            if self._rename(self.queue.path(queue, name), self.queue.path(queues.HOLD, name)):
                self.held += 1
                log.info(f"{name}: placed on hold")
                return

    def _release(self, names: list[str], name: str) -> None:
        for queue in self._find(names, name, frozenset((queues.HOLD,)), tries=1):
            if self._rename(self.queue.path(queue, name), self.queue.path(queues.DEFERRED, name)):
                self.released += 1
                log.info(f"{name}: released from hold")
                return

    def _expire(self, names: list[str], name: str) -> None:
        for queue in self._find(names, name, _MESSAGES - {queues.MAILDROP}):
            if self._mark_expired(self.queue.path(queue, name)):
                self.expired += 1
                log.info(f"{name}: expired")
                return

    def _expire_release(self, names: list[str], name: str) -> None:
        self._expire(names, name)
        self._release(names, name)

    # All messages. Each action gets: queue, path, name, state of the file.

    def _delete_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if self._remove(path) and queue in _MESSAGES and _ready(state):
            self.deleted += 1

    def _regular(self, path: str, name: str, state: os.stat_result) -> bool:
        """Whether this is a queue file; what is not a file at all is removed, a strange name is reported."""
        if not stat.S_ISREG(state.st_mode):
            self._remove(path)
            return False
        if not queue_id.valid(name):
            log.warning(f"bogus file name: {path}")
            return False
        return True

    def _requeue_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if self._regular(path, name, state) and queue in _MESSAGES - {queues.MAILDROP}:
            self.requeued += self._rename(path, self.queue.path(queues.MAILDROP, name))

    def _expire_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if self._regular(path, name, state) and queue in _MESSAGES - {queues.MAILDROP} and _ready(state):
            self.expired += self._mark_expired(path)

    def _hold_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if self._regular(path, name, state) and queue in _MESSAGES - {queues.MAILDROP, queues.HOLD}:
            self.held += self._rename(path, self.queue.path(queues.HOLD, name))

    def _release_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if self._regular(path, name, state) and queue == queues.HOLD:
            self.released += self._rename(path, self.queue.path(queues.DEFERRED, name))

    def _expire_release_all(self, queue: str, path: str, name: str, state: os.stat_result) -> None:
        if not self._regular(path, name, state):
            return
        if queue in _MESSAGES - {queues.MAILDROP} and _ready(state):
            self.expired += self._mark_expired(path)
        if queue == queues.HOLD:
            self.released += self._rename(path, self.queue.path(queues.DEFERRED, name))

    # Structure

    def _repair(self, what: set[str], queue: str, path: str, name: str, state: os.stat_result) -> None:
        """-p, -s and -S for one file."""
        message = queue in _MESSAGES
        if not stat.S_ISREG(state.st_mode):
            self._remove(path)
            return
        if "p" in what and message and not _ready(state) and self.now() > state.st_mtime + _MAX_TEMPORARY_AGE:
            self._remove(path)
            return
        structure = bool(what & set("sS"))
        if structure and len(name) > len(_SUFFIX) and name.endswith(_SUFFIX):
            name = name.removesuffix(_SUFFIX)
            fixed = self._strip_suffix(queue, path, name, state)
            if fixed is None:
                return
            path = fixed
        if not queue_id.valid(name):
            log.warning(f"bogus file name: {path}")
            return
        if not structure:
            return
        if message:
            inode, is_long = queue_id.inode_of(name), queue_id.is_long(name)
            if inode is None:
                log.warning(f"bogus file name: {path}")
                return
            wrong = inode != state.st_ino and (not is_long or "S" in what)
            if wrong or (is_long and not self.long_ids):
                self.wrong_inodes += 1
                self._give_inode_name(queue, path, name, state.st_ino)
                return
        wanted = self.queue.path(queue, name)
        if path != wanted:
            self.wrong_places += 1
            self._rename(path, wanted)

    def _strip_suffix(self, queue: str, path: str, name: str, state: os.stat_result) -> str | None:
        """Give a file of the first pass its final name. Its new path; None when there is nothing more to do."""
        message = queue in _MESSAGES
        inode = queue_id.inode_of(name)
        if not queue_id.valid(name) or (message and inode is None):
            log.warning(f"bogus file name: {path}")
            return None
        if message and inode != state.st_ino:
            log.warning(f"name/inode mismatch: {path}")
            return None
        wanted = self.queue.path(queue, name)
        if not self._rename(path, wanted):
            return None
        self.inodes_fixed += message
        return wanted

    def _give_inode_name(self, queue: str, path: str, name: str, inode: int) -> None:
        """Rename a message's logs and then the message after its inode number, with the suffix."""
        if queue_id.is_long(name) and not self.long_ids:
            new = queue_id.hash_key(name) + f"{inode:X}"
        else:
            new = queue_id.replace_inode(name, inode)
        for logs in _LOGS:
            self._rename(self.queue.path(logs, name), self.queue.path(logs, new) + _SUFFIX)
        self._rename(path, self.queue.path(queue, new) + _SUFFIX)

    def _sweep(self, names: list[str], action: Callable[[str, str, str, os.stat_result], None]) -> None:
        """Call `action` for every file of the queues, and remove subdirectories that hashing does not need."""
        for queue in names:
            if self.verbose:
                log.info(f"queue: {queue}")
            depth = self.queue.depth if queue.lower() in self.queue.hashed else 0
            if depth and queue in _FLAT:
                raise FatalError(f"{queue} queue must not be hashed")
            self._sweep_directory(queue, queue, 0, depth, action)

    def _sweep_directory(
        self,
        queue: str,
        directory: str,
        depth: int,
        wanted: int,
        action: Callable[[str, str, str, os.stat_result], None],
    ) -> None:
        try:
            entries = os.listdir(directory)
        except OSError as error:
            if depth == 0:
                raise FatalError(f"open directory {directory}: {error.strerror}") from None
            log.warning(f"open directory {directory}: {error.strerror}")
            return
        for name in entries:
            path = f"{directory}/{name}"
            try:
                state = os.lstat(path)
            except OSError:
                continue
            if not stat.S_ISDIR(state.st_mode):
                action(queue, path, name, state)
            elif len(name) == 1 and queue not in _FLAT:
                self._sweep_directory(queue, path, depth + 1, wanted, action)
                if depth + 1 > wanted:
                    self._remove_directory(path)
            else:
                self._remove_strange_directory(path)

    # Files. Something that has gone meanwhile is no error: the mail system may be running.

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FatalError(f"remove file {path}: {error.strerror}") from None
        if self.verbose:
            log.info(f"removed file {path}")
        return True

    def _rename(self, old: str, new: str) -> bool:
        try:
            try:
                os.rename(old, new)
            except FileNotFoundError:
                os.lstat(old)  # raises when it is this one that is missing
                make_directories(new)
                os.rename(old, new)
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FatalError(f"rename file {old} as {new}: {error.strerror}") from None
        if self.verbose:
            log.info(f"renamed file {old} as {new}")
        return True

    def _remove_directory(self, path: str) -> None:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise FatalError(f"remove directory {path}: {error.strerror}") from None
        if self.verbose:
            log.info(f"remove directory {path}")

    def _remove_strange_directory(self, path: str) -> None:
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                log.warning(f"remove subdirectory {path}: {error.strerror}")
            return
        if self.verbose:
            log.info(f"remove subdirectory {path}")

    def _mark_expired(self, path: str) -> bool:
        """Set the mode bit that says "return to sender"; False when it is set, or the file is not a message."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENOENT:
                log.warning(f"expire file {path}: cannot open file: {error.strerror}")
            return False
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode) or not _ready(state) or state.st_mode & queues.EXPIRE:
                return False
            os.fchmod(fd, stat.S_IMODE(state.st_mode) | queues.EXPIRE)
        except OSError as error:
            log.warning(f"expire file {path}: cannot set permission: {error.strerror}")
            return False
        finally:
            os.close(fd)
        return True


def _ready(state: os.stat_result) -> bool:
    """Whether the file is a complete message."""
    return state.st_mode & stat.S_IRWXU == queues.READY


def _messages(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"
