"""The release of the Postfix around us is seen in its master, with nothing to configure."""

import os
import sys
from pathlib import Path

import pytest

from postfixpy.ipc import installed


def elf(*texts: bytes) -> bytes:
    return b"\x7fELF" + b"\0".join([b"", *texts, b""])


@pytest.mark.parametrize(
    ("program", "release"),
    [
        (elf(b"mail_version=3.7.11"), "3.7"),
        (elf(b"2.0.0", b"mail_version=3.5.25", b"5.6.7"), "3.5"),
        (elf(b"mail_version=3.9-20240101"), "3.9"),
        (elf(b"check_mail_version", b"3.11.7"), "3.11"),
        (elf(b"check_mail_version", b"3.11-RC2"), "3.11"),
        (elf(b"check_mail_version", b"3.12-20260821"), "3.11"),  # younger than any that we know
        (elf(b"3.11.7"), ""),  # somebody else's program
        (b"#!/usr/bin/python3\nmail_version=3.7.11\0", ""),
        (b"", ""),
    ],
)
def test_the_stamp_in_a_program(program: bytes, release: str) -> None:
    assert installed.stamp(program) == release


def test_the_master_beside_our_executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENERATION", raising=False)
    assert installed.release(str(tmp_path)) == ""
    (tmp_path / "master").write_bytes(elf(b"mail_version=3.8.4"))
    assert installed.release(str(tmp_path)) == "3.8"
    monkeypatch.setenv("GENERATION", "1")  # our parent is no master
    assert installed.release(str(tmp_path)) == "3.8"


def test_the_parent_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "master").write_bytes(elf(b"mail_version=3.8.4"))
    monkeypatch.setenv("GENERATION", "1")
    seen: list[bytes] = []
    monkeypatch.setattr(installed, "stamp", lambda program: seen.append(program[:4]) or "3.10")
    assert installed.release(str(tmp_path)) == "3.10"
    assert len(seen) == 1 and seen[0] == Path(f"/proc/{os.getppid()}/exe").read_bytes()[:4]


def test_nothing_is_looked_for_under_our_master(monkeypatch: pytest.MonkeyPatch) -> None:
    from postfixpy.services import run

    monkeypatch.setattr(sys, "argv", ["/usr/lib/postfix/sbin/smtp"])
    monkeypatch.setenv("POSTFIXPY_MASTER", "3.11")
    monkeypatch.delenv("POSTFIXPY_VERSION", raising=False)
    monkeypatch.setattr(installed, "release", lambda directory: "2.6")
    monkeypatch.setattr("postfixpy.ipc.runner.run", lambda argv, factory: 7)
    assert run.main(["smtp"]) == 7
    assert "POSTFIXPY_VERSION" not in os.environ
    monkeypatch.delenv("POSTFIXPY_MASTER")
    monkeypatch.setenv("POSTFIXPY_VERSION", "3.8")  # said so: postfixpy link --postfix-version
    assert run.main(["smtp"]) == 7 and os.environ["POSTFIXPY_VERSION"] == "3.8"
