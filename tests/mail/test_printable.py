"""Text of unknown origin is made fit to be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.printable import printable


@pytest.mark.parametrize(
    ("text", "with_utf8", "without"),
    [
        ("plain", "plain", "plain"),
        ("a\tb\x7f", "a?b?", "a?b?"),
        ("né", "né", "n??"),
        ("n\udcc3x", "n?x", "n?x"),
    ],
)
def test_printable(text: str, with_utf8: str, without: str) -> None:
    assert printable(text, utf8=True) == with_utf8
    assert printable(text, utf8=False) == without


@given(st.text(), st.booleans())
def test_of_anything(text: str, utf8: bool) -> None:
    shown = printable(text, utf8=utf8)
    assert not any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in shown)
    assert utf8 or shown.isascii()
    assert printable(shown, utf8=utf8) == shown
