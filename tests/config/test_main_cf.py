"""Settings with positions."""

from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config.main_cf import configuration_directory, parse_settings, read_settings
from postfixpy.errors import FatalError


@pytest.fixture
def warnings() -> object:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(f"{severity}: {text}"))
    yield texts
    log.set_sink(previous)


def test_values_and_lines(warnings: list[str]) -> None:
    settings = parse_settings("# x\na = 1\nb =\n  2\n 3\n", "F", (3, 11))
    assert settings.values == {"a": "1", "b": "2 3"}
    assert settings.lines == {"a": 2, "b": 3}
    assert warnings == []


def test_the_last_setting_wins_with_a_warning_if_it_differs(warnings: list[str]) -> None:
    text = "a = 1\na = 1\na = 2\n"
    assert parse_settings(text, "F", (3, 11)).values == {"a": "2"}
    assert warnings == ["warning: F, line 3: overriding earlier entry: a=1"]
    warnings.clear()
    parse_settings(text, "F", (2, 10))
    assert warnings == []


def test_a_bad_line_is_fatal_with_the_number_of_its_first_line() -> None:
    with pytest.raises(FatalError) as error:
        parse_settings("a = 1\n\nb\n c\n", "F", (3, 11))
    assert str(error.value) == "F, line 3: missing '=' after attribute name: \"b c\""
    assert parse_settings("= v\n", "F", (3, 3)).values == {"": "v"}


def test_preset_settings_are_overridden(warnings: list[str]) -> None:
    settings = parse_settings("config_directory = /y\n", "F", (3, 11), {"config_directory": "/x"})
    assert settings.values == {"config_directory": "/y"}
    assert warnings == ["warning: F, line 1: overriding earlier entry: config_directory=/x"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"^open /nonexistent/main\.cf: No such file or directory$"):
        read_settings("/nonexistent/main.cf", (3, 11))


def test_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    assert configuration_directory() == "/etc/postfix"
    monkeypatch.setenv("MAIL_CONFIG", "/x")
    assert configuration_directory() == "/x"
    assert configuration_directory("/y") == "/y"
