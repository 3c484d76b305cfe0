"""The records before the content (who, to whom, how) and behind it (what was found in it).

The queue file gets the size record, what came in with our own creation time, the time of the delay warning, and every
recipient after rewriting. Recipients come last and alone, if the client lets them: then the queue manager can start
before it has read them all. A record that does not belong here ends the message with STAT_BAD.

Sources: cleanup(8), RFC 3461 (DSN attributes), behaviour of Postfix 3.11.
"""

from postfixpy import log
from postfixpy.config import split_name_value
from postfixpy.ipc.cleanup import FLAG_BCC_OK, FLAGS_EXTRA, STAT_BAD
from postfixpy.mail.delivery import REQUIRETLS, SMTPUTF8_REQUESTED, TRACE_FLAGS
from postfixpy.mail.dsn import NOTIFY_NEVER
from postfixpy.mail.records import ENV_RECIPIENT, ENVELOPE, EXT_RECIPIENT, EXTRACT, Kind, decode_sizes, decode_time

from .milters import inspect_sender
from .recipients import automatic_recipient, envelope_recipient, envelope_sender
from .state import MIXED_RECIPIENTS, Incoming

_PSEUDO = {
    "dsn_orig_rcpt": Kind.DSN_ORCPT,
    "notify_flags": Kind.DSN_NOTIFY,
    "envelope_id": Kind.DSN_ENVID,
    "ret_flags": Kind.DSN_RET,
    "create_time": Kind.CREATE_TIME,
}
"""Attributes that stand for a record type of their own."""

_NOT_DERIVED = SMTPUTF8_REQUESTED | REQUIRETLS
"""Bits of sendopts that no header or address gives."""


def pseudo_kind(name: str) -> str:
    """The record type that the attribute `name` stands for, or ""."""
    return _PSEUDO.get(name, "")


def _leading_int(text: str) -> int:
    text = text.strip()
    digits = 0
    for char in text[1:] if text[:1] in "+-" else text:
        if not ("0" <= char <= "9") or digits > 20:
            break
        digits += 1
    sign = 1 if text[:1] in "+-" and text else 0
    return int(text[: sign + digits]) if digits else 0


