"""Edits of master.cf. show_master.py is what writes the rows; its layout is tested here and in test_postconf.py."""

import os
from pathlib import Path

import pytest

from postfixpy.config.inspect.edit_master import FIELD, ROW, SETTING, edit_master
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError

NEWEST = database("3.11", "upstream")
TEXT = """\
# services
smtp      inet  n       -       n       -       -       smtpd
  -o biff=no
# comment
  -o relayhost=x
smtp      unix  -       -       n       -       -       smtp
"""
INET = "smtp       inet  n       -       n       -       -       smtpd\n    -o biff=no\n    -o relayhost=x\n"
UNIX = "smtp      unix  -       -       n       -       -       smtp\n"


def edit(directory: Path, what: str, mode: str, *arguments: str) -> str:
    (directory / "master.cf").write_text(TEXT)
    edit_master(what, mode, list(arguments), str(directory), NEWEST)
    return (directory / "master.cf").read_text()


def test_rows(tmp_path: Path) -> None:
    new = "smtp inet n - y - - postscreen -o { a = b c }"
    shown = "smtp       inet  n       -       y       -       -       postscreen\n    -o {a=b c}\n"
    assert edit(tmp_path, ROW, "-e", f"smtp/inet={new}") == "# services\n" + shown + "# comment\n" + UNIX
    assert edit(tmp_path, ROW, "-e", f"none/unix={new}") == "# services\n" + shown + "# comment\n" + UNIX
    assert edit(tmp_path, ROW, "-X", "smtp/inet") == "# services\n# comment\n" + UNIX
    assert edit(tmp_path, ROW, "-#", "*/unix").endswith("#" + UNIX)


def test_fields(tmp_path: Path) -> None:
    changed = INET.replace("n       -       -       smtpd", "y       -       -       smtpd")
    assert edit(tmp_path, FIELD, "-e", "smtp/inet/chroot=y") == "# services\n# comment\n" + changed + UNIX
    text = edit(tmp_path, FIELD, "-e", "smtp/unix/command=pipe -v {a b} -o x=1")
    assert text.endswith("pipe -v a b -o x=1\n")  # {} are gone: the words after -v are arguments


def test_settings(tmp_path: Path) -> None:
    changed = INET.replace("biff=no", "biff=yes") + UNIX
    assert edit(tmp_path, SETTING, "-e", "smtp/inet/biff=yes") == "# services\n# comment\n" + changed
    assert "    -o new=1\n" in edit(tmp_path, SETTING, "-e", "*/*/new=1")
    assert "biff" not in edit(tmp_path, SETTING, "-X", "smtp/inet/biff")


@pytest.mark.parametrize(
    ("what", "mode", "argument", "message"),
    [
        (ROW, "-e", "smtp=x", "-Me, -MX or -M# requires service_name/type"),
        (ROW, "-e", "smtp/inet=too few", 'bad field count: "smtp/inet=too few"'),
        (FIELD, "-e", "smtp/inet/bogus=1", 'invalid service attribute name: "bogus"'),
        (FIELD, "-e", "smtp/inet/*=1", "-Fe does not accept wild-card field name"),
        (FIELD, "-e", "smtp/inet/chroot=a b", "-Fe does not accept whitespace in non-command field"),
        (FIELD, "-e", "smtp/inet/chroot=x", 'invalid chroot field "x" in "x"'),
        (SETTING, "-e", "smtp/inet/*=1", "-Pe does not accept wild-card parameter name"),
        (SETTING, "-e", "smtp/inet/a=b c", "-Pe does not accept whitespace in parameter value"),
        (SETTING, "-X", "smtp/inet/a=b", "-X or -# requires names without value"),
    ],
)
def test_refused(tmp_path: Path, what: str, mode: str, argument: str, message: str) -> None:
    with pytest.raises(FatalError) as error:
        edit(tmp_path, what, mode, argument)
    assert str(error.value) == message
    assert (tmp_path / "master.cf").read_text() == TEXT
    assert set(os.listdir(tmp_path)) <= {"master.cf", "master.cf.tmp"}
