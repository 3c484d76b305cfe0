"""Numbers, times, booleans, lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config import values
from postfixpy.errors import FatalError


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-5", -5), ("+7", 7), (" 3", 3), ("2147483647", 2147483647)])
def test_integers(text: str, number: int) -> None:
    assert values.to_integer("x", text) == number


@pytest.mark.parametrize("text", ["", "a", "1a", "1 ", "2147483648", "-2147483649", "0x10", "1_0", "١"])
def test_not_integers(text: str) -> None:
    with pytest.raises(FatalError) as error:
        values.to_integer("x", text)
    assert str(error.value) == f"bad numerical configuration: x = {text}"


def test_long_integers() -> None:
    assert values.to_integer("x", "9223372036854775807", values.LONG_MAX) == values.LONG_MAX


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 300), ("5s", 5), ("2m", 120), ("1h", 3600), ("1d", 86400), ("1w", 604800), ("10sx", 10), ("d", 0)],
)
def test_times(text: str, seconds: int) -> None:
    assert values.parse_time(text, "m") == seconds


@pytest.mark.parametrize("text", ["", "x", "-5", "5y", "2147483648", "35791394m", "4000w"])
def test_not_times(text: str) -> None:
    assert values.parse_time(text, "s") is None


def test_limits() -> None:
    assert values.check_integer("x", 0, 0, None) == 0  # a limit of 0 is none
    assert values.check_time("x", 5, 5, 5) == 5
    for check, message in (
        (lambda: values.check_integer("x", 0, 1, None), "invalid x parameter value 0 < 1"),
        (lambda: values.check_integer("x", 9, None, 8), "invalid x parameter value 9 > 8"),
        (lambda: values.check_time("x", 0, 1, None), "invalid x: 0 (min 1)"),
        (lambda: values.check_time("x", 11, 0, 10), "invalid x: 11 (max 10)"),
        (lambda: values.check_length("x", "", 1, None), "bad string length 0 < 1: x = "),
        (lambda: values.check_length("x", "é+", None, 2), "bad string length 3 > 2: x = é+"),
        (lambda: values.check_length("x", "", 1, None, raw=True), "bad string length (0 < 1): x = "),
    ):
        with pytest.raises(FatalError) as error:
            check()
        assert str(error.value) == message


def test_booleans() -> None:
    assert values.to_boolean("x", "yes") is True
    assert values.to_boolean("x", "No") is False
    with pytest.raises(FatalError, match=r"^bad boolean configuration: x = true$"):
        values.to_boolean("x", "true")


@given(st.integers(-(2**70), 2**70), st.sampled_from(["", "s", " x", "."]))
def test_strtol(number: int, rest: str) -> None:
    assert values.strtol(f"{number}{rest}") == (number, rest)