def _digits(text: str) -> int:
    """The number that `text` is, 0 when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _notify_ok(value: int) -> bool:
    return value == NOTIFY_NEVER or not value & ~0xE


async def envelope_record(mail: Incoming, kind: str, payload: bytes) -> bool:
    """Process one record before the content. True when it was "M": the content follows."""
    text = _text(payload)
    if _extra(mail, kind, text):
        return False
    name = value = ""
    meaning = kind
    if kind == Kind.ATTRIBUTE:
        parsed = _attribute(mail, text)
        if parsed is None:
            return False
        name, value = parsed
        meaning = pseudo_kind(name) or kind
    if kind not in ENVELOPE:
        log.warning(f"{mail.queue_id}: message rejected: unexpected record type {ord(kind)} in envelope")
        mail.errors |= STAT_BAD
        return False
    if not mail.in_recipients and kind in ENV_RECIPIENT and not _enter_recipients(mail):
        return False
    if await _recipient_record(mail, kind, meaning, text, value):
        return False
    if kind == Kind.MESSAGE:
        mail.in_recipients = False
        return True
    if mail.in_recipients:
        mail.qmgr_flags |= MIXED_RECIPIENTS
    await _sender_record(mail, kind, meaning, payload, text, name, value)
    return False


def _text(payload: bytes) -> str:
    return payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _extra(mail: Incoming, kind: str, text: str) -> bool:
    """Records that are orders to us and not part of the message."""
    if kind == Kind.FLAGS:
        flags = _leading_int(text)
        if flags & ~FLAGS_EXTRA:
            log.warning(f"{mail.queue_id}: ignoring bad extra flags: 0x{flags & 0xFFFFFFFF:x}")
        else:
            mail.flags |= flags
        return True
    if kind == Kind.MILTER_COUNT:
        mail.client_milters |= _leading_int(text) >= 0
        return True
    return False


def _attribute(mail: Incoming, text: str) -> tuple[str, str] | None:
    try:
        name, value = split_name_value(text)
    except ValueError as error:
        log.warning(f"{mail.queue_id}: message rejected: malformed attribute: {error}: {text:.100}")
        mail.errors |= STAT_BAD
        return None
    if not value:
        log.warning(f'{mail.queue_id}: spurious null attribute value for "{name}" -- ignored')
        return None
    return name, value


def _enter_recipients(mail: Incoming) -> bool:
    """The first recipient record: what had to come before, and the time of the delay warning."""
    if mail.sender is None:
        log.warning(f"{mail.queue_id}: message rejected: missing sender envelope record")
        mail.errors |= STAT_BAD
        return False
    if mail.arrival // 1_000_000 == 0:
        log.warning(f"{mail.queue_id}: message rejected: missing time envelope record")
        mail.errors |= STAT_BAD
        return False
    delay = mail.settings.view.delay_warning_time
    if not mail.warn_seen and mail.sender and delay > 0:
        mail.put(Kind.WARN, f"{mail.arrival // 1_000_000 + delay:15d}")
    mail.in_recipients = True
    return True


async def _recipient_record(mail: Incoming, kind: str, meaning: str, text: str, value: str) -> bool:
    """Records of a recipient sequence. False when it is none of them."""
    shown = value or text
    if kind == Kind.RECIPIENT:
        if mail.sender is None:
            log.warning(f"{mail.queue_id}: message rejected: envelope recipient precedes sender")
            mail.errors |= STAT_BAD
            return True
        if mail.original is None:
            mail.original = text
        await envelope_recipient(mail, text)
        _forget_recipient(mail)
    elif kind in (Kind.DONE, Kind.CANCELED):
        _forget_recipient(mail)
    elif meaning == Kind.DSN_ORCPT:
        if mail.dsn_orcpt is not None:
            log.warning(f"{mail.queue_id}: ignoring out-of-order DSN original recipient record <{mail.dsn_orcpt:.200}>")
        mail.dsn_orcpt = shown
    elif meaning == Kind.DSN_NOTIFY:
        if mail.dsn_notify:
            log.warning(f"{mail.queue_id}: ignoring out-of-order DSN notify record <{mail.dsn_notify}>")
            mail.dsn_notify = 0
        notify = _digits(shown)
        if notify == 0 or not _notify_ok(notify):
            log.warning(f"{mail.queue_id}: ignoring malformed DSN notify record <{text:.200}>")
        else:
            mail.dsn_notify = notify
            mail.qmgr_flags |= notify << 1
    elif kind == Kind.ORIGINAL:
        if mail.original is not None:
            log.warning(f"{mail.queue_id}: ignoring out-of-order original recipient record <{mail.original:.200}>")
        mail.original = text
    else:
        return False
    return True


def _forget_recipient(mail: Incoming) -> None:
    mail.original = mail.dsn_orcpt = None
    mail.dsn_notify = 0


async def _sender_record(
    mail: Incoming, kind: str, meaning: str, payload: bytes, text: str, name: str, value: str
) -> None:
    """Records of the envelope that are not about recipients."""
    shown = value or text
    if kind == Kind.SIZE:
        sizes = decode_sizes(payload)
        mail.sendopts = (sizes.sendopts if sizes else 0) & _NOT_DERIVED
    elif meaning == Kind.CREATE_TIME:
        pass  # ours is written with the arrival time
    elif kind == Kind.TIME:
        if mail.arrival // 1_000_000 == 0:
            mail.arrival = decode_time(payload)
            mail.put(kind, payload)
        mail.attribute("create_time", mail.clock() // 1_000_000)
    elif kind == Kind.FULL_NAME:
        if mail.full_name is None:
            mail.full_name = text
            mail.put(kind, payload)
    elif kind == Kind.FROM:
        if mail.sender is not None:
            log.warning(f"{mail.queue_id}: message rejected: multiple envelope sender records")
            mail.errors |= STAT_BAD
        else:
            await envelope_sender(mail, text)
            inspect_sender(mail)
    elif meaning == Kind.DSN_ENVID:
        if not all(" " <= c <= "~" or c == "\t" for c in shown):
            log.warning(f"{mail.queue_id}: message rejected: bad DSN envelope ID record")
            mail.errors |= STAT_BAD
        else:
            mail.dsn_envid = shown
            mail.put(kind, payload)
    elif meaning == Kind.DSN_RET:
        if _digits(shown) not in (1, 2):
            log.warning(f"{mail.queue_id}: message rejected: bad DSN RET record <{text:.200}>")
            mail.errors |= STAT_BAD
        else:
            mail.dsn_ret = _digits(shown)
            mail.put(kind, payload)
    elif kind == Kind.WARN:
        if not mail.warn_seen:
            mail.warn_seen = True
            mail.put(kind, payload)
    elif kind == Kind.VERP:
        _verp(mail, payload, text)
    elif kind == Kind.ATTRIBUTE:
        _named_attribute(mail, payload, text, name, value)
    else:
        mail.put(kind, payload)


def _verp(mail: Incoming, payload: bytes, text: str) -> None:
    allowed = mail.settings.view.verp_delimiter_filter
    if mail.verp:
        return
    if not mail.sender:
        log.warning(f"{mail.queue_id}: ignoring VERP request for null sender")
    elif len(text) != 2 or text[0] not in allowed or text[1] not in allowed:
        log.warning(f'{mail.queue_id}: ignoring bad VERP request: "{text:.100}"')
    else:
        mail.verp = text
        mail.put(Kind.VERP, payload)


def _named_attribute(mail: Incoming, payload: bytes, text: str, name: str, value: str) -> None:
    view = mail.settings.view
    if len(mail.attributes) >= view.queue_file_attribute_count_limit:
        limit = view.queue_file_attribute_count_limit
        log.warning(f"{mail.queue_id}: message rejected: attribute count exceeds limit {limit}")
        mail.errors |= STAT_BAD
        return
    if name == "rewrite_context":
        if value == "local":
            mail.hdr_context = "local"
        elif value == "remote":
            mail.hdr_context = "remote" if view.remote_header_rewrite_domain else ""
        else:
            log.warning(f"{mail.queue_id}: message rejected: bad rewriting context: {value:.100}")
            mail.errors |= STAT_BAD
            return
    if name == "trace_flags":
        if not (value.isascii() and value.isdigit()):
            log.warning(f"{mail.queue_id}: message rejected: bad TFLAG record <{text:.200}>")
            mail.errors |= STAT_BAD
            return
        if mail.trace_flags == 0:
            mail.trace_flags = int(value[:9]) & TRACE_FLAGS
    mail.attributes[name] = value
    mail.put(Kind.ATTRIBUTE, payload)


async def extracted_record(mail: Incoming, kind: str, payload: bytes) -> None:
    """Process one record behind the content, up to "E"."""
    text = _text(payload)
    if _extra(mail, kind, text):
        return
    if kind not in EXTRACT:
        log.warning(f"{mail.queue_id}: message rejected: unexpected record type {ord(kind)} in extracted envelope")
        mail.errors |= STAT_BAD
        return
    value = ""
    meaning = kind
    if kind == Kind.ATTRIBUTE:
        parsed = _attribute(mail, text)
        if parsed is None:
            return
        value = parsed[1]
        meaning = pseudo_kind(parsed[0]) or kind
    if not mail.in_recipients and kind in EXT_RECIPIENT:
        _put_findings(mail)
        mail.in_recipients = True
    if await _recipient_record(mail, kind, meaning, text, value):
        return
    if kind == Kind.END:
        mail.in_recipients = False
        mail.end_seen = True
        await _finish(mail)
        return
    if mail.in_recipients:
        mail.qmgr_flags |= MIXED_RECIPIENTS
    mail.put(kind, payload)


def _put_findings(mail: Incoming) -> None:
    """What the content gave: a filter, a redirection, the Message-ID, its encoding."""
    if mail.filter is not None:
        mail.put(Kind.FILTER, mail.filter)
    if mail.redirect is not None:
        mail.put(Kind.REDIRECT, mail.redirect)
    if mail.message_id is not None and mail.settings.view.release >= (3, 10):
        mail.attribute("message_id", mail.message_id)
    if "encoding" in mail.attributes:
        mail.attribute("encoding", mail.attributes["encoding"])


async def _finish(mail: Incoming) -> None:
    view = mail.settings.view
    if mail.flags & FLAG_BCC_OK and mail.recipient is not None and view.always_bcc:
        await automatic_recipient(mail, view.always_bcc)
    for address in mail.bcc:
        if mail.going and mail.recipient is not None:
            await automatic_recipient(mail, address)
    mail.put(Kind.END)
