"""pickup(8): maildrop files in, records for cleanup out; a file goes only after cleanup has answered for it."""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from postfixpy import config, log
from postfixpy.ipc.attributes import encode as encode_list
from postfixpy.ipc.attributes import parse
from postfixpy.ipc.cleanup import (
    FLAG_AUTOUTF8,
    FLAG_BOUNCE,
    FLAG_FILTER,
    FLAG_MILTER,
    FLAGS_EXTERNAL,
    STAT_BAD,
    STAT_CONT,
    STAT_RCPT,
    STAT_WRITE,
)
from postfixpy.ipc.service import Context
from postfixpy.mail.records import RecordParser
from postfixpy.services.pickup import Pickup

from .cleanup_harness import MAIN, QUEUES, Record, encode

FILE: list[Record] = [("T", "1700000000 0"), ("S", "me"), ("R", "you"), ("M", ""), ("N", "text"), ("X", ""), ("E", "")]


class Cleanup:
    """A cleanup service that keeps what it is told and gives the verdicts it was given."""

    def __init__(self) -> None:
        self.messages: list[list[str]] = []
        self.flags: list[int] = []
        self.verdicts: list[int] = []
        self.hang_up = False
        self.serving: list[asyncio.Task[Any]] = []
        self.files_at_verdict: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        await self.take(reader, writer)
        writer.close()
        await writer.wait_closed()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_list([("protocol", "cleanup_protocol"), ("queue_id", "QID")]))
        buffer = b""
        while (parsed := parse(buffer)) is None:
            data = await reader.read(65536)
            if not data:
                writer.close()
                return
            buffer += data
        self.flags.append(int(parsed[0][0][1]))
        parser = RecordParser()
        parser.feed(buffer[parsed[1] :])
        records: list[str] = []
        self.messages.append(records)
        while not records or records[-1] != "E":
            records += [kind + payload.decode() for kind, payload in parser]
            if records and records[-1] == "E":
                break
            data = await reader.read(65536)
            if not data or self.hang_up:
                writer.close()
                return
            parser.feed(data)
        self.files_at_verdict.append(len(os.listdir("maildrop")))
        status = self.verdicts.pop(0) if self.verdicts else 0
        writer.write(encode_list([("status", status), ("reason", "")]))
        writer.close()


class Place:
    def __init__(self, directory: Path, lines: list[str]) -> None:
        self.directory = directory
        self.lines = lines
        self.cleanup = Cleanup()
        self.configure()

    def configure(self, **parameters: str) -> None:
        text = {**MAIN, "queue_directory": str(self.directory), "mail_owner": "nobody-like-that", **parameters}
        (self.directory / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in text.items()))

    def drop(self, records: list[Record] | bytes, name: str = "ABCDEF", mode: int = 0o744) -> Path:
        path = self.directory / "maildrop" / name
        path.write_bytes(records if isinstance(records, bytes) else encode(records))
        path.chmod(mode)
        return path

    def scan(self) -> None:
        """What one trigger does."""

        async def main() -> None:
            server = await asyncio.start_unix_server(self.cleanup.serve, "public/cleanup")
            view = config.load(str(self.directory)).view()
            service = Pickup(Context(config=None, view=view, program="pickup", service="pickup"))  # type: ignore[arg-type]
            await service.pre_jail()
            await service.start()
            await service.triggered(b"W")
            await service.stop()
            await asyncio.gather(*self.cleanup.serving, return_exceptions=True)
            server.close()
            os.unlink("public/cleanup")

        asyncio.run(main())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in QUEUES:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("postfixpy.services.pickup.mail_date", lambda when: "DATE")
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(text if severity == "info" else f"{severity}: {text}"))
    yield Place(tmp_path, lines)
    log.set_sink(previous)


UID = os.getuid()
RECEIVED = [f"NReceived: by mail.example.com (Postfix, from userid {UID})", "N\tid QID; DATE"]


