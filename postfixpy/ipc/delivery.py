"""The delivery protocol between the queue manager and a delivery agent (spec/smtp-client.md 15.5, 15.6).

The agent announces `ANNOUNCEMENT`; the client sends `Request`, then one `RequestRecipient` a recipient; the agent
answers with `Result`. `pack` and `unpack` turn a DeliveryRequest into these lists and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.dsn import DSN

from .attributes import ProtocolError, encode
from .message import CURRENT, Message, Release, attribute

PROTOCOL = "delivery_request_protocol"
ANNOUNCEMENT = encode([("protocol", PROTOCOL)])


@dataclass(slots=True)
class Request(Message):
    """The attributes common to all recipients."""

    flags: int
    queue_name: str
    queue_id: str
    offset: int = attribute(long=True)
    size: int = attribute(long=True)
    nexthop: str = attribute()
    encoding: str = attribute()
    sendopts: int = attribute(old="smtputf8", since=(3, 10))
    sender: str = attribute()
    envelope_id: str = attribute()
    ret_flags: int = attribute()
    time: bytes = attribute()
    log_client_name: str = attribute()
    log_client_address: str = attribute()
    log_client_port: str = attribute()
    log_protocol_name: str = attribute()
    log_helo_name: str = attribute()
    sasl_method: str = attribute()
    sasl_username: str = attribute()
    sasl_sender: str = attribute()
    log_ident: str = attribute()
    rewrite_context: str = attribute()
    recipient_count: int = attribute()


@dataclass(slots=True)
class RequestRecipient(Message):
    """One recipient of a request."""

    original_recipient: str
    recipient: str
    offset: int = attribute(long=True)
    dsn_orig_rcpt: str = attribute()
    notify_flags: int = attribute()


@dataclass(slots=True)
class Result(Message):
    """The agent's final answer: the hop status (all empty when the destination is fine), and 0 or -1."""

    dsn_status: str = attribute("status")
    diag_type: str = attribute()
    diag_text: str = attribute()
    mta_type: str = attribute()
    mta_mname: str = attribute()
    action: str = attribute()
    reason: str = attribute()
    status: int = attribute()

    @classmethod
    def of(cls, hop: DSN | None, status: int) -> "Result":
        """The answer with hop status `hop` (None: the destination is fine)."""
        d = hop or DSN()
        return cls(d.status, d.diag_type, d.diag_text, d.mta_type, d.mta_name, d.action, d.reason, status)

    def hop(self) -> DSN | None:
        """The hop status, None when empty."""
        if not self.reason and not self.dsn_status:
            return None
        return DSN(
            self.dsn_status, self.action, self.reason, self.diag_type, self.diag_text, self.mta_type, self.mta_mname
        )


def pack(request: DeliveryRequest, release: Release = CURRENT) -> bytes:
    """The whole request as a client sends it to an agent of `release`."""
    r = request
    head = Request(
        r.flags,
        r.queue_name,
        r.queue_id,
        r.offset,
        r.size,
        r.nexthop,
        r.encoding,
        r.sendopts,
        r.sender,
        r.envelope_id,
        r.ret_flags,
        r.stats.pack(),
        r.client_name,
        r.client_address,
        r.client_port,
        r.client_protocol,
        r.client_helo,
        r.sasl_method,
        r.sasl_username,
        r.sasl_sender,
        r.log_ident,
        r.rewrite_context,
        len(r.recipients),
    )
    recipients = (RequestRecipient(p.original, p.address, p.offset, p.dsn_orcpt, p.notify) for p in r.recipients)
    return head.encode(release) + b"".join(p.encode() for p in recipients)


def unpack(head: Request, recipients: Sequence[RequestRecipient]) -> DeliveryRequest:
    """The typed request from its lists. Raises ProtocolError when the statistics have the wrong size."""
    try:
        stats = MessageStats.unpack(head.time)
    except ValueError as error:
        raise ProtocolError(str(error)) from None
    return DeliveryRequest(
        flags=head.flags,
        queue_name=head.queue_name,
        queue_id=head.queue_id,
        offset=head.offset,
        size=head.size,
        nexthop=head.nexthop,
        encoding=head.encoding,
        sendopts=head.sendopts,
        sender=head.sender,
        envelope_id=head.envelope_id,
        ret_flags=head.ret_flags,
        stats=stats,
        client_name=head.log_client_name,
        client_address=head.log_client_address,
        client_port=head.log_client_port,
        client_protocol=head.log_protocol_name,
        client_helo=head.log_helo_name,
        sasl_method=head.sasl_method,
        sasl_username=head.sasl_username,
        sasl_sender=head.sasl_sender,
        log_ident=head.log_ident,
        rewrite_context=head.rewrite_context,
        recipients=[
            Recipient(p.recipient, p.original_recipient, p.offset, p.dsn_orig_rcpt, p.notify_flags) for p in recipients
        ],
    )
