"""Errors: an unexpected one says where it came from, the same in every folder that the package lies in."""

import re

import pytest

from postfixpy.errors import describe, place_of
from postfixpy.options import parse


def raised(function, *arguments) -> Exception:
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def test_the_innermost_place_in_the_package():
    assert re.fullmatch(r"options\.py:\d+ \(\w+\)", place_of(raised(parse, None, "a")))


def test_an_exception_that_never_was_in_the_package():
    place = place_of(raised(int, "x"))
    assert re.fullmatch(r"/.*/tests/test_errors\.py:\d+ \(raised\)", place)


def test_described_in_one_line():
    assert re.fullmatch(r"unexpected ValueError at .*: invalid literal for int\(\) .*: 'x'", describe(raised(int, "x")))
