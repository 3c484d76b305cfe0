"""Option files of the MySQL and MariaDB client libraries (my.cnf), as far as a lookup table needs them.

A file has groups of ``name`` or ``name = value``; ``!include`` and ``!includedir`` name others. The groups that every
client reads count, and one more that the caller names, in the order of the file: the last of two settings wins.
"""

import os
from collections.abc import Iterator

GROUPS = ("client", "client-server", "client-mariadb")
"""The groups that are always read."""
_MAX_DEPTH = 10
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "r": "\r", "s": " ", '"': '"', "'": "'", "\\": "\\"}


def default_files() -> list[str]:
    """The files that are read when none is named."""
    return ["/etc/my.cnf", "/etc/mysql/my.cnf", os.path.expanduser("~/.my.cnf")]


def read(path: str, group: str) -> dict[str, str]:
    """The settings in the file `path` for clients in `group`; names have "-" for "_". No file is an empty one."""
    found: dict[str, str] = {}
    for where, name, value in _settings(path, 0):
        if where in GROUPS or where == group:
            found[name] = value
    return found


def _settings(path: str, depth: int) -> Iterator[tuple[str, str, str]]:
    """Group, name and value of each setting."""
    group = ""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return
    for line in text.split("\n"):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "!":
            word, _, name = line[1:].partition(" ")
            if depth < _MAX_DEPTH:
                for included in _included(word, name.strip()):
                    yield from _settings(included, depth + 1)
        elif line[0] == "[":
            group = line[1:].partition("]")[0].strip()
        else:
            name, equals, value = line.partition("=")
            yield group, name.strip().replace("_", "-"), _value(value) if equals else "1"


def _included(word: str, name: str) -> list[str]:
    if word == "include":
        return [name]
    if word != "includedir":
        return []
    try:
        return [f"{name}/{file}" for file in sorted(os.listdir(name)) if file.endswith(".cnf")]
    except OSError:
        return []


def _value(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        text = text[1:-1]
    parts = text.split("\\")
    value, position = parts[0], 1
    while position < len(parts):
        part = parts[position]
        if not part and position + 1 < len(parts):  # a backslash that is escaped
            value += "\\" + parts[position + 1]
            position += 2
            continue
        value += _ESCAPES.get(part[:1], "\\" + part[:1]) + part[1:]
        position += 1
    return value
