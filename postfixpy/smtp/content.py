"""Message content on the wire: queue-file records to lines with CRLF, long lines folded, dots doubled (spec 7.1, 7.7).

Memory does not grow with the message: records come one by one, and output leaves in blocks.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from postfixpy import log
from postfixpy.lookup.maps import Maps
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.headers import RECIPIENT, SENDER
from postfixpy.mail.mime import (
    PRIMARY,
    BodyEvent,
    ErrorEvent,
    Event,
    HeaderEvent,
    MimeMachine,
    Options,
    problem_text,
)
from postfixpy.mail.records import RecordError, RecordFile

from . import checks, generic
from .delivery import Delivery
from .effects import LocalDataError, Run
from .envelope import downgrading
from .session import Session

NORMAL, CONTINUED, EXTRACTED = "N", "L", "X"
"""Kinds of queue-file records: a line, a part of a line, the end of the content."""


PLAIN = 127
"""Bytes of a line that may be in the first part of a batch."""

Batch = tuple[Sequence[bytes], Sequence[tuple[str, bytes]]]
"""Lines of at most `PLAIN` bytes, complete ones, and behind them records of any kind: kind, payload."""


class Source(Protocol):
    """Where the content comes from: the queue file, or a message in memory."""

    def batches(self, offset: int) -> Iterator[Batch]:
        """The records from `offset` on, some at a time."""


class ListSource:
    """A message in memory: for tests and the library interface."""

    def __init__(self, records: Iterable[tuple[str, bytes]]) -> None:
        self._records = list(records)

    def batches(self, offset: int) -> Iterator[Batch]:
        yield (), self._records


BAD_RECORD = "bad"
"""The kind that stands for a record that cannot be read."""


class QueueFileSource:
    """A message in the queue. A damaged file ends with a record of the kind `BAD_RECORD`, after a warning."""

    def __init__(self, records: RecordFile) -> None:
        self._records = records

    def batches(self, offset: int) -> Iterator[Batch]:
        records = self._records
        records.seek(offset)
        try:
            while True:
                plain = records.plain(PLAIN)
                record = records.next()
                if record is None:
                    yield plain, ()
                    return
                yield plain, ((record.kind, record.payload),)
        except RecordError as error:
            log.warning(str(error))
            yield plain, ((BAD_RECORD, b""),)


class Lines:
    """Makes wire lines of records. `out` collects what is ready; `limit` is smtp_line_length_limit, 0 for none.

    A limit of 1 leaves a continued line room for its space only, and Postfix sends such lines for ever: it counts as 2.
    """

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, 2) if limit > 0 else limit
        self.left = self.limit
        self.start = True
        self.out = bytearray()
        self.folded = False

    def feed(self, kind: str, data: bytes) -> None:
        """Add one record of kind N or L."""
        out = self.out
        if self.limit > 0 and len(data) >= self.left:
            self._fold(kind, data)
            return
        if self.start and data.startswith(b"."):
            out += b"."
        out += data
        if kind == NORMAL:
            out += b"\r\n"
            self.left, self.start = self.limit, True
        else:
            self.left -= len(data)
            self.start = self.start and not data

    def feed_plain(self, lines: Sequence[bytes]) -> None:
        """Add complete lines of at most `PLAIN` bytes."""
        if self.start and self.left == self.limit and (not self.limit or self.limit > PLAIN):
            self.out += b"\r\n".join([b"." + line if line[:1] == b"." else line for line in lines])
            self.out += b"\r\n"
            return
        for line in lines:
            self.feed(NORMAL, line)

    def _fold(self, kind: str, data: bytes) -> None:
        """A record that reaches the limit: broken into lines that a space continues."""
        out = self.out
        while True:
            if self.start and data.startswith(b"."):
                out += b"."
            if len(data) < self.left:
                break
            out += data[: self.left]
            out += b"\r\n"
            data = data[self.left :]
            self.left, self.start = self.limit, True
            if data or kind == CONTINUED:
                out += b" "
                self.left -= 1
                self.start = False
                self.folded = True
            if not data:
                return
        out += data
        if kind == NORMAL:
            out += b"\r\n"
            self.left, self.start = self.limit, True
        else:
            self.left -= len(data)
            self.start = False

    def take(self) -> bytes:
        """What is ready."""
        data = bytes(self.out)
        self.out.clear()
        return data


class ContentProblem(Exception):
    """The content cannot be converted for this server. str() is the reason; the status is 5.6.0."""


def send_content(d: Delivery, s: Session) -> Run[str]:
    """Send the content; returns the kind of the record that ended it. Raises StreamError, ContentProblem."""
    lines = Lines(d.settings.view.smtp_line_length_limit)
    machine = _machine(d, s)
    headers = yield from added_headers(d)
    if machine is None:
        for header in headers:
            lines.feed(NORMAL, header)
        return (yield from _send_as_is(d, s, lines))
    try:
        for header in headers:
            yield from _process(d, lines, machine.feed(NORMAL, header))
        return (yield from _send_processed(d, s, lines, machine))
    except (LocalDataError, ContentProblem):
        s.stream.put(lines.take())  # it goes out when the connection is closed
        raise


def _machine(d: Delivery, s: Session) -> MimeMachine | None:
    """What must look into the content: for conversion to 7 bits, generic maps, checks; None when nothing must."""
    settings = d.settings
    checks = any(
        (settings.header_checks, settings.mime_header_checks, settings.nested_header_checks, settings.body_checks)
    )
    if downgrading(d, s):
        options = Options.DOWNGRADE | Options.REPORT_NESTING
    elif checks:
        options = Options.NONE
    elif settings.generic_maps is not None:
        options = Options.DISABLE_MIME
    else:
        return None
    view = settings.view
    return MimeMachine(
        options,
        header_limit=view.header_size_limit,
        boundary_limit=view.mime_boundary_length_limit,
        nesting_limit=view.mime_nesting_limit,
    )


def _send_as_is(d: Delivery, s: Session, lines: Lines) -> Run[str]:
    stream, feed = s.stream, lines.feed
    end = last = ""
    for plain, batch in d.source.batches(d.request.offset):
        if plain:
            lines.feed_plain(plain)
            last = NORMAL
        for kind, data in batch:
            if kind != NORMAL and kind != CONTINUED:
                end = kind
                break
            feed(kind, data)
            last = kind
        if end:
            break
        _note_folding(d, lines)
        yield from stream.write(lines.take())
    if last == CONTINUED:  # the last line has no end
        feed(NORMAL, b"")
    _note_folding(d, lines)
    yield from stream.write(lines.take())
    return end


def _send_processed(d: Delivery, s: Session, lines: Lines, machine: MimeMachine) -> Run[str]:
    end = ""
    for plain, batch in d.source.batches(d.request.offset):
        for line in plain:
            yield from _process(d, lines, machine.feed(NORMAL, line))
        for kind, data in batch:
            if kind != NORMAL and kind != CONTINUED:
                end = kind
                break
            yield from _process(d, lines, machine.feed(kind, data))
        if end:
            break
        _note_folding(d, lines)
        yield from s.stream.write(lines.take())
    yield from _process(d, lines, machine.finish())
    _note_folding(d, lines)
    yield from s.stream.write(lines.take())
    return end


def _process(d: Delivery, lines: Lines, events: Iterator[Event]) -> Run[None]:
    """What becomes of headers and body lines on their way out. A problem counts when its record has been dealt with."""
    body_checks = d.settings.body_checks
    problems = 0
    for event in events:
        if isinstance(event, BodyEvent):
            if body_checks is None:
                lines.feed(event.kind, event.text)
            else:
                yield from _checked_line(d, lines, event, body_checks)
        elif isinstance(event, HeaderEvent):
            yield from _header(d, lines, event)
        elif isinstance(event, ErrorEvent):
            problems |= event.problem
    if problems:
        raise ContentProblem(problem_text(problems))


def _checked_line(d: Delivery, lines: Lines, event: BodyEvent, maps: Maps) -> Run[None]:
    text = event.text.decode("utf-8", "surrogateescape")

    def prepend(line: str) -> None:
        lines.feed(NORMAL, line.encode("utf-8", "surrogateescape"))

    result = yield from checks.check(d, maps, checks.BODY, text, prepend)
    if result is not None:
        lines.feed(event.kind, result.encode("utf-8", "surrogateescape"))


def _header(d: Delivery, lines: Lines, event: HeaderEvent) -> Run[None]:
    """Checks, then generic maps, then out."""
    settings = d.settings
    text = event.text.decode("utf-8", "surrogateescape")
    maps = checks.header_maps(d, event.block, event.known)
    if maps is not None:

        def prepend(line: str) -> None:
            lines.feed(NORMAL, line.encode("utf-8", "surrogateescape"))

        result = yield from checks.check(d, maps, checks.HEADER, text, prepend)
        if result is None:
            return
        text = result
    known = event.known
    out: list[str] | None = None
    mappable = known is not None and event.block == PRIMARY and known.roles & (SENDER | RECIPIENT)
    if settings.generic_maps is not None and known is not None and mappable:
        out = yield from generic.header_lines(d, len(known.name), text)
    for line in out if out is not None else text.split("\n"):
        lines.feed(NORMAL, line.encode("utf-8", "surrogateescape"))


def _note_folding(d: Delivery, lines: Lines) -> None:
    if lines.folded and not d.line_broken:
        d.line_broken = True
        log.info(f"{d.request.queue_id}: breaking line > {lines.limit} bytes with <CR><LF>SPACE")


def added_headers(d: Delivery) -> Run[list[bytes]]:
    """The headers that the flags= attribute of master.cf asks for."""
    flags = d.settings.flags
    headers: list[str] = []
    if "R" in flags:
        headers.append(f"Return-Path: <{(yield from _external(d, d.request.sender))}>")
    if "O" in flags:
        headers.append(f"X-Original-To: {(yield from _external(d, d.recipients[0].original))}")
    if "D" in flags:
        headers.append(f"Delivered-To: {(yield from _external(d, d.recipients[0].address))}")
    return [header.encode("utf-8", "surrogateescape") for header in headers]


def _external(d: Delivery, address: str) -> Run[str]:
    if not address:
        return ""
    return quote_822_local((yield from generic.envelope_address(d, address)))
