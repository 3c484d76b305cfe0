"""The small languages of names and sources, and the forms of addresses."""

import pytest

from postfixpy.lookup.quoting import quote, unquote
from postfixpy.lookup.syntax import (
    BRACKETED,
    LITERAL,
    PLAIN,
    MacroError,
    braced,
    key_and_value,
    logical_lines,
    name_value,
    split_macros,
    tokens,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a b\n c\n#x\n\n d\ne f", [(1, b"a b c d"), (6, b"e f")]),
        (b"\n# c\nx\n", [(3, b"x")]),
        (b"x \n\ty\r\n", [(1, b"x \ty\r")]),
        (b"", []),
        (b"\n", []),
        (b" #x\nfoo", [(2, b"foo")]),
    ],
)
def test_logical_lines(data, expected):
    assert list(logical_lines(data, "t")) == expected


def test_logical_lines_warn(logged):
    assert list(logical_lines(b" lost\nkept\nnull\0x\n more\n#\0\nlast", "t")) == [
        (2, b"kept"),
        (3, b"null"),
        (6, b"last"),
    ]
    assert logged == [
        'warning: t: logical line must not start with whitespace: " lost"',
        "warning: t, line 3-5: text after null byte may be ignored",
    ]


def test_tokens():
    assert list(tokens("a, {b c}d\te{f,{g}} ,")) == ["a", "{b c}d", "e{f,{g}}"]
    assert list(tokens("a b}c", braces=False)) == ["a", "b}c"]


def test_braced():
    assert braced("{ a {b} }") == ("a {b}", "")
    assert braced("{a}b") == ("a", "syntax error after '}' in \"{a}b\"")
    assert braced("{a") == ("", "missing '}' in \"{a\"")
    assert braced("a") == ("", "no '{' at start of text in \"a\"")


def test_name_value():
    assert name_value(' "a b" = c d ') == ('"a b"', "c d")
    assert name_value("a=") == ("a", "")
    for text in ("", "a", '"a = b'):
        with pytest.raises(ValueError):
            name_value(text)


def test_key_and_value():
    assert key_and_value("a\tb c ") == ("a", "b c")
    assert key_and_value('"a b"@c d') == ('"a b"@c', "d")
    assert key_and_value("a\\ b c") == ("a\\ b", "c")
    assert key_and_value('"a b') is None
    assert key_and_value("a\u00a0b c") == ("a\u00a0b", "c")


def test_macros():
    assert list(split_macros("a$$b$c_1-${d}$(e(f))")) == [
        (LITERAL, "a$b"),
        (PLAIN, "c_1"),
        (LITERAL, "-"),
        (BRACKETED, "d"),
        (BRACKETED, "e(f)"),
    ]
    for text, error in {"$": 'empty macro name: "$"', "${x": 'truncated macro reference: "${x"'}.items():
        with pytest.raises(MacroError) as caught:
            list(split_macros(text))
        assert str(caught.value) == error


@pytest.mark.parametrize(
    ("internal", "external"),
    [
        ("user@example.com", "user@example.com"),
        ("a b@example.com", '"a b"@example.com'),
        ("a..b@x", '"a..b"@x'),
        (".a@x", '".a"@x'),
        ('q"\\@x', '"q\\"\\\\"@x'),
        ("a@b@c", '"a@b"@c'),
        ("@route:a b@c", '@route:"a b"@c'),
        ("", '""'),
        ("é@x", "é@x"),
    ],
)
def test_quoting(internal, external):
    assert quote(internal) == external
    assert unquote(external) == internal


def test_quoting_a_bare_local_part():
    assert quote("a@b", bare_local=True) == '"a@b"'
