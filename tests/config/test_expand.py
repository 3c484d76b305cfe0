"""$ expansion: references, nesting, errors, dialects."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.config.expand import ExpansionError, compare_levels, compare_texts, expand, scan
from postfixpy.errors import FatalError

from .inspect import generated

VALUES = {"a": "A", "b": "<$a>", "empty": "", "loop": "x ${loop} y", "raw": "$a", "n": "7", "level": "3.6"}


@pytest.fixture(autouse=True)
def warnings() -> Iterator[list[str]]:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(text))
    yield texts
    log.set_sink(previous)


def value(text: str, release: tuple[int, int] = (3, 11)) -> str:
    return expand(text, VALUES.get, lambda name: name == "raw", release=release)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$a ${a} $(a) ${ a }", "A A A A"),
        ("$b$b", "<A><A>"),
        ("$$a $$$$", "$a $$"),
        ("$a-$a.x", "A-A.x"),
        ("[$none]", "[]"),
        ("$raw", "$a"),
        ("${a?yes}${empty?yes}${none?yes}", "yes"),
        ("${a:no}${empty:no}${none:no}", "nono"),
        ("${a?x:y}", "x:y"),
        ("${a??foo:{b}ar}", "?foo:{b}ar"),
        ("${a?{$b}:{no}} ${none?{yes}:{$b}} ${none?{yes}:plain}", "<A> <A> plain"),
        ("${a ? {x y} : {}}", "x y"),
        ("[${{1} == {1}}][${{1} == {2}}]", "[true][]"),
        ("${{$n} < {10} ? {less} : {more}}", "less"),
        ("${{$n} < {10a} ? {less} : {more}}", "more"),
        ("${{$level} <level {3.10} ? {old}}", "old"),
        ("${{$a} == {A}?${{$n} == {7}?deep}}", "deep"),
        ("${domain_to_ascii{ $a }}", "A"),
        ("${domain_to_ascii{bücher.example}}", "xn--bcher-kva.example"),
    ],
)
def test_values(text: str, expected: str, warnings: list[str]) -> None:
    assert value(text) == expected
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("${a-b}", 'attribute name syntax error at: "...a>>>-b"'),
        ("${}", 'empty macro name: "${}"'),
        ("$ ", 'empty macro name: "$ "'),
        ("x$", 'empty macro name: "x$"'),
        ("${a", 'truncated macro reference: "${a"'),
        ("$loop", 'unreasonable macro call nesting: "x "'),
        ("${{1} =~ {2}}", '"==" or "!="" or "<"" or "<="" or ">="" or ">" expected at: "...1}>>>=~ {2}"'),
        ("${{1} == 2}", '"{expression}" expected at: "...{1} ==>>> 2"'),
        ("${{1} == {1} junk}", '"?" or ":" expected at: "...}>>>junk"'),
        ("${{1} == {1} ? {a} junk}", '":" expected at: "...a}>>>junk"'),
        ("${{1} == {2} ? {a} : {b} junk}", 'unexpected input at: "...b}>>>junk"'),
        ("${{1} <foo {2}}", 'bad operator suffix at: "...<>>>foo"'),
        ("${{abc} <level {3}}", 'malformed compatibility level syntax: "abc"'),
        ("${frobnicate{x}}", 'unknown function "frobnicate" at"...>>>frobnicate{x}"'),
        ("${{$(a} == {b}}", 'truncated macro reference: "$(a"'),
    ],
)
def test_errors(text: str, warning: str, warnings: list[str]) -> None:
    with pytest.raises(ExpansionError):
        value(text)
    assert warnings == [warning]


def test_only_the_chosen_branch_is_looked_into(warnings: list[str]) -> None:
    assert value("${a?{ok}:{$}}") == "ok"
    assert warnings == []


def test_dialects() -> None:
    assert value("${a?{x}:{y}}", (2, 11)) == "{x}:{y}"
    assert value("[$raw]", (3, 10)) == "[$a]"  # what is raw is the caller's to say
    for text, release in (("${{3} <level {4}}", (3, 5)), ("${ a }", (3, 2)), ("${domain_to_ascii{a}}", (3, 10))):
        with pytest.raises(ExpansionError):
            value(text, release)
        value(text)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(FatalError, match=r"^mac_exp_eval: bad conversion: 99999999999999999999$"):
        value("${{99999999999999999999} > {1}}")
    assert value("${{99999999999999999999} > {1}}", (3, 1)) == "true"


def test_scan_visits_everything(warnings: list[str]) -> None:
    names: list[str] = []
    scan("$a ${b?{$c}:{$d}} ${{$e} == {$f} ? {$g} : {$h}} $$x ${i:${j?$k}} ${domain_to_ascii{$l}}", names.append)
    assert names == list("abcdefghijkl")
    scan("${a-b} $m", names.append)
    assert (names[-1], warnings) == ("l", ['attribute name syntax error at: "...a>>>-b"'])  # an error ends it


def test_comparisons() -> None:
    assert compare_texts("9", "10") < 0 < compare_texts("9", "10a")
    assert compare_texts("é", "z") > 0
    assert compare_levels("3.6", "3.10") < 0 == compare_levels("3", "3.0.0")
    for text in ("", "3.", "3.x", "-1", "3.2000", "1.2.3.4"):
        with pytest.raises(ValueError, match="malformed compatibility level syntax"):
            compare_levels(text, "3")


@given(generated.VALUES, st.sampled_from([(2, 11), (3, 0), (3, 5), (3, 11)]))
def test_no_input_breaks_it(text: str, release: tuple[int, int]) -> None:
    complaints: list[str] = []
    log.set_sink(lambda severity, text: complaints.append(text))
    found: set[str] = set()
    scan(text, found.add, release=release)
    is_well_formed = not complaints
    looked_up: set[str] = set()

    def lookup(name: str) -> str:
        looked_up.add(name)
        return "v"

    try:
        expand(text, lookup, release=release)
    except (ExpansionError, FatalError):
        return
    if is_well_formed:  # a scan ends at the first error, also in a branch that an expansion does not take
        assert looked_up <= found
