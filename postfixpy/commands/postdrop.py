"""postdrop(1): puts a message, as queue-file records on standard input, into the maildrop queue.

    postdrop [-rv] [-c config_dir]

The answer on standard output is two attribute lists: protocol and queue id at the start, status and reason at the end.
A message is complete with its "E" record; input that ends before it, or a signal, leaves nothing behind.

`Maildrop` is the part that checks and writes; sendmail uses it directly when its user may write the queue. It trusts
nobody: only the records and attributes that a user may send get through, the arrival time is our own, and local users
may be bound to sender addresses (local_login_sender_maps, authorized_submit_users).
"""

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.commands.submit_access import forbidden_user, log_as, sender_allowed, user_name
from postfixpy.config.lines import split_name_value
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.mail.queue import MAILDROP, Queue, QueueFile
from postfixpy.mail.records import (
    POST_CONTENT,
    POST_ENVELOPE,
    POST_EXTRACT,
    Kind,
    RecordError,
    RecordParser,
    encode_record,
    encode_time,
    leading_int,
    name_of,
)
from postfixpy.options import OptionError, parse

if TYPE_CHECKING:
    from postfixpy.config import View

# Bits of the status, as cleanup(8)'s (postfixpy.ipc.cleanup, which costs more to load).
OK, BAD, WRITE, SIZE, NOPERM = 0, 1, 2, 4, 512

_SEGMENTS = (POST_ENVELOPE, POST_CONTENT, POST_EXTRACT, "")
_PSEUDO = ("dsn_orig_rcpt", "notify_flags", "envelope_id", "ret_flags", "create_time")
_TRACE_FLAGS = (0x200, 0x400)  # sendmail -bv, sendmail -v
_BLOCK = 65536


class MalformedError(FatalError):
    """A record that a user may not send, or that pickup could not read. The message cannot go on."""


class Maildrop:
    """One message on its way into the maildrop queue.

    `add` records, then `finish`; `cancel` at any time before. The working directory is the queue directory; `now` is
    in microseconds since the epoch. Raises MalformedError for input that cannot be, TemporaryError when there is no
    file.

    `final` is true from the moment that pickup may take the file: whoever is interrupted then goes on to the end, for
    the message is in the queue.
    """

    def __init__(self, view: "View", uid: int, now: int) -> None:
        self._view = view
        self._uid = uid
        self._limit = max(view.message_size_limit, 0)
        self._line_limit = view.line_length_limit
        queue = Queue("", view.hash_queue_names, view.hash_queue_depth)
        self._file: QueueFile | None = queue.create(MAILDROP, 0o644, long_ids=view.enable_long_queue_ids, now=now)
        self.queue_id = self._file.id
        self.path = self._file.path
        self._buffer = bytearray()
        self._size = 0
        self._segment = 0
        self._senders = self._recipients = 0
        self.status = OK
        self.reason = ""
        self.final = False
        self._problem: OSError | None = None
        self._write(Kind.TIME, encode_time(now))

    @property
    def complete(self) -> bool:
        """Whether the "E" record was added."""
        return self._segment == len(_SEGMENTS) - 1

    def add(self, kind: str, payload: bytes) -> None:
        """Check one record and write it. Raises MalformedError."""
        if len(payload) > self._line_limit:
            log.warning(f"stdin: illegal length {len(payload)}, record type {ord(kind)}")
            raise self._malformed()
        expected = _SEGMENTS[self._segment]
        if kind == "\0" or kind not in expected:
            raise MalformedError(f"uid={self._uid}: unexpected record type: {ord(kind)}")
        if kind not in (Kind.NORMAL, Kind.CONTINUED) and any(byte in payload for byte in b"\r\n\0"):
            shown = _text(payload).encode("utf-8", "surrogateescape")[:200].decode("utf-8", "surrogateescape")
            raise MalformedError(f"uid={self._uid}: null or line break in '{name_of(kind)}' record type: {shown}")
        if kind == expected[0]:
            self._segment += 1
        if kind == Kind.FROM:
            self._check_sender(_text(payload))
            self._senders += 1
        elif kind == Kind.RECIPIENT:
            self._recipients += 1
        elif kind == Kind.ATTRIBUTE:
            self._attribute(_text(payload))
            return
        self._write(kind, payload)

    def add_content(self, records: bytes | bytearray) -> None:
        """Write content records that are encoded already, and known to be of types "N" and "L" and within the limit."""
        self._append(records)

    def copy(self, fd: int) -> bool:
        """Add the records that come from `fd`. False when they end too early: the sender has changed its mind.

        Raises MalformedError.
        """
        parser = RecordParser("stdin", self._line_limit)  # so that no record is held that would be refused
        try:
            while data := os.read(fd, _BLOCK):
                parser.feed(data)
                for kind, payload in parser:
                    if kind == Kind.TIME:
                        continue  # ours is better
                    self.add(kind, payload)
                    if self.complete:
                        return True
            parser.end()
        except RecordError as error:
            log.warning(str(error))
            raise self._malformed() from None
        return False

    def _malformed(self) -> MalformedError:
        return MalformedError(f"uid={self._uid}: malformed input")

    def _attribute(self, text: str) -> None:
        try:
            name, value = split_name_value(text)
        except ValueError as error:
            log.warning(f"uid={self._uid}: ignoring malformed record: {error}: {text:.200}")
            return
        if name == "trace_flags":
            flags = leading_int(value.encode("utf-8", "surrogateescape"))
            if flags in _TRACE_FLAGS:
                self._write(Kind.ATTRIBUTE, f"{name}={flags}".encode())
            else:
                log.warning(f"uid={self._uid}: ignoring unexpected trace flags: {value:.200}")
        elif (
            name in _PSEUDO
            or (name == "encoding" and value in ("7bit", "8bit", ""))
            or (name == "rewrite_context" and value in ("local", "remote"))
        ):
            self._write(Kind.ATTRIBUTE, f"{name}={value}".encode("utf-8", "surrogateescape"))
        else:
            log.warning(f"uid={self._uid}: ignoring attribute record: {name:.200}={value:.200}")

    def _check_sender(self, sender: str) -> None:
        view = self._view
        if view.local_login_sender_maps == "static:*":
            return
        from postfixpy.lookup.table import TableError

        try:
            allowed = sender_allowed(view, user_name(self._uid) or f"uid:{self._uid}", sender)
        except TableError:
            self.status |= WRITE
            self.reason = f"local_login_sender_maps table lookup error for '{view.local_login_sender_maps}'"
            return
        if not allowed:
            self.status |= NOPERM
            self.reason = f"not authorized to use sender='{sender}'"

    def _write(self, kind: str, payload: bytes) -> None:
        self._append(encode_record(kind, payload))

    def _append(self, records: bytes | bytearray) -> None:
        if self.status or self._problem is not None:
            return
        self._size += len(records)
        if self._limit and self._size > self._limit:
            self._problem = OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return
        self._buffer += records
        if len(self._buffer) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None
        try:
            self._file.write(bytes(self._buffer))
        except OSError as error:
            self._problem = error
        self._buffer.clear()

    def finish(self) -> int:
        """Make the message visible to pickup, and wake it. The status; not 0: nothing is left behind."""
        assert self._file is not None
        if self.complete and not (self._senders and self._recipients):
            self.status |= BAD
        if not self.status and self._problem is None:
            self._flush()
        if not self.status and self._problem is None:
            self.final = True
            try:
                self._file.commit(0o444)
            except OSError as error:
                self.final = False
                self._problem = error
        if self._problem is not None:
            log.warning(f"uid={self._uid}: {self._problem.strerror}")
            self.status |= SIZE if self._problem.errno == errno.EFBIG else WRITE
        if self.status:
            self.cancel()
            return self.status
        self._file.close()
        self._file = None
        wake(f"public/{self._view.pickup_service_name}")
        return OK

    def cancel(self) -> None:
        """Remove the file, unless pickup may have taken the message over."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self.final:
            return
        try:
            os.unlink(self.path)
        except OSError as error:
            log.warning(f"uid={self._uid}: remove {self.path}: {error.strerror}")


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogateescape")


def wake(path: str) -> None:
    """Tell the service at `path` that there is work. That nobody listens is not our sender's problem."""
    from postfixpy.ipc.trigger import WAKEUP, trigger_blocking

    if not os.path.exists(path):
        log.warning(f"unable to look up {path}: {os.strerror(errno.ENOENT)}")
        return
    try:
        trigger_blocking(path, WAKEUP)
    except OSError:
        pass  # it will look by itself


