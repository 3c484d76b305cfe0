"""DNS messages: ours against dnspython's, and foreign bytes."""

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.dns import message
from postfixpy.dns.record import AAAA, MX, SRV, TLSA, TXT, A


def answer(*records: str, question: str = "a.example. A", flags: int = 0) -> bytes:
    name, rtype = question.split()
    reply = dns.message.make_response(dns.message.make_query(name, rtype))
    reply.flags |= flags
    for record in records:
        owner, kind, data = record.split(None, 2)
        reply.answer.append(dns.rrset.from_text(owner, 300, "IN", kind, data))
    return reply.to_wire()


def test_query_is_what_dnspython_reads() -> None:
    query = dns.message.from_wire(message.encode_query(77, "mail.example", MX, dnssec=True))
    assert query.id == 77
    assert query.question[0].to_text() == "mail.example. IN MX"
    assert query.flags & dns.flags.RD and query.flags & dns.flags.AD
    assert query.ednsflags & dns.flags.DO
    plain = dns.message.from_wire(message.encode_query(1, ".", A))
    assert plain.question[0].to_text() == ". IN A" and plain.edns == -1


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", ".".join(["abcdefghi"] * 30)])
def test_names_that_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(ValueError):
        message.encode_query(1, name, A)


def test_every_record_type() -> None:
    reply = message.decode(
        answer(
            "a.example. CNAME b.example.",
            "b.example. A 192.0.2.1",
            "b.example. AAAA 2001:db8::1",
            "b.example. MX 10 mx.example.",
            "b.example. MX 0 .",
            "b.example. SRV 1 2 25 host.example.",
            'b.example. TXT "one" "two"',
            "_25._tcp.b.example. TLSA 3 1 1 " + "01" * 32,
            flags=dns.flags.AD,
        )
    )
    assert reply.authentic and not reply.truncated and reply.question == ("a.example", A)
    assert [(raw.rtype, raw.text, raw.numbers) for raw in reply.answers] == [
        (5, "b.example", ()),
        (A, "192.0.2.1", ()),
        (AAAA, "2001:db8::1", ()),
        (MX, "mx.example", (10,)),
        (MX, "", (0,)),
        (SRV, "host.example", (1, 2, 25)),
        (TXT, "onetwo", ()),
        (TLSA, "3 1 1 " + "01" * 32, ()),
    ]


def test_odd_names_are_escaped() -> None:
    wire = answer("a.example. MX 10 x\\.y\\@z\\032.example.")
    assert message.decode(wire).answers[0].text == "x\\.y\\@z\\032.example"


def test_address_of_wrong_length() -> None:
    wire = bytearray(answer("a.example. A 192.0.2.1"))
    wire[-5] = 3  # record data length
    assert message.decode(bytes(wire)).answers[0].problem == "extract_answer: bad address length: 3"


def test_pointer_loops_end() -> None:
    wire = answer()[:12] + b"\xc0\x0c\x00\x01\x00\x01"
    with pytest.raises(message.Malformed):
        message.decode(wire)


@given(st.binary(max_size=600))
def test_any_bytes_give_a_reply_or_malformed(data: bytes) -> None:
    try:
        message.decode(data)
    except message.Malformed:
        pass


@given(st.data())
def test_damaged_replies(data: st.DataObject) -> None:
    wire = bytearray(answer("a.example. MX 10 m.a.example.", "m.a.example. A 192.0.2.1", 'a.example. TXT "text"'))
    for _ in range(data.draw(st.integers(1, 5))):
        wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        message.decode(bytes(wire))
    except message.Malformed:
        pass
