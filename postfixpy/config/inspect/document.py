"""--json: everything that postconf would print as one JSON document.

Parameters are an object of name and value; master.cf rows (-M) a list of objects with fields, arguments, -o
settings and line; fields (-F) and -o settings (-P) an object of path and value; the lists of what a build supports
are arrays.
"""

import json
from collections.abc import Iterator, Mapping

from postfixpy.config.inspect import show_master
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.rows import FIELD_NAMES, MIN_FIELDS
from postfixpy.config.inspect.show_main import Style, show_parameters


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def array(lines: list[str]) -> Iterator[str]:
    """A list of words."""
    yield _dump(lines)


def objects(shown: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Named objects: the bounce templates."""
    yield _dump(shown)


def show(names: Names, style: Style, classes: set[str], options: set[str], wanted: list[str]) -> Iterator[str]:
    """The document for the mode in `options` (M, F, P, else main.cf parameters)."""
    if "M" in options:
        yield _dump(_rows(names, style, wanted))
        return
    style.json, style.hide_name, style.hide_value = True, False, False
    if "F" in options:
        lines = show_master.show_fields(names, style, wanted)
    elif "P" in options:
        lines = show_master.show_settings(names, style, classes, wanted, all_names="PP" in options)
    else:
        lines = show_parameters(names, style, classes, wanted)
    document: dict[str, str] = {}
    for line in lines:
        document.update(json.loads(line))
    yield _dump(document)


def _rows(names: Names, style: Style, wanted: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for scope in show_master.selected_rows(names, wanted):
        row = scope.row
        fields: dict[str, object] = dict(zip(FIELD_NAMES, row.words, strict=False))
        settings = dict(row.settings())
        if style.expand:
            settings = {name: names.expand(value, scope) for name, value in settings.items()}
        fields["arguments"] = row.words[MIN_FIELDS:]
        fields["settings"] = settings
        fields["line"] = row.line
        rows.append(fields)
    return rows
