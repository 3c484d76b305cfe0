"""postdrop(1): records on standard input, a maildrop file, two attribute lists on standard output."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfixpy.ipc.attributes import parse
from postfixpy.mail.records import RecordFile, encode_record

Record = tuple[str, str | bytes]
GOOD: list[Record] = [("S", "me"), ("R", "you"), ("M", ""), ("N", "text"), ("X", ""), ("E", "")]


def encode(records: list[Record]) -> bytes:
    return b"".join(encode_record(k, p.encode() if isinstance(p, str) else p) for k, p in records)


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "maildrop").mkdir()
        (directory / "public").mkdir()
        self.configure()

    def configure(self, *lines: str) -> None:
        text = f"compatibility_level = 3.11\nqueue_directory = {self.directory}\nmaillog_file = {self.directory}/log\n"
        text += "maillog_file_prefixes = /\ninet_interfaces = 127.0.0.1\nmyhostname = mail.example.com\n"
        (self.directory / "main.cf").write_text(text + "".join(line + "\n" for line in lines))

    @property
    def argv(self) -> list[str]:
        program = "import sys; from postfixpy.commands.postdrop import main; sys.exit(main(['x', *sys.argv[1:]]))"
        return [sys.executable, "-c", program]

    def run(self, data: bytes, *arguments: str) -> tuple[int, list[dict[str, str]], list[str]]:
        done = subprocess.run(
            [*self.argv, "-c", str(self.directory), *arguments],
            input=data,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        lists = []
        position = 0
        while (parsed := parse(done.stdout, position)) is not None:
            lists.append(dict(parsed[0]))
            position = parsed[1]
        return done.returncode, lists, done.stderr.decode().splitlines()

    def files(self) -> list[list[str]]:
        found = []
        for path in (self.directory / "maildrop").iterdir():
            with path.open("rb") as file:
                found.append([r.kind + r.payload.decode() for r in RecordFile(file, str(path))])
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


UID = os.getuid()
NO_PICKUP = "postdrop: warning: unable to look up public/pickup: No such file or directory"


def test_a_message(place: Place) -> None:
    status, lists, err = place.run(encode([("T", "1 1"), *GOOD]), "-r")
    assert (status, err) == (0, [NO_PICKUP])
    [path] = (place.directory / "maildrop").iterdir()
    assert lists == [
        {"protocol": "postdrop_protocol", "queue_id": path.name},
        {"status": "0", "reason": ""},
    ]
    assert path.stat().st_mode & 0o7777 == 0o744
    [records] = place.files()
    assert records[1:] == ["Sme", "Ryou", "M", "Ntext", "X", "E"]
    assert abs(int(records[0][1:].split()[0]) - time.time()) < 60


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([("S", "me"), ("O", "x")], "unexpected record type: 79"),
        ([("N", "x")], "unexpected record type: 78"),
        ([("S", "me"), ("M", ""), ("A", "x=y")], "unexpected record type: 65"),
        ([("S", "me\nyou")], "null or line break in 'sender' record type: me?you"),
        ([("R", "a\0b")], "null or line break in 'recipient' record type: a?b"),
        ([("p", "0")], "unexpected record type: 112"),
        ([("S", "x" * 3000)], "malformed input"),
    ],
)
def test_records_that_users_may_not_send(place: Place, records: list[Record], text: str) -> None:
    status, lists, err = place.run(encode([*records, *GOOD]))
    assert (status, len(lists)) == (1, 1)
    assert err[-1] == f"postdrop: fatal: uid={UID}: {text}"
    assert place.files() == []


def test_attributes_are_filtered(place: Place) -> None:
    attributes = [
        "encoding=8bit",
        "encoding=evil",
        "rewrite_context=remote",
        "rewrite_context=x",
        "notify_flags=2",
        "trace_flags=1024",
        "trace_flags=256",
        "sasl_username=root",
        "nonsense",
    ]
    _, _, err = place.run(encode([("S", "me"), *(("A", a) for a in attributes), *GOOD[1:]]))
    [records] = place.files()
    assert [r[1:] for r in records if r[0] == "A"] == [
        "encoding=8bit",
        "rewrite_context=remote",
        "notify_flags=2",
        "trace_flags=1024",
    ]
    assert err[:-1] == [
        f"postdrop: warning: uid={UID}: ignoring attribute record: encoding=evil",
        f"postdrop: warning: uid={UID}: ignoring attribute record: rewrite_context=x",
        f"postdrop: warning: uid={UID}: ignoring unexpected trace flags: 256",
        f"postdrop: warning: uid={UID}: ignoring attribute record: sasl_username=root",
        f"postdrop: warning: uid={UID}: ignoring malformed record: missing '=' after attribute name: nonsense",
    ]


def test_input_that_ends_early_is_cancelled(place: Place) -> None:
    status, lists, err = place.run(encode(GOOD[:-1]))
    assert (status, len(lists), err) == (0, 1, [])
    assert place.files() == []
    status, _, err = place.run(encode(GOOD[:-1]) + b"N\x05ab")
    assert status == 1
    assert err[-1] == f"postdrop: fatal: uid={UID}: malformed input"
    assert place.files() == []


@pytest.mark.parametrize("records", [[r for r in GOOD if r[0] != "S"], [r for r in GOOD if r[0] != "R"]])
def test_sender_and_recipient_are_required(place: Place, records: list[Record]) -> None:
    status, lists, _ = place.run(encode(records))
    assert (status, lists[1]["status"]) == (1, "1")
    assert place.files() == []


def test_size_limit(place: Place) -> None:
    place.configure("message_size_limit = 500")
    status, lists, err = place.run(encode([*GOOD[:3], *[("N", "x" * 100)] * 10, *GOOD[4:]]))
    assert (status, lists[1]["status"]) == (4, "4")
    assert err == [f"postdrop: warning: uid={UID}: File too large"]
    assert place.files() == []


def test_usage(place: Place) -> None:
    status, _, err = place.run(b"", "-z")
    assert (status, err) == (1, ["postdrop: fatal: usage: postdrop [-c config_dir] [-v]"])


def test_users_that_may_not_submit(place: Place) -> None:
    place.configure("authorized_submit_users = nobody-at-all")
    status, lists, err = place.run(encode(GOOD))
    assert (status, lists) == (1, [])
    assert err[0].startswith("postdrop: fatal: User ") and err[0].endswith("is not allowed to submit mail")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_remove_the_file(place: Place, signum: int) -> None:
    process = subprocess.Popen(
        [*place.argv, "-c", str(place.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(encode(GOOD[:4]))
    process.stdin.flush()
    assert process.stdout.read(1) == b"p"  # the announcement: the file is there
    assert len(place.files()) == 1
    process.send_signal(signum)
    assert process.wait() == signum
    process.stdin.close()
    process.stdout.close()
    assert place.files() == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 6))
def test_no_input_gets_records_through_that_are_not_allowed(data: bytes, good: int) -> None:
    """Whatever bytes follow a good beginning: an error in our own words, or a file of allowed records."""
    from types import SimpleNamespace

    from postfixpy.commands.postdrop import Maildrop
    from postfixpy.errors import FatalError
    from postfixpy.mail.records import POST_CONTENT, POST_ENVELOPE, POST_EXTRACT, RecordError, RecordParser

    drop = Maildrop.__new__(Maildrop)
    view = SimpleNamespace(message_size_limit=0, local_login_sender_maps="static:*")
    written: list[str] = []
    drop.__dict__.update(_view=view, _uid=1, _limit=0, _segment=0, _senders=0, _recipients=0, status=0, reason="")
    drop.__dict__.update(_problem=None, _append=lambda record: written.append(chr(record[0])))
    parser = RecordParser("stdin", 2048)
    parser.feed(encode(GOOD[:good]) + data)
    try:
        for kind, payload in parser:
            drop.add(kind, payload)
            if drop.complete:
                break
    except (FatalError, RecordError):
        pass
    assert set(written) <= set(POST_ENVELOPE + POST_CONTENT + POST_EXTRACT)
