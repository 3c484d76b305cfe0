"""Envelope addresses: the sender, the recipients with their aliases, and automatic copies (bcc).

Every address is made complete by trivial-rewrite (in the local context, whoever sent it), then mapped if the client
asked for that, and recipients are expanded with virtual_alias_maps. A recipient that was there before is dropped; with
enable_original_recipient only when its original address and DSN attributes are the same too.
"""

from postfixpy import log
from postfixpy.ipc import bounce
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import connect
from postfixpy.ipc.cleanup import FLAG_BCC_OK, FLAG_MAP_OK, STAT_WRITE
from postfixpy.lookup.addresses import mail_addr_find
from postfixpy.lookup.maps import Maps
from postfixpy.lookup.search import arun
from postfixpy.lookup.table import TableError, casefold
from postfixpy.mail.delivery import MTA_VERIFY, SMTPUTF8_REQUESTED, SMTPUTF8_SENDER, MessageStats, Recipient
from postfixpy.mail.dsn import DSN, NOTIFY_NEVER, NOTIFY_SUCCESS
from postfixpy.mail.outcome import Outcome, Result, log_line
from postfixpy.mail.records import Kind

from .mapping import expand, rewrite_internal
from .settings import ENVELOPE_RECIPIENT, ENVELOPE_SENDER
from .state import Incoming

MAILER_DAEMON = "MAILER-DAEMON"


async def envelope_sender(mail: Incoming, address: str) -> None:
    """Process the sender: rewrite, map, write it, and add its automatic copy."""
    settings = mail.settings
    if address:
        address = await mail.rewriter.rewrite_internal("local", address)
    if address.lower().startswith(MAILER_DAEMON.lower() + "@"):
        own = await mail.rewriter.rewrite_internal("local", MAILER_DAEMON)
        if casefold(address, settings.utf8) == casefold(own, settings.utf8):
            address = ""
    if mail.flags & FLAG_MAP_OK:
        address = await rewrite_internal(mail, address, ENVELOPE_SENDER)
    if address:
        mail.note_utf8(address, SMTPUTF8_SENDER)
    mail.put(Kind.FROM, address)
    mail.sender = address
    if address:
        await _automatic_copy(mail, address, settings.sender_bcc)


async def envelope_recipient(mail: Incoming, address: str) -> None:
    """Process one recipient with the DSN attributes and original address that `mail` has for it."""
    clean = await _clean_recipient(mail, address or mail.settings.view.empty_address_recipient)
    if mail.dsn_orcpt is None and clean:
        kind = "utf-8" if not clean.isascii() and mail.sendopts & SMTPUTF8_REQUESTED else "rfc822"
        mail.dsn_orcpt = f"{kind};{clean}"
    await _put_recipient(mail, mail.dsn_orcpt or "", mail.dsn_notify, mail.original or "", clean)
    mail.recipient = clean
    if clean:
        await _automatic_copy(mail, clean, mail.settings.recipient_bcc)


async def automatic_recipient(mail: Incoming, address: str) -> None:
    """Add a recipient that the configuration asks for. It gets no delivery reports."""
    clean = await _clean_recipient(mail, address)
    await _put_recipient(mail, "", NOTIFY_NEVER, clean, clean)


async def _automatic_copy(mail: Incoming, address: str, maps: Maps | None) -> None:
    if maps is None or not mail.flags & FLAG_BCC_OK:
        return
    try:
        found = await arun(mail_addr_find(maps, address, mail.settings.addresses))
    except TableError:
        log.warning(f"{mail.queue_id}: {maps.title} map lookup problem -- message not accepted, try again later")
        mail.errors |= STAT_WRITE
        return
    if found is not None:
        await automatic_recipient(mail, found.value)


async def _clean_recipient(mail: Incoming, address: str) -> str:
    clean = await mail.rewriter.rewrite_internal("local", address) if address else ""
    if mail.flags & FLAG_MAP_OK:
        clean = await rewrite_internal(mail, clean, ENVELOPE_RECIPIENT)
    mail.note_utf8(clean, 0)
    return clean


