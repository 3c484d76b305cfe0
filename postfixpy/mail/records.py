"""Queue-file records: the typed, length-prefixed records that queue files and mail submission streams consist of.

A record is a type byte, a length (seven bits a byte, least significant group first, 0x80 says that more follow), and
the payload. A queue file is ``C`` (sizes), envelope records, ``M``, content (``N`` lines, ``L`` parts of long
lines), ``X``, records extracted from the content, ``E``. Pointer records (``p``) continue reading elsewhere in the
file: a file is edited in place before it is complete by patching pointers to storage behind its end. ``w`` records
are padding.

`RecordParser` reads a stream as it arrives, `RecordFile` reads a file, both with Postfix's limits and texts.

Source: record(3), rec_type(3), spec/smtp-client.md 15.10. Differs from Postfix: a pointer loop is counted for each
open file, not for each process.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from postfixpy.errors import PostfixError


class Kind:
    """Record types, as one-character strings."""

    SIZE: Final = "C"
    TIME: Final = "T"
    CREATE_TIME: Final = "c"
    FULL_NAME: Final = "F"
    INSPECTOR: Final = "I"
    FILTER: Final = "L"  # in an envelope
    FROM: Final = "S"
    DONE: Final = "D"
    RECIPIENT: Final = "R"
    ORIGINAL: Final = "O"
    CANCELED: Final = "/"
    WARN: Final = "W"
    ATTRIBUTE: Final = "A"
    KILLED: Final = "K"
    REDIRECT: Final = ">"
    FLAGS: Final = "f"
    DELAY: Final = "d"
    MESSAGE: Final = "M"
    CONTINUED: Final = "L"  # in content
    NORMAL: Final = "N"
    PADDING: Final = "w"
    EXTRACTED: Final = "X"
    RETURN_RECEIPT: Final = "r"
    ERRORS_TO: Final = "e"
    PRIORITY: Final = "P"
    POINTER: Final = "p"
    VERP: Final = "V"
    DSN_RET: Final = "<"
    DSN_ENVID: Final = "i"
    DSN_ORCPT: Final = "o"
    DSN_NOTIFY: Final = "n"
    MILTER_COUNT: Final = "m"
    END: Final = "E"


ENVELOPE: Final = "MCTcFILSDRO/WVA>K<ion"
CONTENT: Final = "XLNw"
EXTRACT: Final = "EDRO/PreAFIL>Kon"
POST_ENVELOPE: Final = "MCFSRVAin"
POST_CONTENT: Final = "XLN"
POST_EXTRACT: Final = "EAR"
ENV_RECIPIENT: Final = "MDRO/Kon"
EXT_RECIPIENT: Final = "EDRO/Kon"
"""The types that each part of a file may hold; the first one ends that part. POST_*: what postdrop(1) lets users
write."""

MAX_JUMPS = 10_000
"""Pointers back to earlier places that one file may have."""

POINTER_PAYLOAD = 15
"""Payload bytes of a pointer record, which is updated in place."""

_NAMES = {
    "C": "message_size",
    "T": "message_arrival_time",
    "c": "queue_file_create_time",
    "F": "sender_fullname",
    "I": "content_inspector",
    "L": "content_filter",
    "S": "sender",
    "D": "done_recipient",
    "/": "canceled_recipient",
    "R": "recipient",
    "O": "original_recipient",
    "W": "warning_message_time",
    "A": "named_attribute",
    "p": "pointer_record",
    "K": "killed_record",
    ">": "redirect_to",
    "f": "flags",
    "M": "message_content",
    "N": "regular_text",
    "w": "padding",
    "X": "extracted_info",
    "r": "return_receipt",
    "e": "errors_to",
    "P": "priority",
    "V": "verp_delimiters",
    "<": "dsn_return_flags",
    "i": "dsn_envelope_id",
    "o": "dsn_original_recipient",
    "n": "dsn_notify_flags",
    "E": "message_end",
}

_NUMBER = re.compile(rb"\s*([-+]?[0-9]{1,18})")
_BLOCK = 65536
_MAX_LENGTH_BYTES = 4


class RecordError(PostfixError):
    """The record stream is damaged. str() is Postfix's warning text."""


