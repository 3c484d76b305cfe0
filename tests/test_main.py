"""The edge: how a command ends whose output cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from postfixpy.commands import link

POSTFIXPY = [sys.executable, "-m", "postfixpy"]
COMMANDS = [("--help",), ("--version",), ("postconf", "-d"), ("postconf", "-h", "mail_name"), ("postconf", "-m")]


@pytest.mark.parametrize("words", COMMANDS)
def test_output_that_cannot_be_written(words: tuple[str, ...]) -> None:
    name = words[0] if words[0] == "postconf" else "postfixpy"
    with open("/dev/full", "w") as full:
        done = subprocess.run([*POSTFIXPY, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    expected = f"{name}: fatal: output write error: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_has_left(words: tuple[str, ...]) -> None:
    with subprocess.Popen([*POSTFIXPY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_closed_streams() -> None:
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- ', "sh", *POSTFIXPY, "postconf", "-d"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_of_link(tmp_path: Path) -> None:
    assert link.main(["link", "--commands", str(tmp_path)]) == 0
    with open("/dev/full", "w") as full:
        command = [str(tmp_path / "postconf"), "-d"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "postconf: fatal: output write error: No space left on device\n")
