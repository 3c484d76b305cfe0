"""Listings of main.cf: every style."""

import pytest

from postfixpy import log
from postfixpy.config.inspect.show_main import Style, show_parameters

from .test_names import names

MAIN = "biff = no\nmy_list = a,  b\nrelayhost =\nmydestination = $my_list\n"


def show(*wanted: str, classes: str = "builtin service user", **options: bool) -> list[str]:
    style = Style()
    for option, value in options.items():
        setattr(style, option, value)
    return list(show_parameters(names(MAIN), style, set(classes.split()), list(wanted)))


def test_styles() -> None:
    assert show("biff", "relayhost", "my_list") == ["biff = no\n", "relayhost =\n", "my_list = a, b\n"]
    assert show("relayhost", "biff", hide_name=True) == ["\n", "no\n"]
    assert show("biff", hide_value=True) == ["biff\n"]
    assert show("mydestination", expand=True) == ["mydestination = a, b\n"]
    assert show("my_list", json=True) == ['{"my_list": "a,  b"}\n']


def test_classes() -> None:
    assert show(classes="user") == ["my_list = a, b\n"]
    assert show(only_set=True) == ["biff = no\n", "my_list = a, b\n", "mydestination = $my_list\n", "relayhost =\n"]
    assert len(show(classes="builtin")) > 850


def test_unknown_names() -> None:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(text))
    assert show("nothing") == []
    log.set_sink(previous)
    assert texts == ["nothing: unknown parameter"]


@pytest.mark.parametrize("name", ["mail_version", "mail_name"])
def test_unset_names_are_left_out(name: str) -> None:
    assert show(name, only_set=True) == []
