"""The envelope in a queue file: from its records to what the queue manager knows about a message.

A file may hold more recipients than memory should: `read` stops after `limit` recipients and notes where to continue.
The first reading sees every record that is not a recipient, so it goes on to the end of the file for them, unless the
size record says that recipients and other records are not mixed; later readings only collect recipients.

Source: qmgr(8) behaviour, rec_type(3), spec/smtp-client.md 15.10. Differs from Postfix: a file of a release before 1.0
(size record with one number) is corrupt here, where the real queue manager ends with "bad extra offset", again and
again, when the number is damage; nothing has written such a file since 2001.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from postfixpy import log
from postfixpy.errors import PostfixError
from postfixpy.mail.delivery import RECORD, TRACE_FLAGS, Recipient
from postfixpy.mail.records import (
    ENVELOPE,
    EXTRACT,
    Kind,
    Record,
    RecordError,
    RecordFile,
    Sizes,
    Source,
    decode_time,
    leading_int,
    scan_numbers,
)

MIXED = 1
"""Bit of the size record's flags: recipients and other records are mixed."""
NOTIFY_SUCCESS = 2 << 1
"""Bit of the size record's flags: some recipient wants success notification (the NOTIFY_* bits, shifted by one)."""
_KNOWN_FLAGS = MIXED | 15 << 1
_SENDOPTS = 63

_ATTRIBUTE_KINDS = {
    "dsn_orig_rcpt": Kind.DSN_ORCPT,
    "notify_flags": Kind.DSN_NOTIFY,
    "envelope_id": Kind.DSN_ENVID,
    "ret_flags": Kind.DSN_RET,
    "create_time": Kind.CREATE_TIME,
}
"""Named attributes that are records in disguise, so that old releases can skip them."""

_CLIENT = {
    "client_name": "client_name",
    "client_address": "client_address",
    "client_port": "client_port",
    "protocol_name": "client_protocol",
    "helo_name": "client_helo",
}
"""Attributes about the client: field of Envelope. The form with "log_" in front is about the original client, and
wins over the plain form."""

_ONCE = {
    "sasl_method": "sasl_method",
    "sasl_username": "sasl_username",
    "sasl_sender": "sasl_sender",
    "log_ident": "log_ident",
    "rewrite_context": "rewrite_context",
}


class CorruptFile(PostfixError):
    """The queue file is damaged: to be set aside in the corrupt queue. str() is the warning, already logged."""


@dataclass(slots=True)
class Envelope:
    """What a queue file says, recipients apart. Offsets and sizes in bytes, times in seconds unless named otherwise.

    unread         recipients that have not been read yet (an upper bound: some may be done)
    next_offset    where reading recipients continues; 0: all have been read
    trace_flags    TRACE_FLAGS bits; trace_offset: place of the record to kill after a trace report, 0: none
    warn_time      when to warn the sender of a delay; 0 never, -1 has been done. warn_offset: that record's place
    data_offset    first content record; data_size: bytes to the end of the content; size: content length for SIZE=
    """

    queue_id: str
    sender: str | None = None
    arrival: int = 0  # microseconds
    create_time: int = 0
    size: int = 0
    data_offset: int = 0
    data_size: int = 0
    unread: int = 0
    next_offset: int = 0
    flags: int = MIXED
    complete: bool = False
    sendopts: int = 0
    encoding: str = ""
    envelope_id: str = ""
    ret_flags: int = 0
    verp_delimiters: str = ""
    filter: str | None = None
    inspector: str | None = None
    redirect: str | None = None
    trace_flags: int = 0
    trace_offset: int = 0
    warn_offset: int = 0
    warn_time: int = 0
    client_name: str = ""
    client_address: str = ""
    client_port: str = ""
    client_protocol: str = ""
    client_helo: str = ""
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    log_ident: str = ""
    rewrite_context: str = ""

    @property
    def from_(self) -> str:
        """The sender; "" for the null sender."""
        return self.sender or ""

    @property
    def all_read(self) -> bool:
        """Whether every recipient has been read from the file."""
        return self.next_offset == 0


