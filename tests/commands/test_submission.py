"""Posting through a postdrop command, for users who may not write the maildrop queue."""

import itertools
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from postfixpy import log
from postfixpy.commands.postdrop import Maildrop
from postfixpy.commands.submission import Command, Lines, open_drop
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.mail.records import RecordFile


@pytest.fixture
def postdrop(tmp_path: Path) -> Path:
    """An executable postdrop: ours."""
    for name in ("maildrop", "public"):
        (tmp_path / name).mkdir()
    (tmp_path / "main.cf").write_text(
        f"queue_directory = {tmp_path}\nmaillog_file = {tmp_path}/log\nmaillog_file_prefixes = /\n"
        "inet_interfaces = 127.0.0.1\nmessage_size_limit = 5000\ncompatibility_level = 3.11\n"
    )
    script = tmp_path / "postdrop"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {os.getcwd()!r})\n"
        f"from postfixpy.commands.postdrop import main\nsys.exit(main(['x', '-c', {str(tmp_path)!r}, *sys.argv[1:]]))\n"
    )
    script.chmod(0o755)
    return script


def fill(drop: Command, lines: int = 1) -> None:
    for kind, payload in (("S", b"me"), ("R", b"you"), ("M", b"")):
        drop.add(kind, payload)
    for _ in range(lines):
        drop.add("N", b"x" * 100)
    drop.add("X", b"")
    drop.add("E", b"")


def files(postdrop: Path) -> list[Path]:
    return list((postdrop.parent / "maildrop").iterdir())


def test_a_message_through_the_command(postdrop: Path, capfd: Any) -> None:
    drop = Command(str(postdrop), "me(0)")
    fill(drop)
    assert drop.finish() == 0
    [path] = files(postdrop)
    assert drop.queue_id == path.name
    with path.open("rb") as file:
        assert [record.kind for record in RecordFile(file, str(path))] == ["T", "S", "R", "M", "N", "X", "E"]


def test_its_refusal_is_passed_on(postdrop: Path, capfd: Any) -> None:
    drop = Command(str(postdrop), "me(0)")
    fill(drop, 2000)
    assert drop.finish() == 4
    assert files(postdrop) == []


def test_cancelling_leaves_nothing(postdrop: Path, capfd: Any) -> None:
    drop = Command(str(postdrop), "me(0)")
    drop.add("S", b"me")
    drop.cancel()
    assert files(postdrop) == []


def test_a_command_that_is_not_postdrop(tmp_path: Path) -> None:
    script = tmp_path / "other"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(FatalError, match=r"me\(0\): unable to execute .*/other -r: Success"):
        Command(str(script), "me(0)")


def view_of(postdrop: Path, **changes: Any) -> Any:
    import grp
    import pwd

    found = {
        "command_directory": str(postdrop.parent),
        "queue_directory": str(postdrop.parent),
        "mail_owner": pwd.getpwuid(os.geteuid()).pw_name,
        "setgid_group": grp.getgrgid(postdrop.stat().st_gid).gr_name,
        "message_size_limit": 0,
        "line_length_limit": 2048,
        "hash_queue_names": "",
        "hash_queue_depth": 1,
        "enable_long_queue_ids": False,
        "local_login_sender_maps": "static:*",
    }
    return SimpleNamespace(**found | changes)


def test_who_may_write_the_queue_does(postdrop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(postdrop.parent)
    direct = open_drop(view_of(postdrop), 1, "me(1)")
    assert isinstance(direct, Maildrop)
    direct.cancel()


@pytest.fixture
def locked(postdrop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue as a real installation has it, which this user may not write."""
    monkeypatch.chdir(postdrop.parent)
    (postdrop.parent / "maildrop").chmod(0o1730)
    postdrop.chmod(0o2755)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != "maildrop" and access(path, mode))

    def create(self: Any, *_: Any, **__: Any) -> Any:
        raise TemporaryError("mail_queue_enter: create file maildrop/1.2: Permission denied")

    monkeypatch.setattr("postfixpy.mail.queue.Queue.create", create)
    return postdrop


def test_the_queue_of_an_installation_is_opened_by_its_postdrop(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postfixpy.commands.submission.Command", lambda path, who: (path, who))
    drop: Any = open_drop(view_of(locked), 1, "me(1)")
    assert drop == (str(locked), "me(1)")


@pytest.mark.parametrize("what", ["owner", "group", "unknown", "maildrop", "postdrop", "no postdrop"])
def test_a_postdrop_of_another_queue_is_not_run(
    locked: Path, what: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    view = view_of(locked)
    if what == "owner":
        view.mail_owner = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.geteuid())
    elif what == "group":
        view.setgid_group = next(g.gr_name for g in grp.getgrall() if g.gr_gid != locked.stat().st_gid)
    elif what == "unknown":
        view.mail_owner = "nobody-at-all"
    elif what == "maildrop":
        (locked.parent / "maildrop").chmod(0o700)
    elif what == "postdrop":
        locked.chmod(0o755)
    else:
        locked.unlink()
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(text))
    try:
        with pytest.raises(
            FatalError, match=r"me\(1\): mail_queue_enter: create file maildrop/.*: Permission den"
        ) as found:
            open_drop(view, 1, "me(1)")
    finally:
        log.set_sink(previous)
    assert found.value.status == 75
    assert f"cannot write to {locked.parent}/maildrop" in lines[0] and '"postfix check"' in lines[0]


def test_a_queue_that_was_not_made_yet(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(locked.parent)
    (locked.parent / "maildrop").rmdir()
    with pytest.raises(FatalError, match=r"me\(1\): mail_queue_enter: create file maildrop/.*: No such file or direc"):
        open_drop(view_of(locked), 1, "me(1)")


def test_records_and_blocks_are_the_same_lines(tmp_path: Path) -> None:
    """Whatever the reads are, both ways through `Lines` give the same."""
    data = b"".join(b"%d\r\n" % n + b"z" * (n * 7 % 400) + b"\n" for n in range(3000)) + b"q" * 5000 + b"\n.\nnot this"
    path = tmp_path / "input"
    path.write_bytes(data)

    def lines() -> Lines:
        fd = os.open(path, os.O_RDONLY)
        opened.append(fd)
        return Lines(300, "always", True, fd)

    opened: list[int] = []
    from postfixpy.mail.records import RecordParser

    one = list(lines().records())
    parser = RecordParser()
    for block in lines().blocks():
        parser.feed(block)
    assert list(parser) == one
    mixed = lines()
    taken = list(itertools.islice(mixed.records(), 10))
    for block in mixed.blocks():
        parser.feed(block)
    assert taken + list(parser) == one
    text = b"".join(payload + (b"\n" if kind == "N" else b"") for kind, payload in one)
    assert text == data.replace(b"\r\n", b"\n").partition(b"\n.\n")[0] + b"\n"
    for fd in opened:
        os.close(fd)
