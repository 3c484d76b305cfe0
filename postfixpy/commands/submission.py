"""Posting one message for sendmail(1): envelope, content from standard input, recipients from headers.

The records go to the maildrop queue through `postdrop.Maildrop` in this process, or to the set-gid postdrop command
where the user may not write the queue. Lines end with newline; sendmail_fix_line_endings says what becomes of carriage
returns before them. Leading ``From `` lines (mailbox format) are dropped.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.mail.addresses import addresses, parse_addresses
from postfixpy.mail.records import Kind, encode_record

from .postdrop import BAD, NOPERM, OK, SIZE, WRITE, Maildrop, MalformedError
from .queue_tools import group_hint
from .submit_access import log_as, log_to, user_name

if TYPE_CHECKING:
    from postfixpy.config import View

    from .sendmail import Options

EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE, EX_OSERR, EX_TEMPFAIL, EX_NOPERM = 64, 65, 69, 70, 71, 75, 77
_USER_VERIFY = 0x200
_BLOCK = 65536

_STATUS_TEXTS = {
    BAD: "internal protocol error",
    SIZE: "message file too big",
    WRITE: "queue file write error",
    NOPERM: "service denied",
}


class Drop(Protocol):
    """Where records go: `Maildrop`, or `Command`."""

    queue_id: str
    status: int
    reason: str
    final: bool

    def add(self, kind: str, payload: bytes) -> None: ...
    def add_content(self, records: bytes | bytearray) -> None: ...
    def finish(self) -> int: ...
    def cancel(self) -> None: ...


def submit(options: "Options", view: "View") -> None:
    """Post the message on standard input. Raises FatalError with sendmail's text and exit status."""
    uid = os.getuid()
    sender = _sender(options, uid)
    who = f"{sender}({uid})"
    drop = open_drop(view, uid, who)

    def interrupted(signum: int, _frame: object) -> None:
        if drop.final:
            return  # the message may be in the queue already, and then that is what we have to say
        drop.cancel()
        os._exit(signum)

    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, interrupted)
    try:
        with drop_log(drop, view):
            try:
                Posting(options, view, drop, sender, who).run()
                status = drop.finish()
            except MalformedError as error:
                log.fatal(str(error))  # postdrop's end
                drop.cancel()
                status = WRITE
    except BaseException:
        drop.cancel()
        raise
    if status:
        if status & 0xFF:  # the exit status of postdrop
            log.warning("mail_stream_cleanup: close error")
        raise FatalError(f"{who}: {drop.reason or _status_text(status)}", _exit_status(status))
    if options.trace:
        sys.stdout.write(f"Mail Delivery Status Report will be mailed to <{sender}>.\n")
        sys.stdout.flush()


def _sender(options: "Options", uid: int) -> str:
    """The envelope sender, internal form."""
    if options.sender is None:
        name = user_name(uid)
        if not name:
            if uid:
                log.warning("a user without a name gives the sender with -f")
            raise FatalError(f"no login name found for user ID {uid}", EX_OSERR)
        return name
    found = addresses(parse_addresses(options.sender))
    if len(found) > 1:
        log.warning(f"-f option specified malformed sender: {options.sender}")
    return found[0].internal if found else ""


def _status_text(status: int) -> str:
    return next((text for bit, text in _STATUS_TEXTS.items() if status & bit), "queue file write error")


def _exit_status(status: int) -> int:
    for bit, code in ((BAD, EX_SOFTWARE), (WRITE, EX_TEMPFAIL), (NOPERM, EX_NOPERM)):
        if status & bit:
            return code
    return EX_UNAVAILABLE