@dataclass(slots=True)
class _Pending:
    """Records that belong to the recipient that follows them."""

    original: str | None = None
    dsn_orcpt: str | None = None
    notify: int = 0


@dataclass(slots=True)
class EnvelopeReader:
    """Reads the envelope of one file, at first and again for more recipients.

    `verp_filter` is verp_delimiter_filter. `opened` is called when the sender becomes known (for the log line).
    """

    envelope: Envelope
    verp_filter: str = "-=+"
    opened: Callable[[Envelope], None] | None = None
    _pending: _Pending = field(default_factory=_Pending)
    _log_client: bool = False
    _recipients: list[Recipient] = field(default_factory=list)

    def read(self, file: RecordFile, limit: int) -> list[Recipient]:
        """Up to `limit` (1 or more) recipients that are still to be delivered, and at first the whole envelope.

        Raises CorruptFile, after a warning in the log; the envelope then says that nothing more was read.
        """
        envelope = self.envelope
        saved = envelope.next_offset, envelope.unread
        self._recipients, self._pending = [], _Pending()
        try:
            file.seek(envelope.next_offset)
            envelope.next_offset = 0
            try:
                self._records(file, limit)
            except (RecordError, CorruptFile) as error:
                log.warning(str(error))
                self._count()
                raise CorruptFile(str(error)) from None
            self._leftovers()
            self._count()
            self._check()
        except CorruptFile:
            envelope.next_offset, envelope.unread = saved
            raise
        return self._recipients

    def _records(self, file: RecordFile, limit: int) -> None:
        envelope = self.envelope
        expected = ENVELOPE + EXTRACT
        while True:
            if envelope.data_offset and file.tell() == envelope.data_offset:
                file.seek(envelope.data_offset + envelope.data_size)
                expected_here = Kind.EXTRACTED
            else:
                expected_here = expected
            record = self._next(file)
            if record.kind == Kind.POINTER:
                file.follow(record.payload)
                continue
            if record.kind not in expected_here:
                shown = record.kind.encode("latin-1").decode("utf-8", "surrogateescape")
                raise CorruptFile(f"Unexpected record type '{shown}' at offset {record.offset}")
            if record.kind == Kind.END:
                envelope.complete = True
                return
            kind, payload = self._named(record)
            if kind in "DR/Oon":
                self._recipient_record(kind, payload, record.offset)
                if len(self._recipients) >= limit and not envelope.next_offset and kind == Kind.RECIPIENT:
                    envelope.next_offset = file.tell()
                    if self._skip_rest(file, record.offset):
                        return
            elif not envelope.complete:
                self._other_record(kind, payload, record)

    def _next(self, file: RecordFile) -> Record:
        """The next record of any type. Raises CorruptFile where there is none."""
        try:
            record = file.next()
        except RecordError as error:
            log.warning(str(error))
            record = None
        if record is None or record.kind == "\0":
            raise CorruptFile(f"{self.envelope.queue_id}: message rejected: missing end record")
        return record

    def _named(self, record: Record) -> tuple[str, bytes]:
        """The record's kind and payload; those that it stands for when it is a named attribute."""
        if record.kind != Kind.ATTRIBUTE:
            return record.kind, record.payload
        text = record.payload.partition(b"\0")[0]
        name, value, problem = split_attribute(text)
        if problem:
            raise CorruptFile(f"{self.envelope.queue_id}: bad attribute record: {problem}: {_text(text)[:200]}")
        kind = _ATTRIBUTE_KINDS.get(name)
        return (kind, value) if kind else (record.kind, text)

    def _skip_rest(self, file: RecordFile, offset: int) -> bool:
        """The limit is reached: True when nothing else is needed; else go on, where other records may be."""
        envelope = self.envelope
        if envelope.complete:
            return True
        if envelope.flags & MIXED:
            return False
        if offset > envelope.data_offset:
            envelope.complete = True
            return True
        file.seek(envelope.data_offset)  # the loop goes on behind the content
        return False

    def _recipient_record(self, kind: str, payload: bytes, offset: int) -> None:
        envelope, pending = self.envelope, self._pending
        if envelope.next_offset:
            return
        if kind == Kind.RECIPIENT:
            envelope.unread -= 1
            self._recipients.append(
                Recipient(_text(payload), pending.original or "", offset, pending.dsn_orcpt or "", pending.notify)
            )
            self._pending = _Pending()
        elif kind in (Kind.DONE, Kind.CANCELED):
            envelope.unread -= 1
            self._pending = _Pending()
        elif kind == Kind.ORIGINAL:
            if pending.original is not None:
                self._out_of_order(f"original recipient <{pending.original:.200}>")
            pending.original = _text(payload)
        elif kind == Kind.DSN_ORCPT:
            if pending.dsn_orcpt is not None:
                self._out_of_order(f"DSN original recipient address <{pending.dsn_orcpt:.200}>")
            pending.dsn_orcpt = _text(payload)
        else:
            if pending.notify:
                self._out_of_order(f"DSN notify flags <{pending.notify}>")
                pending.notify = 0
            notify = _digits(payload)
            # NEVER stands alone.
            if notify is None or not (notify == 1 or (1 < notify < 16 and not notify & 1)):
                log.warning(f"{envelope.queue_id}: ignoring malformed DSN notify flags <{_text(payload):.200}>")
            else:
                pending.notify = notify

    def _out_of_order(self, what: str) -> None:
        log.warning(f"{self.envelope.queue_id}: ignoring out-of-order {what}")

    def _leftovers(self) -> None:
        pending = self._pending
        if pending.dsn_orcpt is not None:
            self._out_of_order(f"DSN original recipient <{pending.dsn_orcpt:.200}>")
        if pending.original is not None:
            self._out_of_order(f"original recipient <{pending.original:.200}>")

    def _other_record(self, kind: str, payload: bytes, record: Record) -> None:
        envelope = self.envelope
        if kind == Kind.SIZE:
            self._size(payload)
        elif kind == Kind.TIME:
            envelope.arrival = envelope.arrival or decode_time(payload)
        elif kind == Kind.CREATE_TIME:
            envelope.create_time = envelope.create_time or leading_int(payload)
        elif kind == Kind.FILTER:
            envelope.filter = _text(payload)
        elif kind == Kind.INSPECTOR:
            envelope.inspector = _text(payload)
        elif kind == Kind.REDIRECT:
            envelope.redirect = _text(payload)
        elif kind == Kind.FROM:
            if envelope.sender is None:
                envelope.sender = _text(payload)
                if self.opened is not None:
                    self.opened(envelope)
        elif kind == Kind.DSN_ENVID:
            envelope.envelope_id = _text(payload)
        elif kind == Kind.DSN_RET:
            ret = _digits(payload)
            if ret in (1, 2):
                envelope.ret_flags = ret
            else:
                shown = f"{_text(payload):.100}"
                log.warning(f"{envelope.queue_id}: ignoring malformed DSN RET flags in queue file record:{shown}")
        elif kind == Kind.ATTRIBUTE:
            name, raw, _ = split_attribute(payload)
            self._attribute(name, _text(raw), record.offset)
        elif kind == Kind.WARN:
            if not envelope.warn_offset:
                envelope.warn_offset = record.offset
                envelope.warn_time = leading_int(payload)
        elif kind == Kind.VERP:
            self._verp(_text(payload))

    def _size(self, payload: bytes) -> None:
        envelope = self.envelope
        shown = f"{envelope.queue_id}: invalid size record: {_text(payload):.100}"
        if not envelope.data_offset:
            numbers = scan_numbers(payload)
            if len(numbers) < 3:
                raise CorruptFile(f"{envelope.queue_id}: message rejected: weird size record")
            sizes = Sizes(*numbers, *[0] * (6 - len(numbers)))
            envelope.unread = sizes.recipients
            if sizes.data_offset <= 0 or sizes.segment <= 0:
                raise CorruptFile(shown)
            if sizes.qmgr_flags & ~_KNOWN_FLAGS:
                raise CorruptFile(shown.replace("size", "flags in size", 1))
            envelope.data_size, envelope.data_offset, envelope.size = sizes.segment, sizes.data_offset, sizes.content
            if len(numbers) > 3:
                envelope.flags = sizes.qmgr_flags
            envelope.sendopts = sizes.sendopts & _SENDOPTS
        if envelope.size < 0:
            raise CorruptFile(shown)
        envelope.size = envelope.size or envelope.data_size

    def _attribute(self, name: str, value: str, offset: int) -> None:
        envelope = self.envelope
        if name == "encoding":
            envelope.encoding = value
        elif name in _CLIENT:
            if not self._log_client and not getattr(envelope, _CLIENT[name]):
                setattr(envelope, _CLIENT[name], value)
        elif name.startswith("log_") and name[4:] in _CLIENT:
            setattr(envelope, _CLIENT[name[4:]], value)
            self._log_client = True
        elif name in _ONCE:
            if getattr(envelope, _ONCE[name]):
                log.warning(f"{envelope.queue_id}: ignoring multiple {name} attribute: {value}")
            else:
                setattr(envelope, _ONCE[name], value)
        elif name == "trace_flags" and not envelope.trace_flags:
            envelope.trace_flags = leading_int(value.encode("utf-8", "surrogateescape")) & TRACE_FLAGS
            envelope.trace_offset = offset if envelope.trace_flags == RECORD else 0

    def _verp(self, delimiters: str) -> None:
        envelope = self.envelope
        if envelope.verp_delimiters:
            return
        if not envelope.sender:
            log.warning(f"{envelope.queue_id}: ignoring VERP request for null sender")
        elif len(delimiters) != 2 or any(char not in self.verp_filter for char in delimiters):
            log.warning(f'{envelope.queue_id}: ignoring bad VERP request: "{delimiters:.100}"')
        else:
            envelope.verp_delimiters = delimiters

    def _count(self) -> None:
        """Compare the number of recipients that were read with what the size record said."""
        envelope = self.envelope
        if envelope.unread < 0 or (envelope.all_read and envelope.unread):
            log.warning(f"{envelope.queue_id}: rcpt count mismatch ({envelope.unread})")
            envelope.unread = 0

    def _check(self) -> None:
        """Everything that a message must have. Raises CorruptFile, after a warning."""
        envelope = self.envelope
        envelope.rewrite_context = envelope.rewrite_context or "local"
        envelope.create_time = envelope.create_time or envelope.arrival // 1_000_000
        if not envelope.arrival // 1_000_000:
            missing = "arrival time"
        elif envelope.sender is None:
            missing = "sender"
        elif not envelope.data_offset:
            missing = "size"
        else:
            return
        text = f"{envelope.queue_id}: message rejected: missing {missing} record"
        log.warning(text)
        raise CorruptFile(text)