class Source(Protocol):
    """What is needed of a file: a binary file of Python, or a `queue.QueueFile`."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def seekable(self) -> bool: ...


class Record(NamedTuple):
    """One record and the file offset of its type byte."""

    kind: str
    payload: bytes
    offset: int


class Sizes(NamedTuple):
    """The payload of a ``C`` record. Offsets and lengths in bytes."""

    segment: int
    """File distance between the ``M`` and the ``X`` record."""
    data_offset: int
    """Offset of the first content record."""
    recipients: int
    qmgr_flags: int
    """1: read all recipients before delivery starts."""
    content: int
    """Content length, one byte a line break."""
    sendopts: int


def name_of(kind: str) -> str:
    """The long name of a record type, as postcat(1) prints it; "unknown_record_type" for others."""
    return _NAMES.get(kind, "unknown_record_type")


def encode_record(kind: str, payload: bytes) -> bytes:
    """One record in bytes."""
    size = len(payload)
    if size < 0x80:
        return bytes((ord(kind), size)) + payload
    head = bytearray((ord(kind),))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + payload


def encode_padding(kind: str, size: int) -> bytes:
    """A record of `size` bytes in all (at least 3), that holds blanks and a zero."""
    return encode_record(kind, b"0".rjust(max(size - 2, 1)))


def encode_pointer(offset: int) -> bytes:
    """A pointer record; 0 makes a place to be patched later."""
    return encode_record(Kind.POINTER, b"%15d" % offset)


def encode_sizes(sizes: Sizes) -> bytes:
    """A ``C`` record: fixed width, updated in place."""
    return encode_record(Kind.SIZE, b" ".join(b"%15d" % value for value in sizes))


def scan_numbers(payload: bytes, most: int = 6) -> list[int]:
    """The numbers that `payload` begins with, at most `most`: what sscanf(3) makes of it."""
    numbers: list[int] = []
    position = 0
    while len(numbers) < most and (found := _NUMBER.match(payload, position)):
        numbers.append(int(found[1]))
        position = found.end()
    return numbers


def decode_sizes(payload: bytes) -> Sizes | None:
    """The numbers of a ``C`` record; those that older releases did not write are zero. None when there is none."""
    values = scan_numbers(payload)
    return Sizes(*values, *[0] * (6 - len(values))) if values else None


def encode_time(microseconds: int) -> bytes:
    """The payload of a ``T`` record, from microseconds since the epoch."""
    return b"%d %d" % divmod(microseconds, 1_000_000)


def decode_time(payload: bytes) -> int:
    """Microseconds since the epoch from a ``T`` record; what is not a number counts as zero."""
    seconds, _, micro = payload.lstrip().partition(b" ")
    return leading_int(seconds) * 1_000_000 + leading_int(micro)


def leading_int(text: bytes) -> int:
    """The number at the start of `text`, 0 when there is none: atol(3), within 64 bits."""
    text = text.strip()
    end = 1 if text[:1] in (b"-", b"+") else 0
    while end < len(text) and 48 <= text[end] <= 57:
        end += 1
    try:
        return max(-(1 << 63), min(int(text[: min(end, 40)]), (1 << 63) - 1))
    except ValueError:
        return 0


class RecordParser:
    """Records from a stream that arrives in pieces.

    `feed` bytes, then iterate: every complete record is yielded once, the rest is kept. `name` is the stream's name
    for texts, `limit` the longest payload in bytes (0: what the format allows). Iteration raises RecordError.
    """

    def __init__(self, name: str = "stream", limit: int = 0) -> None:
        self.name = name
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._buffer += data

    @property
    def rest(self) -> bytes:
        """What has been fed and does not make a complete record yet."""
        return bytes(self._buffer)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yield (kind, payload). The consumer may stop early: what it did not take is kept."""
        buffer = self._buffer
        position = 0
        try:
            while True:
                parsed = _split(buffer, position, self.limit, self.name)
                if parsed is None or parsed[1] > len(buffer):
                    return
                start, end = parsed
                item = (chr(buffer[position]), bytes(buffer[start:end]))
                position = end
                yield item
        finally:
            del buffer[:position]

    def end(self) -> None:
        """The stream has ended. Raises RecordError when it ended inside a record."""
        if not self._buffer:
            return
        parsed = _split(self._buffer, 0, self.limit, self.name)
        raise _truncated(self.name, self._buffer[0], parsed)


def _split(buffer: bytes | bytearray, position: int, limit: int, name: str) -> tuple[int, int] | None:
    """Where the payload of the record at `position` starts and ends; None when its length is not complete."""
    available = len(buffer)
    if position + 1 >= available:
        return None
    size = buffer[position + 1]
    start = position + 2
    if size >= 0x80:
        size &= 0x7F
        shift = 7
        while True:
            if shift >= 7 * _MAX_LENGTH_BYTES:
                raise RecordError(f"{name}: too many length bits, record type {buffer[position]}")
            if start >= available:
                return None
            byte = buffer[start]
            start += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
    if limit and size > limit:
        raise RecordError(f"{name}: illegal length {size}, record type {buffer[position]}")
    return start, start + size


def _truncated(name: str, kind: int, parsed: tuple[int, int] | None) -> RecordError:
    if parsed is None:
        return RecordError(f"{name}: unexpected EOF reading length, record type {kind}")
    return RecordError(f"{name}: unexpected EOF in data, record type {kind} length {parsed[1] - parsed[0]}")


