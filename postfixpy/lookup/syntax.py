"""The small languages in table names and sources: logical lines, lists with braces, name = value, ``$number``.

Strings come in as `str` (surrogateescape). White space is C's isspace() in the C locale, never Python's wider idea of
it, for a no-break space inside a UTF-8 value is text.
"""

import re
from collections.abc import Iterator

from postfixpy import log

SPACE = " \t\n\v\f\r"
LIST_SEPARATORS = ", \t\r\n"
"""What separates the elements of a list (CHARS_COMMA_SP)."""


def logical_lines(data: bytes, path: str, *, warn_of_null: bool = True) -> Iterator[tuple[int, bytes]]:
    """The logical lines of a table source with the number of each one's first line (postmap(1)).

    A line that starts with white space continues the one before, empty lines and ``#`` lines are skipped also between
    the two. Warns about text after a null byte (Postfix's strings end there), unless not `warn_of_null` as before 3.9,
    and about a first line with leading space.
    """
    first = number = 0
    parts: list[bytes] = []
    saw_null = False
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for line in lines:
        number += 1
        blank = not line.strip(b" \t\n\v\f\r")
        comment = line.lstrip(b" \t\n\v\f\r").startswith(b"#")
        continues = line[:1] in (b" ", b"\t", b"\v", b"\f", b"\r", b"#") or not line
        if parts and not continues:
            yield from _finished(parts, first, number - 1, saw_null, warn_of_null, path)
            parts, saw_null = [], False
        if b"\0" in line:
            saw_null = True
        if not parts:
            first = number
        if not blank and not comment:
            parts.append(line)
    if parts or saw_null:
        yield from _finished(parts, first, number, saw_null, warn_of_null, path)


def _finished(
    parts: list[bytes], first: int, last: int, saw_null: bool, warn: bool, path: str
) -> Iterator[tuple[int, bytes]]:
    line = b"".join(parts)
    if saw_null:
        where = f"{last}" if first == last else f"{first}-{last}"
        if warn:
            log.warning(f"{path}, line {where}: text after null byte may be ignored")
        if not parts:
            return
        line = line.partition(b"\0")[0]
    if line[:1] in (b" ", b"\t", b"\v", b"\f", b"\r"):
        shown = line[:30].decode("utf-8", "surrogateescape")
        dots = "..." if len(line) > 30 else ""
        log.warning(f'{path}: logical line must not start with whitespace: "{shown}{dots}"')
        return
    yield first, line


def tokens(text: str, separators: str = LIST_SEPARATORS, braces: bool = True) -> Iterator[str]:
    """The elements of a list; with `braces`, separators inside ``{}`` do not separate (mystrtokq(3))."""
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in separators:
            position += 1
        if position >= end:
            return
        start, level = position, 0
        while position < end:
            char = text[position]
            if braces and char == "{":
                level += 1
            elif level > 0 and char == "}":
                level -= 1
            elif level == 0 and char in separators:
                break
            position += 1
        yield text[start:position]
        position += 1


def c_integer(digits: str) -> int:
    """The number that atoi(3) makes of `digits`: the lower half of a long, which stops at its largest value."""
    number = min(int(digits.lstrip("0")[:20] or "0"), (1 << 63) - 1)
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def balanced(text: str) -> int:
    """The length of the balanced ``{...}`` at the start of `text`, 0 if there is none (balpar(3))."""
    if not text.startswith("{"):
        return 0
    level = 0
    for match in _BRACE.finditer(text):
        level += 1 if match[0] == "{" else -1
        if level == 0:
            return match.end()
    return 0


_BRACE = re.compile("[{}]")


def braced(text: str, strip: bool = True) -> tuple[str, str]:
    """The text inside ``{...}`` and "", or what can be had of it and an error text (extpar(3))."""
    length = balanced(text)
    if not text.startswith("{"):
        return "", f"no '{{' at start of text in \"{text}\""
    if length == 0:
        return "", f"missing '}}' in \"{text}\""
    inside = text[1 : length - 1]
    error = f"syntax error after '}}' in \"{text}\"" if length != len(text) else ""
    return inside.strip(SPACE) if strip else inside, error


def name_value(text: str) -> tuple[str, str]:
    """The key, which may be quoted, and the value of ``key = value``. Raises ValueError with Postfix's text."""
    start = len(text) - len(text.lstrip(SPACE))
    if start == len(text):
        raise ValueError("no key found; expected format: key = value")
    position, quoted = start, False
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 1
            if position >= len(text):
                break
        elif (char in SPACE or char == "=") and not quoted:
            break
        elif char == '"':
            quoted = not quoted
        position += 1
    if quoted:
        raise ValueError("unbalanced '\"'")
    rest = text[position:].lstrip(SPACE)
    if not rest.startswith("="):
        raise ValueError("missing '=' after attribute name")
    return text[start:position], rest[1:].strip(SPACE)


def key_and_value(line: str) -> tuple[str, str] | None:
    """Split a line of postmap(1) source at the first white space outside quotes; None when a quote is left open.

    The key stays in its quoted form. A backslash protects the next character.
    """
    if '"' not in line and "\\" not in line:
        match = _PLAIN_KEY.match(line)
        assert match is not None
        return match[0], line[match.end() :].strip(SPACE)
    position, quoted, end = 0, False, len(line)
    while position < end:
        char = line[position]
        if char == "\\":
            position += 1
        elif char == '"':
            quoted = not quoted
        elif char in SPACE and not quoted:
            break
        position += 1
    if quoted:
        return None
    return line[:position], line[position:].strip(SPACE)


_PLAIN_KEY = re.compile("[^ \t\n\v\f\r]*")

_MACRO = re.compile(r"\$(?:(\$)|([({])|([A-Za-z0-9_]*))")


class MacroError(Exception):
    """A ``$name`` reference is empty or not closed. str(error) is Postfix's warning."""


LITERAL, PLAIN, BRACKETED = range(3)


def split_macros(text: str) -> Iterator[tuple[int, str]]:
    """`text` as literals, and references ``$name`` (PLAIN) and ``${name}`` or ``$(name)``; ``$$`` is ``$``.

    Raises MacroError after what could be split (mac_parse(3)).
    """
    literal = ""
    position = 0
    while (match := _MACRO.search(text, position)) is not None:
        literal += text[position : match.start()]
        position = match.end()
        if match[1]:
            literal += "$"
            continue
        if literal:
            yield LITERAL, literal
            literal = ""
        name = match[3]
        if match[2]:
            name, position = _bracketed(text, position, match[2])
            if position < 0:
                raise MacroError(f'truncated macro reference: "{text}"')
        if not name:
            raise MacroError(f'empty macro name: "{text}"')
        yield BRACKETED if match[2] else PLAIN, name
    literal += text[position:]
    if literal:
        yield LITERAL, literal


def _bracketed(text: str, start: int, opening: str) -> tuple[str, int]:
    closing = ")" if opening == "(" else "}"
    level = 1
    for position in range(start, len(text)):
        if text[position] == opening:
            level += 1
        elif text[position] == closing:
            level -= 1
            if level == 0:
                return text[start:position], position + 1
    return "", -1
