"""Whatever a source, a table's name or a key holds: an answer, or one of Postfix's errors."""

import os

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table, syntax
from postfixpy.lookup.matching import NameAddressList
from tests.lookup.conftest import Settings

EXAMPLES = int(os.environ.get("POSTFIXPY_EXAMPLES", "100"))
"""More of them make a fuzzer's night of it."""
PIECES = [
    b"/", b"!", b"$1", b"${", b"}", b"(", b")", b"[", b"]", b"\\", b"|", b"if ", b"endif", b"\n", b"\n ",
    b"#", b" ", b"\t", b"*", b"+", b"?", b"{1,2}", b"10.0.0.0/8", b"::1", b"a", b"b", b"\xff", b"\xc3\xa9",
    b"\x00", b'"', b":", b"=", b",", b"{", b"^", b"$", b".", b"$$", b"inline:{a=b}", b"static:", b"fail:x",
    b"unionmap:{", b"pipemap:{", b"randmap:{", b"debug:", b"@", b"x y",
]  # fmt: skip
KINDS = ["inline", "static", "randmap", "pipemap", "unionmap", "debug", "regexp", "pcre", "cidr", ""]
sources = st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)
texts = sources.map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))


@pytest.fixture(autouse=True)
def quiet():
    previous = log.set_sink(lambda severity, text: None)
    yield
    log.set_sink(previous)


@pytest.mark.parametrize("kind", ["texthash", "regexp", "pcre", "cidr"])
@given(source=sources, keys=st.lists(texts, min_size=1, max_size=4), utf8=st.booleans())
@hypothesis_settings(max_examples=EXAMPLES)
def test_any_source_and_key(kind, source, keys, utf8, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"any-{kind}"
    path.write_bytes(source)
    try:
        table = open_table(f"{kind}:{path}", Settings(smtputf8_enable=utf8), surrogates=False)
        for key in [*keys, "a", "10.1.2.3", "::1"]:
            value = table.lookup(key)
            assert value is None or isinstance(value, str)
    except (FatalError, TableError):
        pass


@given(kind=st.sampled_from(KINDS), name=texts)
@hypothesis_settings(max_examples=3 * EXAMPLES)
def test_any_name(kind, name):
    if "/" in name and not name.startswith("{"):
        return  # a file
    spec = f"{kind}:{{{name}}}" if name and kind else f"{kind}:{name}"
    try:
        open_table(spec, Settings(), surrogates=False).lookup("a")
    except (FatalError, TableError):
        pass


@given(texts, texts)
@hypothesis_settings(max_examples=EXAMPLES)
def test_any_matching_list(text, string):
    if "/" in text:
        return  # files
    try:
        NameAddressList("x", text, Settings()).match(string, "10.1.2.3")
    except (FatalError, TableError):
        pass


@given(sources)
def test_logical_lines_lose_nothing(data):
    joined = b"".join(line for _, line in syntax.logical_lines(data, "x"))
    assert len(joined) <= len(data)
    numbers = [number for number, _ in syntax.logical_lines(data, "x")]
    assert numbers == sorted(numbers)


@given(texts)
def test_tokens_and_braces(text):
    for token in syntax.tokens(text):
        assert token
    inside, error = syntax.braced(text)
    assert error or text.startswith("{")
    assert 0 <= syntax.balanced(text) <= len(text)
    assert len(inside) <= len(text)