class RecordFile:
    """Records from a queue file, in the order that pointers give.

    `file` is opened for binary reading (unbuffered is best: blocks are read here) and is not closed; `name` is its
    name for texts. `limit` is the longest payload in bytes (0: what the format allows). `follow_pointers`: jump, and
    do not show pointer records; `skip_padding`: do not show ``w``
    records; `seek_end`: after an ``E`` record the file is at its end.
    """

    def __init__(
        self,
        file: Source,
        name: str,
        limit: int = 0,
        *,
        follow_pointers: bool = True,
        skip_padding: bool = True,
        seek_end: bool = True,
    ) -> None:
        self.file = file
        self.name = name
        self.limit = limit
        self.follow_pointers = follow_pointers
        self.skip_padding = skip_padding
        self.seek_end = seek_end
        self._buffer = b""
        self._base = file.tell() if file.seekable() else 0
        self._position = 0
        self._jumped_to = 0
        self._jumps_back = 0

    def tell(self) -> int:
        """The file offset of the next record."""
        return self._base + self._position

    def seek(self, offset: int) -> None:
        """Continue with the record at file offset `offset`. Raises OSError when the file has no positions."""
        if self._base <= offset <= self._base + len(self._buffer):
            self._position = offset - self._base
            return
        self.file.seek(offset)
        self._base = offset
        self._buffer = b""
        self._position = 0

    def _more(self) -> bool:
        """Read another block behind the unread part of the buffer; False at the end of the file."""
        try:
            block = self.file.read(_BLOCK)
        except OSError as error:
            raise RecordError(f"{self.name}: read error: {error.strerror}") from error
        if not block:
            return False
        self._base += self._position
        self._buffer = self._buffer[self._position :] + block
        self._position = 0
        return True

    def _raw(self) -> Record | None:
        """The next record, of any type; None at the end of the file."""
        while True:
            parsed = _split(self._buffer, self._position, self.limit, self.name)
            if parsed is not None and parsed[1] <= len(self._buffer):
                start, end = parsed
                record = Record(chr(self._buffer[self._position]), self._buffer[start:end], self._base + self._position)
                self._position = end
                return record
            if not self._more():
                if self._position == len(self._buffer):
                    return None
                kind = self._buffer[self._position]
                self._position = len(self._buffer)
                raise _truncated(self.name, kind, parsed)

    def peek(self) -> str:
        """The type of the next record, "" at the end of the file."""
        if self._position == len(self._buffer) and not self._more():
            return ""
        return chr(self._buffer[self._position])

    def follow(self, payload: bytes) -> None:
        """Continue where a pointer record says; nowhere for a dummy. Raises RecordError."""
        text = payload.split(b"\0", 1)[0].lstrip()
        if text and (not text.isdigit() or len(text) > 18):
            shown = text.decode("utf-8", "surrogateescape")
            raise RecordError(f"{self.name}: malformed pointer record value: {shown}")
        target = int(text or b"0")
        if target == 0:
            return
        if target <= self._jumped_to:
            self._jumps_back += 1
            if self._jumps_back > MAX_JUMPS:
                raise RecordError(f"{self.name}: too many reverse jump records")
        try:
            self.seek(target)
        except (OSError, ValueError) as error:
            raise RecordError(f"{self.name}: seek error after pointer record: {error}") from error
        self._jumped_to = target

    def next(self) -> Record | None:
        """The next record, None at the end of the file. Raises RecordError."""
        while True:
            record = self._raw()
            if record is None:
                return None
            kind = record.kind
            if kind == Kind.POINTER and self.follow_pointers:
                self.follow(record.payload)
            elif kind == Kind.PADDING and self.skip_padding:
                continue
            else:
                if kind == Kind.END and self.seek_end:
                    self._to_end()
                return record

    def _to_end(self) -> None:
        try:
            end = self.file.seek(0, 2)
        except OSError as error:
            raise RecordError(f"{self.name}: seek error after reading END record: {error.strerror}") from error
        self._base, self._buffer, self._position = end, b"", 0

    def __iter__(self) -> Iterator[Record]:
        """Every record from here to the end of the file. Raises RecordError."""
        while (record := self.next()) is not None:
            yield record

    def plain(self, longest: int = 127) -> list[bytes]:
        """The payloads of the next ``N`` records, as many as are in memory and up to the first that is longer than
        `longest` (at most 127) or of another type: nearly all of a message, and fast. May be empty."""
        buffer, position = self._buffer, self._position
        last = len(buffer) - 1
        longest = min(longest, self.limit or longest)
        out: list[bytes] = []
        append = out.append
        while position < last and buffer[position] == 78:  # N
            size = buffer[position + 1]
            end = position + 2 + size
            if size > longest or end > last + 1:
                break
            append(buffer[position + 2 : end])
            position = end
        self._position = position
        return out

    def batch(self) -> list[Record]:
        """At least one record unless the file has ended, and as many more as are in memory: for bulk reading of
        content. Stops behind an ``X`` or ``E`` record. Raises RecordError (the records before a bad one come
        first)."""
        first = self.next()
        if first is None:
            return []
        out = [first]
        if first.kind in "XE":
            return out
        buffer, base, position = self._buffer, self._base, self._position
        available = len(buffer)
        limit = self.limit or available
        append = out.append
        # Only short plain records here, which is nearly all of a message; `next` knows the rest.
        while position + 1 < available:
            size = buffer[position + 1]
            end = position + 2 + size
            if size >= 0x80 or size > limit or end > available or buffer[position] not in b"NL":
                break
            append(Record(chr(buffer[position]), buffer[position + 2 : end], base + position))
            position = end
        self._position = position
        return out