def _options(argv: list[str]) -> str | None:
    """The configuration directory that the options name."""
    try:
        options, _ = parse(argv[1:], "c:rv")
    except OptionError:
        raise FatalError("usage: postdrop [-c config_dir] [-v]") from None
    return dict(options).get("c")


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    log.set_sink(log.stderr_sink("postdrop"))
    try:
        return _run(argv)
    except (FatalError, TemporaryError) as error:
        log.fatal(str(error))
        return 1


def _run(argv: list[str]) -> int:
    os.umask(0o022)
    directory = _options(argv)
    from postfixpy.config import load
    from postfixpy.ipc.startup import check
    from postfixpy.services.cleaning.releases import complete

    own = load(directory).view(process_name="postdrop")
    check(own)
    view = complete(own)
    log_as("postdrop", view)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f"chdir {view.queue_directory}: {error.strerror}") from None
    uid = os.getuid()
    name = forbidden_user(view, uid)
    if name:
        raise FatalError(f"User {name}({uid}) is not allowed to submit mail")
    return _receive(view, uid)


class _Interrupted(BaseException):
    def __init__(self, signum: int) -> None:
        self.signum = signum


def _receive(view: "View", uid: int) -> int:
    import time

    from postfixpy.ipc.attributes import encode

    drop: Maildrop | None = None

    def interrupted(signum: int, _frame: object) -> None:
        if drop is None or not drop.final:
            raise _Interrupted(signum)

    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        if signum in (signal.SIGINT, signal.SIGQUIT) or signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, interrupted)
    output = sys.stdout.buffer
    try:
        drop = Maildrop(view, uid, time.time_ns() // 1000)
        output.write(encode([("protocol", "postdrop_protocol"), ("queue_id", drop.queue_id)]))
        output.flush()
        if not drop.copy(0):
            drop.cancel()
            return 0
        status = drop.finish()
    except BaseException as error:
        if drop is not None:
            drop.cancel()
        if isinstance(error, _Interrupted):
            os._exit(error.signum)
        raise
    output.write(encode([("status", status), ("reason", drop.reason if status else "")]))
    output.flush()
    return status & 0xFF
