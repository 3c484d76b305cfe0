"""Client of the bounce, defer and trace services: bounce(8) as its callers see it (spec/smtp-client.md 15.8).

One connection a request. The service announces `ANNOUNCEMENT`; the client sends one message (`Append`, `Notify`,
`NotifyVerp` or `NotifyOne`), and reads a `Status`: 0 is "done".

These functions answer True for status 0 and False for anything else: the service refused, is not there, or broke the
protocol. What went wrong is logged with Postfix's text; what False means for the recipient is the caller's decision
(spec 1.5). Nothing is decided here: `soft_bounce`, status filters and log lines of deliveries are the caller's too.
"""

from dataclasses import dataclass

from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN

from .attributes import encode
from .channel import command
from .message import Message, Release, attribute

PROTOCOL = "delivery_status_protocol"
ANNOUNCEMENT = encode([("protocol", PROTOCOL)])

APPEND, FLUSH, WARN, VERP, ONE, TRACE = range(6)
"""Values of the attribute `nrequest`."""

CLEAN = 1
"""Flag bit: the service removes the log when the request fails."""
DELETE_RECIPIENTS = 2
"""Flag bit: the service marks the reported recipients done in the queue file (a defer log that is flushed)."""


@dataclass(slots=True)
class Append(Message):
    """Append one recipient's status to the message's log."""

    nrequest: int
    flags: int
    queue_id: str
    original_recipient: str
    recipient: str
    offset: int = attribute(long=True)
    dsn_orig_rcpt: str = attribute()
    notify_flags: int = attribute()
    dsn_status: str = attribute("status")
    diag_type: str = attribute()
    diag_text: str = attribute()
    mta_type: str = attribute()
    mta_mname: str = attribute()
    action: str = attribute()
    reason: str = attribute()


@dataclass(slots=True)
class Notify(Message):
    """Send the notification that the log calls for.

    FLUSH: return the message for what the log holds, and remove the log; callers that flush the defer log add
    `DELETE_RECIPIENTS`, and none flushes under soft_bounce. WARN: say that it is delayed; the log stays. TRACE: the
    delivery report or success notification, as the message's TRACE_FLAGS in `flags` say, and remove the log.
    """

    nrequest: int
    flags: int
    queue_name: str
    queue_id: str
    encoding: str
    sendopts: int = attribute(old="smtputf8", since=(3, 10))
    sender: str = attribute()
    envelope_id: str = attribute()
    ret_flags: int = attribute()


@dataclass(slots=True)
class NotifyVerp(Notify):
    """VERP: FLUSH with one notification a recipient, sent to the VERP form of the sender."""

    verp_delimiters: str = attribute()


@dataclass(slots=True)
class NotifyOne(Notify):
    """ONE: the non-delivery notification for one recipient at once, without a log. The bounce service only."""

    original_recipient: str = attribute()
    recipient: str = attribute()
    offset: int = attribute(long=True)
    dsn_orig_rcpt: str = attribute()
    notify_flags: int = attribute()
    dsn_status: str = attribute("status")
    diag_type: str = attribute()
    diag_text: str = attribute()
    mta_type: str = attribute()
    mta_mname: str = attribute()
    action: str = attribute()
    reason: str = attribute()


@dataclass(slots=True)
class Status(Message):
    """The service's answer: 0 or -1."""

    status: int


def recipient_and_dsn(message: Append | NotifyOne) -> tuple[Recipient, DSN]:
    """The typed recipient and status that `message` carries."""
    m = message
    recipient = Recipient(m.recipient, m.original_recipient, m.offset, m.dsn_orig_rcpt, m.notify_flags)
    return recipient, DSN(m.dsn_status, m.action, m.reason, m.diag_type, m.diag_text, m.mta_type, m.mta_mname)


async def request(path: str, message: Message, *, timeout: float = 3600.0, release: Release | None = None) -> bool:
    """Send one request to the service at `path` ("private/bounce"); True when it answers status 0.

    `timeout` is ipc_timeout, seconds; `release` the Postfix release of the service (that of this
    mail system). Never raises for a service that
    fails: that is False, after a warning.
    """
    found = await command(path, PROTOCOL, message, Status, timeout=timeout, release=release)
    return found is not None and found.status == 0


async def append(
    path: str,
    flags: int,
    queue_id: str,
    recipient: Recipient,
    dsn: DSN,
    *,
    timeout: float = 3600.0,
    release: Release | None = None,
) -> bool:
    """Append one recipient's status to the log of message `queue_id`; True when it is on stable storage."""
    r, d = recipient, dsn
    who = (r.original, r.address, r.offset, r.dsn_orcpt, r.notify)
    what = (d.status, d.diag_type, d.diag_text, d.mta_type, d.mta_name, d.action, d.reason)
    message = Append(APPEND, flags, queue_id, *who, *what)
    return await request(path, message, timeout=timeout, release=release)