def test_a_submission(place: Place) -> None:
    path = place.drop(FILE)
    place.scan()
    assert place.cleanup.messages == [["T1700000000 0", "Sme", "Ryou", "M", *RECEIVED, "Ntext", "X", "E"]]
    assert place.cleanup.flags == [FLAG_BOUNCE | FLAGS_EXTERNAL | FLAG_AUTOUTF8]
    assert not path.exists()
    assert place.cleanup.files_at_verdict == [1]
    assert place.lines == [f"QID: uid={UID} from=<me>"]


def test_files_that_are_not_ready(place: Place) -> None:
    unfinished = place.drop(FILE, "AAAAAA", 0o644)
    odd = place.drop(FILE, "not-an-id")
    (place.directory / "maildrop" / "BBBBBB").symlink_to(unfinished)
    place.scan()
    assert place.cleanup.messages == []
    assert unfinished.exists() and odd.exists()
    assert place.lines == ["warning: maildrop/BBBBBB: uid 0: not a regular file".replace("uid 0", f"uid {UID}")]


def test_a_file_with_two_names_is_not_taken(place: Place) -> None:
    path = place.drop(FILE)
    os.link(path, place.directory / "saved-elsewhere")
    place.scan()
    assert path.exists() and place.cleanup.messages == []
    assert place.lines == ["warning: open input file maildrop/ABCDEF: file has 2 hard links"]


def test_content_that_begins_with_a_blank(place: Place) -> None:
    place.drop([*FILE[:4], ("N", " folded"), *FILE[5:]])
    place.scan()
    assert place.cleanup.messages[0][4:] == [*RECEIVED, "N", "N folded", "X", "E"]


def test_filters_of_requeued_mail_are_dropped_and_ours_is_added(place: Place) -> None:
    place.configure(content_filter="smtp:[127.0.0.1]:10025")
    place.drop(
        [
            *FILE[:2],
            ("L", "old:filter"),
            (">", "old@redirect"),
            *FILE[2:6],
            ("A", "message_id=<x>"),
            ("A", "notify_flags=2"),
            ("L", "old"),
            ("R", "late"),
            ("E", ""),
        ]
    )
    place.scan()
    records = place.cleanup.messages[0]
    assert records[:3] == ["Lsmtp:[127.0.0.1]:10025", "T1700000000 0", "Sme"]
    assert records[records.index("X") :] == ["X", "Anotify_flags=2", "Rlate", "E"]


def test_requeued_mail(place: Place) -> None:
    import pwd

    place.configure(mail_owner=pwd.getpwuid(UID).pw_name)
    place.drop(FILE, mode=0o700)
    place.scan()
    assert place.lines == [f"QID: uid={UID} from=<me> orig_id=ABCDEF"]
    assert not place.cleanup.flags[0] & (FLAG_MILTER | FLAG_AUTOUTF8)


def test_receive_override_options(place: Place) -> None:
    place.configure(receive_override_options="no_header_body_checks, no_milters")
    place.drop(FILE)
    place.scan()
    assert not place.cleanup.flags[0] & (FLAG_FILTER | FLAG_MILTER)


def test_an_old_file_without_arrival_time(place: Place) -> None:
    path = place.drop(FILE[1:])
    os.utime(path, (1_700_000_000, 1_700_000_000))
    place.scan()
    assert place.cleanup.messages[0][:2] == ["T1700000000", "Sme"]
    days = int((time.time() - 1_700_000_000) // 86400)
    assert f"warning: QID: message maildrop/ABCDEF has been queued for {days} days" in place.lines


def test_a_file_from_the_future(place: Place) -> None:
    path = place.drop(FILE)
    os.utime(path, (time.time() + 90000, time.time() + 90000))
    place.scan()
    assert any("seconds into the future" in line for line in place.lines)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode(FILE[:-1]), "unexpected or malformed record type -1"),
        (encode(FILE)[:-6], "unexpected or malformed record type -2"),
        (encode([("T", "1 0"), ("N", "x")]), "unexpected or malformed record type 78"),
        (encode([*FILE[:4], ("S", "x"), *FILE[4:]]), "unexpected or malformed record type 83"),
        (encode([r for r in FILE if r[0] != "S"]), "no envelope sender"),
        (b"\0\0" + encode(FILE), "unexpected or malformed record type 0"),
        (b"", "unexpected or malformed record type -1"),
    ],
)
def test_malformed_files_are_kept_aside(place: Place, data: bytes, text: str) -> None:
    path = place.drop(data)
    place.scan()
    assert not path.exists()
    assert (place.directory / "corrupt" / "ABCDEF").read_bytes() == data
    assert any(text in line for line in place.lines)
    assert place.lines[-1] == 'warning: saving corrupt file "ABCDEF" from queue "maildrop" to queue "corrupt"'


