"""The parts of a text with "$". What they mean is in test_expand.py."""

import pytest

from postfixpy.config.macro import compile_text, dialect


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("a$$b", ("a$b",)),
        ("x $a.", ("x ", ("$", "a", "a", False), ".")),
        ("${ a }$(b)", (("$", "a", " a ", True), ("$", "b", "b", True))),
        ("${a?b}", (("e", ("?", "a", "b", None, None), "a?b"),)),
        ("$(a${b})", (("e", ("!", (), 'attribute name syntax error at: "...a>>>${b}"'), "a${b}"),)),
        ("x${", ("x", ("!", (), 'truncated macro reference: "x${"', "truncated"))),
        ("$-", (("!", (), 'empty macro name: "$-"', "empty"),)),
    ],
)
def test_parts(text: str, parts: tuple[object, ...]) -> None:
    assert compile_text(text) == parts
    assert compile_text(text) is compile_text(text)


def test_dialects() -> None:
    assert [dialect(release) for release in ((2, 11), (3, 0), (3, 3), (3, 6), (3, 11))] == [0, 1, 2, 3, 4]
    assert compile_text("${a?{b}}", 0) == (("e", ("?", "a", "{b}", None, None), "a?{b}"),)
    assert compile_text("${ a }", 1)[0][1][0] == "!"
