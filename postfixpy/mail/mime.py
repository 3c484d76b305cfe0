"""A streaming MIME machine over text records, as mime_state(3) of Postfix (RFC 2045, 2046; spec section 7.2).

Feed it the text records of a message (kind "N", a line, or "L", a piece of a line that the next record continues). It
yields events in order: complete headers with their class, the end of the primary headers, body records, errors. It
knows headers and bodies, that multipart/* has parts with headers, and that message/rfc822 begins with headers again. It
keeps one header in memory at most.

Policy, in words. Header lines beyond `header_limit` are dropped. The first line that is neither header nor continuation
ends a header block; if it is not empty, then the primary block gets an empty line after it. Any boundary string that is
open is recognised wherever a line starts with it, so a missing inner end does not hide what follows. Every boundary
parameter of a Content-Type is used, because an attacker would use the other one. With `Options.DOWNGRADE` bodies whose
transfer encoding says 8bit or binary become quoted-printable, and the Content-Transfer-Encoding header is written anew
as the last of its block.

Speed: most body text needs no work at all. `plain(text)` says whether a piece of body can pass unseen, and `skip` tells
the machine that it did, so that callers move blocks and not lines.
"""

import re
from collections.abc import Iterator
from enum import IntFlag
from typing import NamedTuple

from .headers import Header, HeaderTable, name_length
from .structured import first_token, items, word

PRIMARY, MULTIPART, NESTED = 1, 2, 3
"""Header classes: of the message itself, of a body part, of an attached message."""
_BODY = 4


class Options(IntFlag):
    """What the machine does and reports beyond splitting. Errors that are not asked for are not looked for."""

    NONE = 0
    DISABLE_MIME = 1
    REPORT_TRUNC_HEADER = 2
    REPORT_8BIT_IN_HEADER = 4
    REPORT_8BIT_IN_7BIT_BODY = 8
    REPORT_ENCODING_DOMAIN = 16
    REPORT_NESTING = 32
    DOWNGRADE = 64
    REPORT_NON_EMPTY_EOH = 128


class Problem(IntFlag):
    """Errors in a message. Each is reported once."""

    NONE = 0
    NESTING = 1
    TRUNC_HEADER = 2
    EIGHT_BIT_IN_HEADER = 4
    EIGHT_BIT_IN_7BIT_BODY = 8
    ENCODING_DOMAIN = 16
    NON_EMPTY_EOH = 32


_TEXTS = (
    (Problem.NESTING, "MIME nesting exceeds safety limit"),
    (Problem.TRUNC_HEADER, "message header length exceeds safety limit"),
    (Problem.EIGHT_BIT_IN_HEADER, "improper use of 8-bit data in message header"),
    (Problem.EIGHT_BIT_IN_7BIT_BODY, "improper use of 8-bit data in message body"),
    (Problem.ENCODING_DOMAIN, "invalid message/* or multipart/* encoding domain"),
    (Problem.NON_EMPTY_EOH, "primary header was terminated with non-empty line"),
)


def problem_text(problems: int) -> str:
    """Postfix's text for the worst of `problems` (not empty). All have the status 5.6.0."""
    return next(text for problem, text in _TEXTS if problem & problems)


class HeaderEvent(NamedTuple):
    """One complete header. `known` is None for a name without meaning; `text` has newlines between its lines."""

    block: int
    known: Header | None
    text: bytes


class EndOfHeaders(NamedTuple):
    """The primary headers are complete. Comes once, before what ended them."""


class BodyEvent(NamedTuple):
    """One body record, "N" or "L". `offset` counts the bytes of this body part before it."""

    kind: str
    text: bytes
    offset: int


class ErrorEvent(NamedTuple):
    """A problem that was asked for, with the text it was found in."""

    problem: Problem
    text: bytes


class EndOfBody(NamedTuple):
    """The message is complete: the last event."""


Event = HeaderEvent | EndOfHeaders | BodyEvent | ErrorEvent | EndOfBody

_ENCODINGS = {
    b"7bit": b"7bit",
    b"8bit": b"8bit",
    b"binary": b"binary",
    b"base64": b"7bit",
    b"quoted-printable": b"7bit",
}
"""Transfer encoding -> its domain."""
_LEAF = (b"text", b"plain")
_UNKNOWN = (b"", b"")
_HIGH = re.compile(rb"[\x80-\xff]")


class _Boundary(NamedTuple):
    text: bytes  # with the leading "--"
    default_type: tuple[bytes, bytes]


