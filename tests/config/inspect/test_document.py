"""--json. What the modes print is in tests/commands/test_postconf.py."""

import json

from postfixpy.config.inspect import document
from postfixpy.config.inspect.show_main import Style

from .test_names import names


def test_rows_are_expanded_on_request() -> None:
    space = names("x = y\n", "slow unix - - n - - smtp -o syslog_name=p/$service_name -v")
    style = Style()
    (row,) = json.loads("".join(document.show(space, style, set(), {"M"}, [])))
    assert (row["settings"], row["service"], row["command"]) == ({"syslog_name": "p/$service_name"}, "slow", "smtp")
    style.expand = True
    (row,) = json.loads("".join(document.show(space, style, set(), {"M"}, ["slow/unix"])))
    assert row["settings"] == {"syslog_name": "p/slow"}


def test_lists() -> None:
    assert json.loads("".join(document.array(["a", "é"]))) == ["a", "é"]
