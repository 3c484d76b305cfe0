"""Listing main.cf parameters: all of a class, or the named ones. (spec/postconf.md sections 5 and 6.)"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.inspect import text

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

    from postfixpy.config.inspect.names import Names

CLASSES = ("builtin", "service", "user")


class Style:
    """How to show things: the display options of postconf."""

    __slots__ = ("defaults", "expand", "fold", "hide_name", "hide_value", "json", "only_set")

    def __init__(self) -> None:
        self.defaults = False
        self.only_set = False
        self.expand = False
        self.fold = False
        self.hide_name = False
        self.hide_value = False
        self.json = False


def show_parameters(names: Names, style: Style, classes: set[str], wanted: list[str]) -> Iterator[str]:
    """The lines for `wanted` names in their order, or for all names of `classes`, sorted."""
    if not wanted:
        for name in sorted(names.classes):
            if names.classes[name] in classes:
                yield from _show(names, style, name)
        return
    for name in wanted:
        if name in names.classes:
            yield from _show(names, style, name)
        else:
            log.warning(f"{name}: unknown parameter")


def _show(names: Names, style: Style, name: str) -> Iterator[str]:
    value = names.lookup(name, only_set=style.only_set)
    if value is None:
        return
    if style.hide_value:
        yield format_line(names, style, name)
        return
    if style.expand and not names.is_raw(name):
        value = names.expand(value)
    yield format_setting(names, style, name, value)


def format_setting(names: Names, style: Style, name: str, value: str) -> str:
    """``name = value`` in the style asked for."""
    if style.json:
        return text.json_line(name, value)
    return format_line(names, style, value if style.hide_name else f"{name} = {value}")


def format_line(names: Names, style: Style, content: str) -> str:
    """A line of text; white space is normalised from 2.9 on."""
    if names.release < (2, 9):
        return content + "\n"
    return text.line(content, fold=style.fold)
