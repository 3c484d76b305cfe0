"""--json: everything that postconf would print as one JSON document.

Parameters are an object of name and value; master.cf rows (-M) a list of objects with fields, arguments, -o
settings and line; fields (-F) a list of objects with name and value, because rows may have one name; -o settings (-P),
which such rows share, an object of path and value; the lists of what a build supports are arrays. Messages, on standard
error, are one object a line. A byte that is not UTF-8 is an escape from \\udc80 to \\udcff, as Python reads it.
"""

import json
import re
from collections.abc import Iterator, Mapping

from postfixpy.config.inspect import show_master
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.rows import FIELD_NAMES
from postfixpy.config.inspect.show_main import Style, show_parameters


def dump(value: object, *, indent: int | None = 2) -> str:
    """`value` as a document."""
    text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    return text if text.isascii() else re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def message(program: str, severity: str, text: str) -> bytes:
    """A message, without end of line."""
    return dump({"program": program, "severity": severity, "text": text}, indent=None).encode().rstrip(b"\n")


def array(lines: list[str]) -> Iterator[str]:
    """A list of words."""
    yield dump(lines)


def objects(shown: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Named objects: the bounce templates."""
    yield dump(shown)


def show(names: Names, style: Style, classes: set[str], options: set[str], wanted: list[str]) -> Iterator[str]:
    """The document for the mode in `options` (M, F, P, else main.cf parameters)."""
    if "M" in options:
        yield dump(_rows(names, style, wanted))
        return
    style.json, style.hide_name, style.hide_value = True, False, False
    if "F" in options:
        fields = show_master.show_fields(names, style, wanted)
        yield dump([{"name": name, "value": value} for line in fields for name, value in json.loads(line).items()])
        return
    if "P" in options:
        lines = show_master.show_settings(names, style, classes, wanted, all_names="PP" in options)
    else:
        lines = show_parameters(names, style, classes, wanted)
    document: dict[str, str] = {}
    for line in lines:
        document.update(json.loads(line))
    yield dump(document)


def _rows(names: Names, style: Style, wanted: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for scope in show_master.selected_rows(names, wanted):
        row = scope.row
        fields: dict[str, object] = dict(zip(FIELD_NAMES, row.words, strict=False))
        expand = show_master.expander(names, style, scope)
        settings = dict(row.settings())
        if expand is not None:
            settings = {name: expand(value) for name, value in settings.items()}
        fields["arguments"] = [
            word
            for argument in show_master.arguments(row, expand)
            for word in (argument.word, argument.value)
            if word is not None
        ]
        fields["settings"] = settings
        fields["line"] = row.line
        rows.append(fields)
    return rows
