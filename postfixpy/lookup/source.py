"""The postmap(1) source format, ``key whitespace value``, and values that are the content of files (postmap -F)."""

import base64
from collections.abc import Iterator

from postfixpy import log
from postfixpy.lookup.syntax import key_and_value, logical_lines, tokens
from postfixpy.lookup.table import error_text, is_utf8

TEXTHASH_NOTE = " -- ignoring this line"
"""What texthash: says after a line without a value, and postmap(1) does not."""


def entries(
    data: bytes, path: str, *, utf8: bool, note: str = "", warn_of_null: bool = True
) -> Iterator[tuple[int, str, str]]:
    """The line number, key and value of each usable line of `data`; warns about the others as postmap(1) does.

    `path` is the file name in warnings. `utf8`: refuse lines that are not UTF-8. Keys are not folded here.
    """
    for number, line in logical_lines(data, path, warn_of_null=warn_of_null):
        text = line.decode("utf-8", "surrogateescape")
        if utf8 and not is_utf8(text):
            log.warning(f'{path}, line {number}: non-UTF-8 input "{text}" -- ignoring this line')
            continue
        pair = key_and_value(text)
        if pair is None:
            log.warning(f"{path}, line {number}: unbalanced '\"' in '{text}' -- ignoring this line")
            continue
        key, value = pair
        if not key or not value:
            log.warning(f"{path}, line {number}: expected format: key whitespace value{note}")
            continue
        if key.endswith(":"):
            log.warning(f'{path}, line {number}: record is in "key: value" format; is this an alias file?')
        yield number, key, value


def file_value(names: str) -> str:
    """The content of the files in the list `names`, joined by newlines, in base64. Raises ValueError with the text."""
    paths = list(tokens(names, braces=False))
    if not paths:
        raise ValueError(f"empty pathname list: >>{names}<<'")
    parts = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                parts.append(file.read())
        except OSError as error:
            raise ValueError(f"open {path}: {error_text(error)}") from None
    return base64.b64encode(b"\n".join(parts)).decode()


def decode_file_value(value: str) -> str:
    """The text of a value made by `file_value`. Raises ValueError with Postfix's text if it is not base64."""
    try:
        content = base64.b64decode(value.encode("utf-8", "surrogateescape"), validate=True)
    except ValueError:
        raise ValueError(f"malformed BASE64 value: {value[:30]}") from None
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
