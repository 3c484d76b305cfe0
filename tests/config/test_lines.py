"""Logical lines and name = value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config.lines import (
    BLANKS,
    decode,
    encode,
    extract_braces,
    logical_lines,
    split_name_value,
    split_quoted,
)


def lines(text: str) -> tuple[list[tuple[int, int, str]], list[str]]:
    warnings: list[str] = []
    return list(logical_lines(text, "F", warnings.append)), warnings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n", [(1, 1, "a"), (2, 2, "b")]),
        ("a\n b\n\tc\nd", [(1, 3, "a b\tc"), (4, 4, "d")]),
        ("# c\na\n# c\n  # c\n\n b\n", [(2, 6, "a b")]),
        ("a\n \n", [(1, 2, "a")]),
        ("", []),
        ("\n#\n", []),
        ("a\r\n", [(1, 1, "a\r")]),
    ],
)
def test_logical_lines(text: str, expected: list[tuple[int, int, str]]) -> None:
    assert lines(text) == (expected, [])


def test_a_line_must_not_start_with_blanks() -> None:
    found, warnings = lines("  0123456789012345678901234567890123456789\na\n")
    assert found == [(2, 2, "a")]
    assert warnings == ['F: logical line must not start with whitespace: "  0123456789012345678901234567..."']


def test_text_after_a_null_byte_is_lost() -> None:
    assert lines("a\0b\nc\n") == (
        [(1, 1, "a"), (2, 2, "c")],
        ["F, line 1: text after null byte may be ignored"],
    )
    assert lines("a\n b\0c\nd\n")[1] == ["F, line 1-2: text after null byte may be ignored"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=b", ("a", "b")), (" a = b = c ", ("a", "b = c")), ("a=", ("a", "")), ("a\t=\tb  c\r", ("a", "b  c"))],
)
def test_name_value(text: str, expected: tuple[str, str]) -> None:
    assert split_name_value(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "missing attribute name"),
        ("= b", "missing attribute name"),
        ("a b = c", "missing '=' after attribute name"),
        ("a", "missing '=' after attribute name"),
    ],
)
def test_not_a_name_value(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        split_name_value(text)


def test_words_with_braces() -> None:
    assert split_quoted(" a  b\tc ") == ["a", "b", "c"]
    assert split_quoted("-o { a = { b } } x}y {") == ["-o", "{ a = { b } }", "x}y", "{"]


def test_braces() -> None:
    assert extract_braces("{ a {b} }", strip=True) == ("a {b}", None)
    assert extract_braces("{a}") == ("a", None)
    assert extract_braces("{a") == ("a", "missing '}' in \"{a\"")
    assert extract_braces("{a}b") == ("a", "syntax error after '}' in \"{a}b\"")


@given(st.binary())
def test_any_byte_survives(data: bytes) -> None:
    assert encode(decode(data)) == data


@given(st.text(alphabet=" \t\n#=ab\0\r{}"))
def test_every_content_line_is_in_some_logical_line(text: str) -> None:
    found, warnings = lines(text)
    previous = 0
    for first, last, line in found:
        assert previous < first <= last
        assert line[:1].strip() or "\0" in text
        previous = last
    content = [part for part in text.split("\n") if part.strip() and not part.lstrip().startswith("#")]
    assert bool(found or warnings) == bool(content or "\0" in text)


@given(st.text(alphabet=" \t{}ab"))
def test_words_have_no_blanks_outside_braces(text: str) -> None:
    for word in split_quoted(text):
        assert word
        assert word.startswith("{") or "{" in word or not any(blank in word for blank in BLANKS)
