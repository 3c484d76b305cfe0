"""Rows as postconf normalises them."""

from pathlib import Path

import pytest

from postfixpy.config.inspect.rows import matches, parse_pattern, parse_row, read_rows
from postfixpy.errors import FatalError

FIELDS = "smtp inet n - n - - smtpd"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-o a=b -v", ["-o", "a=b", "-v"]),
        ("-vo a=b", ["-v", "-o", "a=b"]),
        ("-va=b", ["-va=b"]),
        ("-o { a = b  c }", ["-o", "a=b  c"]),
        ("-obiff=no -v", ["-o", "biff=n", "-o", "-v"]),  # the splitter looks for any o
        ("x { y z } -o a=b", ["x", "y z", "-o", "a=b"]),
        ("-- -o {a b}", ["--", "-o", "a b"]),
    ],
)
def test_arguments(arguments: str, expected: list[str]) -> None:
    assert parse_row(f"{FIELDS} {arguments}", (3, 11)).words[8:] == expected


def test_settings() -> None:
    row = parse_row(f"{FIELDS} -o a=b -v -o {{c = d}} -o e x -o f=g", (3, 11))
    assert row.settings() == [("a", "b"), ("c", "d")]
    assert (row.name_space, row.process_name) == ("smtp/inet", "smtpd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smtp udp n - n - - smtpd", 'invalid type field "udp" in "smtp udp n - n - - smtpd"'),
        ("smtp inet n - 0 - - smtpd", 'invalid chroot field "0" in "smtp inet n - 0 - - smtpd"'),
        ("smtp inet n - n 5x - smtpd", 'invalid wakeup field "5x" in "smtp inet n - n 5x - smtpd"'),
        ("smtp inet n - n - -1 smtpd", 'invalid process_limit field "-1" in "smtp inet n - n - -1 smtpd"'),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(FatalError) as error:
        parse_row(text, (3, 11))
    assert str(error.value) == message


def test_files(tmp_path: Path) -> None:
    path = str(tmp_path / "master.cf")
    with pytest.raises(FatalError, match="No such file or directory"):
        read_rows(path, (3, 11), required=True)
    Path(path).write_text(f"# c\n{FIELDS}\n\n  -v\nsmtp inet\n")
    with pytest.raises(FatalError, match=r"line 5: bad field count$"):
        read_rows(path, (3, 11), required=True)
    Path(path).write_text(f"# c\n{FIELDS}\n\n  -v\n")
    assert [(row.line, row.words[8:]) for row in read_rows(path, (3, 11), required=True)] == [(2, ["-v"])]


def test_patterns() -> None:
    assert parse_pattern("smtp", 1, 2) == ["smtp", "*"]
    assert parse_pattern("*/unix/x", 3, 3) == ["*", "unix", "x"]
    for text in ("/smtp", "a/b/c", "sm*/unix", ""):
        assert parse_pattern(text, 1, 2) is None
    assert matches(["*", "unix"], "smtp", "unix")
    assert not matches(["smtp", "inet"], "smtp", "unix")
