"""Listings of master.cf: columns, folding, fields, settings."""

from collections.abc import Callable, Iterator

import pytest

from postfixpy import log
from postfixpy.config.inspect import show_master
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.show_main import Style
from postfixpy.errors import FatalError

from .test_names import names

ROWS = (
    "submission inet n - n - - smtpd -o a=b -o { c = d e } -v",
    "maildrop unix - n n - - pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} { x y }",
)


def run(show: Callable[..., Iterator[str]], *arguments: object, **options: bool) -> str:
    style = Style()
    for option, value in options.items():
        setattr(style, option, value)
    return "".join(show(names("mail = x\n", *ROWS), style, *arguments))


def test_rows() -> None:
    assert run(show_master.show_rows, []) == (
        "submission inet  n       -       n       -       -       smtpd -o a=b -o {c=d e} -v\n"
        "maildrop   unix  -       n       n       -       -       pipe flags=DRXhu user=vmail "
        "argv=/usr/bin/maildrop -d ${recipient} {x y}\n"
    )
    assert run(show_master.show_rows, [], fold=True) == (
        "submission inet  n       -       n       -       -       smtpd\n    -o a=b\n    -o {c=d e}\n    -v\n"
        "maildrop   unix  -       n       n       -       -       pipe flags=DRXhu\n"
        "    user=vmail argv=/usr/bin/maildrop -d ${recipient} {x y}\n"
    )
    assert run(show_master.show_rows, ["submission"], json=True) == (
        '{"submission/inet": "submission inet n - n - - smtpd -o a=b -o {c=d e} -v"}\n'
    )


@pytest.mark.parametrize(("size", "lines"), [(12, 1), (13, 2)])
def test_at_most_79_columns(size: int, lines: int) -> None:
    row = names("", f"pxxxxxxxxx unix - n n - - pipe argv={'y' * size}").scopes[0].row
    assert show_master.format_row(row, fold=True).count("\n") == lines


def test_fields() -> None:
    assert run(show_master.show_fields, ["*/unix/chroot", "submission/inet/command"]) == (
        "submission/inet/command = smtpd -o a=b -o {c=d e} -v\nmaildrop/unix/chroot = n\n"
    )
    assert run(show_master.show_fields, ["*/*/type"], hide_name=True) == "inet\nunix\n"
    assert run(show_master.show_fields, ["*/*/type"], hide_value=True).startswith("submission/inet/type\n")


def test_settings() -> None:
    show = show_master.show_settings
    assert run(lambda *a: show(*a, all_names=False), set(), []) == "submission/inet/a = b\nsubmission/inet/c = d e\n"
    assert run(lambda *a: show(*a, all_names=False), set(), ["*/*/c"], json=True) == '{"submission/inet/c": "d e"}\n'
    every = run(lambda *a: show(*a, all_names=True), {"builtin"}, [])
    assert "maildrop/unix/process_name = pipe\n" in every
    assert "submission/inet/service_name = submission\n" in every


def test_filters() -> None:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(text))
    assert run(show_master.show_rows, ["nosuch"]) == ""
    log.set_sink(previous)
    assert texts[-1] == 'unmatched request: "nosuch"'
    with pytest.raises(FatalError, match=r"^-M option requires service_name\[/type\]$"):
        run(show_master.show_rows, ["a/b/c"])
    with pytest.raises(FatalError, match=r'^invalid service attribute name: "x"$'):
        run(show_master.show_fields, ["a/b/x"])


def test_expansion_in_the_scope_of_a_row() -> None:
    space: Names = names("", "slow unix - - n - - smtp -o syslog_name=postfix/$service_name")
    style = Style()
    style.expand = True
    assert next(show_master.show_rows(space, style, [])).endswith("smtp -o syslog_name=postfix/slow\n")