class MimeMachine:
    """One message. Limits: bytes of a header, bytes of a boundary, depth of nesting."""

    def __init__(
        self,
        options: int = Options.NONE,
        *,
        table: HeaderTable | None = None,
        header_limit: int = 102400,
        boundary_limit: int = 2048,
        nesting_limit: int = 100,
    ) -> None:
        self.problems = Problem.NONE
        """What was reported so far."""
        self._options = int(options)
        self._table = table or _TABLE
        self._header_limit = header_limit
        self._boundary_limit = boundary_limit
        self._nesting_limit = nesting_limit
        self._state = PRIMARY
        self._type = _LEAF
        self._encoding = self._domain = b"7bit"
        self._header = bytearray()
        self._quoted = bytearray()
        self._continued = False
        self._boundaries: list[_Boundary] = []
        self._offset = 0

    # What passes unseen

    @property
    def in_body(self) -> bool:
        """Whether the next record is body text, unless it is a boundary."""
        return self._state == _BODY

    @property
    def offset(self) -> int:
        """Bytes of this body part so far."""
        return self._offset

    def plain(self, text: bytes) -> bool:
        """Whether body `text` (records or lines, in any framing that keeps lines whole) comes out as it goes in."""
        if self._state != _BODY or self._converting:
            return False
        if self._options & Options.REPORT_8BIT_IN_7BIT_BODY and self._wants_8bit and not text.isascii():
            return False
        return not any(boundary.text in text for boundary in self._boundaries)

    def skip(self, size: int, *, continued: bool) -> None:
        """Text of `size` bytes (one added for each record) has passed; `continued`: its last record was an "L"."""
        self._offset += size
        self._continued = continued

    @property
    def _converting(self) -> bool:
        return bool(self._options & Options.DOWNGRADE) and self._domain != b"7bit"

    @property
    def _wants_8bit(self) -> bool:
        return self._encoding == b"7bit" and not self.problems & Problem.EIGHT_BIT_IN_7BIT_BODY

    # Input

    def feed(self, kind: str, text: bytes) -> Iterator[Event]:
        """The events of one record. Exhaust the iterator before the next call."""
        if self._state != _BODY:
            if self._header:
                if self._continued or text[:1] in (b" ", b"\t"):
                    yield from self._extend(text)
                    self._continued = kind == "L"
                    return
                yield from self._finish_header()
            length = name_length(text)
            if length:
                rest = text[length:].lstrip(b" \t").partition(b"\0")[0]
                self._header += text[:length] + rest
                self._continued = kind == "L"
                return
            yield from self._end_block(text, is_text=True)
        yield from self._body(kind, text)
        self._continued = kind == "L"

    def finish(self) -> Iterator[Event]:
        """The events of the end of the message, which may be anywhere."""
        if self._continued:
            yield from self.feed("N", b"")
        if self._state != _BODY:
            if self._header:
                yield from self._finish_header()
            yield from self._end_block(b"", is_text=False)
        yield EndOfBody()

    def _report(self, problem: Problem, text: bytes) -> Iterator[Event]:
        if not self.problems & problem:
            self.problems |= problem
            yield ErrorEvent(problem, text)

    # Headers

    def _extend(self, text: bytes) -> Iterator[Event]:
        if len(self._header) < self._header_limit:
            if not self._continued:
                self._header += b"\n"
            self._header += text.partition(b"\0")[0]
        elif self._options & Options.REPORT_TRUNC_HEADER:
            yield from self._report(Problem.TRUNC_HEADER, bytes(self._header))

    def _finish_header(self) -> Iterator[Event]:
        text = bytes(self._header)
        self._header.clear()
        self._continued = False
        known = self._table.find(text)
        withheld = False
        if known is not None and not self._options & Options.DISABLE_MIME:
            if known.name == "Content-Type":
                yield from self._content_type(text)
            elif known.name == "Content-Transfer-Encoding":
                self._content_encoding(text)
                withheld = self._converting
        if self._options & Options.REPORT_8BIT_IN_HEADER and _HIGH.search(text):
            yield from self._report(Problem.EIGHT_BIT_IN_HEADER, text)
        if not withheld:
            yield HeaderEvent(self._state, known, text)

    def _content_type(self, text: bytes) -> Iterator[Event]:
        found = items(text.partition(b":")[2])
        tokens = next(found, None)
        if not tokens:
            return
        major = word(tokens, 0)
        minor = word(tokens, 2) if len(tokens) >= 3 and tokens[1] == ("/", b"/") else b""
        if major not in (b"text", b"message", b"multipart"):
            self._type = (b"other", self._type[1])
            return
        if major == b"multipart":
            self._type = (major, self._type[1])
            default = (b"message", b"rfc822") if minor == b"digest" else _LEAF
            for parameter in found:
                if len(parameter) >= 3 and word(parameter, 0) == b"boundary" and parameter[1] == ("=", b"="):
                    if len(self._boundaries) - 1 > self._nesting_limit:
                        if self._options & Options.REPORT_NESTING:
                            yield from self._report(Problem.NESTING, text)
                    else:
                        value = parameter[2][1].partition(b"\0")[0][: self._boundary_limit]
                        self._boundaries.append(_Boundary(b"--" + value, default))
            return
        self._type = (major, minor)

    def _content_encoding(self, text: bytes) -> None:
        name = first_token(text.partition(b":")[2])
        if name in _ENCODINGS:
            self._encoding, self._domain = name, _ENCODINGS[name]

    def _end_block(self, line: bytes, *, is_text: bool) -> Iterator[Event]:
        """A header block ends at `line`, which is not part of it."""
        major, minor = self._type
        if self._converting:
            value = b"quoted-printable"
            if major == b"multipart" or (major == b"message" and minor != b"global"):
                value = b"7bit"
            yield HeaderEvent(self._state, None, b"Content-Transfer-Encoding: " + value)
        if self._state == PRIMARY:
            if line and self._options & Options.REPORT_NON_EMPTY_EOH:
                yield from self._report(Problem.NON_EMPTY_EOH, line)
            yield EndOfHeaders()
        if self._options & Options.REPORT_ENCODING_DOMAIN and self._bad_domain():
            yield from self._report(Problem.ENCODING_DOMAIN, self._encoding)
        if is_text and line and self._state == PRIMARY:
            yield BodyEvent("N", b"", self._offset)
            self._offset += 1
        if is_text and not line:
            self._offset = 0
            if major == b"message" and (minor == b"rfc822" or (minor == b"global" and not self._converting)):
                self._enter(NESTED, _LEAF)
                return
            if major == b"multipart":
                self._enter(_BODY, _UNKNOWN)
        self._state = _BODY
        self._offset = 0

    def _bad_domain(self) -> bool:
        major, minor = self._type
        if major == b"message" and minor in (b"partial", b"external-body"):
            return self._domain != b"7bit"
        if major == b"multipart" or (major == b"message" and minor == b"rfc822"):
            return self._encoding != self._domain
        return False

    def _enter(self, state: int, content_type: tuple[bytes, bytes]) -> None:
        self._state = state
        self._type = content_type
        self._encoding = self._domain = b"7bit"
        if state == _BODY:
            self._offset = 0

    # Body

    def _body(self, kind: str, text: bytes) -> Iterator[Event]:
        if (
            self._options & Options.REPORT_8BIT_IN_7BIT_BODY
            and self._wants_8bit
            and not text.isascii()
            and _HIGH.search(text)
        ):
            yield from self._report(Problem.EIGHT_BIT_IN_7BIT_BODY, text)
        if self._boundaries and not self._continued and len(text) > 2 and text.startswith(b"--"):
            self._boundary(text)
        if self._converting:
            for line in self._quote(kind, text):
                yield BodyEvent("N", line, self._offset)
                self._offset += len(line) + 1
        else:
            yield BodyEvent(kind, text, self._offset)
            self._offset += len(text) + 1

    def _boundary(self, line: bytes) -> None:
        """Change state when `line` is one of the open boundaries."""
        for index in range(len(self._boundaries) - 1, -1, -1):
            boundary = self._boundaries[index]
            if line.startswith(boundary.text):
                if line.startswith(b"--", len(boundary.text)):
                    del self._boundaries[index:]
                    self._enter(_BODY, _UNKNOWN)
                else:
                    del self._boundaries[index + 1 :]
                    self._enter(MULTIPART, boundary.default_type)
                return

    def _quote(self, kind: str, text: bytes) -> Iterator[bytes]:
        """`text` in quoted-printable lines of at most 76 characters (RFC 2045 6.7)."""
        out = self._quoted
        if kind == "N" and not out and _NO_QUOTING.fullmatch(text):
            yield text
            return
        for byte in text:
            if len(out) > 72:
                yield bytes(out) + b"="
                out.clear()
            out += _QUOTED[byte]
        if kind == "N":
            if out and out[-1] in b" \t":
                out[-1:] = b"=%02X" % out[-1]
            yield bytes(out)
            out.clear()


_TABLE = HeaderTable()
_NO_QUOTING = re.compile(rb"(?:[\t !-<>-~]{0,72}[!-<>-~])?")
_QUOTED = [bytes([byte]) if byte == 9 or (32 <= byte <= 126 and byte != 61) else b"=%02X" % byte for byte in range(256)]
