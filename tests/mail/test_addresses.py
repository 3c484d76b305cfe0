import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.mail import addresses
from postfixpy.mail.addresses import (
    externalize,
    header_text,
    internalize,
    parse_addresses,
    quote_821_local,
    quote_822_local,
    rewrite_header,
    scan,
    unquote_822_local,
)

ADDRESS_TEXT = st.text(alphabet=st.sampled_from('ab@."\\ ,:;<>()[]!%|\r\n\té\udcff'), max_size=40)


@pytest.fixture
def said():
    lines = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


@pytest.mark.parametrize(
    ("internal", "external"),
    [
        ("user@example.com", "user@example.com"),
        ("first.last@example.com", "first.last@example.com"),
        ("a b@c", '"a b"@c'),
        ("a@b@c@d", '"a@b@c"@d'),
        (".a@b", '".a"@b'),
        ("a.@b", '"a."@b'),
        ("a..b@c", '"a..b"@c'),
        ('a"b\\c@d', '"a\\"b\\\\c"@d'),
        ("@b", '""@b'),
        ("", '""'),
        ("a", "a"),
        ("a b", '"a b"'),
        ("@relay,@other:a b@c", '@relay,@other:"a b"@c'),
        ("é@c", "é@c"),
        ("\udcff@c", "\udcff@c"),
        ("a\nb@c", '"a\nb"@c'),
        ("a\rb@c", '"a\\\rb"@c'),
    ],
)
def test_quote_822(internal, external):
    assert quote_822_local(internal) == external


def test_quote_bare_local_part():
    assert quote_822_local("a@b@c@d", bare=True) == '"a@b@c@d"'


def test_quote_821_escapes_newlines_and_knows_no_route():
    assert quote_821_local("a\nb@c") == '"a\\\nb"@c'
    assert quote_821_local("@relay:a@c") == '"@relay:a"@c'
    assert quote_821_local("@dom") == '""@dom'
    assert quote_821_local("user@dom") == "user@dom"


@pytest.mark.parametrize(
    ("external", "internal"),
    [
        ('"a@b@c"@d', "a@b@c@d"),
        ('"a@b@c"', "a@b@c"),
        ('"a@b@c"@d@e', "a@b@c@d@e"),
        ("user@dom", "user@dom"),
        ('"a\\"b"@d', 'a"b@d'),
        ('a@"b"', 'a@"b"'),
        ("a\\", "a"),
        ('@r:"a b"@c', "@r:a b@c"),
        ("", ""),
    ],
)
def test_unquote_822(external, internal):
    assert unquote_822_local(external) == internal


@given(st.text(alphabet=st.sampled_from('ab@."\\ ,:;<>()[]!é'), max_size=20), st.sampled_from(["c", "example.com"]))
def test_what_is_quoted_reads_back(local, domain):
    internal = f"{local}@{domain}"
    if internal.startswith("@") and ":" in internal:
        return  # a source route: its colon is taken from the local part, as in Postfix
    assert unquote_822_local(quote_822_local(internal)) == internal
    assert unquote_822_local(quote_821_local(internal)) == internal


def listed(text):
    """The addresses of a list in internal form, and the list written back."""
    tokens = parse_addresses(text)
    return [token.internal for token in addresses.addresses(tokens)], externalize(tokens)


@pytest.mark.parametrize(
    ("text", "found", "written"),
    [
        ("wietse@porcupine.org", ["wietse@porcupine.org"], None),
        ("wietse @ porcupine.org", ["wietse@porcupine.org"], "wietse@porcupine.org"),
        ('"wietse venema"@porcupine.org', ["wietse venema@porcupine.org"], None),
        ("wietse\\ venema@porcupine.org", ["wietse venema@porcupine.org"], '"wietse venema"@porcupine.org'),
        ('"wietse venema" <wietse@porcupine.org>', ["wietse@porcupine.org"], None),
        ("W. Venema <w@x>", ["w@x"], "W.Venema <w@x>"),
        ("a@b c@d", ["a@b", "c@d"], "a@b, c@d"),
        ("a@b (one) , (two) c@d", ["a@b", "c@d"], "a@b (one), c@d (two)"),
        ("<a (x) @ b>", ["a@b"], "<a@b (x)>"),
        ("<a> <b>", ["a", "b"], None),
        ("named group: foo@bar, baz@barf;", ["foo@bar", "baz@barf"], None),
        ("empty:;", [], "empty: ;"),
        ("g: a <b>: c;, d", ["c", "d"], "g:a <b>: c;, d"),  # a phrase
        ("[l] (com) a @ x: . <u@h> ,", ["[l]", "a@x", "u@h"], '"[l]", a@x (com):. <u@h>, '),
        ("a@b, g: c;, d", ["a@b", "c", "d"], "a@b, g: c;, d"),
        ("x@[1.2.3.4]", ["x@[1.2.3.4]"], None),
        ("wietse@[stuff", ["wietse@[stuff]"], "wietse@[stuff]"),
        ('"open', ["open"], "open"),
        ("(open", [], "(open"),
        ("<>", [], "<>"),
        ("", [], ""),
        ("a\tb\n c@d", ["a", "b", "c@d"], "a, b, c@d"),
        ("@r1,@r2:user@host", ["@r1", "@r2:user@host"], '""@r1, @r2:user@host'),
        ("<@r1,@r2:user@host>", ["@r1,@r2:user@host"], "<@r1,@r2:user@host>"),
    ],
)
def test_parse_and_write_back(text, found, written):
    assert listed(text) == (found, text if written is None else written)


def test_comment_with_quotes_ends_at_its_parenthesis():
    tokens = parse_addresses('"wietse venema"@porcupine.org ("wietse ) venema")')
    assert externalize(tokens) == '"wietse venema"@porcupine.org, venema ("wietse ), ")"'
    assert internalize(tokens) == 'wietse venema@porcupine.org, venema ("wietse ), )'


def test_lines():
    assert header_text(parse_addresses("a@b, c <d@e>")) == "a@b,\nc <d@e>"


def test_limit_counts_tokens():
    assert externalize(parse_addresses("a@b, c@d", limit=3)) == "a@b"
    assert len(scan("a@b, c@d", 4)) == 4


def test_too_many_comments_are_stripped(said):
    assert header_text(parse_addresses("x" * 300 + " <a@c>, (ok) d@e")) == "<a@c>,\nd@e (ok)"
    assert said[-1] == "warning: stripping too many comments from address: " + "x" * 100 + "..."
    assert externalize(parse_addresses("x" * 300 + " <a@c>")) == "x" * 300 + " <a@c>"


def test_rewrite_header():
    table = {"root@old": "root@new", '"a b"@old': '"a b"@new', "root": None}
    assert rewrite_header("Root (me) <root@old>, x", table.get) == "Root (me) <root@new>,\nx"
    assert rewrite_header('"a b"@old', table.get) == '"a b"@new'
    assert rewrite_header("x, root", table.get) is None


@given(ADDRESS_TEXT)
@example("\\")
@example('"\\')
@example("[\\]")
@example("(\\")
def test_any_text_can_be_parsed_and_written(text):
    tokens = parse_addresses(text)
    written = externalize(tokens)
    internalize(tokens)
    header_text(tokens)
    parse_addresses(written)
    rewrite_header(text, lambda address: "new@" + address)


@given(st.text(max_size=60))
def test_quoting_takes_any_text(text):
    quote_821_local(text)
    unquote_822_local(quote_822_local(text))
    unquote_822_local(text)
