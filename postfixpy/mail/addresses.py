"""Mail addresses as text: quoting, and the address lists of message headers.

Internal form is an address without quotes (``wietse venema@porcupine.org``), external form is what RFC 822 and RFC 821
have on the wire (``"wietse venema"@porcupine.org``).

A header is parsed from right to left, in the way of Postfix's tok822: nothing is thrown away, what is not understood
stays as it is, comments move behind the address that they are in, and a comma is added between two addresses that
have none. So any header can be written back, with only its addresses changed.

Source: quote_822_local(3), quote_821_local(3), tok822(3), spec/smtp-client.md 7.3.
"""

import re
from collections.abc import Callable, Sequence

from postfixpy import log
from postfixpy.lookup import quoting

ATOM, QUOTED, COMMENT, LITERAL, ADDRESS, GROUP = "atom", "quoted", "comment", "literal", "address", "group"
"""Kinds of tokens that have text (GROUP: the colon behind a group's name). The other kinds are the operator itself."""

MAX_OTHER_TEXT = 250
"""Bytes of comments and phrases beside one address in a header; more is stripped (CERT advisory CA-2003-07)."""

_OPERATORS = '|%!()<>@,;:\\".[]'
_QUOTE_821 = re.compile(r'["\\\r\n]')
_BLANK = " \t\r\n"

