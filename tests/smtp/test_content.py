"""Records to wire lines: folding, dots, missing line ends, and memory that does not grow."""

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.records import RecordFile, encode_record
from postfixpy.smtp.content import Batch, Lines, QueueFileSource, send_content
from postfixpy.smtp.effects import Write


def wire(limit: int, *records: tuple[str, bytes]) -> bytes:
    lines = Lines(limit)
    for kind, data in records:
        lines.feed(kind, data)
    return lines.take()


@pytest.mark.parametrize(
    ("limit", "records", "expected"),
    [
        (998, [("N", b"text"), ("N", b"")], b"text\r\n\r\n"),
        (998, [("N", b"."), ("N", b".x"), ("N", b"x.")], b"..\r\n..x\r\nx.\r\n"),
        (998, [("L", b"."), ("N", b".")], b"...\r\n"),
        (10, [("N", b"123456789")], b"123456789\r\n"),
        (10, [("N", b"1234567890")], b"1234567890\r\n"),
        (10, [("N", b"12345678901")], b"1234567890\r\n 1\r\n"),
        (10, [("L", b"1234567890"), ("N", b"")], b"1234567890\r\n \r\n"),
        (10, [("N", b"." + b"1" * 9 + b".2")], b"..111111111\r\n .2\r\n"),
        (0, [("N", b"x" * 5000)], b"x" * 5000 + b"\r\n"),
        (998, [("N", b"\0\r\xff")], b"\0\r\xff\r\n"),
    ],
)
def test_lines(limit: int, records: list[tuple[str, bytes]], expected: bytes) -> None:
    assert wire(limit, *records) == expected


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.sampled_from("NL"), st.text("ab.", max_size=100).map(str.encode)), max_size=20),
)
def test_folded_lines_never_exceed_the_limit_and_lose_nothing(limit: int, records: list[tuple[str, bytes]]) -> None:
    out = wire(limit, *records)
    for line in out.split(b"\r\n"):
        assert len(line[1:] if line.startswith(b"..") else line) <= max(limit, 2)
        assert not line.startswith(b".") or line.startswith(b"..")
    original = b"".join(data + (b"\n" if kind == "N" else b"") for kind, data in records)
    unstuffed = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in out.split(b"\r\n"))
    assert unstuffed.replace(b"\r\n ", b"").replace(b"\r\n", b"\n") == original


class Endless:
    """A message of 500 MB that exists nowhere at once."""

    def batches(self, offset: int) -> Iterator[Batch]:
        for _ in range(200):
            yield [b"x" * 70] * 1000, ()
        yield (), [("X", b"")]


RECORDS = st.lists(st.tuples(st.sampled_from("NNNNLR"), st.binary(max_size=300) | st.just(b".")), max_size=20)


@given(RECORDS, st.integers(0, 300))
def test_a_queue_file_is_read_as_it_was_written(records: list[tuple[str, bytes]], limit: int) -> None:
    """Also the lines that are read in a hurry, and what becomes of them on the wire."""
    data = b"".join(encode_record(kind, payload) for kind, payload in records)
    source = QueueFileSource(RecordFile(io.BytesIO(data), "f"))
    found: list[tuple[str, bytes]] = []
    fast = Lines(limit)
    for plain, rest in source.batches(0):
        found += [("N", line) for line in plain] + list(rest)
        if plain:
            fast.feed_plain(plain)
        for kind, payload in rest:
            fast.feed(kind, payload)
    assert found == records
    slow = Lines(limit)
    for kind, payload in records:
        slow.feed(kind, payload)
    assert fast.take() == slow.take()


def test_memory_does_not_grow_with_the_message(make_world) -> None:  # type: ignore[no-untyped-def]  # the fixture's
    from postfixpy.smtp import session as feature
    from postfixpy.smtp.cache import Policy
    from postfixpy.smtp.connection import new_session
    from postfixpy.smtp.policy import Policy as TLSPolicy

    world = make_world()
    delivery = world.delivery()
    delivery.source = Endless()
    session = new_session(delivery, None, TLSPolicy(), Policy())
    session.features |= feature.EIGHTBITMIME
    session.stream.set_limit(10)
    tracemalloc.start()
    sent = 0
    generator = send_content(delivery, session)
    try:
        effect = next(generator)
        while True:
            assert isinstance(effect, Write)
            sent += len(effect.data)
            effect = generator.send(None)
    except StopIteration as stop:
        assert stop.value == "X"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent > 14_000_000 and peak < 1_500_000
