"""The logs of bounce, defer and trace: written as Postfix writes them, read whatever they hold."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.errors import TemporaryError
from postfixpy.mail import bounce_log
from postfixpy.mail.bounce_log import Entry, encode_entry, parse
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.printable import printable
from postfixpy.mail.queue import Queue


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


ALICE = Recipient("al smith@example.com", "al@example.org", 123, "rfc822;al@example.org", 6)
GONE = DSN("5.1.1", "failed", "user unknown", "smtp", "550 5.1.1 no", "dns", "mx.example.com")
ENTRY = b"""
<"al smith"@example.com>: user unknown
recipient="al smith"@example.com
original_recipient=al@example.org
offset=123
dsn_orig_rcpt=rfc822;al@example.org
notify_flags=6
status=5.1.1
action=failed
diag_type=smtp
diag_text=550 5.1.1 no
mta_type=dns
mta_mname=mx.example.com
reason=user unknown

"""


def test_entry_in_full() -> None:
    assert encode_entry(ALICE, GONE) == ENTRY


def test_entry_read_again() -> None:
    external = Recipient('"al smith"@example.com', "al@example.org", 123, "rfc822;al@example.org", 6)
    assert list(parse(ENTRY * 2, "log")) == [Entry(external, GONE)] * 2


def test_what_is_empty_is_left_out() -> None:
    least = encode_entry(Recipient("joe@x.y", "JOE@x.y", -1), DSN("", "", "", "smtp", "", "dns", ""), compatible=False)
    assert least == b"\nrecipient=joe@x.y\n\n"
    assert encode_entry(Recipient(""), DSN(reason="why")) == b"\n<>: why\nrecipient=<>\nreason=why\n\n"


def test_original_recipient_differs_without_regard_to_case() -> None:
    assert b"original" not in encode_entry(Recipient("ä@x.y", "Ä@X.Y"), DSN(), utf8=True)
    assert b"original" in encode_entry(Recipient("ä@x.y", "Ä@X.Y"), DSN(), utf8=False)


def test_old_entries() -> None:
    data = b"\n<joe@x.y>:   no room\n\n<>: nobody\n\n"
    first, second = parse(data, "log", defer=True)
    assert first == Entry(Recipient("joe@x.y"), DSN("4.0.0", "delayed", "no room"))
    assert second.recipient.address == "(MAILER-DAEMON)"
    assert next(parse(data, "log")).dsn == DSN("5.0.0", "failed", "no room")


def test_what_is_missing_has_a_text() -> None:
    (entry,) = parse(b"status=5.1.1\n\n", "log")
    assert entry == Entry(
        Recipient("(recipient address unavailable)"), DSN("5.1.1", "failed", "(description unavailable)")
    )
    (entry,) = parse(b"recipient=\noriginal_recipient=\n\n", "log")
    assert (entry.recipient.address, entry.recipient.original) == ("(MAILER-DAEMON)", "(MAILER-DAEMON)")


def test_numbers_that_make_no_sense() -> None:
    lines = b"recipient=a\noffset=-4\nnotify_flags=3\n\nrecipient=b\noffset=12x\nnotify_flags=1\n\n"
    lines += b"recipient=c\noffset=x\n\n"
    assert [(e.recipient.offset, e.recipient.notify) for e in parse(lines, "log")] == [(-1, 0), (12, 1), (-1, 0)]


def test_entry_that_is_cut_off_is_not_there() -> None:
    for size in range(len(ENTRY) - 1):
        assert list(parse(ENTRY[:size], "log")) == []


def test_damage(logged: list[str]) -> None:
    data = b"bad line\n = x\n<no end\n" + b"!" * 40 + b"\nfuture=1\nrecipient=joe@x.y\n\n"
    (entry,) = parse(data, "bounce/X")
    assert entry.recipient.address == "joe@x.y"
    assert logged == [
        "warning: bounce/X: malformed record: missing '=' after attribute name",
        "warning: bounce/X: malformed record:  = x...",
        "warning: bounce/X: malformed record: <no end...",
        f"warning: bounce/X: malformed record: {'!' * 30}...",
        "warning: bounce/X: unknown attribute name: future, ignored",
    ]


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1)


@given(
    st.builds(Recipient, WORD, st.just(""), st.integers(1, 1 << 40), WORD, st.sampled_from([0, 1, 2, 4, 8, 14])),
    st.builds(DSN, WORD, WORD, WORD, WORD, WORD, WORD, WORD),
)
def test_what_is_written_is_read(recipient: Recipient, dsn: DSN) -> None:
    def shown(text: str) -> str:
        return printable(text, utf8=True).strip(" ")

    (entry,) = parse(encode_entry(recipient, dsn), "log")
    assert entry.recipient.offset == recipient.offset
    assert entry.recipient.notify == recipient.notify
    assert entry.recipient.dsn_orcpt == shown(recipient.dsn_orcpt)
    assert entry.dsn == DSN(*(shown(getattr(dsn, name)) for name in DSN.__slots__))


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    previous = log.set_sink(lambda severity, text: None)
    try:
        for recipient, dsn in parse(data, "log"):
            assert recipient.address
            assert dsn.status
            assert dsn.action
            assert dsn.reason
    finally:
        log.set_sink(previous)


def test_append_and_read(tmp_path: Path) -> None:
    queue = Queue(str(tmp_path), "defer")
    assert bounce_log.read(queue, "defer", "4C1E0D4B7C") is None
    for _ in range(2):
        with bounce_log.open_for_append(queue, "defer", "4C1E0D4B7C") as file:
            assert bounce_log.try_lock(file)
            bounce_log.append(file, ENTRY)
    path = tmp_path / "defer" / "4" / "4C1E0D4B7C"
    assert path.read_bytes() == ENTRY * 2
    assert path.stat().st_mode & 0o777 == 0o600
    entries = bounce_log.read(queue, "defer", "4C1E0D4B7C")
    assert entries is not None
    assert len(entries) == 2


def test_only_one_appends_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "bounce").mkdir()
    queue = Queue(str(tmp_path))
    with bounce_log.open_for_append(queue, "bounce", "X1") as one:
        assert bounce_log.try_lock(one)
        with bounce_log.open_for_append(queue, "bounce", "X1") as other:
            assert not bounce_log.try_lock(other)


def test_failed_append_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bounce").mkdir()
    queue = Queue(str(tmp_path))
    with bounce_log.open_for_append(queue, "bounce", "X1") as file:
        bounce_log.append(file, ENTRY)

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(TemporaryError, match="append file bounce X1: No space left on device"):
            bounce_log.append(file, ENTRY)
    assert (tmp_path / "bounce" / "X1").read_bytes() == ENTRY


def test_log_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bounce").write_text("")
    with pytest.raises(TemporaryError, match="open file bounce X1: Not a directory"):
        bounce_log.open_for_append(Queue(str(tmp_path)), "bounce", "X1")
