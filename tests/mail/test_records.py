import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail import records
from postfixpy.mail.records import Kind, Record, RecordError, RecordFile, RecordParser, Sizes, encode_record

RECORDS = st.lists(st.tuples(st.sampled_from("TSRNLXAE"), st.binary(max_size=300)), max_size=20)


def parse(data, limit=0):
    parser = RecordParser("cleanup socket", limit)
    parser.feed(data)
    return list(parser)


def read(data, **options):
    return [(r.kind, r.payload) for r in RecordFile(io.BytesIO(data), "active/1", **options)]


def test_short_and_long_records():
    assert encode_record(Kind.FROM, b"me@example.com") == b"S\x0eme@example.com"
    assert encode_record(Kind.MESSAGE, b"") == b"M\x00"
    assert encode_record(Kind.NORMAL, b"x" * 300) == b"N\xac\x02" + b"x" * 300


def test_parser_yields_what_is_complete():
    parser = RecordParser()
    parser.feed(b"S\x02hi" + b"N\x03a")
    assert list(parser) == [("S", b"hi")]
    assert parser.rest == b"N\x03a"
    parser.feed(b"bc")
    assert list(parser) == [("N", b"abc")]
    parser.end()


def test_parser_keeps_what_the_reader_did_not_take():
    parser = RecordParser()
    parser.feed(b"X\x00E\x00S\x01a")
    for kind, _ in parser:
        if kind == Kind.END:
            break
    assert parser.rest == b"S\x01a"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"N", "cleanup socket: unexpected EOF reading length, record type 78"),
        (b"N\x80", "cleanup socket: unexpected EOF reading length, record type 78"),
        (b"N\x05abc", "cleanup socket: unexpected EOF in data, record type 78 length 5"),
    ],
)
def test_stream_that_ends_inside_a_record(data, text):
    parser = RecordParser("cleanup socket")
    parser.feed(data)
    assert list(parser) == []
    with pytest.raises(RecordError) as caught:
        parser.end()
    assert str(caught.value) == text


def test_limits():
    with pytest.raises(RecordError, match=r"^cleanup socket: illegal length 11, record type 78$"):
        parse(b"N\x0b" + b"x" * 11, limit=10)
    assert parse(b"N\x0a" + b"x" * 10, limit=10) == [("N", b"x" * 10)]
    with pytest.raises(RecordError, match=r"^cleanup socket: too many length bits, record type 78$"):
        parse(b"N\xff\xff\xff\xff\x01")


@given(RECORDS, st.integers(1, 50))
def test_any_cut_of_the_stream_gives_the_same_records(wanted, cut):
    data = b"".join(encode_record(*record) for record in wanted)
    parser = RecordParser()
    got = []
    for start in range(0, len(data), cut):
        parser.feed(data[start : start + cut])
        got += parser
    assert got == wanted
    parser.end()


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_an_error(data):
    try:
        parsed = parse(data, limit=100)
    except RecordError:
        pass
    else:
        assert all(len(payload) <= 100 for _, payload in parsed)
    try:
        read(data, limit=100)
    except RecordError as error:
        assert str(error).startswith("active/1: ")


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(0, 200), max_size=8))
def test_pointers_to_anywhere_end(payloads, targets):
    data = b"".join(encode_record(Kind.NORMAL, p) for p in payloads)
    data += b"".join(records.encode_pointer(target) for target in targets)
    try:
        read(data)
    except RecordError:
        pass


def test_file_gives_offsets():
    file = RecordFile(io.BytesIO(b"S\x02hiM\x00N\x01x"), "active/1")
    assert list(file) == [Record("S", b"hi", 0), Record("M", b"", 4), Record("N", b"x", 6)]
    file.seek(4)
    assert file.tell() == 4
    assert file.next() == Record("M", b"", 4)
    assert file.next() == Record("N", b"x", 6)
    assert file.next() is None


def test_pointer_is_followed_and_dummy_and_padding_skipped():
    head = encode_record(Kind.FROM, b"a") + records.encode_pointer(0) + records.encode_padding(Kind.PADDING, 10)
    here = len(head) + 17
    tail_at = here + len(encode_record(Kind.RECIPIENT, b"skipped"))
    data = head + records.encode_pointer(tail_at) + encode_record(Kind.RECIPIENT, b"skipped") + b"R\x01bE\x00"
    assert read(data) == [("S", b"a"), ("R", b"b"), ("E", b"")]
    raw = read(data, follow_pointers=False, skip_padding=False)
    assert [kind for kind, _ in raw] == ["S", "p", "w", "p", "R", "R", "E"]
    assert raw[1] == ("p", b"%15d" % 0)


def test_end_record_is_the_end_of_the_file():
    data = b"X\x00E\x00N\x01z"
    assert read(data) == [("X", b""), ("E", b"")]
    assert read(data, seek_end=False) == [("X", b""), ("E", b""), ("N", b"z")]


def test_pointer_loop_ends():
    with pytest.raises(RecordError, match=r"^active/1: too many reverse jump records$"):
        read(b"S\x01a" + records.encode_pointer(3))


def test_malformed_pointer():
    with pytest.raises(RecordError, match=r"^active/1: malformed pointer record value: 12x$"):
        read(encode_record(Kind.POINTER, b"   12x"))


def test_truncated_file():
    with pytest.raises(RecordError, match=r"^active/1: unexpected EOF in data, record type 82 length 9$"):
        read(b"S\x01aR\x09abc")


def test_batch_is_the_same_records_in_bulk():
    lines = [("N", b"line %d" % n) for n in range(30000)] + [("L", b"y" * 200), ("N", b""), ("p", b"0".rjust(15))]
    data = b"".join(encode_record(*line) for line in lines) + b"X\x00R\x01rE\x00"
    file = RecordFile(io.BytesIO(data), "active/1")
    got = []
    batches = 0
    while batch := file.batch():
        batches += 1
        got += batch
        if batch[-1].kind == "X":
            break
    assert [(r.kind, r.payload) for r in got] == [*lines[:-1], ("X", b"")]
    assert batches < 50
    assert data[got[12345].offset :].startswith(b"N\x0aline 12345")
    assert [r.kind for r in file] == ["R", "E"]


@given(RECORDS)
def test_batches_and_single_records_agree(wanted):
    data = b"".join(encode_record(*record) for record in wanted)
    file = RecordFile(io.BytesIO(data), "active/1", seek_end=False)
    got = []
    while batch := file.batch():
        got += batch
    assert got == list(RecordFile(io.BytesIO(data), "active/1", seek_end=False))


def test_sizes():
    sizes = Sizes(277, 720, 2, 0, 255, 8)
    encoded = records.encode_sizes(sizes)
    assert (
        encoded == b"C_            277             720               2               0             255               8"
    )
    assert records.decode_sizes(encoded[2:]) == sizes
    assert records.decode_sizes(b"            277             720               2") == Sizes(277, 720, 2, 0, 0, 0)
    assert records.decode_sizes(b"junk") is None


def test_time():
    assert records.encode_time(1_700_000_000_000_042) == b"1700000000 42"
    assert records.decode_time(b"1700000000 42") == 1_700_000_000_000_042
    assert records.decode_time(b"1700000000") == 1_700_000_000_000_000
    assert records.decode_time(b"rubbish") == 0


def test_names():
    assert records.name_of("S") == "sender"
    assert records.name_of("?") == "unknown_record_type"
