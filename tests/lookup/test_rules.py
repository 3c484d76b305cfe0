"""regexp: and pcre: tables."""

import pytest

from postfixpy.lookup import Flags, open_table


@pytest.fixture
def table(tmp_path, settings):
    """Opens a table of a type with a source."""

    def make(kind, text, flags=Flags.MAPS):
        path = tmp_path / "rules"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return open_table(f"{kind}:{path}", settings, flags=flags, surrogates=False)

    return make


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
def test_the_first_rule_that_matches_counts(table, kind):
    rules = table(kind, "/^a/ first\n!/b/ no b\n/./ $$1\n")
    assert rules.pattern
    assert rules.lookup("Ab") == "first"
    assert rules.lookup("x") == "no b"
    assert rules.lookup("b") == "$1"


def test_the_engines_differ(table):
    rule = "/^(foo|foobar)(x)?/ [$1][${2}][$(1)]\n"
    assert table("regexp", rule).lookup("foobar") == "[foobar][][foobar]"
    assert table("pcre", rule).lookup("foobar") == "[foo][][foo]"


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
def test_if_and_endif(table, kind):
    rules = table(kind, "if /x/\nif !/y/\n/./ x without y\nendif\n/z/ x and z\nEndIf\n/./ other\n")
    assert [rules.lookup(key) for key in ("x", "xy", "xyz", "q")] == ["x without y", "other", "x and z", "other"]


def test_flags_toggle(table):
    assert table("regexp", "/A/i x\n").lookup("a") is None
    assert table("regexp", r"/a\{2\}/x x").lookup("aa") == "x"
    assert table("pcre", "/a b/x x").lookup("ab") == "x"
    assert table("pcre", "/b/A x").lookup("ab") is None


def test_a_second_pattern_excludes(table):
    rules = table("regexp", "/a/!/b/ only a\n")
    assert rules.lookup("a") == "only a"
    assert rules.lookup("ab") is None


def test_the_c_locale_compiles_patterns(table):
    assert table("regexp", "/^.$/ one").lookup("é") is None
    assert table("regexp", "/^É$/ x").lookup("é") is None


def test_a_runaway_pattern_is_stopped(table, logged):
    rules = table("pcre", "/^(a+)+$/ x\n/./ next\n")
    assert rules.lookup("a" * 40 + "b") == "next"
    assert logged[0].endswith("line 1: match limit exceeded")


@pytest.mark.parametrize(
    ("kind", "line", "warning"),
    [
        ("regexp", "/a", 'no closing regexp delimiter "/": skipping this rule'),
        ("pcre", "/a", 'no closing regexp delimiter "/": ignoring this rule'),
        ("regexp", "/a/q x", 'unknown regexp option "q": skipping this rule'),
        ("regexp", "/(a/ x", "Unmatched ( or \\("),
        ("pcre", "/(a/ x", "error in regex at offset 2: missing closing parenthesis"),
        ("regexp", "/a/ $1", 'out of range replacement index "1": skipping this rule'),
        ("regexp", "!/(a)/ $1", "$number found in negative match replacement text: skipping this rule"),
        ("pcre", "word", "ignoring unrecognized request"),
        ("pcre", "endif", "ignoring ENDIF without matching IF"),
        ("pcre", "/a/", "no replacement text: using empty string"),
        ("pcre", "if /a/", "IF has no matching ENDIF"),
    ],
)
def test_warnings(table, logged, kind, line, warning):
    rules = table(kind, line)
    assert logged == [f"warning: {kind} map {rules.label}, line 1: {warning}"]


def test_bad_replacement(table, logged):
    rules = table("regexp", "/(a)/ $x $0 ${1\n")
    where = f"warning: regexp map {rules.label}, line 1:"
    assert logged == [
        f'{where} non-numeric replacement index "x"',
        f'{where} out-of-range replacement index "0"',
        'warning: truncated macro reference: "$x $0 ${1"',
        f"{where} bad replacement syntax: skipping this rule",
    ]


def test_substitution_can_be_forbidden(table, logged):
    rules = table("regexp", "/(a)/ $1\n/a/ b\n", Flags.MAPS | Flags.NO_REGSUB)
    assert rules.lookup("a") == "b"
    assert "substitution is not allowed" in logged[0]


def test_inline_rules(settings):
    table = open_table("pcre:{ {/^(.)x/ $1}, {if /q/} {/./ Q} {endif} }", settings, surrogates=False)
    assert table.lookup("ax") == "a"
    assert table.lookup("q") == "Q"
