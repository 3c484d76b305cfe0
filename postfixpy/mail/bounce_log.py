"""The per-message logs in the queues bounce, defer and trace: what happened to each recipient (bounce_log(3)).

An entry is lines of ``name=value`` between empty lines. It may begin with a line ``<recipient>: reason``, the form of
Postfix 2.2 and older, which is still written for tools that read it (backwards_bounce_logfile_compatibility), and which
is read alone too. Recipients are in external form, also in the records that `parse` gives: they are for people. Values
hold no control characters. `parse` takes any bytes: what it does not understand it logs and skips.

Source: bounce_log(3), bounce(8), showq(8).
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from postfixpy import log
from postfixpy.errors import TemporaryError
from postfixpy.lookup.table import casefold

from .addresses import quote_822_local
from .delivery import Recipient
from .dsn import DSN
from .printable import printable
from .queue import Queue, QueueFile, lock, sync_directory

NO_RECIPIENT = "(recipient address unavailable)"
NO_REASON = "(description unavailable)"
DAEMON = "(MAILER-DAEMON)"
"""What an empty recipient is shown as."""


class Entry(NamedTuple):
    """One recipient of a log: `recipient` has external addresses, `dsn` a status and an action always."""

    recipient: Recipient
    dsn: DSN


def encode_entry(recipient: Recipient, dsn: DSN, *, utf8: bool = True, compatible: bool = True) -> bytes:
    """The lines of one entry.

    Addresses in internal form. `utf8` is smtputf8_enable, `compatible` backwards_bounce_logfile_compatibility.
    """
    r, d = recipient, dsn
    external = quote_822_local(r.address) if r.address else ""
    lines = [""]
    if compatible:
        lines.append(f"<{external}>: {d.reason}")
    lines.append(f"recipient={external or '<>'}")
    if r.original and casefold(r.address, utf8) != casefold(r.original, utf8):
        lines.append(f"original_recipient={quote_822_local(r.original)}")
    if r.offset > 0:
        lines.append(f"offset={r.offset}")
    if r.dsn_orcpt:
        lines.append(f"dsn_orig_rcpt={r.dsn_orcpt}")
    if r.notify:
        lines.append(f"notify_flags={r.notify}")
    if d.status:
        lines.append(f"status={d.status}")
    if d.action:
        lines.append(f"action={d.action}")
    if d.diag_type and d.diag_text:
        lines += (f"diag_type={d.diag_type}", f"diag_text={d.diag_text}")
    if d.mta_type and d.mta_name:
        lines += (f"mta_type={d.mta_type}", f"mta_mname={d.mta_name}")
    if d.reason:
        lines.append(f"reason={d.reason}")
    lines += ("", "")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


_SPACE = " \t\n\v\f\r"
_ASSIGNMENT = re.compile(r"([^= \t\v\f\r]+)[ \t\v\f\r]*(=?)")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,18})")

_TEXT_FIELDS = {
    "dsn_orig_rcpt": "dsn_orcpt",
    "status": "status",
    "action": "action",
    "diag_type": "diag_type",
    "diag_text": "diag_text",
    "mta_type": "mta_type",
    "mta_mname": "mta_name",
    "reason": "reason",
}


def parse(data: bytes, name: str, *, defer: bool = False, utf8: bool = True) -> Iterator[Entry]:
    """The entries of a log. `name` is the file's path, for warnings; `defer` sets the default status and action.

    An entry that the end of the file cuts off is not given.
    """
    fields: dict[str, str] = {}
    found = False
    lines = data.split(b"\n")
    for raw in lines[:-1]:
        line = printable(raw.partition(b"\0")[0].decode("utf-8", "surrogateescape"), utf8=utf8)
        if line:
            found = True
            _parse_line(line, fields, name)
        elif found:
            yield _entry(fields, defer)
            fields, found = {}, False


def _parse_line(line: str, fields: dict[str, str], name: str) -> None:
    if line[0].isascii() and line[0].isalnum():
        match = _ASSIGNMENT.match(line)
        if match is None or not match[2]:
            log.warning(f"{name}: malformed record: missing '=' after attribute name")
            return
        attribute, value = match[1], line[match.end() :].strip(_SPACE)
        if attribute in ("recipient", "original_recipient"):
            fields[attribute] = value or DAEMON
        elif attribute in ("offset", "notify_flags"):
            fields[attribute] = value
        elif attribute in _TEXT_FIELDS:
            fields[_TEXT_FIELDS[attribute]] = value
        else:
            log.warning(f"{name}: unknown attribute name: {attribute}, ignored")
        return
    recipient, separator, reason = line[1:].partition(">: ")
    if line[0] != "<" or not separator:
        log.warning(f"{name}: malformed record: {line:.30}...")
        return
    fields["recipient"] = recipient or DAEMON
    fields["reason"] = reason.lstrip(_SPACE)


def _number(text: str) -> int:
    match = _NUMBER.match(text)
    return int(match[1]) if match else 0


def _entry(fields: dict[str, str], defer: bool) -> Entry:
    get = fields.get
    offset, notify = _number(get("offset", "")), _number(get("notify_flags", ""))
    recipient = Recipient(
        get("recipient", "") or NO_RECIPIENT,
        get("original_recipient", ""),
        offset if offset > 0 else -1,
        get("dsn_orcpt", ""),
        notify if notify == 1 or notify & ~0xE == 0 else 0,
    )
    dsn = DSN(
        get("status", "") or ("4.0.0" if defer else "5.0.0"),
        get("action", "") or ("delayed" if defer else "failed"),
        get("reason", "") or NO_REASON,
        get("diag_type", ""),
        get("diag_text", ""),
        get("mta_type", ""),
        get("mta_name", ""),
    )
    return Entry(recipient, dsn)


def read(queue: Queue, service: str, queue_id: str, *, utf8: bool = True) -> list[Entry] | None:
    """The entries of message `queue_id`'s log in queue `service`; None when it has none. Raises OSError."""
    try:
        file = queue.open(service, queue_id, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with file:
        return list(parse(file.read(), file.path, defer=service == "defer", utf8=utf8))


def open_for_append(queue: Queue, service: str, queue_id: str) -> QueueFile:
    """Message `queue_id`'s log, made when there is none. Raises TemporaryError."""
    try:
        return queue.open(service, queue_id, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise TemporaryError(f"open file {service} {queue_id}: {error.strerror}") from error


def try_lock(file: QueueFile) -> bool:
    """Take the exclusive lock that one needs to `append`; False: another process has it now. Raises TemporaryError."""
    try:
        return lock(file.fd, exclusive=True)
    except OSError as error:
        raise TemporaryError(f"lock file {file.queue} {file.id}: {error.strerror}") from error


def append(file: QueueFile, entry: bytes) -> None:
    """Append encoded entries to an open, locked log; afterwards they, and a new log's name, are on stable storage.

    Raises TemporaryError after the log was cut back to what it was.
    """
    size = os.lseek(file.fd, 0, os.SEEK_END)
    try:
        file.write(entry)
        os.fsync(file.fd)
        if size == 0:
            sync_directory(os.path.dirname(file.path))
    except OSError as error:
        text = f"append file {file.queue} {file.id}: {error.strerror}"
        try:
            os.ftruncate(file.fd, size)
        except OSError as another:
            text = f"truncate file {file.queue} {file.id}: {another.strerror}"
        raise TemporaryError(text) from error
