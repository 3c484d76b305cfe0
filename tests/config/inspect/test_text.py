"""Folding, white space, JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config.inspect import text


def test_white_space_is_normalised() -> None:
    assert text.line("a =  b\t\tc \r\n d\x0be") == "a = b c d\x0be\n"
    assert text.line("a = ") == "a =\n"


def test_folding_at_80_columns() -> None:
    for size, lines in ((23, 1), (24, 2)):
        folded = text.line("relay_domains = " + "a" * 40 + " " + "b" * size, fold=True)
        assert folded.count("\n") == lines
    assert text.line("x = " + "w" * 97 + " y", fold=True) == "x =\n    " + "w" * 97 + "\n    y\n"
    assert text.line("x = " + "é" * 37 + " b", fold=True).count("\n") == 1  # 80 bytes


def test_json() -> None:
    assert text.json_line("a", 'b"\\c\b\f\n\r\t\x01\x7fé') == '{"a": "b\\"\\\\c\\b\\f\\n\\r\\t\\u0001\\u007Fé"}\n'


@given(st.text(st.characters(codec="utf-8")))
def test_json_can_be_read_back(value: str) -> None:
    assert json.loads(text.json_line("n", value)) == {"n": value}


@given(st.text(alphabet="ab \t\n"))
def test_folding_keeps_the_words(value: str) -> None:
    assert text.words_of(text.line(value, fold=True)) == text.words_of(value)