# One token at the position; `\` takes the next character as it is, and at the end of the text stands for nothing.
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<literal>\[(?:\\.|[^\\\]])*\\?\]?)
      | (?P<quoted>"(?:\\.|[^\\"])*\\?"?)
      | (?P<operator>[|%!)<>@,;:.\]])
      | (?P<comment>\()
      | (?P<atom>(?:\\.|\\\Z|[^\\ \t\r\n|%!()<>@,;:".\[\]])+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_SPACES = re.compile(r"[\t\r\n]")
_ATOM_NEEDS_QUOTES = re.compile(rf"[\x00-\x20\x7f{re.escape(_OPERATORS)}]")
_COMMENT_STOP = re.compile(r"[()\\]")


def quote_822_local(address: str, *, bare: bool = False) -> str:
    """`address` from internal to external form, as in headers and in the log.

    A source route (``@a,b:``) is copied. `bare`: the whole text is a local part, even with "@".
    """
    return quoting.quote(address, bare_local=bare)


def quote_821_local(address: str) -> str:
    """`address` from internal form to the form of SMTP commands. Eight-bit text is left alone."""
    end = address.rfind("@")
    if end < 0:
        end = len(address)
    if quoting.is_dot_string(address[:end]):
        return address
    return '"' + _QUOTE_821.sub(r"\\\g<0>", address[:end]) + '"' + address[end:]


def unquote_822_local(address: str) -> str:
    """`address` from external to internal form: quotes and backslashes of the local part are removed."""
    return quoting.unquote(address)


class Token:
    """One token. `text` is what it holds without quotes or brackets (a comment has its parentheses); an ADDRESS holds
    `parts` instead."""

    __slots__ = ("kind", "parts", "text")

    def __init__(self, kind: str, text: str = "", parts: "list[Token] | None" = None) -> None:
        self.kind = kind
        self.text = text
        self.parts = parts if parts is not None else []

    def __repr__(self) -> str:
        return f"Token({self.kind!r}, {self.text or self.parts!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and (self.kind, self.text, self.parts) == (other.kind, other.text, other.parts)

    __hash__ = None  # type: ignore[assignment]  # tokens are edited in place

    @property
    def internal(self) -> str:
        """An ADDRESS in internal form."""
        return internalize(self.parts, inside=True)

    @property
    def external(self) -> str:
        """An ADDRESS in external form, quoted part by part: what the rewriting service is sent."""
        return externalize(self.parts, inside=True)

    def replace(self, external: str) -> None:
        """Make an ADDRESS another one, given in external form."""
        self.parts = scan(external)


def scan(text: str, limit: int = 0) -> list[Token]:
    """The tokens of `text`, at most `limit` of them (0: all)."""
    tokens: list[Token] = []
    position = 0
    while match := _TOKEN.match(text, position):
        kind = match.lastgroup
        position = match.end()
        if kind == "comment":
            position = _comment_end(text, match.start(kind))
            token = Token(COMMENT, text[match.start(kind) : position])
        elif kind == "operator":
            token = Token(match[kind])
        elif kind == "atom":
            found = _literal(match[kind])
            token = Token(QUOTED if _ATOM_NEEDS_QUOTES.search(found) else ATOM, found)
        else:
            assert kind is not None
            closing = "]" if kind == "literal" else '"'
            token = Token(LITERAL if kind == "literal" else QUOTED, _literal(_inside(match[kind], closing)))
        tokens.append(token)
        if limit and len(tokens) >= limit:
            break
    return tokens


def _inside(text: str, closing: str) -> str:
    """Without the opening and, if it is there and not escaped, the closing character."""
    text = text[1:]
    if text.endswith(closing):
        body = text[:-1]
        if (len(body) - len(body.rstrip("\\"))) % 2 == 0:
            return body
    return text


def _literal(text: str) -> str:
    """With backslashes resolved, and line breaks and tabs made spaces."""
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    return _SPACES.sub(" ", text)


def _comment_end(text: str, position: int) -> int:
    """Behind the comment, with those in it, that opens at `position`; the end of the text when it is not closed."""
    level = 0
    while match := _COMMENT_STOP.search(text, position):
        position = match.end()
        if match[0] == "(":
            level += 1
        elif match[0] == ")":
            level -= 1
            if level == 0:
                return position
        else:
            position += 1
    return len(text)


def parse_addresses(text: str, limit: int = 0) -> list[Token]:
    """The tokens of an address list, with every address gathered in one ADDRESS token.

    `limit`: stop after so many tokens (header_address_token_limit); 0: no limit.
    """
    rest = scan(text, limit)
    out: list[Token] = []  # from right to left
    address: list[Token] = []  # likewise

    def finish(add_comma: bool = False) -> None:
        if address:
            out.append(Token(ADDRESS, parts=address[::-1]))
            address.clear()
            if add_comma:
                out.append(Token(","))

    in_group = False
    word_allowed = True  # two words without an operator between them are two addresses
    while rest:
        token = rest.pop()
        kind = token.kind
        if kind == COMMENT:
            out.append(token)
        elif kind == ";":
            finish(add_comma=True)
            out.append(token)
            in_group = word_allowed = True
        elif kind == ":" and in_group:
            finish()
            out.append(Token(GROUP))
            while rest and rest[-1].kind != ",":
                out.append(rest.pop())
        elif kind == ">":
            finish(add_comma=True)
            out.append(token)
            while rest and rest[-1].kind != "<":
                token = rest.pop()
                (out if token.kind == COMMENT else address).append(token)
            finish()
            while rest and rest[-1].kind not in (">", ";", ",", ":"):  # "<" and the phrase before it
                out.append(rest.pop())
            if rest and rest[-1].kind == ":" and not in_group:
                out.append(rest.pop())
            word_allowed = True
        elif kind in (ATOM, QUOTED, LITERAL):
            if not word_allowed:
                finish(add_comma=True)
            address.append(token)
            word_allowed = False
        elif kind == ",":
            finish()
            out.append(token)
            word_allowed = True
        else:
            address.append(token)
            word_allowed = True
    finish()
    out.reverse()
    return out


_WORDS = frozenset((ATOM, QUOTED, COMMENT, LITERAL, ADDRESS))


def _space_between(token: Token, after: Token) -> bool:
    if token.kind in (",", GROUP) or after.kind == "<":
        return True
    return token.kind in _WORDS and after.kind in _WORDS


def internalize(tokens: Sequence[Token], *, inside: bool = False, lines: bool = False) -> str:
    """The tokens as text without quotes. `inside`: they are one address's parts, which have no spaces between them;
    `lines`: break the line after a comma."""
    out: list[str] = []
    for position, token in enumerate(tokens):
        kind = token.kind
        if kind == ADDRESS:
            out.append(internalize(token.parts, inside=True))
        elif kind in (ATOM, QUOTED, COMMENT):
            out.append(token.text)
        elif kind == LITERAL:
            out.append(f"[{token.text}]")
        elif kind == GROUP:
            out.append(":")
        else:
            out.append(kind)
            if kind == "," and lines:
                out.append("\n")
                continue
        if not inside and position + 1 < len(tokens) and _space_between(token, tokens[position + 1]):
            out.append(" ")
    return "".join(out)


def externalize(tokens: Sequence[Token], *, inside: bool = False, lines: bool = False, truncate: bool = False) -> str:
    """The tokens as text with quotes where they are needed.

    `inside`: as in `internalize`; `lines`: a line break, not a space, after a comma; `truncate`: an address with more
    than `MAX_OTHER_TEXT` bytes of comments around it is written without them, with a warning.
    """
    out: list[str] = []
    expression = 0  # where in `out` the current address expression starts
    address: Token | None = None
    address_size = 0

    def enforce() -> None:
        if not truncate or address is None:
            return
        text = "".join(out[expression:])
        if _size(text) - address_size <= MAX_OTHER_TEXT:
            return
        shown = log.printable(text.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "surrogateescape"))
        log.warning(f"stripping too many comments from address: {shown}...")
        plain = quote_822_local(address.internal) if address.parts else ""
        out[expression:] = [f"<{plain}>"]

    for position, token in enumerate(tokens):
        kind = token.kind
        after = tokens[position + 1] if position + 1 < len(tokens) else None
        if kind == ",":
            enforce()
            out.append(",\n" if lines else ", ")
            expression, address, address_size = len(out), None, 0
            continue
        if kind == ADDRESS:
            text = quote_822_local(token.internal)
            address, address_size = token, _size(text)
            out.append(text)
        elif kind in (ATOM, COMMENT):
            out.append(token.text)
        elif kind == QUOTED:
            out.append('"' + re.sub(r'["\\\r\n]', r"\\\g<0>", token.text) + '"')
        elif kind == LITERAL:
            out.append("[" + re.sub(r"[\\\r\n]", r"\\\g<0>", token.text) + "]")
        elif kind == GROUP:
            out.append(":")
        else:
            if kind == "<" and after is not None and after.kind == ">":
                address, address_size = token, 0
            out.append(kind)
        if not inside and after is not None and _space_between(token, after):
            out.append(" ")
    enforce()
    return "".join(out)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def addresses(tokens: Sequence[Token]) -> list[Token]:
    """The ADDRESS tokens of a parsed list, to read or to `replace`."""
    return [token for token in tokens if token.kind == ADDRESS]


def header_text(tokens: Sequence[Token]) -> str:
    """A parsed list as a header's value: one address a line (without the blank that a continuation line begins
    with), comments bounded."""
    return externalize(tokens, lines=True, truncate=True)


def rewrite_header(text: str, mapper: Callable[[str], str | None], limit: int = 0) -> str | None:
    """A header's value with each address, in external form, changed as `mapper` says (None: no change).

    None when nothing was changed; else as `header_text`.
    """
    tokens = parse_addresses(text, limit)
    changed = False
    for token in addresses(tokens):
        external = token.external
        result = mapper(external)
        if result is not None and result != external:
            token.replace(result)
            changed = True
    return header_text(tokens) if changed else None
