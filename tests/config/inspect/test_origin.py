"""Where values come from. What --origin prints is in tests/commands/test_postconf.py."""

from postfixpy.config.inspect.origin import Link, chain

from .test_names import names

MAIN = "a = $b ${c?$myhostname}\nb = $c\nc =\nmyhostname = h.example\nrelayhost = $a$none\n"


def test_kinds() -> None:
    space = names(MAIN, "slow unix - - n - - smtp")
    kinds = {
        "a": "main.cf",
        "nothing": "undefined",
        "biff": "default",
        "mydomain": "computed",
        "smtputf8_enable": "compatibility default",
        "slow_destination_rate_delay": "service default",
    }
    assert {name: Link(space, name).kind for name in kinds} == kinds
    assert (Link(space, "a").line, Link(space, "a").file) == (1, "D/main.cf")
    assert Link(space, "smtp_line_length_limit").where() == "default since 2.9"
    space.override(["biff=no"])
    assert Link(space, "biff").where() == "set on the command line"


def test_each_name_is_followed_once() -> None:
    assert [link.name for link in chain(names(MAIN), "relayhost")] == ["a", "b", "c", "myhostname", "none"]