def open_drop(view: "View", uid: int, who: str) -> Drop:
    """A way into the maildrop queue for this user. Raises FatalError when there is none."""
    import time

    assert view.message_size_limit is not None  # a bad number ends here, whichever way is taken
    if not os.access("maildrop", os.W_OK | os.X_OK):
        path = f"{view.command_directory}/postdrop"
        if _opens_queue(path, view):
            return Command(path, who)
    try:
        return Maildrop(view, uid, time.time_ns() // 1000)
    except TemporaryError as error:
        log.warning(
            group_hint(view)
            or f"user {user_name(uid) or uid} cannot write to {view.queue_directory}/maildrop: "
            'the owner of the queue makes it with "postfix check", and "postfix start" starts the mail system'
        )
        raise FatalError(f"{who}: {error}", EX_TEMPFAIL) from None


def _opens_queue(path: str, view: "View") -> bool:
    """Whether the command at `path` is the set-gid postdrop of the mail system whose queue this is.

    Any other would write to a queue of its own, or wait forever for one that it may not write.
    """
    import grp
    import pwd
    import stat

    try:
        queue, command = os.stat("maildrop"), os.stat(path)
        owner, group = pwd.getpwnam(view.mail_owner).pw_uid, grp.getgrnam(view.setgid_group).gr_gid
    except (OSError, KeyError):
        return False
    return (
        (queue.st_uid, queue.st_gid, command.st_gid) == (owner, group, group)
        and bool(queue.st_mode & stat.S_IWGRP)
        and bool(command.st_mode & stat.S_ISGID)
        and os.access(path, os.X_OK)
    )


@contextmanager
def drop_log(drop: Drop, view: "View") -> Iterator[None]:
    """What is logged meanwhile is postdrop's, also where that is not a process of its own."""
    previous = log.set_sink(lambda severity, text: None)
    log.set_sink(previous)
    if isinstance(drop, Maildrop):
        log_as("postdrop", view)
    try:
        yield
    finally:
        if isinstance(drop, Maildrop):
            log_to(previous)


class Command:
    """The set-gid postdrop command."""

    def __init__(self, path: str, who: str) -> None:
        import subprocess

        self.status = OK
        self.reason = ""
        self.final = False
        self._command = f"{path} -r"
        self._who = who
        self._buffer = bytearray()
        self._process = subprocess.Popen([path, "-r"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        greeting = dict(self._read_list())
        self.queue_id = greeting.get("queue_id", "")
        if greeting.get("protocol") != "postdrop_protocol":
            self.cancel()
            status = self._process.returncode
            if status:
                log.warning(f'command "{self._command}" exited with status {status}')
            raise FatalError(f"{who}: unable to execute {self._command}: Success", EX_UNAVAILABLE)

    def _read_list(self) -> list[tuple[str, str]]:
        from postfixpy.ipc.attributes import parse

        assert self._process.stdout is not None
        buffer = bytearray()
        while (parsed := parse(buffer)) is None:
            data = os.read(self._process.stdout.fileno(), 4096)
            if not data:
                return []
            buffer += data
        return parsed[0]

    def add(self, kind: str, payload: bytes) -> None:
        self.add_content(encode_record(kind, payload))

    def add_content(self, records: bytes | bytearray) -> None:
        self._buffer += records
        if len(self._buffer) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._buffer)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FatalError(f"{self._who}: error writing queue file: Broken pipe", EX_TEMPFAIL) from None
        self._buffer.clear()

    def finish(self) -> int:
        self.final = True  # it gets the last record now, and acts on it whatever becomes of us
        self._flush()
        answer = dict(self._read_list())
        self.status = int(answer.get("status") or WRITE)
        self.reason = answer.get("reason", "")
        self.cancel()
        return self.status

    def cancel(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass  # it has exited
        self._process.wait()


class Posting:
    """One message on its way from standard input to `drop`."""

    def __init__(self, options: "Options", view: "View", drop: Drop, sender: str, who: str) -> None:
        self.options = options
        self.view = view
        self.drop = drop
        self.sender = sender
        self.who = who
        self.recipients = 0

    def run(self) -> None:
        """Write everything up to the "E" record."""
        self._envelope()
        self._add(Kind.MESSAGE)
        found: list[str] = []
        if self.options.trace & _USER_VERIFY:
            self._probe()
        else:
            found = self._content()
        self._add(Kind.EXTRACTED)
        for address in found:
            self._recipient(address)
        if not self.recipients:
            text = "Recipient addresses must be specified on the command line or via the -t option"
            if self.options.extract:
                text = "No recipient addresses found in message header"
            raise FatalError(f"{self.who}: {text}", EX_USAGE)
        self._add(Kind.END)

    def _add(self, kind: str, text: str = "") -> None:
        self.drop.add(kind, os.fsencode(text))

    def _attribute(self, name: str, value: str | int) -> None:
        self._add(Kind.ATTRIBUTE, f"{name}={value}")

    def _envelope(self) -> None:
        options = self.options
        if options.sendopts:
            numbers = (-1, -1, -1, -1, -1, options.sendopts)  # only the last one is looked at
            self._add(Kind.SIZE, " ".join(f"{number:15d}" for number in numbers))
        if options.envid:
            self._attribute("envelope_id", options.envid)
        if options.ret:
            self._attribute("ret_flags", options.ret)
        self._attribute("rewrite_context", options.context)
        full_name = options.full_name if options.full_name is not None else _full_name()
        if full_name is not None:
            self._add(Kind.FULL_NAME, full_name)
        self._add(Kind.FROM, self.sender)
        if options.verp is not None and not self.sender:
            raise FatalError(f"{self.who}: -V option requires non-null sender address", EX_USAGE)
        if options.encoding:
            self._attribute("encoding", options.encoding)
        if options.trace:
            self._attribute("trace_flags", options.trace)
        if options.verp is not None:
            self._add(Kind.VERP, options.verp)
        for word in options.words:
            for address in [token.internal for token in addresses(parse_addresses(word))] or [""]:
                self._recipient(address)

    def _recipient(self, address: str) -> None:
        if self.options.notify:
            self._attribute("notify_flags", self.options.notify)
        self._add(Kind.RECIPIENT, address)
        self.recipients += 1

    def _probe(self) -> None:
        """The content of a message that is not delivered (-bv)."""
        if self.sender:
            self._add(Kind.NORMAL, f"From: {self.sender}")
        self._add(Kind.NORMAL, "Subject: probe")
        words = self.options.words
        if words:
            self._add(Kind.CONTINUED, "To:")
            for position, word in enumerate(words):
                self._add(Kind.NORMAL, f"\t{word}{',' if position + 1 < len(words) else ''}")

    def _content(self) -> list[str]:
        """Copy standard input; the recipients found in it with -t."""
        endings = self.view.sendmail_fix_line_endings
        if endings not in ("always", "strict", "never"):
            raise FatalError(f"invalid sendmail_fix_line_endings value: {endings}", EX_USAGE)
        lines = Lines(self.view.line_length_limit, endings, self.options.dot_ends)
        try:
            if self.options.extract:
                from .extraction import Extraction

                extraction = Extraction(self.view, self.drop, self.who)
                for kind, text in lines.records():
                    extraction.record(kind, text)
                    if extraction.in_body:
                        break
                for block in lines.blocks():
                    self.drop.add_content(block)
                return extraction.finish(continued=lines.continued)
            for block in lines.blocks():
                self.drop.add_content(block)
        except OSError as error:
            raise FatalError(f"{self.who}: error reading input: {error.strerror}", EX_DATAERR) from None
        return []


class Lines:
    """Standard input as text records, without From_ lines at the start, up to a "." line if that ends the message.

    Take single records from `records` as long as they need a look, the rest as encoded `blocks`. `continued` says
    whether the last record was a part of a line.
    """

    def __init__(self, limit: int, endings: str, dot_ends: bool, fd: int = 0) -> None:
        self._limit = limit
        self._strip: bool | None = {"always": True, "never": False}.get(endings)
        self._dot_ends = dot_ends
        self._fd = fd
        self._skip_from = True
        self._pending: list[tuple[str, bytes]] = []  # records, the next one last
        self._partial = b""
        self._ended = False
        self.continued = False

    def records(self) -> Iterator[tuple[str, bytes]]:
        """One record after the other."""
        while self._pending or self._fill():
            kind, text = self._pending.pop()
            kept = self._filter(kind, text)
            if kept is not None:
                yield kind, kept

    def blocks(self) -> Iterator[bytes]:
        """Many records at a time, encoded."""
        while self._pending or self._fill():
            out = [encode_record(kind, kept) for kind, kept in self._filtered(self._pending)]
            self._pending = []
            yield b"".join(out)
            if self._strip is not None and not self._skip_from:
                yield from self._fast()

    def _filtered(self, pending: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        while pending and not (self._ended and not pending):
            kind, text = pending.pop()
            kept = self._filter(kind, text)
            if kept is not None:
                yield kind, kept

    def _fast(self) -> Iterator[bytes]:
        """Blocks of complete short lines, which is nearly everything."""
        while not self._ended and not self.continued and (data := os.read(self._fd, _BLOCK)):
            lines = (self._partial + data).split(b"\n")
            self._partial = lines.pop()
            if self._strip:
                lines = [line.rstrip(b"\r") for line in lines]
            if self._dot_ends and b"." in lines:
                del lines[lines.index(b".") :]
                self._ended = True
                self._partial = b""
            if len(self._partial) >= self._limit or max(map(len, lines), default=0) >= self._limit:
                self._pending = [record for line in reversed(lines) for record in reversed(self._split(line))]
                return
            yield b"".join(
                [_HEADS[len(line)] + line if len(line) < 128 else encode_record("N", line) for line in lines]
            )

    def _fill(self) -> bool:
        """Read more, into pending records. False at the end."""
        while not self._ended:
            data = os.read(self._fd, _BLOCK)
            lines = (self._partial + data).split(b"\n")
            self._partial = lines.pop()
            records = [record for line in lines for record in self._split(line)]
            while len(self._partial) >= self._limit:
                records.append(("L", self._partial[: self._limit]))
                self._partial = self._partial[self._limit :]
            if not data:
                self._ended = True
                if self._partial:
                    records.append(("L", self._partial))
            if records:
                self._pending = records[::-1]
                return True
        return False

    def _split(self, line: bytes) -> list[tuple[str, bytes]]:
        """A complete line as records; one of exactly the limit is a part and an empty rest."""
        records = []
        while len(line) >= self._limit:
            records.append(("L", line[: self._limit]))
            line = line[self._limit :]
        return [*records, ("N", line)]

    def _filter(self, kind: str, text: bytes) -> bytes | None:
        """The record's text as it is to be posted, None when it is not."""
        if kind == "N" and self._strip is None:
            self._strip = text.endswith(b"\r")
        if self._skip_from:
            if kind == "N" and text.lstrip(b">").startswith(b"From "):
                self.continued = False
                return None
            self._skip_from = False
        if self._strip and kind == "N":
            text = text.rstrip(b"\r")
        if self._dot_ends and not self.continued and text == b".":
            self._ended = True
            self._pending.clear()
            self._partial = b""
            return None
        self.continued = kind == "L"
        return text


_HEADS = [bytes((0x4E, size)) for size in range(128)]


def _full_name() -> str | None:
    """The user's name: $NAME, or the name field of the password file with "&" for the login name."""
    name = os.environ.get("NAME")
    if name is not None:
        return name
    import pwd

    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return None
    field = user.pw_gecos
    for char in ",;%":
        field = field.partition(char)[0]
    return field.replace("&", user.pw_name[:1].upper() + user.pw_name[1:])
