"""SASLprep: the examples of RFC 4013."""

import pytest

from postfixpy.sasl.saslprep import prepared, saslprep


@pytest.mark.parametrize(
    ("text", "found"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_examples(text: str, found: str) -> None:
    assert saslprep(text) == found


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "\ue000", "a\u0627"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"prohibited|directions"):
        saslprep(text)


def test_unassigned_only_in_stored_strings() -> None:
    assert saslprep("\u0221") == "\u0221"
    with pytest.raises(ValueError, match="unassigned"):
        saslprep("\u0221", stored=True)


def test_what_cannot_be_prepared_stays() -> None:
    assert prepared(b"\xff") == b"\xff"
    assert prepared("\u0007".encode()) == b"\x07"
