"""The line syntax that main.cf, master.cf and text tables share.

A logical line starts with a physical line that does not begin with white space and goes on over the lines that do. The
newline is dropped and the white space kept. Empty lines, blank lines and lines whose first character that is not white
space is "#" are dropped wherever they stand, also inside a logical line, and never end it. A logical line that would
begin with white space is skipped with a warning. (postconf(5), spec/postconf.md section 3.)

White space is C's: space, \\t, \\n, \\v, \\f, \\r and nothing beyond ASCII.
"""

from __future__ import annotations

import os

from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Warn = Callable[[str], None]

SPACE = " \t\n\v\f\r"
"""isspace(3) in the C locale."""

COMMA_SPACE = ", \t\r\n"
"""Separators of lists in parameter values (CHARS_COMMA_SP)."""

BLANKS = " \t\r\n"
"""Separators of master.cf words."""


def strerror(error: OSError) -> str:
    """The system's text for `error`, as Postfix prints it."""
    return os.strerror(error.errno) if error.errno else str(error)


def decode(data: bytes) -> str:
    """Bytes as the program's text: UTF-8, other bytes kept as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes that `decode` made `text` from."""
    return text.encode("utf-8", "surrogateescape")


def read_file(path: str) -> str:
    """The content of a configuration file. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return decode(file.read())


def open_or_fatal(path: str) -> str:
    """The content of `path`. Raises FatalError ``open PATH: reason``; a directory can be opened, but not read."""
    try:
        return read_file(path)
    except IsADirectoryError as error:
        raise FatalError(f"read {path}: {strerror(error)}") from None
    except OSError as error:
        raise FatalError(f"open {path}: {strerror(error)}") from None


def logical_lines(text: str, path: str, warn: Warn, *, warn_null: bool = True) -> Iterator[tuple[int, int, str]]:
    """Yield (first line, last line, text) of every logical line.

    `path` is for the warnings. A NUL byte ends the text of its logical line, with a warning (3.9 and later:
    `warn_null`).
    """
    physical = text.split("\n")
    if not physical[-1]:
        physical.pop()
    parts: list[str] = []
    first = 0
    has_null = False

    def finish(last: int) -> Iterator[tuple[int, int, str]]:
        nonlocal has_null
        line = "".join(parts)
        if has_null:
            where = f"{first}" if first == last else f"{first}-{last}"
            if warn_null:
                warn(f"{path}, line {where}: text after null byte may be ignored")
            line = line.partition("\0")[0]
            has_null = False
        if line and line[0] in SPACE:
            more = "..." if len(encode("".join(parts))) > 30 else ""
            shown = decode(encode(line)[:30])
            warn(f'{path}: logical line must not start with whitespace: "{shown}{more}"')
        else:
            yield first, last, line

    number = 0
    for number, line in enumerate(physical, 1):
        if "\0" in line:
            if parts and line[:1] not in SPACE and not line.startswith("#"):
                yield from finish(number - 1)
                parts = []
            has_null = True
        content = line.lstrip(SPACE)
        if not content or content[0] == "#":
            continue
        if parts and line[0] not in SPACE:
            yield from finish(number - 1)
            parts = []
        if not parts:
            first = number
        parts.append(line)
    if parts:
        yield from finish(number)
    elif has_null and warn_null:
        warn(f"{path}, line {number}: text after null byte may be ignored")


def split_name_value(text: str, *, empty_name: bool = False) -> tuple[str, str]:
    """``name = value`` as (name, value). Raises ValueError with Postfix's text.

    With `empty_name` the name may be empty, as it may in releases before 3.4.
    """
    start = text.lstrip(SPACE)
    if not empty_name and (not start or start[0] == "="):
        raise ValueError("missing attribute name")
    name, equals, value = start.partition("=")
    stripped = name.rstrip(SPACE)
    if not equals or any(blank in stripped for blank in SPACE):
        raise ValueError("missing '=' after attribute name")
    return stripped, value.strip(SPACE)


def split_quoted(text: str, separators: str = BLANKS) -> list[str]:
    """Words of `text` between `separators`; a separator inside {} does not separate (mystrtokq)."""
    if "{" not in text:
        return _split_plain(text, separators)
    words = []
    word: list[str] = []
    level = 0
    for char in text:
        if level == 0 and char in separators:
            if word:
                words.append("".join(word))
                word = []
            continue
        if char == "{":
            level += 1
        elif char == "}" and level > 0:
            level -= 1
        word.append(char)
    if word:
        words.append("".join(word))
    return words


def split_list(text: str) -> list[str]:
    """The items of a list in a parameter value, between blanks and commas."""
    return _split_plain(text, COMMA_SPACE)


def _split_plain(text: str, separators: str) -> list[str]:
    for separator in separators[1:]:
        text = text.replace(separator, separators[0])
    return [word for word in text.split(separators[0]) if word]


def extract_braces(text: str, *, strip: bool = False) -> tuple[str, str | None]:
    """The inside of ``{...}`` at the start of `text` and what is wrong with it, in Postfix's words, or None."""
    problem = None
    level = 0
    end = 0
    for end, char in enumerate(text):  # noqa: B007 - used after the loop
        level += (char == "{") - (char == "}")
        if level == 0:
            break
    else:
        end = len(text)
        problem = f"missing '}}' in \"{text}\""
    if problem is None and end + 1 < len(text):
        problem = f"syntax error after '}}' in \"{text}\""
    inside = text[1:end]
    return (inside.strip(SPACE) if strip else inside), problem
