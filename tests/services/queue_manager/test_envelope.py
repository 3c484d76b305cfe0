"""Reading the envelope of queue files, all kinds of records, in one go and in batches."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.records import Kind, Sizes, encode_pointer, encode_record, encode_sizes
from postfixpy.services.queue_manager.envelope import (
    MIXED,
    CorruptFile,
    Envelope,
    EnvelopeReader,
    record_file,
    verp_sender,
)

from .spool import queue_file


@pytest.fixture(autouse=True)
def texts() -> Iterator[list[str]]:
    out: list[str] = []
    old = log.set_sink(lambda severity, text: out.append(text))
    yield out
    log.set_sink(old)


def read(data: bytes, limit: int = 1000) -> tuple[Envelope, list[Recipient]]:
    envelope = Envelope("ID")
    recipients = EnvelopeReader(envelope).read(record_file(io.BytesIO(data), "file"), limit)
    return envelope, recipients


def attribute(text: str) -> bytes:
    return encode_record(Kind.ATTRIBUTE, text.encode())


def test_plain_message() -> None:
    data = queue_file(["a@x", "b@y"], arrival=1000.25)
    envelope, recipients = read(data)
    assert [r.address for r in recipients] == ["a@x", "b@y"]
    assert [data[r.offset : r.offset + 1] for r in recipients] == [b"R", b"R"]
    assert (envelope.sender, envelope.size, envelope.arrival, envelope.create_time) == (
        "s@example.com",
        14,
        1000250000,
        1000,
    )
    assert envelope.all_read and envelope.complete and envelope.unread == 0
    assert data[envelope.data_offset : envelope.data_offset + 1] == b"N"


def test_recipient_details() -> None:
    details = encode_record("o", b"rfc822;Orig@x") + encode_record("n", b"6") + encode_record("O", b"orig@x")
    as_attributes = attribute("dsn_orig_rcpt=rfc822;Two@x") + attribute("notify_flags=1")
    _, recipients = read(queue_file(["a@x", "b@x", "c@x"], arrival=1, before={"a@x": details, "b@x": as_attributes}))
    assert [(r.original, r.dsn_orcpt, r.notify) for r in recipients] == [
        ("orig@x", "rfc822;Orig@x", 6),
        ("", "rfc822;Two@x", 1),
        ("", "", 0),
    ]


def test_done_recipients_are_left_out_with_their_details() -> None:
    data = queue_file(["a@x", "b@x"], arrival=1, before={"a@x": encode_record("O", b"orig")})
    for mark in (b"D", b"/"):
        _, recipients = read(data.replace(b"R\x03a@x", mark + b"\x03a@x"))
        assert [(r.address, r.original) for r in recipients] == [("b@x", "")]


def test_everything_else() -> None:
    extra = (
        encode_record("W", b"%15d" % 777)
        + encode_record("V", b"+=")
        + encode_record("I", b"inspect:")
        + encode_record("i", b"ENV1")
        + encode_record("<", b"2")
        + encode_record("K", b"killed")
        + attribute("encoding=8bit")
        + attribute("client_name=real.client")
        + attribute("log_client_name=original.client")
        + attribute("log_client_address=192.0.2.1")
        + attribute("log_client_port=25")
        + attribute("log_protocol_name=ESMTP")
        + attribute("log_helo_name=helo")
        + attribute("client_address=203.0.113.9")
        + attribute("sasl_method=plain")
        + attribute("sasl_username=me")
        + attribute("sasl_sender=me@x")
        + attribute("log_ident=UPSTREAM")
        + attribute("rewrite_context=remote")
        + attribute("trace_flags=1024")
        + attribute("something_new=1")
    )
    # VERP wants the sender first
    data = queue_file(["a@x"], arrival=1, extra=encode_record("S", b"first@x") + extra)
    envelope, _ = read(data)
    assert envelope.sender == "first@x", "the first sender counts"
    assert (envelope.warn_time, data[envelope.warn_offset : envelope.warn_offset + 1]) == (777, b"W")
    assert (envelope.verp_delimiters, envelope.inspector) == ("+=", "inspect:")
    assert (envelope.envelope_id, envelope.ret_flags, envelope.encoding) == ("ENV1", 2, "8bit")
    assert (envelope.client_name, envelope.client_address, envelope.client_port) == (
        "original.client",
        "192.0.2.1",
        "25",
    )
    assert (envelope.client_protocol, envelope.client_helo) == ("ESMTP", "helo")
    assert (envelope.sasl_method, envelope.sasl_username, envelope.sasl_sender) == ("plain", "me", "me@x")
    assert (envelope.log_ident, envelope.rewrite_context) == ("UPSTREAM", "remote")
    assert (envelope.trace_flags, data[envelope.trace_offset : envelope.trace_offset + 1]) == (1024, b"A")


def test_client_names_without_log_attributes() -> None:
    extra = attribute("client_name=c") + attribute("client_address=1.2.3.4") + attribute("helo_name=h")
    envelope, _ = read(queue_file(["a@x"], arrival=1, extra=extra))
    assert (envelope.client_name, envelope.client_address, envelope.client_helo) == ("c", "1.2.3.4", "h")


def test_only_a_pure_record_request_is_killed_later() -> None:
    envelope, _ = read(queue_file(["a@x"], arrival=1, extra=attribute("trace_flags=512")))
    assert (envelope.trace_flags, envelope.trace_offset) == (512, 0)


def test_pointers_are_followed() -> None:
    """cleanup puts added recipients behind the end: a pointer leads there, and another one back."""
    replaced = encode_record("R", b"a@x.example....")
    data = queue_file(["a@x.example....", "b@x"], arrival=1)
    at = data.index(replaced)
    there = encode_pointer(len(data))
    assert len(there) == len(replaced)
    added = encode_record("R", b"new@x") + encode_pointer(at + len(there))
    envelope, recipients = read(data[:at] + there + data[at + len(there) :] + added)
    assert [r.address for r in recipients] == ["new@x", "b@x"]
    assert recipients[0].offset == len(data)
    assert envelope.all_read


@pytest.mark.parametrize("flags", [0, MIXED])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_batches_give_every_recipient_once(flags: int, limit: int) -> None:
    everybody = [f"u{n}@x" for n in range(20)]
    data = queue_file(everybody, arrival=1, flags=flags)
    envelope = Envelope("ID")
    reader = EnvelopeReader(envelope)
    file = record_file(io.BytesIO(data), "file")
    found: list[str] = []
    while True:
        batch = reader.read(file, limit)
        assert len(batch) <= limit
        found += [r.address for r in batch]
        assert envelope.complete, "all but recipients is known after the first batch"
        if envelope.all_read:
            break
        assert envelope.unread == len(everybody) - len(found)
    assert found == everybody


def test_extracted_recipients_are_read_too() -> None:
    data = queue_file([], arrival=1)
    data = data[: data.index(b"X\0") + 2] + encode_record("R", b"from-header@x") + encode_record("E", b"")
    data = data.replace(encode_sizes(_sizes(data)), encode_sizes(_sizes(data)._replace(recipients=1)))
    envelope, recipients = read(data)
    assert [r.address for r in recipients] == ["from-header@x"]
    assert envelope.unread == 0


def _sizes(data: bytes) -> Sizes:
    from postfixpy.mail.records import decode_sizes

    sizes = decode_sizes(data[2:97])
    assert sizes is not None
    return sizes


MISSING_END = "ID: message rejected: missing end record"
COUNT = "ID: rcpt count mismatch (1)"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: d[:-2], [MISSING_END]),
        (lambda d: d[:20], ["file: unexpected EOF in data, record type 67 length 95", MISSING_END]),
        (lambda d: d.replace(b"S\x0d", b"K\x0d"), ["ID: message rejected: missing sender record"]),
        (
            lambda d: d[97:].replace(b"M\0N\x0dSubject: testN\0X\0", b""),
            ["ID: rcpt count mismatch (-1)", "ID: message rejected: missing size record"],
        ),
        (lambda d: d.replace(b"S\x0d", b"Q\x0d"), ["Unexpected record type 'Q' at offset 117", COUNT]),
        (lambda d: d.replace(b"S\x0d", b"w\x0d"), ["Unexpected record type 'w' at offset 117", COUNT]),
        (lambda d: d.replace(b"S\x0d", b"\0\x0d"), [MISSING_END, COUNT]),
        (
            lambda d: d.replace(b"A\x0dcreate_time=1", b"A\x0dcreate-time?1"),
            ["ID: bad attribute record: missing '=' after attribute name: create-time?1", COUNT],
        ),
        (
            lambda d: d.replace(b"A\x0dcreate_time=1", b"A\x0dcreate\0time=1"),
            ["ID: bad attribute record: missing '=' after attribute name: create", COUNT],
        ),
        (
            lambda d: d.replace(b"A\x0dcreate_time=1", b"A\x0d\0reate_time=1"),
            ["ID: bad attribute record: missing attribute name: ", COUNT],
        ),
        (
            lambda d: d.replace(b"A\x0dcreate_time=1", b"p\x0dcreate_time=1"),
            ["file: malformed pointer record value: create_time=1", COUNT],
        ),
        (lambda d: encode_record("C", b"0 100 1") + d[97:], ["ID: invalid size record: 0 100 1", COUNT]),
        (lambda d: encode_record("C", b"x") + d[97:], ["ID: message rejected: weird size record"]),
        (lambda d: encode_record("C", b"20 100x 1") + d[97:], ["ID: message rejected: weird size record"]),
    ],
)  # fmt: skip
def test_damaged_files(damage: object, said: list[str], texts: list[str]) -> None:
    """As the real queue manager of 3.7 and 3.11 says it (tests/services/test_qmgr_damage_real.py)."""
    data = queue_file(["a@x"], arrival=1)
    with pytest.raises(CorruptFile):
        read(damage(data))  # type: ignore[operator]  # the lambdas above
    assert [text for text in texts if "queue active" not in text] == said


def test_where_the_content_starts_after_a_jump() -> None:
    """The content is skipped also when a pointer record is the last before it."""
    data = queue_file(["a@x"], arrival=1)
    pointer = encode_record("p", b"%15d" % 0)
    sizes = _sizes(data)
    damaged = encode_sizes(sizes._replace(data_offset=sizes.data_offset - 2 + len(pointer)))
    _, recipients = read(damaged + data[97:].replace(b"M\0", pointer))
    assert [recipient.address for recipient in recipients] == ["a@x"]


def test_missing_arrival_time(texts: list[str]) -> None:
    with pytest.raises(CorruptFile):
        read(queue_file(["a@x"], arrival=0))
    assert texts == ["ID: message rejected: missing arrival time record"]


def test_impossible_sizes(texts: list[str]) -> None:
    data = queue_file(["a@x"], arrival=1)
    sizes = _sizes(data)
    for bad in (sizes._replace(data_offset=-1), sizes._replace(segment=0)):
        with pytest.raises(CorruptFile):
            read(encode_sizes(bad) + data[97:])
        assert texts[-2].startswith("ID: invalid size record: ")
    with pytest.raises(CorruptFile):
        read(encode_sizes(sizes._replace(qmgr_flags=64)) + data[97:])
    assert texts[-2].startswith("ID: invalid flags in size record: ")


def test_wrong_recipient_count_is_only_a_warning(texts: list[str]) -> None:
    data = queue_file(["a@x", "b@x"], arrival=1)
    envelope, recipients = read(encode_sizes(_sizes(data)._replace(recipients=5)) + data[97:])
    assert len(recipients) == 2
    assert texts == ["ID: rcpt count mismatch (3)"]
    assert envelope.unread == 0


def test_complaints_about_recipient_details(texts: list[str]) -> None:
    before = (
        encode_record("O", b"one") + encode_record("O", b"two") + encode_record("n", b"9") + encode_record("n", b"x")
    )
    _, recipients = read(queue_file(["a@x"], arrival=1, before={"a@x": before}))
    assert (recipients[0].original, recipients[0].notify) == ("two", 0)
    assert texts == [
        "ID: ignoring out-of-order original recipient <one>",
        "ID: ignoring malformed DSN notify flags <9>",
        "ID: ignoring malformed DSN notify flags <x>",
    ]


def test_verp_requests_that_make_no_sense(texts: list[str]) -> None:
    sender = encode_record("S", b"s@x")
    assert read(queue_file(["a@x"], arrival=1, extra=encode_record("V", b"+=")))[0].verp_delimiters == ""
    assert read(queue_file(["a@x"], arrival=1, extra=sender + encode_record("V", b"ab")))[0].verp_delimiters == ""
    assert texts == ["ID: ignoring VERP request for null sender", 'ID: ignoring bad VERP request: "ab"']


def test_verp_sender() -> None:
    assert verp_sender("list@origin", "+=", Recipient("user@domain")) == "list+user=domain@origin"
    assert verp_sender("list@origin", "+=", Recipient("x@y", "user@domain")) == "list+user=domain@origin"
    assert verp_sender("list@origin", "+=", Recipient("local")) == "list+local@origin"
    assert verp_sender("list", "+=", Recipient("user@domain")) == "list+user=domain"


def test_sender_is_announced_once_with_size_and_count() -> None:
    seen: list[tuple[str | None, int, int]] = []
    envelope = Envelope("ID")
    reader = EnvelopeReader(envelope, opened=lambda e: seen.append((e.sender, e.size, e.unread)))
    file = record_file(io.BytesIO(queue_file(["a@x", "b@x", "c@x"], arrival=1)), "file")
    reader.read(file, 2)
    reader.read(file, 2)
    assert seen == [("s@example.com", 14, 3)]


@given(st.binary(max_size=400), st.integers(1, 3))
def test_any_bytes_are_read_or_refused(data: bytes, limit: int) -> None:
    _no_surprise(data, limit)


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(queue_file([f"u{n}@x" for n in range(5)], arrival=1))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    _no_surprise(bytes(content), data.draw(st.integers(1, 6)))


def _no_surprise(data: bytes, limit: int) -> None:
    old = log.set_sink(lambda severity, text: None)
    try:
        envelope = Envelope("ID")
        reader = EnvelopeReader(envelope)
        file = record_file(io.BytesIO(data), "file")
        for _ in range(10):
            assert len(reader.read(file, limit)) <= limit
            if envelope.all_read:
                break
    except CorruptFile:
        pass
    finally:
        log.set_sink(old)
