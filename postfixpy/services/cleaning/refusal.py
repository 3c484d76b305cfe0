"""Returning a message that cannot be queued to its sender, when the client asked for that (CLEANUP_FLAG_BOUNCE).

Every recipient that made it into the queue file gets an entry in the bounce log with the reason, then the bounce
service returns the message. Only then may the client be told that all is well; if the return fails, STAT_WRITE makes it
keep its copy.
"""

from typing import BinaryIO, cast

from postfixpy import log
from postfixpy.config import split_name_value
from postfixpy.ipc import bounce
from postfixpy.ipc.cleanup import FLAG_DISCARD, STAT_CONT, STAT_SIZE, STAT_WRITE, detail
from postfixpy.ipc.disposition import Reporter
from postfixpy.mail.delivery import MessageStats, Recipient
from postfixpy.mail.dsn import DSN, RET_HDRS, split_text
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.queue import QueueFile
from postfixpy.mail.records import Kind, RecordError, RecordFile

from .envelope import pseudo_kind
from .state import Incoming


async def refuse(mail: Incoming, file: QueueFile, reporter: Reporter) -> None:
    """Return the message in `file`. Afterwards `mail.errors` is 0 and the message is to be discarded, or STAT_WRITE."""
    view = mail.settings.view
    if mail.reason:
        status, text = split_text(mail.reason, "5.0.0")
    else:
        words = detail(mail.errors)
        status, text = words.dsn, words.text
    try:
        mail.writer.flush()
    except OSError:
        pass  # what could not be written is not reported either
    recipients = _recipients(file) or [Recipient("unknown", "", 0)]
    for recipient in recipients:
        outcome = Outcome(
            recipient, "bounced", DSN(status, reason=text), stats=MessageStats(incoming_arrival=mail.arrival)
        )
        if await reporter.bounce(bounce.CLEAN, mail.queue_id, outcome) != 0:
            mail.errors |= STAT_WRITE
            break
    if not mail.errors & STAT_WRITE and not await _flush(mail, file, view.bounce_service_name, view.soft_bounce):
        log.warning(f"{mail.queue_id}: bounce message failure")
        mail.errors |= STAT_WRITE
    mail.errors &= STAT_WRITE
    if not mail.errors:
        mail.flags |= FLAG_DISCARD


async def _flush(mail: Incoming, file: QueueFile, service: str, soft_bounce: bool) -> bool:
    """Have the bounce service return the message; content that was refused is not sent back in full."""
    view = mail.settings.view
    if soft_bounce:
        return False
    ret = RET_HDRS if mail.errors & (STAT_CONT | STAT_SIZE) else mail.dsn_ret
    path = f"private/{service}"
    encoding = mail.attributes.get("encoding", "")
    about = (file.queue, mail.queue_id, encoding, mail.sendopts, mail.sender or "", mail.dsn_envid, ret)
    request = bounce.Notify(bounce.FLUSH, bounce.CLEAN, *about)
    if mail.verp and not view.disable_verp_bounces:
        request = bounce.NotifyVerp(bounce.VERP, bounce.CLEAN, *about, mail.verp)
    return await bounce.request(path, request, timeout=view.ipc_timeout)


def _recipients(file: QueueFile) -> list[Recipient]:
    """The recipients in the queue file, as far as it goes."""
    found: list[Recipient] = []
    orcpt, notify, original = "", 0, ""
    file.seek(0)
    records = RecordFile(cast("BinaryIO", file), file.path)
    try:
        while (record := records.next()) is not None and record.kind != Kind.END:
            text = record.payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            kind = record.kind
            if kind == Kind.ATTRIBUTE:
                try:
                    name, value = split_name_value(text)
                except ValueError:
                    continue
                if not value:
                    continue
                kind, text = pseudo_kind(name) or kind, value
            if kind == Kind.DSN_ORCPT:
                orcpt = text
            elif kind == Kind.DSN_NOTIFY:
                notify = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 0
            elif kind == Kind.ORIGINAL:
                original = text
            elif kind in (Kind.RECIPIENT, Kind.DONE, Kind.CANCELED):
                if kind == Kind.RECIPIENT:
                    found.append(Recipient(text, original or text, record.offset, orcpt, notify))
                orcpt, notify, original = "", 0, ""
    except RecordError:
        pass  # the file was cut off
    return found
