"""The ASCII form of domain names; the answers are those of postconf 3.11 with ICU 76."""

import pytest

from postfixpy.config.domain import domain_to_ascii


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("É.example", "xn--9ca.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("é_b.c", "xn--_b-9ia.c"),  # no STD3 rules
        ("א1é", "xn--1-bga778a"),  # no bidi rule
        ("\u200d", "xn--1ug"),  # no joiner rule
    ],
)
def test_names(name: str, answer: str) -> None:
    assert domain_to_ascii(name) == (answer, "")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "UIDNA_ERROR_EMPTY_LABEL"),
        ("é..b", "UIDNA_ERROR_EMPTY_LABEL"),
        ("x" * 64 + ".é", "UIDNA_ERROR_LABEL_TOO_LONG"),
        ("é-", "UIDNA_ERROR_TRAILING_HYPHEN"),
        ("*.é", "malformed ASCII label(s)"),
        ("a﹟é", "malformed ASCII label(s)"),
        ("\udcff", "malformed UTF-8"),
    ],
)
def test_what_is_none(name: str, problem: str) -> None:
    assert domain_to_ascii(name) == ("", problem)
