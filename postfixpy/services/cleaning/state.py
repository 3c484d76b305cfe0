"""One message on its way through cleanup(8): what is known about it, what went wrong, and its queue file."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from postfixpy import log
from postfixpy.ipc.cleanup import (
    FLAG_AUTOUTF8,
    FLAG_BOUNCE,
    FLAG_DISCARD,
    FLAG_REQUIRETLS,
    FLAG_SMTPUTF8,
    STAT_SIZE,
    STAT_WRITE,
    STATS_INCOMPLETE,
)
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.delivery import REQUIRETLS, SMTPUTF8_REQUESTED
from postfixpy.mail.queue import QueueFile
from postfixpy.mail.records import Kind, Sizes, encode_record, encode_sizes

from .settings import Settings

MIXED_RECIPIENTS = 1
"""Bit of `Incoming.qmgr_flags`: the queue manager must read all records before it starts."""

_ALL = ~0
_BLOCK = 65536


class Rewriter(Protocol):
    """What cleanup needs of the trivial-rewrite client."""

    async def rewrite(self, rule: str, address: str) -> str: ...

    async def rewrite_internal(self, rule: str, address: str) -> str: ...


class QueueWriter:
    """Appends records to a queue file, in blocks, up to `limit` bytes (0: no limit). Raises OSError (EFBIG)."""

    def __init__(self, file: QueueFile, limit: int, line_limit: int) -> None:
        self.file = file
        self.offset = 0
        """Where the next record goes."""
        self._limit = limit
        self._line_limit = line_limit
        self._buffer = bytearray()

    def record(self, kind: str, payload: bytes) -> None:
        """Write one record; text longer than the line limit as several."""
        if kind in "NL":
            while len(payload) > self._line_limit:
                self.raw(encode_record("L", payload[: self._line_limit]))
                payload = payload[self._line_limit :]
        self.raw(encode_record(kind, payload))

    def raw(self, records: bytes | memoryview) -> None:
        """Write records that are encoded already."""
        if self._limit and self.offset + len(records) > self._limit:
            self.flush()
            raise OSError(errno.EFBIG, "File too large")
        self._buffer += records
        self.offset += len(records)
        if len(self._buffer) >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if data:
            self.file.write(data)

    def replace_first(self, record: bytes) -> None:
        """Overwrite the first record with one of the same size."""
        self.flush()
        self.file.seek(0)
        self.file.write(record)
        self.file.seek(0, 2)


@dataclass(slots=True)
class Incoming:
    """The message. Addresses in internal form; None where nothing was seen yet.

    errors          STAT_* bits; error_mask those that end the processing
    created         microseconds since the epoch that the queue id was made from; clock() gives the time now
    hdr_context     address rewriting in headers: "local", "remote", or "" for none
    client_milters  the client has had the message inspected, by as many Milters as it has
    seen            lower-case names of the headers of interest that were there
    """

    settings: Settings
    rewriter: Rewriter
    writer: QueueWriter
    queue_id: str
    created: int
    clock: Callable[[], int]
    flags: int = 0
    errors: int = 0
    error_mask: int = _ALL
    reason: str = ""

    arrival: int = 0
    full_name: str | None = None
    sender: str | None = None
    recipient: str | None = None
    in_recipients: bool = False
    warn_seen: bool = False
    end_seen: bool = False
    original: str | None = None
    dsn_orcpt: str | None = None
    dsn_notify: int = 0
    dsn_envid: str = ""
    dsn_ret: int = 0
    verp: str = ""
    trace_flags: int = 0
    qmgr_flags: int = 0
    sendopts: int = 0
    attributes: dict[str, str] = field(default_factory=lambda: {"log_message_origin": "local"})
    duplicates: set[str] = field(default_factory=set)
    recipients: int = 0

    hdr_context: str = "local"
    seen: set[str] = field(default_factory=set)
    resent: str = ""
    hops: int = 0
    message_id: str | None = None
    filter: str | None = None
    redirect: str | None = None
    bcc: list[str] = field(default_factory=list)
    requiretls_seen: bool = False
    traced: bool = False
    client_milters: bool = False

    data_offset: int = -1
    extracted_offset: int = -1

    def accept(self, flags: int) -> None:
        """Take the client's flags."""
        self.flags = flags
        self.error_mask = STATS_INCOMPLETE if flags & FLAG_BOUNCE else _ALL
        if flags & FLAG_SMTPUTF8:
            self.sendopts |= SMTPUTF8_REQUESTED
        if flags & FLAG_REQUIRETLS:
            self.sendopts |= REQUIRETLS

    @property
    def going(self) -> bool:
        """Whether records are still looked at: nothing lethal has happened, and the message is not discarded."""
        return not self.errors & self.error_mask and not self.flags & FLAG_DISCARD

    def put(self, kind: str, payload: bytes | str = b"") -> None:
        """Write one record to the queue file, unless the message is lost already."""
        if not self.going:
            return
        if isinstance(payload, str):
            payload = payload.encode("utf-8", "surrogateescape")
        try:
            self.writer.record(kind, payload)
        except OSError as error:
            self.write_error(error)

    def put_raw(self, records: bytes | memoryview) -> None:
        """Write encoded records."""
        if not self.going:
            return
        try:
            self.writer.raw(records)
        except OSError as error:
            self.write_error(error)

    def write_error(self, error: OSError) -> None:
        """The queue file could not be written."""
        if error.errno == errno.EFBIG:
            log.warning(f"{self.queue_id}: queue file size limit exceeded")
            self.errors |= STAT_SIZE
        else:
            log.warning(f"{self.queue_id}: write queue file: {error.strerror}")
            self.errors |= STAT_WRITE

    def put_sizes(self) -> None:
        """Write the first record, to be filled in by `finish_sizes`."""
        try:
            self.writer.raw(encode_sizes(Sizes(0, 0, 0, 0, 0, 0)))
        except OSError as error:
            self.write_error(error)

    def finish_sizes(self) -> None:
        """Fill in the first record with what is known now."""
        length = self.extracted_offset - self.data_offset
        sizes = Sizes(length, self.data_offset, self.recipients, self.qmgr_flags, length, self.sendopts)
        try:
            self.writer.replace_first(encode_sizes(sizes))
        except OSError as error:
            self.write_error(error)

    def note_utf8(self, text: str, option: int) -> None:
        """An address that is UTF-8 but not ASCII: ask for SMTPUTF8 when the source asks for detection."""
        if self.settings.utf8 and not text.isascii() and is_utf8(text):
            self.sendopts |= option
            if self.flags & FLAG_AUTOUTF8:
                self.sendopts |= SMTPUTF8_REQUESTED

    def attribute(self, name: str, value: str | int) -> None:
        """Write a named attribute."""
        self.put(Kind.ATTRIBUTE, f"{name}={value}")

    def loggable(self, address: str) -> str:
        """An address as info_log_address_format wants it in the log."""
        if not address or self.settings.view.info_log_address_format.lower() == "internal":
            return address
        return quote_822_local(address)


def is_utf8(text: str) -> bool:
    """Whether `text` came from valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
