"""Posting through a postdrop command, for users who may not write the maildrop queue."""

import itertools
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from postfixpy.commands.postdrop import Maildrop
from postfixpy.commands.submission import Command, Lines, open_drop
from postfixpy.errors import FatalError
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


def test_which_way_is_taken(postdrop: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(postdrop.parent)
    view: Any = SimpleNamespace(
        command_directory=str(postdrop.parent),
        message_size_limit=0,
        hash_queue_names="",
        hash_queue_depth=1,
        enable_long_queue_ids=False,
        local_login_sender_maps="static:*",
    )
    direct = open_drop(view, 1, "me(1)")
    assert isinstance(direct, Maildrop)
    direct.cancel()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != "maildrop" and access(path, mode))
    postdrop.chmod(0o2755)
    command = open_drop(view, 1, "me(1)")
    assert isinstance(command, Command)
    command.cancel()
    (postdrop.parent / "maildrop").rmdir()
    postdrop.chmod(0o755)
    with pytest.raises(FatalError, match=r"me\(1\): mail_queue_enter: create file maildrop/.*: No such file or direc"):
        open_drop(view, 1, "me(1)")


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
