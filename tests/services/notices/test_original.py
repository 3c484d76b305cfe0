"""What a notice tells of the message, whatever state its queue file is in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.errors import TemporaryError
from postfixpy.mail.queue import Queue, lock
from postfixpy.mail.records import Sizes, encode_record, encode_sizes
from postfixpy.services.notices.original import open_message, read_original

ID = "4C1E0D4B7C"
CONTENT = [("N", b"Subject: hi"), ("N", b"\tfolded"), ("L", b"X: " + b"a" * 9), ("N", b"b: c"), ("N", b""), ("N", b"x")]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


def queue_file(*, sender: bytes | None = b"me@x", offset: bool = True, extracted: bytes = b"") -> bytes:
    head = encode_record("T", b"1795440000 123456")
    if sender is not None:
        head += encode_record("S", sender)
    head += encode_record("R", b"joe@y") + encode_record("M", b"")
    content = b"".join(encode_record(kind, payload) for kind, payload in CONTENT)
    start = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0))) + len(head)
    sizes = encode_sizes(Sizes(len(content), start if offset else 0, 1, 0, 50, 0))
    return sizes + head + content + encode_record("X", b"") + extracted + encode_record("E", b"")


def write(directory: Path, data: bytes) -> Queue:
    (directory / "active").mkdir(exist_ok=True)
    (directory / "active" / ID).write_bytes(data)
    return Queue(str(directory))


def test_everything(tmp_path: Path, logged: list[str]) -> None:
    attribute = encode_record("A", b"message_id=<id@x>")
    file = open_message(write(tmp_path, queue_file(extracted=attribute)), "active", ID)
    assert file is not None
    with file:
        original = read_original(file, ID, "MAILER-DAEMON@h", threaded=True)
        assert (original.sender, original.arrival, original.message_id) == ("me@x", 1795440000, "<id@x>")
        assert list(original.content()) == CONTENT
        assert list(original.content(headers_only=True)) == CONTENT[:4]
        with open(file.path, "r+b") as other:
            assert not lock(other.fileno(), exclusive=True)
    assert logged == []


def test_null_sender_and_no_offset_in_the_size_record(tmp_path: Path, logged: list[str]) -> None:
    file = open_message(write(tmp_path, queue_file(sender=b"", offset=False)), "active", ID)
    assert file is not None
    with file:
        original = read_original(file, ID, "MAILER-DAEMON@h", threaded=False)
        assert original.sender == "MAILER-DAEMON@h"
        assert original.message_id == ""
        assert list(original.content()) == CONTENT


def test_no_sender(tmp_path: Path, logged: list[str]) -> None:
    file = open_message(write(tmp_path, queue_file(sender=None)), "active", ID)
    assert file is not None
    with file:
        original = read_original(file, ID, "MAILER-DAEMON@h", threaded=False)
        assert original.sender == ""
        assert len(list(original.content())) == len(CONTENT)
    assert logged == [f"warning: {ID}: no sender before message content record"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"id@x", "no '<' at start of text in \"id@x\""),
        (b"<id@x", "missing '>' in \"<id@x\""),
        (b"<id@x> y", "syntax error after '>' in \"<id@x> y\""),
    ],
)
def test_bad_message_id(tmp_path: Path, logged: list[str], text: bytes, problem: str) -> None:
    attribute = encode_record("A", b"message_id=" + text)
    file = open_message(write(tmp_path, queue_file(extracted=attribute)), "active", ID)
    assert file is not None
    with file:
        assert read_original(file, ID, "MAILER-DAEMON@h", threaded=True).message_id == ""
    assert logged == [f"warning: {ID}: malformed Message-ID attribute: {problem}"]


def test_message_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "active").mkdir()
    assert open_message(Queue(str(tmp_path)), "active", ID) is None


def test_message_that_the_queue_manager_has(tmp_path: Path) -> None:
    queue = write(tmp_path, queue_file())
    with queue.open("active", ID) as file:
        assert lock(file.fd, exclusive=True)
        with pytest.raises(TemporaryError, match=r"cannot get shared lock on .*: Resource temporarily unavailable"):
            open_message(queue, "active", ID)


@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
@settings(max_examples=60)
def test_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, threaded: bool) -> None:
    previous = log.set_sink(lambda severity, text: None)
    try:
        queue = write(tmp_path_factory.mktemp("damaged"), queue_file()[:cut] + data)
        file = open_message(queue, "active", ID)
        assert file is not None
        with file:
            original = read_original(file, ID, "MAILER-DAEMON@h", threaded=threaded)
            assert original.arrival >= 0
            list(original.content())
    finally:
        log.set_sink(previous)


@pytest.mark.parametrize(
    ("header", "message_id"),
    [
        ([b"message-id: <id@x>  "], "<id@x>"),
        ([b"Message-ID:", b"\t<id@x>", b"To: y"], "<id@x>"),
        ([b"Message-ID :<id@x>"], "<id@x>"),
        ([b"X-Message-ID: <id@x>"], ""),
        ([b"", b"Message-ID: <id@x>"], ""),
        ([b"Message-ID: id@x"], "malformed"),
    ],
)
def test_message_id_that_was_not_extracted(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch, header: list[bytes], message_id: str
) -> None:
    monkeypatch.setitem(globals(), "CONTENT", [("N", line) for line in (*header, b"", b"x")])
    file = open_message(write(tmp_path, queue_file()), "active", ID)
    assert file is not None
    with file:
        found = read_original(file, ID, "MAILER-DAEMON@h", threaded=True).message_id
    if message_id == "malformed":
        assert (found, logged) == ("", [f"warning: {ID}: ignoring malformed Message-ID"])
    else:
        assert (found, logged) == (message_id, [])


@pytest.mark.parametrize(
    ("sender", "old"),
    [
        (b"\xc3\xbc@a", b'"\\\xc3\\\xbc"@a'),
        (b"\xc3\xbc x@\xc3\xa4", b'"\\\xc3\\\xbc x"@\xc3\xa4'),
        (b"a b@x", b'"a b"@x'),
        (b"me@x", b"me@x"),
    ],
)
def test_octets_beyond_ascii_are_quoted_by_older_releases(tmp_path: Path, sender: bytes, old: bytes) -> None:
    """As recorded from 3.7; 3.10 and 3.11 leave them."""
    file = open_message(write(tmp_path, queue_file(sender=sender)), "active", ID)
    assert file is not None
    with file:
        found = read_original(file, ID, "MAILER-DAEMON@h", threaded=False, release=(3, 7)).sender
    assert found.encode("utf-8", "surrogateescape") == old
