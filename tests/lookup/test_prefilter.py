"""What patterns cannot do without, checked against the engines themselves."""

import os

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from postfixpy.lookup import pcre2, posix
from postfixpy.lookup.prefilter import required

EXAMPLES = int(os.environ.get("POSTFIXPY_EXAMPLES", "300"))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (rb"^user1@(.*)$", b"user1@"),
        (rb"\.example\.com$", b".example.com"),
        (rb"abc?d", b"ab"),
        (rb"abc*", b"ab"),
        (rb"abc+d", b"abc"),
        (rb"abcd{2,3}", b"abc"),
        (rb"(abc)def", b"def"),
        (rb"ab[cd]efg", b"efg"),
        (rb"ab[[:digit:]]efg", b"efg"),
        (rb"abc|def", b""),
        (rb"x(abc|def)yz", b"yz"),
        (rb"a\wbc", b"bc"),
        (rb"a", b""),
        (rb".*", b""),
        (rb"abc{x", b""),
        (rb"ab[c\]]de", b""),
        (rb"\x41bc", b""),
        (rb"", b""),
    ],
)
def test_required(pattern, text):
    assert required(pattern, perl=True) == text
    assert required(pattern, perl=False) == text


def test_languages_differ():
    assert required(rb"(?i)abc", perl=True) == b""
    assert required(rb"(?:x|y)abc", perl=True) == b"abc"
    assert required(rb"\<abc", perl=False) == b"abc"
    assert required(rb"\<abc", perl=True) == b""
    assert required(rb"\Qabc\E", perl=True) == b""


PIECES = (
    rb"a b ab abc B . * + ? {2} {0,1} { } ( ) | [ab] [^a] []a] [[:alpha:]] [ ] ^ $ \ \. \w \d \b \< \1 \Q \E".split()
)
PIECES += rb"(?: (?i) (?= (?! (*FAIL) \x61 \K \R # - \a \C {,2} ++".split()
patterns = st.lists(st.sampled_from([*PIECES, b" "]), max_size=10).map(b"".join)
subjects = st.lists(st.sampled_from([*b"a b ab abc A . x 1 #".split(), b" "]), max_size=8).map(b"".join)


@given(patterns, subjects)
@example(b"ab{,2}", b"a")
@example(b"abB++?", b"ab")
@hypothesis_settings(max_examples=3 * EXAMPLES, deadline=None)
def test_every_match_has_it(pattern, subject):
    engines = [
        (pcre2.Pattern, pcre2.PatternError, pcre2.CASELESS | pcre2.DOTALL, True),
        (pcre2.Pattern, pcre2.PatternError, pcre2.MULTILINE | pcre2.UNGREEDY, True),
        (posix.Pattern, posix.PatternError, posix.REG_EXTENDED | posix.REG_ICASE, False),
        (posix.Pattern, posix.PatternError, posix.REG_EXTENDED | posix.REG_NEWLINE, False),
    ]
    for engine, error, options, perl in engines:
        try:
            matches = engine(pattern, options).test(subject)
        except error:
            continue
        if matches:
            assert required(pattern, perl=perl).lower() in subject.lower()
