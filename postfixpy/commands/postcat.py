"""postcat(1): show the contents of queue files.

    postcat [-bdefhoqrv] [-c config_dir] [-s offset] [file...]

-e envelope records, -h message headers, -b message body (default: all three). -d record types in decimal, -f the file
name before each record, -o offsets, -v every record with its type, also pointers and padding, -r with -v: do not follow
pointers. -q: the names are queue ids. -s: start at this offset. Without names standard input is read.

Output and diagnostics are Postfix's, byte for byte.
"""

import os
import sys
import time

from postfixpy import log
from postfixpy.commands.queue_tools import command_view, enter_queue, read_options, run_command
from postfixpy.errors import FatalError
from postfixpy.mail import queue as queues
from postfixpy.mail import queue_id
from postfixpy.mail.records import ENVELOPE, Kind, RecordError, RecordFile, Source, leading_int, name_of

_SEARCHED = (queues.MAILDROP, queues.INCOMING, queues.ACTIVE, queues.DEFERRED, queues.HOLD, queues.SAVED)
_STAGES = ("-b (body text)", "-c config_dir", "-d (decimal record type)", "-e (envelope records)", "-h (header text)")
_LETTERS = "bc:defhoqrs:v"


def main(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    return run_command(argv, _main)


def _main(argv: list[str]) -> int:
    usage = f"usage: {argv[0]} [{'] ['.join(_STAGES)}] [-q (access queue)] [-v] [file(s)...]"
    found, names = read_options(argv, _LETTERS, usage)
    letters = {letter for letter, _ in found}
    options = dict(found)
    start = 0
    for letter, value in found:
        if letter == "s":
            if not (value.isascii() and value.isdigit()) or len(value) > 18:
                raise FatalError(f"bad offset: {value}")
            start = int(value)
    view = command_view(options.get("c", ""), "postcat")
    show = Show(letters, start)
    if not names:
        with open(0, "rb", buffering=0, closefd=False) as stream:  # raw: the position belongs to who reads
            show.file(stream, "stdin")
        return 0
    queue = enter_queue(view) if "q" in letters else None
    for name in names:
        if queue is not None:
            with _find(queue, name) as file:
                show.file(file, file.path)
            continue
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FatalError(f"open {name}: {error.strerror}") from None
        with open(fd, "rb", buffering=0) as stream:
            show.file(stream, name)
    return 0


def _find(queue: queues.Queue, name: str) -> queues.QueueFile:
    """The open queue file with this id, in whichever queue it is; a second look, because it may be moving."""
    if not queue_id.valid(name):
        raise FatalError(f"bad mail queue ID: {name}")
    reason: str | None = ""
    for where in _SEARCHED * 2:
        try:
            return queue.open(where, name, os.O_RDONLY)
        except OSError as error:
            reason = error.strerror
    raise FatalError(f"open queue file {name}: {reason}")


class Show:
    """Writes queue files to standard output. `letters` are the options; `start` the offset of the first record."""

    def __init__(self, letters: set[str], start: int = 0) -> None:
        every = not letters & set("beh")
        self.envelope = every or "e" in letters
        self.header = every or "h" in letters
        self.body = every or "b" in letters
        self.text = self.header or self.body
        self.offsets = "o" in letters
        self.decimal = "d" in letters
        self.paths = "f" in letters
        self.raw = "r" in letters
        self.verbose = "v" in letters
        self.start = start
        self._out: list[bytes] = []
        self._complete = 0

    def file(self, file: Source, name: str) -> None:
        """Show one file; `name` is its name for texts. Raises FatalError."""
        try:
            self._file(file, name)
        finally:
            self._flush()

    def _flush(self) -> None:
        """Write what is complete. The first line of a file waits for its first record, and is never seen without
        one."""
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(self._out[: self._complete]))
        sys.stdout.buffer.flush()
        del self._out[: self._complete]
        self._complete = 0

    def _warn(self, text: str) -> None:
        self._flush()
        log.warning(text)

    def _put(self, text: str) -> None:
        self._out.append(text.encode("utf-8", "surrogateescape"))

    def _file(self, file: Source, name: str) -> None:
        self._skip(file, name)
        plain = not self.verbose
        records = RecordFile(file, name, follow_pointers=plain, skip_padding=plain, seek_end=plain)
        if self.start == 0:
            first = records.peek()
            if first and first not in ENVELOPE:
                self._warn(f"{name}: input is not a valid queue file")
                return
            if self.envelope:
                self._put(f"*** ENVELOPE RECORDS {name} ***\n")
        try:
            self._records(records, name)
        except RecordError as error:
            self._warn(str(error))
            raise FatalError("record read error") from None
        except OSError as error:
            raise FatalError(f"seek error: {error.strerror}") from None

    def _skip(self, file: Source, name: str) -> None:
        if self.start == 0:
            return
        if name != "stdin":
            file.seek(self.start)
            return
        left = self.start
        while left:
            data = file.read(min(left, 65536))
            if not data:
                raise FatalError(f"{name}: skip {self.start} bytes failed after {self.start - left}")
            left -= len(data)

    def _records(self, records: RecordFile, name: str) -> None:
        """The states: "envelope" (also the extracted records), "header", "body". A part that is not shown is
        skipped."""
        state, printing, unfinished = "envelope", self.envelope, False
        offset = -1
        content: tuple[int, int] | None = None  # file offsets of the message content and its end
        while True:
            if offset >= 0:
                self._complete = len(self._out)
            offset = records.tell()
            record = records.next()
            if record is None:
                return
            kind, payload = record.kind, record.payload
            prefix = self._prefix(name, offset, kind)
            if kind in (Kind.NORMAL, Kind.CONTINUED):
                if state == "header" and self.text and not unfinished and not _continues_header(payload):
                    state, printing = "body", self.body
                    if not printing:
                        if not self.envelope:
                            return
                        if content is not None and content[1] > 0:
                            records.seek(content[1])
            elif kind == Kind.MESSAGE:
                if state != "envelope":
                    self._warn(f"{name}: out-of-order message content marker")
                if self.envelope:
                    self._put(f"{prefix}*** MESSAGE CONTENTS {name} ***\n")
                if not self.text and content is not None and content[1] > 0:
                    records.seek(content[1])
                state, printing = "header", self.header
                continue
            elif kind == Kind.EXTRACTED:
                if state == "envelope":
                    self._warn(f"{name}: out-of-order extracted segment marker")
                if printing and unfinished:
                    self._put("\n")
                if self.envelope:
                    self._put(f"{prefix}*** HEADER EXTRACTED {name} ***\n")
                state, printing = "envelope", self.envelope
                self._complete = len(self._out)
                if not printing:
                    return
                continue
            elif kind == Kind.END:
                if state != "envelope":
                    self._warn(f"{name}: out-of-order message end marker")
                if self.envelope:
                    self._put(f"{prefix}*** MESSAGE FILE END {name} ***\n")
                    self._complete = len(self._out)
                if self.raw:
                    continue
                return
            elif kind == Kind.POINTER:  # seen with -v only
                if printing:
                    self._put(f"{prefix}{name_of(kind)}: {_string(payload)}\n")
                if not self.raw:
                    try:
                        records.follow(payload)
                    except RecordError as error:
                        self._warn(str(error))
                        raise FatalError("bad pointer record, or input is not seekable") from None
                continue
            elif kind == Kind.SIZE:
                if printing:
                    self._put(f"{prefix}{name_of(kind)}: {_string(payload)}\n")
                if name.startswith("maildrop/"):
                    continue
                if content is not None:
                    self._warn("file contains multiple size records")
                    continue
                content = self._content(payload)
                if not self.envelope:
                    if content[0] < 0:
                        raise FatalError("seek error: Invalid argument")
                    records.seek(content[0])
                    state, printing = "header", self.header
                continue
            if printing:
                unfinished = self._record(prefix, kind, payload, state, name)

    def _content(self, payload: bytes) -> tuple[int, int]:
        """The file offsets of the content and of its end, -1 for what is not a number."""
        numbers: list[int] = []
        for word in payload.split()[:2]:
            number = leading_int(word)
            if not number and word[:1] != b"0":
                break
            numbers.append(number)
        size, start = [*numbers, -1, -1][:2]
        if size <= 0 or start <= 0:
            self._warn(f"invalid size record: {_string(payload[:100])}")
        return start, start + size if start > 0 and size >= 0 else -1

    def _prefix(self, name: str, offset: int, kind: str) -> str:
        if not (self.paths or self.offsets or self.decimal):
            return ""
        out = f"{name}: " if self.paths else ""
        if self.offsets:
            out += f"{offset:9d} "
        return out + (f"{ord(kind):3d} " if self.decimal else "")

    def _record(self, prefix: str, kind: str, payload: bytes, state: str, name: str) -> bool:
        """Show one record. True when it left a line unfinished."""
        self._put(prefix)
        label = name_of(kind)
        if kind in (Kind.TIME, Kind.WARN):
            self._put(f"{label}: {_asctime(payload)}\n")
        elif kind == Kind.CONTINUED:
            if state == "envelope":
                self._put(f"{label}: ")
            elif self.verbose:
                self._put("unterminated_text: ")
            self._out.append(payload)
            if state != "envelope" and not self.verbose and not self.offsets:
                return True
            self._put("\n")
        elif kind == Kind.NORMAL or kind == Kind.PADDING:
            if self.verbose or kind == Kind.PADDING:
                self._put(f"{label}: ")
            self._out.append(payload)
            self._put("\n")
        elif kind == Kind.ATTRIBUTE:
            self._attribute(label, _string(payload), name)
        else:
            self._put(f"{label}: {_string(payload)}\n")
        return False

    def _attribute(self, label: str, text: str, name: str) -> None:
        from postfixpy.config import split_name_value

        try:
            attribute, value = split_name_value(text)
        except ValueError as error:
            self._warn(f"{name}: malformed attribute: {error}: {text[:100]}")
            return
        if attribute == "create_time":
            self._put(f"create_time: {_asctime(value.encode('utf-8', 'surrogateescape'))}\n")
        else:
            self._put(f"{label}: {attribute}={value}\n")


def _continues_header(payload: bytes) -> bool:
    from postfixpy.mail.headers import is_header

    return payload[:1] in (b" ", b"\t") or bool(is_header(_string(payload)))


def _string(payload: bytes) -> str:
    """The payload as C's %s shows it: up to the first NUL."""
    return payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _asctime(text: bytes) -> str:
    """Seconds since the epoch, local time, as asctime(3)."""
    seconds = leading_int(text)
    try:
        return time.asctime(time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)