def record_file(file: Source, name: str) -> RecordFile:
    """What `EnvelopeReader.read` wants: pointers are followed by the reader, and padding is not skipped."""
    return RecordFile(file, name, follow_pointers=False, skip_padding=False)


def split_attribute(text: bytes) -> tuple[str, bytes, str]:
    """``name = value`` -> name, value, "". The third is what is wrong with it, in Postfix's words."""
    left, equals, value = text.partition(b"=")
    words = left.split()
    if not words:
        return "", b"", "missing attribute name"
    if not equals or len(words) > 1:
        return "", b"", "missing '=' after attribute name"
    return _text(words[0]), value.strip(), ""


def verp_sender(sender: str, delimiters: str, recipient: Recipient) -> str:
    """The envelope sender for one recipient: ``prefix@origin`` -> ``prefix+user=domain@origin`` (VERP_README)."""
    local, at, origin = sender.rpartition("@") if "@" in sender else (sender, "", "")
    address = recipient.original or recipient.address
    user, _, domain = address.rpartition("@") if "@" in address else (address, "", "")
    out = local + delimiters[0] + user
    if domain:
        out += delimiters[1] + domain
    return f"{out}@{origin}" if at and origin else out


def _text(data: bytes) -> str:
    """Text of a payload, which ends at a NUL as in C."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _digits(payload: bytes) -> int | None:
    return int(payload) if payload.isdigit() and len(payload) < 10 else None
