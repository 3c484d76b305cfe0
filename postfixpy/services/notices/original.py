"""What a notification tells of the message that it is about: sender, times, content, from its queue file.

A notification is a best effort: a file that is gone or damaged gives what it gives.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from postfixpy import log
from postfixpy.errors import TemporaryError
from postfixpy.ipc.message import CURRENT, Release
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.headers import name_length
from postfixpy.mail.queue import Queue, QueueFile, lock
from postfixpy.mail.records import Kind, RecordError, RecordFile, leading_int


@dataclass(slots=True)
class Original:
    """The message. Zero or "" is "unknown".

    sender        external form; MAILER-DAEMON at this host for the null sender
    arrival       seconds since the epoch
    message_id    ``<...>``, read only when asked for
    size          bytes of the content segment
    offset        of the first content record; 0: there is no content to return
    """

    sender: str = ""
    arrival: int = 0
    message_id: str = ""
    size: int = 0
    offset: int = 0
    records: RecordFile | None = None

    def content(self, *, headers_only: bool = False) -> Iterator[tuple[str, bytes]]:
        """The content records (kind, payload), up to the end or to the end of the headers. Never raises."""
        if self.records is None:
            return
        try:
            self.records.seek(self.offset)
            while (record := self.records.next()) is not None:
                if record.kind not in (Kind.NORMAL, Kind.CONTINUED):
                    return
                payload = record.payload
                if headers_only and payload[:1] not in (b" ", b"\t") and not name_length(payload):
                    return
                yield record.kind, payload
        except (RecordError, OSError) as error:
            log.warning(str(error))


def open_message(queue: Queue, queue_name: str, queue_id: str) -> QueueFile | None:
    """The message's queue file, with the shared lock that keeps the queue manager off; None when it is gone.

    Raises TemporaryError.
    """
    try:
        file = queue.open(queue_name, queue_id, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TemporaryError(f"open {queue_name} {queue_id}: {error.strerror}") from error
    try:
        locked, reason = lock(file.fd, exclusive=False), "Resource temporarily unavailable"
    except OSError as error:
        locked, reason = False, error.strerror or ""
    if not locked:
        file.close()
        raise TemporaryError(f"cannot get shared lock on {file.path}: {reason}")
    return file


def read_original(
    file: QueueFile, queue_id: str, mailer_daemon: str, *, threaded: bool, release: Release = CURRENT
) -> Original:
    """What the envelope of `file` tells. `threaded`: the Message-ID too (enable_threaded_bounces). Never raises."""
    records = RecordFile(cast(BinaryIO, file), file.path)
    original = Original(records=records)
    try:
        _read_envelope(records, original, queue_id, mailer_daemon, threaded)
    except (RecordError, OSError) as error:
        log.warning(str(error))
    if threaded and not original.message_id:
        original.message_id = _header_message_id(original, queue_id)
    if release < (3, 8):  # 3.7 does it, 3.10 does not
        original.sender = _quote_octets(original.sender)
    return original


def _quote_octets(address: str) -> str:
    """A quoted address with the local part's octets beyond ASCII quoted, too, as older releases show a sender."""
    local, at, domain = address.rpartition("@")
    if local.isascii():
        return address
    local = local if local.startswith('"') else f'"{local}"'
    octets = local.encode("utf-8", "surrogateescape")
    quoted = b"".join(b"\\%c" % octet if octet > 127 else b"%c" % octet for octet in octets)
    return quoted.decode("utf-8", "surrogateescape") + at + domain


def _header_message_id(original: Original, queue_id: str) -> str:
    """The Message-ID in the header, for queue files of cleanup(8) before 3.10, which did not extract it."""
    value: list[bytes] | None = None
    for _, payload in original.content(headers_only=True):
        if payload[:1] in (b" ", b"\t"):
            if value is not None:
                value.append(payload)
        elif value is not None:
            break
        elif payload[: name_length(payload)].lower() == b"message-id":
            value = [payload[payload.index(b":") + 1 :]]
    text = b"".join(value or ()).decode("utf-8", "surrogateescape").strip()
    if not text or (text.startswith("<") and _closing(text) == len(text) - 1):
        return text
    log.warning(f"{queue_id}: ignoring malformed Message-ID")
    return ""


def _read_envelope(records: RecordFile, original: Original, queue_id: str, mailer_daemon: str, threaded: bool) -> None:
    while (record := records.next()) is not None:
        kind, payload = record.kind, record.payload.partition(b"\0")[0]
        if kind == Kind.SIZE:
            if original.size == 0:
                numbers = [max(0, leading_int(word)) for word in payload.split()[:2]]
                original.size, original.offset = (*numbers, 0, 0)[:2]
        elif kind == Kind.TIME:
            original.arrival = original.arrival or max(0, leading_int(payload))
        elif kind == Kind.FROM:
            original.sender = quote_822_local(payload.decode("utf-8", "surrogateescape") or mailer_daemon)
        elif kind == Kind.MESSAGE:
            if not original.sender:
                log.warning(f"{queue_id}: no sender before message content record")
            original.offset = records.tell()
        elif kind == Kind.ATTRIBUTE and threaded and payload.startswith(b"message_id="):
            original.message_id = _message_id(payload[11:].decode("utf-8", "surrogateescape"), queue_id)
        if original.offset and original.arrival and original.sender and (original.message_id or not threaded):
            return
        if kind == Kind.MESSAGE:
            records.seek(original.offset + original.size)


def _message_id(text: str, queue_id: str) -> str:
    """`text`, which must be ``<...>``; "" after a warning when it is not."""
    if not text.startswith("<"):
        problem = f"no '<' at start of text in \"{text}\""
    elif (end := _closing(text)) < 0:
        problem = f"missing '>' in \"{text}\""
    elif end + 1 < len(text):
        problem = f"syntax error after '>' in \"{text}\""
    else:
        return text
    log.warning(f"{queue_id}: malformed Message-ID attribute: {problem}")
    return ""


def _closing(text: str) -> int:
    """Where the bracket that `text` begins with is closed, or -1."""
    level = 0
    for position, char in enumerate(text):
        level += (char == "<") - (char == ">")
        if level == 0:
            return position
    return -1
