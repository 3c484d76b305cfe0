"""The grammar's parts, and when it is loaded."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config import macro
from postfixpy.config.conditional import after_left_operand, compile_expression


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("a?b", ("?", "a", "b", None, None)),
        ("a:b", ("?", "a", None, "b", None)),
        (" a ? {b c} : d", ("?", "a", "b c", " d", None)),
        ("?b", ("?", "", "b", None, None)),
        ("{x}=={y}", ("=", "x", "==", "", "y")),
        ("{x} >=level {{y}}?{}", ("?", ("=", "x", ">=", "level", "{y}"), "", None, None)),
        ("f{ x }", ("f", "f", "x")),
        ("{x} ? y", ("!", (), '"==" or "!="" or "<"" or "<="" or ">="" or ">" expected at: "...x}>>>? y"')),
        ("{x} == {y", ("!", (), 'unbalanced {} in attribute expression: "{y"')),
        ("a ? {b} : {c", ("?", "a", "b", None, 'unbalanced {} in attribute expression: "{c"')),
        ("a?{b", ("?", "a", None, None, 'unbalanced {} in attribute expression: "{b"')),
        ("a?b{c", ("?", "a", "b{c", None, None)),
    ],
)
def test_parts(source: str, part: object) -> None:
    assert compile_expression(source) == part


def test_operator() -> None:
    assert after_left_operand(" {a {b}} <= {c}") == ("<=", " {c}")


def test_plain_values_and_defaults_do_not_load_the_grammar() -> None:
    program = (
        "import sys; from postfixpy.config.expand import expand;"
        "expand('$a ${b} ${stress?{10}:{300}}s', {}.get);"
        "expand('${{$compatibility_level} <level {1} ? {no} : {yes}}', {'compatibility_level': '3'}.get);"
        "print('lark' in sys.modules);"
        "expand('${a?mine}', {}.get);"
        "print('lark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


@given(st.text("{}?:=<> \tab1_é$)", max_size=30))
def test_everything_that_the_name_check_lets_through_is_parsed(source: str) -> None:
    """Any text that stands between brackets becomes a part; nothing raises."""
    for level in range(5):
        assert macro.compile_text(f"$({source})", level)
        assert macro.compile_text(f"${{{source}}}", level)
