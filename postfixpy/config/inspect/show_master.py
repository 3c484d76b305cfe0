"""Listing master.cf: rows (-M), fields (-F) and -o settings (-P, -PP). (spec/postconf.md section 9.)"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.inspect import text
from postfixpy.config.inspect.rows import COMMAND, FIELD_NAMES, MIN_FIELDS, Row, matches, parse_pattern, takes_value
from postfixpy.config.inspect.show_main import Style, format_setting
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postfixpy.config.inspect.names import Names, Scope
    from postfixpy.config.parameters import Release

    Expand = Callable[[str], str]

COLUMNS = (0, 11, 17, 25, 33, 41, 49, 57)
"""Where the fields start if there is room."""


class _Line:
    """A line of output that knows its column, counted in bytes as Postfix does."""

    __slots__ = ("column", "fold", "pieces")

    def __init__(self, *, fold: bool) -> None:
        self.fold = fold
        self.pieces: list[str] = []
        self.column = 0

    def add(self, word: str) -> None:
        self.pieces.append(word)
        self.column += text.width(word)

    def pad(self, goal: int) -> None:
        """At least one blank, and up to column `goal`."""
        self.add(" " * max(1, goal - self.column))

    def new_line(self) -> None:
        self.pieces.append("\n" + text.INDENT)
        self.column = len(text.INDENT)

    def force_break(self) -> None:
        """Nothing more fits on this line."""
        self.column = text.LINE_LIMIT

    def separate(self, size: int) -> None:
        """A blank, or a new line if `size` more columns do not fit."""
        if self.column <= len(text.INDENT):
            return
        if self.fold and self.column + 1 + size >= text.LINE_LIMIT:
            self.new_line()
        else:
            self.add(" ")

    def text(self) -> str:
        return "".join(self.pieces)


def _has_blanks(word: str) -> bool:
    return any(blank in word for blank in text.SEPARATORS)


class _Argument:
    """An argument: the word, the value if it is an option with one, and whether the last of them needs {}."""

    __slots__ = ("braces", "value", "word")

    def __init__(self, word: str, value: str | None, *, braces: bool) -> None:
        self.word = word
        self.value = value
        self.braces = braces

    def __str__(self) -> str:
        if self.value is None:
            return f"{{{self.word}}}" if self.braces else self.word
        return f"{self.word} {{{self.value}}}" if self.braces else f"{self.word} {self.value}"


def arguments(row: Row, expand: Expand | None) -> Iterator[_Argument]:
    """The arguments of `row`. The first one after the options gets no {}, whatever it holds: so does Postfix."""
    words = iter(row.words[MIN_FIELDS:])
    in_options = True
    for word in words:
        value = None
        braces = False
        if not in_options:
            braces = _has_blanks(word)
        elif not word.startswith("-") or word == "--":
            in_options = False
        elif takes_value(word):
            value = next(words, None)
            if value is not None:
                if expand is not None and word == "-o":
                    value = expand(value)
                braces = _has_blanks(value)
        yield _Argument(word, value, braces=braces)


def format_row(row: Row, *, fold: bool, expand: Expand | None = None, release: Release = (99, 0)) -> str:
    """The row in columns, ``-Mf`` if `fold`."""
    line = _Line(fold=fold)
    for goal, word in zip(COLUMNS, row.words, strict=False):
        if line.column > 0:
            line.pad(goal)
        line.add(word)
    if release < (2, 11):
        _add_old_arguments(line, row, expand, break_options=release < (2, 10))
    else:
        _add_arguments(line, row, expand, option_size=3)
    return line.text() + "\n"


def _add_old_arguments(line: _Line, row: Row, expand: Expand | None, *, break_options: bool) -> None:
    """As before 2.11: arguments start on a line of their own, and in 2.9 so does every option with a value."""
    line.force_break()
    for argument in arguments(row, expand):
        if break_options and argument.value is not None:
            line.force_break()
        argument.braces = False
        line.separate(text.width(str(argument)))
        line.add(str(argument))


def _add_arguments(line: _Line, row: Row, expand: Expand | None, *, option_size: int) -> None:
    """Add the arguments. An option with a value starts a line and ends it; `option_size` is what Postfix adds to it."""
    for argument in arguments(row, expand):
        if argument.value is None:
            line.separate(text.width(argument.word))
            line.add(str(argument))
        else:
            line.force_break()
            line.separate(text.width(str(argument)) - 1 + option_size)
            line.add(str(argument))
            line.force_break()


def _flat(row: Row, expand: Expand | None) -> str:
    """The arguments with a blank in front of each."""
    return "".join(f" {argument}" for argument in arguments(row, expand))


def _row_json(row: Row, expand: Expand | None) -> str:
    return text.json_line(row.name_space, " ".join(row.words[:MIN_FIELDS]) + _flat(row, expand))


def expander(names: Names, style: Style, scope: Scope) -> Expand | None:
    """How -x expands a value in a row; None without -x."""
    return (lambda value: names.expand(value, scope)) if style.expand else None


class _Request:
    """A filter from the command line, and how often it matched."""

    __slots__ = ("count", "pattern", "text")

    def __init__(self, request: str, pattern: list[str]) -> None:
        self.text = request
        self.pattern = pattern
        self.count = 0

    def fits(self, row: Row) -> bool:
        return matches(self.pattern, row.words[0], row.words[1])


def _requests(wanted: list[str], maximum: int, usage: str) -> list[_Request]:
    requests = []
    for request in wanted:
        pattern = parse_pattern(request, 1, maximum)
        if pattern is None:
            raise FatalError(usage)
        requests.append(_Request(request, pattern))
    return requests


def _warn_unmatched(requests: list[_Request]) -> None:
    for request in requests:
        if request.count == 0:
            log.warning(f'unmatched request: "{request.text}"')


def show_rows(names: Names, style: Style, wanted: list[str]) -> Iterator[str]:
    """-M: the rows that `wanted` filters select, or all."""
    for scope in selected_rows(names, wanted):
        expand = expander(names, style, scope)
        if style.json:
            yield _row_json(scope.row, expand)
        else:
            yield format_row(scope.row, fold=style.fold, expand=expand, release=names.release)


def selected_rows(names: Names, wanted: list[str]) -> Iterator[Scope]:
    """The rows that -M would show. Before 2.11 a filter is a type, or service.type, and may match nothing silently."""
    if names.release < (2, 11):
        for scope in names.scopes:
            service, type = scope.row.words[:2]
            if not wanted or type in wanted or f"{service}.{type}" in wanted:
                yield scope
        return
    requests = _requests(wanted, 2, "-M option requires service_name[/type]")
    for scope in names.scopes:
        for _ in _selections(requests, scope.row) if wanted else (None,):
            yield scope
    _warn_unmatched(requests)


def _selections(requests: list[_Request], row: Row) -> Iterator[_Request]:
    for request in requests:
        if request.fits(row):
            request.count += 1
            yield request


def field_number(name: str) -> int | None:
    """The index of a field by its name, None for ``*``. Raises FatalError."""
    if name == "*":
        return None
    if name not in FIELD_NAMES:
        raise FatalError(f'invalid service attribute name: "{name}"')
    return FIELD_NAMES.index(name)


def show_fields(names: Names, style: Style, wanted: list[str]) -> Iterator[str]:
    """-F: ``service/type/field = value`` lines."""
    requests: list[_Request] = []
    numbers = []
    for request_text in wanted:
        requests += _requests([request_text], 3, "-F option requires service_name[/type[/field]]")
        numbers.append(field_number(requests[-1].pattern[2]))
    for scope in names.scopes:
        if not wanted:
            for index in range(MIN_FIELDS):
                yield _field(names, style, scope, index)
        for request, number in zip(requests, numbers, strict=True):
            if request.fits(scope.row):
                request.count += 1
                for index in range(MIN_FIELDS) if number is None else (number,):
                    yield _field(names, style, scope, index)
    _warn_unmatched(requests)


def _field(names: Names, style: Style, scope: Scope, index: int) -> str:
    row = scope.row
    name = f"{row.name_space}/{FIELD_NAMES[index]}"
    expand = expander(names, style, scope)
    if style.json:
        return text.json_line(name, row.words[index] + (_flat(row, expand) if index == COMMAND else ""))
    line = _Line(fold=style.fold)
    if not style.hide_name:
        line.add(name)
        if not style.hide_value:
            line.add(" = ")
    if not style.hide_value:
        if line.column > 0 and line.column + text.width(row.words[index]) > text.LINE_LIMIT:
            line.new_line()
        line.add(row.words[index])
        if index == COMMAND:
            _add_arguments(line, row, expand, option_size=1)
    return line.text() + "\n"


def show_settings(
    names: Names, style: Style, classes: set[str], wanted: list[str], *, all_names: bool
) -> Iterator[str]:
    """-P: ``service/type/name = value`` lines of -o settings; of all parameters of `classes` if `all_names` (-PP)."""
    requests = _requests(wanted, 3, "-P option requires service_name[/type[/parameter]]")
    for scope in names.scopes:
        settings = _all_settings(names, scope, set() if wanted else classes) if all_names else scope.settings
        if not wanted:
            yield from _setting_lines(names, style, scope, settings)
        for request in requests if settings else ():
            name = request.pattern[2]
            if not request.fits(scope.row):
                continue
            if name == "*":
                request.count += 1
                yield from _setting_lines(names, style, scope, settings)
            elif name in settings:
                request.count += 1
                yield _setting(names, style, scope, name, settings[name])
    _warn_unmatched(requests)


def _all_settings(names: Names, scope: Scope, classes: set[str]) -> dict[str, str]:
    """Every parameter of `classes` (empty: every name) with its value for this row, and the row's own names."""
    if names.release < (3, 11):
        return scope.settings
    settings = {
        name: names.lookup(name, scope) or "" for name, kind in names.classes.items() if not classes or kind in classes
    }
    for name, value in scope.settings.items():
        settings.setdefault(name, value)
    return settings


def _setting_lines(names: Names, style: Style, scope: Scope, settings: dict[str, str]) -> Iterator[str]:
    for name in sorted(settings):
        yield _setting(names, style, scope, name, settings[name])


def _setting(names: Names, style: Style, scope: Scope, name: str, value: str) -> str:
    full = f"{scope.row.name_space}/{name}"
    if style.hide_value:
        return text.line(full, fold=style.fold)
    if style.expand:
        value = names.expand(value, scope)
    return format_setting(names, style, full, value)
