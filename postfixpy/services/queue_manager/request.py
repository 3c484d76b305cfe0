"""The delivery request for an entry: what a delivery agent is told (spec/smtp-client.md 1.2, 15.5)."""

from postfixpy.mail.delivery import (
    BOUNCE,
    SMTPUTF8_RECIPIENT,
    SMTPUTF8_SENDER,
    SUCCESS,
    DeliveryRequest,
    MessageStats,
    Recipient,
)
from postfixpy.mail.queue import ACTIVE

from .envelope import verp_sender
from .model import Message


def delivery_request(
    message: Message, recipients: list[Recipient], nexthop: str, connection_flags: int, *, smtputf8: bool
) -> DeliveryRequest:
    """The request to deliver `message` to `recipients` (one or more) by way of `nexthop`.

    `connection_flags` are CONNECTION_* bits; `smtputf8` is smtputf8_enable. A message with VERP gets the sender
    address made for its recipient.
    """
    e = message.envelope
    sendopts = e.sendopts
    if smtputf8 and any(_is_utf8(recipient.address) for recipient in recipients):
        sendopts |= SMTPUTF8_RECIPIENT
        if e.verp_delimiters:
            sendopts |= SMTPUTF8_SENDER
    sender = verp_sender(e.from_, e.verp_delimiters, recipients[0]) if e.verp_delimiters else e.from_
    return DeliveryRequest(
        flags=e.trace_flags | connection_flags | BOUNCE | (SUCCESS if e.inspector is None else 0),
        queue_name=ACTIVE,
        queue_id=e.queue_id,
        offset=e.data_offset,
        size=e.size,
        nexthop=nexthop,
        encoding=e.encoding,
        sendopts=sendopts,
        sender=sender,
        envelope_id=e.envelope_id,
        ret_flags=e.ret_flags,
        stats=MessageStats(incoming_arrival=e.arrival, active_arrival=message.active_arrival),
        client_name=e.client_name,
        client_address=e.client_address,
        client_port=e.client_port,
        client_protocol=e.client_protocol,
        client_helo=e.client_helo,
        sasl_method=e.sasl_method,
        sasl_username=e.sasl_username,
        sasl_sender=e.sasl_sender,
        log_ident=e.log_ident,
        rewrite_context=e.rewrite_context,
        recipients=recipients,
    )


def _is_utf8(address: str) -> bool:
    """Whether an address has characters beyond ASCII, all of them valid UTF-8."""
    return not address.isascii() and not any("\ud800" <= char <= "\udfff" for char in address)
