"""Conversations with the sink, in memory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sink.rules import Script, parse_rules
from postfixpy.sink.session import Delivery, Offer, Session

LHLO = Offer(lmtp=True, keywords=["PIPELINING"])


class Talk:
    """A session with what it wrote and delivered."""

    def __init__(self, rules: str = "", offer: Offer | None = None) -> None:
        self.delivered: list[Delivery] = []
        self.delays: list[float] = []
        self.closed = False
        self.session = Session(
            offer or Offer(keywords=["DSN"]), Script(parse_rules(rules)), "192.0.2.1", self.delivered.append, True
        )
        self.greeting = self.say(b"")

    def say(self, data: bytes) -> list[str]:
        """Send bytes; the reply lines."""
        self.session.feed(data)
        out = b""
        while not self.closed and (action := self.session.step()) is not None:
            out += action.write
            self.closed = action.close
            if action.delay:
                self.delays.append(action.delay)
        return out.decode().split("\r\n")[:-1]


def test_a_message_for_two() -> None:
    talk = Talk()
    assert talk.greeting == ["220 smtp-sink ESMTP"]
    assert talk.say(b"EHLO me\r\n") == ["250-smtp-sink", "250-DSN", "250 "]
    assert talk.say(b"MAIL FROM:<a@x> SIZE=10\r\n") == ["250 2.1.0 Ok"]
    assert talk.say(b"RCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n") == [
        "250 2.1.5 Ok",
        "250 2.1.5 Ok",
        "354 End data with <CR><LF>.<CR><LF>",
    ]
    assert talk.say(b"Subject: s\r\n\r\n..dot\r\n.\r\nQUIT\r\n") == ["250 2.0.0 Ok", "221 Bye"]
    assert talk.closed
    assert talk.delivered == [
        Delivery("192.0.2.1", "ESMTP", "me", "<a@x> SIZE=10", ["<b@y>", "<c@y>"], 21, b"Subject: s\r\n\r\n.dot\r\n")
    ]


def test_lmtp_answers_the_dot_for_each_recipient() -> None:
    talk = Talk("dot bad@* 552 5.2.2 full", LHLO)
    talk.say(b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<good@y>\r\nRCPT TO:<bad@y>\r\nDATA\r\n")
    assert talk.say(b"x\r\n.\r\n") == ["250 2.2.0 Ok", "552 5.2.2 full"]
    assert [d.recipients for d in talk.delivered] == [["<good@y>"]]


def test_refused_at_dot_is_not_delivered() -> None:
    talk = Talk("dot * 451 4.3.0 no")
    talk.say(b"MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
    assert talk.say(b".\r\n") == ["451 4.3.0 no"]
    assert not talk.delivered


@pytest.mark.parametrize(("action", "delivered"), [("drop", 0), ("lose", 1)])
def test_hang_up_at_dot(action: str, delivered: int) -> None:
    talk = Talk(f"dot * {action}")
    talk.say(b"MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
    assert talk.say(b"x\r\n.\r\n") == []
    assert talk.closed
    assert len(talk.delivered) == delivered


def test_hang_up_in_the_content() -> None:
    talk = Talk("body * drop")
    talk.say(b"MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
    assert talk.say(b"first block") == []
    assert talk.closed


def test_a_slow_reply_delays() -> None:
    talk = Talk("mail slow@* delay=2.5 ok")
    assert talk.say(b"MAIL FROM:<slow@x>\r\n") == ["250 2.1.0 Ok"]
    assert talk.delays == [2.5]


def test_order_of_commands_is_checked() -> None:
    talk = Talk()
    assert talk.say(b"RCPT TO:<b@y>\r\n") == ["503 5.5.1 Error: need MAIL command"]
    assert talk.say(b"DATA\r\n") == ["503 5.5.1 Error: need RCPT command"]
    assert talk.say(b"FOO\r\n\r\n") == ["500 5.5.1 Error: unknown command", "500 5.5.2 Error: unknown command"]
    assert talk.say(b"LHLO x\r\n") == ["500 5.5.1 Error: unknown command"]


def test_pix_greeting_and_no_esmtp() -> None:
    talk = Talk(offer=Offer(esmtp=False, pix=True))
    assert talk.greeting == ["220 ********"]
    assert talk.say(b"EHLO me\r\nHELO me\r\n") == ["500 5.5.1 Error: unknown command", "250 smtp-sink"]


def test_an_endless_line_is_cut_off() -> None:
    talk = Talk()
    assert talk.say(b"x" * 20000) == ["500 5.5.2 Error: line too long"]
    assert talk.closed


CONVERSATION = b"EHLO m\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nA: b\r\n\r\n.\r\r\n..\r\n.x\r\n\r\n.\r\nQUIT\r\n"


@given(st.lists(st.integers(1, len(CONVERSATION) - 1), max_size=12))
def test_where_the_bytes_are_split_does_not_matter(cuts: list[int]) -> None:
    whole, parts = Talk(), Talk()
    expected = whole.say(CONVERSATION)
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    got = [line for start, end in itertools.pairwise(edges) for line in parts.say(CONVERSATION[start:end])]
    assert got == expected
    assert parts.delivered == whole.delivered
    assert len(parts.delivered) == 1
