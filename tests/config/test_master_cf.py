"""Services as master(8) reads them."""

import pytest

from postfixpy import log
from postfixpy.config.master_cf import MasterEntry, RowDefaults, overrides_in, parse_master
from postfixpy.errors import FatalError

DEFAULTS = RowDefaults(maxproc=100, chroot=False)


def parse(text: str, defaults: RowDefaults = DEFAULTS) -> list[MasterEntry]:
    return parse_master(text, "F", defaults)


def test_columns_and_their_defaults() -> None:
    smtp, pickup = parse("smtp inet n - n - - smtpd\n# c\npickup unix n - - 60? 1 pickup -v\n")
    assert (smtp.name, smtp.type, smtp.private, smtp.unprivileged, smtp.chroot) == ("smtp", "inet", False, True, False)
    assert (smtp.wakeup, smtp.wakeup_always, smtp.maxproc, smtp.command) == (0, True, 100, "smtpd")
    assert (pickup.wakeup, pickup.wakeup_always, pickup.maxproc, pickup.args) == (60, False, 1, ["-v"])
    assert pickup.columns == ("pickup", "unix", "n", "-", "-", "60?", "1", "pickup")
    assert (smtp.line, pickup.line) == (1, 3)
    assert parse("a unix - - - - - b\n", RowDefaults(50, True))[0].chroot is True


def test_arguments_over_several_lines() -> None:
    (row,) = parse("x unix - n n - - pipe\n  flags=F { a b }\n\n  -o { c = d }\n")
    assert row.args == ["flags=F", "a b", "-o", "c = d"]
    assert row.overrides == []  # options end at the first word without -


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-o", "a=b", "-v", "-o", "c = d e"], [("a", "b"), ("c", "d e")]),
        (["-oa=b"], [("a", "b")]),
        (["-vo", "a=b"], [("a", "b")]),
        (["-voa=b"], [("a", "b")]),
        (["-n", "-o", "-o", "a=b"], [("a", "b")]),  # -n has a value
        (["--", "-o", "a=b"], []),
        (["x", "-o", "a=b"], []),
    ],
)
def test_overrides(args: list[str], expected: list[tuple[str, str]]) -> None:
    assert overrides_in(args) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smtp inet", 'F: line 1: missing "private" field'),
        ("smtp -", 'F: line 1: field "transport type" has no default value'),
        ("\nsmtp udp n - n - - smtpd", "F: line 2: bad transport type: udp"),
        ("smtp inet y - n - - smtpd", "F: line 1: inet service cannot be private"),
        ("smtp inet x - n - - smtpd", 'F: line 1: field "private": bad value: "x"'),
        ("smtp inet n - n x - smtpd", 'F: line 1: field "wakeup_time": bad value: "x"'),
        ("smtp inet n - n - -1 smtpd", 'F: line 1: field "max_proc": bad value: "-1"'),
        ("smtp inet n - n - - -", 'F: line 1: field "command" has no default value'),
        ("smtp inet n - n - - smtpd {a}b", "F: line 1: syntax error after '}' in \"{a}b\""),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(FatalError) as error:
        parse(text)
    assert str(error.value) == message


def test_a_malformed_option_is_refused_where_it_is_used() -> None:
    bad, good = parse("a unix - - n - - smtp -o x\nb unix - - n - - smtp -o x=y\n")
    assert good.overrides == [("x", "y")]
    with pytest.raises(FatalError) as error:
        _ = bad.overrides
    assert str(error.value) == "invalid \"-o x\" option value: missing '=' after attribute name"


def test_the_last_of_equal_services_wins() -> None:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(text))
    rows = parse("a unix - - n - - b\na unix - - n - - c\na unix n - n - - d\n")
    log.set_sink(previous)
    assert [(row.command, row.private) for row in rows] == [("c", True), ("d", False)]
    assert texts == ['duplicate master.cf entry for service "a" (private/a) -- using the last entry']
