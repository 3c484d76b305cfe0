import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.mail.listing import Lister, Recipient
from postfixpy.mail.queue import Queue
from postfixpy.mail.records import Kind, encode_record
from tests.commands.queue_runner import T, message

US = T * 1_000_000


@pytest.fixture
def said():
    lines = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


@pytest.fixture
def queue(tmp_path, said):
    for name in ("maildrop", "active", "incoming", "deferred", "hold", "defer", "bounce"):
        (tmp_path / name).mkdir()
    return Queue(str(tmp_path), "deferred, defer")


def add(queue, name, data, mode=0):
    with queue.create(name, now=US) as file:
        file.write(data)
        file.commit(mode)
        return file.id


def note(queue, log_name, queue_id, text):
    with queue.open(log_name, queue_id, os.O_RDWR | os.O_CREAT) as file:
        file.write(text)


def listed(queue, **options):
    chosen = {"empty_address": "MAILER-DAEMON", "duplicates": 1000, "utf8": True, "now": lambda: T, **options}
    return [(m._replace(recipients=None), list(m.recipients)) for m in Lister(queue, **chosen).messages()]


def test_a_message(queue, said):
    queue_id = add(queue, "active", message(recipients=("a@example.com", "b c@example.com")))
    [(found, recipients)] = listed(queue)
    assert found == ("active", queue_id, T, 39, False, "sender@example.org", None)
    assert recipients == [
        Recipient("orig-a@example.com", "a@example.com", "", ""),
        Recipient('"orig-b c"@example.com', '"b c"@example.com', "", ""),
    ]
    assert said == []


def test_queues_in_order(queue):
    ids = {name: add(queue, name, message()) for name in ("hold", "deferred", "incoming", "active", "maildrop")}
    order = [found.id for found, _ in listed(queue)]
    assert order == [ids[name] for name in ("maildrop", "active", "incoming", "deferred", "hold")]


def test_size_of_a_message_that_was_requeued(queue):
    queue_id = add(queue, "maildrop", message())
    size = os.stat(queue.path("maildrop", queue_id)).st_size
    assert [found.size for found, _ in listed(queue)] == [size]  # 3.11 does not trust the size record there
    assert [found.size for found, _ in listed(queue, maildrop_sizes=True)] == [39]


def test_null_sender_and_expired(queue):
    add(queue, "hold", message(sender=""), 0o010)
    [(found, _)] = listed(queue)
    assert (found.sender, found.expire) == ("MAILER-DAEMON", True)


def test_extracted_recipients_are_found_and_finished_ones_are_not(queue):
    extracted = encode_record(Kind.RECIPIENT, b"late@example.com") + encode_record(Kind.DONE, b"done@example.com")
    add(queue, "active", message(content=(b"R\x03abc",) * 2000, extracted=extracted))
    [(_, recipients)] = listed(queue)
    assert [recipient.address for recipient in recipients] == ["a@example.com", "late@example.com"]


def test_reasons_come_from_the_logs_first(queue):
    queue_id = add(queue, "deferred", message(recipients=("a@example.com", "b@example.com")))
    note(queue, "defer", queue_id, b"recipient=a@example.com\nreason=no luck\n\n")
    note(queue, "bounce", queue_id, b"recipient=c@example.com\noriginal_recipient=cc\nreason=unknown\n\n")
    [(_, recipients)] = listed(queue)
    assert recipients == [
        Recipient("", "a@example.com", "defer", "no luck"),
        Recipient("cc", "c@example.com", "bounce", "unknown"),
        Recipient("orig-b@example.com", "b@example.com", "", ""),
    ]
    [(_, recipients)] = listed(queue, logs=("defer",))
    assert [recipient.log for recipient in recipients] == ["defer", ""]


def test_filter_of_duplicates_is_bounded(queue):
    names = [f"u{n}@example.com" for n in range(5)]
    queue_id = add(queue, "deferred", message(recipients=names))
    note(queue, "defer", queue_id, b"".join(b"recipient=%s\nreason=no\n\n" % name.encode() for name in names))
    assert [len(recipients) for _, recipients in listed(queue)] == [5]
    assert [len(recipients) for _, recipients in listed(queue, duplicates=2)] == [8]
    assert [len(recipients) for _, recipients in listed(queue, duplicates=0)] == [5]


def test_control_characters_are_not_shown(queue):
    add(queue, "active", message(sender="a\x1bb"))
    [(found, _)] = listed(queue)
    assert found.sender == '"a?b"'


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", None),
        (b"junk", "unexpected EOF in data"),
        (encode_record("R", b"x"), "missing sender address:  -- skipping remainder of this file"),
        (encode_record("S", b"a")[:2], "unexpected EOF in data, record type 83 length 1"),
    ],
)
def test_files_without_a_sender(queue, said, data, text):
    add(queue, "active", data)
    assert listed(queue) == []
    assert len(said) == (1 if text else 0)
    assert not text or text in said[0]


def test_damage_behind_the_sender(queue, said):
    add(queue, "maildrop", encode_record("S", b"a") + encode_record("R", b"b") + b"R\x20x")
    [(found, recipients)] = listed(queue)
    assert found.sender == "a"
    assert [recipient.address for recipient in recipients] == ["b"]
    assert "unexpected EOF in data, record type 82 length 32" in said[0]


def test_two_senders(queue, said):
    queue_id = add(queue, "active", encode_record("S", b"a") + encode_record("R", b"b") + encode_record("S", b"c"))
    [(_, recipients)] = listed(queue)
    assert len(recipients) == 1
    assert said == [f"warning: {queue_id}: duplicate sender address: c -- skipping remainder of this file"]


def test_bad_size_and_no_time(queue, said):
    data = encode_record("C", b"12 x") + encode_record("S", b"a")
    queue_id = add(queue, "active", data)
    os.utime(queue.path("active", queue_id), (T + 5, T + 5))
    [(found, _)] = listed(queue)
    assert (found.size, found.arrival) == (len(data), T + 5)
    assert said == [f"warning: {queue_id}: malformed size record: 12 x -- using file size instead"]


def test_incomplete_files_and_strange_names_are_passed_over(queue, said, tmp_path):
    queue.create("incoming", now=US).close()
    (tmp_path / "active" / "a.b.c").write_text("")
    os.chmod(tmp_path / "active" / "a.b.c", 0o700)
    assert listed(queue) == []
    assert said == []


@given(
    st.lists(st.tuples(st.sampled_from("CTASORpwMNLXE"), st.binary(max_size=30)), max_size=12),
    st.binary(max_size=10),
    st.binary(max_size=60),
)
@settings(max_examples=50)
def test_any_file_is_listed_or_passed_over(some, tail, reasons):
    with tempfile.TemporaryDirectory() as directory:
        for name in ("maildrop", "active", "incoming", "deferred", "hold", "defer", "bounce"):
            os.mkdir(f"{directory}/{name}")
        queue = Queue(directory)
        queue_id = add(queue, "active", b"".join(encode_record(*record) for record in some) + tail)
        note(queue, "defer", queue_id, reasons)
        previous = log.set_sink(lambda severity, text: None)
        try:
            assert len(listed(queue)) <= 1
        finally:
            log.set_sink(previous)
