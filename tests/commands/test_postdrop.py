"""postdrop(1): records on standard input, a maildrop file, two attribute lists on standard output."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.ipc.attributes import parse
from postfixpy.mail.records import RecordFile, RecordParser, encode_record

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
    program = f"import signal; signal.signal({int(signum)}, signal.SIG_DFL); {place.argv[2]}"  # nohup
    with subprocess.Popen(
        [sys.executable, "-c", program, "-c", str(place.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(encode(GOOD[:4]))
        process.stdin.flush()
        assert process.stdout.read(1) == b"p"  # the announcement: the file is there
        assert len(place.files()) == 1
        process.send_signal(signum)
        assert process.wait() == signum
    assert place.files() == []


LIMIT = 2048
PAYLOADS = st.one_of(st.binary(max_size=20), st.integers(LIMIT - 4, LIMIT + 4).map(lambda size: b"x" * size))


def records_of(kinds: str) -> st.SearchStrategy[list[tuple[str, bytes]]]:
    return st.lists(st.tuples(st.sampled_from(kinds), PAYLOADS), max_size=4)


@settings(max_examples=150)
@given(records_of("CFSRVAin"), records_of("NL"), records_of("AR"), st.booleans())
def test_pickup_reads_what_maildrop_accepts(
    envelope: list[tuple[str, bytes]], content: list[tuple[str, bytes]], extracted: list[tuple[str, bytes]], piped: bool
) -> None:
    from postfixpy.services.pickup import CorruptError

    records = [*envelope, ("M", b""), *content, ("X", b""), *extracted, ("E", b"")]
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        os.mkdir("maildrop")
        path = dropped(records, piped=piped)
        if any(len(payload) > LIMIT for _, payload in records):
            assert path is None
        if path is None:
            assert os.listdir("maildrop") == []
            return
        try:
            told = picked_up(path)
        except CorruptError:
            pytest.fail("pickup cannot read it")
        assert [record for record in told if record[0] in "NL"][2:] in (content, [("N", b""), *content])


def dropped(records: list[tuple[str, bytes]], *, piped: bool) -> str | None:
    """The path of the file, or None when it was refused. `piped`: as the command reads them."""
    from types import SimpleNamespace
    from typing import cast

    from postfixpy.commands.postdrop import Maildrop, MalformedError
    from postfixpy.config import View

    view = SimpleNamespace(
        message_size_limit=0,
        line_length_limit=LIMIT,
        hash_queue_names="",
        hash_queue_depth=1,
        enable_long_queue_ids=False,
        local_login_sender_maps="static:*",
        pickup_service_name="pickup",
    )
    drop = Maildrop(cast(View, view), 1, time.time_ns() // 1000)
    previous = log.set_sink(lambda severity, text: None)
    read, write = os.pipe()
    try:
        os.write(write, b"".join(encode_record(kind, payload) for kind, payload in records))
        os.close(write)
        if piped:
            assert drop.copy(read)
        else:
            for kind, payload in records:
                drop.add(kind, payload)
        return drop.path if drop.finish() == 0 else None
    except MalformedError:
        drop.cancel()
        return None
    finally:
        os.close(read)
        log.set_sink(previous)


def picked_up(path: str) -> list[tuple[str, bytes]]:
    """The records that pickup gives to cleanup."""
    import asyncio
    from types import SimpleNamespace
    from typing import Any

    from postfixpy.mail.queue import QueueFile
    from postfixpy.services.pickup import Hand

    told: list[tuple[str, bytes]] = []

    class Cleanup:
        queue_id = "ID"

        def record(self, kind: str, payload: bytes | str = b"") -> None:
            told.append((kind, payload.encode() if isinstance(payload, str) else payload))

        def line(self, text: str = "") -> None:
            self.record("N", text)

        def raw(self, records: bytes) -> None:
            parser = RecordParser("raw")
            parser.feed(records)
            told.extend(parser)

        async def drain(self) -> None:
            pass

        async def verdict(self) -> Any:
            return SimpleNamespace(ok=True)

    view = SimpleNamespace(
        line_length_limit=LIMIT,
        content_filter="",
        myhostname="mail.example.com",
        mail_name="Postfix",
        info_log_address_format="internal",
    )
    service: Any = SimpleNamespace(view=view, owner=-1)
    hand = Hand(service, path, os.stat(path))
    submission: Any = Cleanup()
    hand.submission = submission
    with QueueFile(os.open(path, os.O_RDONLY), "maildrop", "", path) as file:
        assert asyncio.run(hand._copy(file))
    return told


def test_a_signal_after_the_commit_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickup may have the message from the moment its mode says so: it stays, and all is well."""
    program = (
        "import os, signal, sys\n"
        "from postfixpy.commands.postdrop import main\n"
        "from postfixpy.mail.queue import QueueFile\n"
        "commit = QueueFile.commit\n"
        "def interrupted(self, mode):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    commit(self, mode)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "QueueFile.commit = interrupted\n"
        "sys.exit(main(['x', *sys.argv[1:]]))\n"
    )
    monkeypatch.setattr(Place, "argv", [sys.executable, "-c", program])
    status, lists, _ = place.run(encode(GOOD))
    assert (status, lists[1]["status"], len(place.files())) == (0, "0", 1)


@settings(max_examples=200)
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
    drop.__dict__.update(_problem=None, _line_limit=2048, _append=lambda record: written.append(chr(record[0])))
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
