"""Tokens of structured header values: Content-Type and its like (header_token(3), RFC 2045 5.1, RFC 822 3.3).

Comments are skipped, quoted strings unfolded and unquoted. Text after a NUL is not looked at.
"""

import re
from collections.abc import Iterator

_TSPECIALS = b'()<>@,;:\\"/[]?='
_RFC822_SPECIALS = b'()<>@,;:\\".[]'
_ATOM_END = {
    specials: re.compile(rb"[\0-\x20\x7f" + re.escape(specials) + rb"]") for specials in (_TSPECIALS, _RFC822_SPECIALS)
}
_BLANKS = b" \t\r\n"
Token = tuple[str, bytes]
"""("token", text), ("string", text), or a special character with itself."""


def word(tokens: list[Token], index: int) -> bytes:
    """The text of a token in lower case; b"" when it is not a plain word."""
    kind, text = tokens[index]
    return text.lower() if kind == "token" else b""


def first_token(text: bytes) -> bytes:
    """The first token of a value, in lower case; b"" when it is not a plain word."""
    tokens = _tokens(text, 0, 1, _RFC822_SPECIALS, b"")[0]
    return word(tokens, 0) if tokens else b""


def items(text: bytes) -> Iterator[list[Token]]:
    """The items of a Content-Type value between semicolons, three tokens of each; an empty item may be between two."""
    position: int | None = 0
    while position is not None:
        tokens, position = _tokens(text, position, 3, _TSPECIALS, b";")
        yield tokens


def _tokens(
    text: bytes, position: int, limit: int, specials: bytes, terminator: bytes
) -> tuple[list[Token], int | None]:
    """Up to `limit` tokens from `position` to the `terminator`, and where the next item starts (None: the end)."""
    text = text.partition(b"\0")[0]
    tokens: list[Token] = []
    size = len(text)
    while position < size and (terminator or len(tokens) < limit):
        char = text[position : position + 1]
        position += 1
        token: Token
        if char in _BLANKS:
            continue
        if char == terminator:
            return tokens, position
        if char == b"(":
            position = _skip_comment(text, position)
            continue
        if char == b'"':
            value, position = _quoted_string(text, position)
            token = ("string", value)
        elif char in specials or char < b" " or char == b"\x7f":
            token = (char.decode("ascii"), char)
        else:
            match = _ATOM_END[specials].search(text, position)
            end = match.start() if match else size
            token = ("token", text[position - 1 : end])
            position = end
        if len(tokens) < limit:
            tokens.append(token)
    return tokens, None


def _skip_comment(text: bytes, position: int) -> int:
    depth = 1
    for match in _COMMENT.finditer(text, position):
        found = match.group()
        if found == b"(":
            depth += 1
        elif found == b")":
            depth -= 1
            if not depth:
                return match.end()
    return len(text)


def _quoted_string(text: bytes, position: int) -> tuple[bytes, int]:
    """The value of a quoted string that starts at `position`, unfolded, and the offset behind it."""
    value = bytearray()
    while position < len(text):
        char = text[position]
        position += 1
        if char == 0x22:
            break
        if char == 0x0A:
            value = bytearray(value.rstrip(_BLANKS))
            continue
        if char == 0x5C:
            if position == len(text):
                break
            char = text[position]
            position += 1
        value.append(char)
    return bytes(value), position


_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
