"""Delivery requests: flags, SMTPUTF8 bits, VERP senders."""

from postfixpy.mail.delivery import CONNECTION_LOAD, RECORD, SMTPUTF8_RECIPIENT, SMTPUTF8_SENDER, Recipient
from postfixpy.services.queue_manager.envelope import Envelope
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.request import delivery_request


def message(**facts: object) -> Message:
    envelope = Envelope("ID", sender="list@x", arrival=1_500_000, size=10, data_offset=200)
    for name, value in facts.items():
        setattr(envelope, name, value)
    return Message(envelope, queued_at=0, active_arrival=2_000_000)


def test_plain() -> None:
    request = delivery_request(message(), [Recipient("u@x", offset=5)], "hop", 0, smtputf8=True)
    assert (request.flags, request.queue_name, request.queue_id, request.offset, request.size) == (
        3,
        "active",
        "ID",
        200,
        10,
    )
    assert (request.nexthop, request.sender, request.sendopts) == ("hop", "list@x", 0)
    assert (request.stats.incoming_arrival, request.stats.active_arrival, request.stats.agent_handoff) == (
        1_500_000,
        2_000_000,
        0,
    )


def test_flags() -> None:
    found = message(trace_flags=RECORD, inspector="inspect:")
    request = delivery_request(found, [Recipient("u@x")], "hop", CONNECTION_LOAD, smtputf8=True)
    assert request.flags == RECORD | CONNECTION_LOAD | 2, "an inspector must not mark recipients done"


def test_utf8_recipients() -> None:
    def sendopts(address: str, *, smtputf8: bool = True, **facts: object) -> int:
        return delivery_request(message(**facts), [Recipient(address)], "hop", 0, smtputf8=smtputf8).sendopts

    assert sendopts("ü@x") == SMTPUTF8_RECIPIENT
    assert sendopts("ü@x", verp_delimiters="+=") == SMTPUTF8_RECIPIENT | SMTPUTF8_SENDER
    assert sendopts("ü@x", smtputf8=False) == 0
    assert sendopts("\udcfc@x") == 0, "not UTF-8"
    assert sendopts("u@x", sendopts=1) == 1


def test_verp() -> None:
    request = delivery_request(message(verp_delimiters="+="), [Recipient("u@y")], "hop", 0, smtputf8=True)
    assert request.sender == "list+u=y@x"