@pytest.mark.parametrize(
    ("status", "stays", "text"),
    [
        (STAT_WRITE, True, "queue file write error"),
        (STAT_CONT, True, "message content rejected"),
        (STAT_RCPT, False, "no recipients specified"),
        (STAT_BAD, False, "internal protocol error"),
    ],
)
def test_what_cleanup_does_not_take(place: Place, status: int, stays: bool, text: str) -> None:
    path = place.drop(FILE)
    place.cleanup.verdicts = [status]
    place.scan()
    # After a write error the file keeps the name of the message: the next scan sees whether that was accepted.
    left = path.with_name("QID") if status == STAT_WRITE else path
    assert left.exists() == stays
    assert f"warning: maildrop/ABCDEF: error writing QID: {text}" in place.lines


def test_cleanup_that_dies(place: Place) -> None:
    path = place.drop([*FILE[:4], *[("N", "x" * 1000)] * 2000, *FILE[5:]])
    place.cleanup.hang_up = True
    place.scan()
    assert not path.exists()
    again = path.with_name("QID")  # whether that message was accepted, the next scan will see
    place.cleanup.hang_up = False
    place.cleanup.serving.clear()
    place.scan()
    assert not again.exists()
    assert len(place.cleanup.messages) == 2


@pytest.mark.parametrize("queue", ["incoming", "active", "deferred", "hold"])
def test_a_message_that_was_accepted_is_not_submitted_again(place: Place, queue: str) -> None:
    """Pickup was killed after cleanup had answered, and before it removed the file."""
    path = place.drop(FILE, "A0000012345")
    hashed = "A/" if queue == "deferred" else ""
    there = place.directory / queue / (hashed + path.name)
    there.parent.mkdir(exist_ok=True, parents=True)
    there.touch(0o700)
    place.scan()
    assert not path.exists()
    assert place.cleanup.messages == []


def test_a_message_whose_cleanup_was_killed_is_submitted_again(place: Place) -> None:
    path = place.drop(FILE, "A0000012345")
    there = place.directory / "incoming" / path.name
    there.touch(0o600)
    place.scan()
    assert not path.exists()
    assert len(place.cleanup.messages) == 1


def test_a_message_that_cleanup_is_writing_is_left_alone(place: Place) -> None:
    path = place.drop(FILE, "A0000012345")
    there = place.directory / "incoming" / path.name
    there.touch(0o600)
    # Such locks are between processes.
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('locked'); input()"
    with subprocess.Popen([sys.executable, "-c", code, there], stdin=-1, stdout=-1, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "locked\n"
        place.scan()
        writer.communicate("\n")
    assert path.exists()
    assert place.cleanup.messages == []


def test_a_file_that_another_pickup_is_at_is_left_alone(place: Place) -> None:
    with open(place.drop(FILE)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        place.scan()
    assert place.cleanup.messages == []


def test_many_files_in_one_scan(place: Place) -> None:
    for number in range(30):
        place.drop(FILE, f"A{number:05d}")
    place.scan()
    assert len(place.cleanup.messages) == 30
    assert os.listdir(place.directory / "maildrop") == []
