"""Edits of main.cf, and the replacement of files."""

import os
from pathlib import Path

import pytest
from hypothesis import given

from postfixpy.config.inspect.edit_main import Replacement, Rules, edit_main, edited
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError

from . import generated

NEWEST = database("3.11", "upstream")


def edit(directory: Path, mode: str, *arguments: str, text: str) -> str:
    (directory / "main.cf").write_text(text)
    edit_main(mode, list(arguments), str(directory), NEWEST)
    return (directory / "main.cf").read_text()


def test_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_text("a = 1\n")
    path.chmod(0o600)
    (tmp_path / "main.cf.tmp").write_text("stale")
    os.link(tmp_path / "main.cf", tmp_path / "other")
    edit_main("-e", ["a=2"], str(tmp_path), NEWEST)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("a = 2\n", 0o644)
    assert (tmp_path / "other").read_text() == "a = 1\n"
    assert sorted(os.listdir(tmp_path)) == ["main.cf", "other"]


def test_an_error_leaves_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("a = 1\n")
    with pytest.raises(ZeroDivisionError), Replacement(str(tmp_path / "main.cf")) as replacement:
        replacement.write(["x\n"])
        raise ZeroDivisionError
    assert (tmp_path / "main.cf").read_text() == "a = 1\n"
    with pytest.raises(FatalError, match=r"/none/main\.cf\.tmp: No such file"):
        Replacement(str(tmp_path / "none/main.cf"))
    with pytest.raises(FatalError, match=r"main\.cf for reading: No such file or directory$"):
        os.mkdir(tmp_path / "empty")
        edit_main("-e", ["a=1"], str(tmp_path / "empty"), NEWEST)
    assert os.listdir(tmp_path / "empty") == []


def test_edits(tmp_path: Path) -> None:
    text = "# top\na = 1\n  2\n  # in\n  3\nb=4\na = 5"
    assert edit(tmp_path, "-e", "a=x", "z=1", "c=2", text=text) == "# top\na = x\n  # in\nb=4\na = x\nc = 2\nz = 1\n"
    assert edit(tmp_path, "-X", "a", "nothing", text=text) == "# top\n  # in\nb=4\n"
    assert edit(tmp_path, "-#", "a", text=text) == "# top\n#a = 1\n#  2\n  # in\n#  3\nb=4\n#a = 5\n"
    assert edit(tmp_path, "-e", "b=", text=text).splitlines()[5] == "b = "


@pytest.mark.parametrize(
    ("mode", "argument", "message"),
    [
        ("-e", "x", "missing '=' after attribute name: \"x\""),
        ("-e", "a=b\nc=d", "-e, -X, or -# accepts no multi-line input"),
        ("-e", " #a=b", "-e, -X, or -# accepts no comment input"),
        ("-X", "a=b", "-X or -# requires parameter names without value"),
        ("-#", "", "-X or -# requires non-blank parameter names"),
    ],
)
def test_refused(tmp_path: Path, mode: str, argument: str, message: str) -> None:
    (tmp_path / "main.cf").write_text("a = 1\n")
    with pytest.raises(FatalError) as error:
        edit_main(mode, [argument], str(tmp_path), NEWEST)
    assert str(error.value) == message
    assert os.listdir(tmp_path) == ["main.cf"]


@given(generated.MAIN, generated.NAMES)
def test_an_edit_is_stable(text: str, name: str) -> None:
    text = text.replace("\0", "")  # a NUL makes the real one lose ends of lines, and ours
    rules = Rules(NEWEST)
    once = "".join(edited(text, "-e", [(name, "v")], "F", rules))
    assert f"{name} = v\n" in once
    assert "".join(edited(once, "-e", [(name, "v")], "F", rules)) == once