async def _put_recipient(mail: Incoming, orcpt: str, notify: int, original: str, recipient: str) -> None:
    """Write a recipient, or those it is an alias for."""
    targets = [recipient]
    aliases = mail.settings.virtual_alias
    if aliases is not None and mail.flags & FLAG_MAP_OK:
        targets = await expand(mail, recipient, aliases)
        known = Recipient(recipient, original, 0, orcpt, notify)
        if len(targets) > 1 and mail.trace_flags & MTA_VERIFY:
            await _deliverable(mail, known)
            return
        if notify & NOTIFY_SUCCESS and targets != [recipient]:
            await _expanded(mail, known)
            notify = NOTIFY_NEVER if notify == NOTIFY_SUCCESS else notify & ~NOTIFY_SUCCESS
    for target in targets:
        if _seen_before(mail, orcpt, notify, original, target):
            continue
        if notify:
            mail.attribute("notify_flags", notify)
        if orcpt:
            mail.attribute("dsn_orig_rcpt", orcpt)
        mail.put(Kind.ORIGINAL, original)
        mail.put(Kind.RECIPIENT, target)
        mail.recipients += 1


def _seen_before(mail: Incoming, orcpt: str, notify: int, original: str, recipient: str) -> bool:
    view = mail.settings.view
    key = f"{orcpt}\n{notify}\n{original}\n{recipient}" if view.enable_original_recipient else recipient
    key = casefold(key, mail.settings.utf8)
    if key in mail.duplicates:
        return True
    limit = view.duplicate_filter_limit
    if limit <= 0 or len(mail.duplicates) < limit:
        mail.duplicates.add(key)
    return False


async def _expanded(mail: Incoming, recipient: Recipient) -> None:
    """Say in the trace log that the recipient's alias was expanded (RFC 3461 5.2.7.3)."""
    mail.traced = True
    view = mail.settings.view
    dsn = DSN("2.0.0", "expanded", "alias expanded")
    if not await bounce.append(
        f"private/{view.trace_service_name}", bounce.CLEAN, mail.queue_id, recipient, dsn, timeout=view.ipc_timeout
    ):
        log.warning(f"{mail.queue_id}: {view.trace_service_name} service failure")
        log.warning(f"{mail.queue_id}: trace logfile update error")
        mail.errors |= STAT_WRITE


async def _deliverable(mail: Incoming, recipient: Recipient) -> None:
    """Tell verify(8) that an alias for several addresses is good; the members are not tried."""
    view = mail.settings.view
    dsn = DSN("2.0.0", "deliverable", "aliased to multiple recipients")
    path = f"private/{view.address_verify_service_name}"
    names = dict.fromkeys(name for name in (recipient.original, recipient.address) if name)
    for name in names:
        if not await _update_verify(path, name, dsn.reason, view.ipc_timeout):
            log.warning(f"{mail.queue_id}: {view.address_verify_service_name} service failure")
            log.warning(f"{mail.queue_id}: verify service update error")
            mail.errors |= STAT_WRITE
            return
    log_delivery(mail, recipient, dsn, "sent", dsn.action)


async def _update_verify(path: str, address: str, reason: str, timeout: float) -> bool:
    try:
        channel = await connect(path, timeout=timeout)
    except OSError as error:
        log.warning(f"connect to {path}: {error.strerror or 'Connection timed out'}")
        return False
    try:
        await channel.read_announcement("address_verification_prrotocol")
        channel.send(("request", "update"), ("address", address), ("recipient_status", 0), ("reason", reason))
        return dict(await channel.read_list()).get("status") == "0"
    except ProtocolError as error:
        log.warning(str(error))
        return False
    finally:
        channel.close()


def log_delivery(mail: Incoming, recipient: Recipient, dsn: DSN, result: Result, status: str) -> None:
    """Log what happened to a recipient here, in the form of a delivery."""
    view = mail.settings.view
    outcome = Outcome(recipient, result, dsn, stats=MessageStats(incoming_arrival=mail.arrival))
    log.info(
        log_line(
            mail.queue_id,
            outcome,
            status,
            mail.clock(),
            external=view.info_log_address_format.lower() != "internal",
            resolution=view.delay_logging_resolution_limit,
            smtputf8=mail.settings.utf8,
        )
    )
