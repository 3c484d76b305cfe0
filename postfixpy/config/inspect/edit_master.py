"""Editing master.cf: rows (-Me, -MX, -M#), fields (-Fe) and -o settings (-Pe, -PX).

A changed row is written in the -Mf format; comments inside or directly after it move in front of it. The file is
replaced as in edit_main. (spec/postconf.md section 10.)
"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.inspect.edit_main import COMMENT, DELETE, EDIT, Replacement, Rules, is_content, physical_lines
from postfixpy.config.inspect.rows import (
    COMMAND,
    MIN_FIELDS,
    Row,
    check_row,
    matches,
    normalise,
    parse_pattern,
    parse_row,
    takes_value,
)
from postfixpy.config.inspect.show_master import field_number, format_row
from postfixpy.config.lines import BLANKS, SPACE, split_name_value, split_quoted
from postfixpy.config.parameters import Database, Release
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

ROW, FIELD, SETTING = "-M", "-F", "-P"
_OPTIONS = "-Me, -Fe, -Pe, -X, or -#"


class Request:
    """One edit: what it matches and what is to be done there."""

    __slots__ = ("count", "field", "parameter", "pattern", "text", "value")

    def __init__(self, text: str, pattern: list[str], value: str) -> None:
        self.text = text
        self.pattern = pattern
        self.value = value
        self.field = 0
        self.parameter = ""
        self.count = 0


def parse_request(what: str, mode: str, text: str, rules: Rules) -> Request:
    """A command-line argument. Raises FatalError."""
    if "\n" in text:
        raise FatalError(f"{_OPTIONS} accept no multi-line input")
    stripped = text.lstrip(SPACE)
    if stripped.startswith("#"):
        raise FatalError(f"{_OPTIONS} accept no comment input")
    value = ""
    if mode == EDIT:
        try:
            pattern_text, value = split_name_value(stripped)
        except ValueError as error:
            raise FatalError(f'{error}: "{text}"') from None
    else:
        if "=" in stripped:
            raise FatalError("-X or -# requires names without value")
        pattern_text = stripped.rstrip(SPACE) if rules.trims else stripped
    size = 2 if what == ROW else 3
    pattern = parse_pattern(pattern_text, size, size)
    if pattern is None:
        raise FatalError(
            {
                ROW: "-Me, -MX or -M# requires service_name/type",
                FIELD: "-Fe or -FX requires service_name/type/field_name",
                SETTING: "-Pe or -PX requires service_name/type/parameter",
            }[what]
        )
    request = Request(text, pattern, value)
    if what == FIELD:
        number = field_number(pattern[2])
        if number is None:
            raise FatalError("-Fe does not accept wild-card field name")
        if mode == EDIT and number < COMMAND and any(blank in value for blank in BLANKS):
            raise FatalError("-Fe does not accept whitespace in non-command field")
        request.field = number
    elif what == SETTING:
        request.parameter = pattern[2]
        if request.parameter == "*":
            raise FatalError("-Pe does not accept wild-card parameter name")
        if mode == EDIT and any(blank in value for blank in BLANKS):
            if rules.release < (3, 0):
                raise FatalError(f'whitespace in parameter value: "{text}"')
            raise FatalError("-Pe does not accept whitespace in parameter value")
    return request


def set_field(row: Row, field: int, value: str, release: Release) -> None:
    """Replace a field; the command together with all arguments. Raises FatalError for a bad value."""
    if field == COMMAND:
        row.words[COMMAND:] = split_quoted(value, BLANKS)
        normalise(row, release)
    else:
        row.words[field] = value
    check_row(row, value)


def set_parameter(row: Row, mode: str, name: str, value: str) -> None:
    """Replace, add or (mode -X) remove the -o settings of `name`."""
    words = row.words
    found = False
    index = MIN_FIELDS
    while index < len(words) and words[index].startswith("-") and words[index] != "--":
        if takes_value(words[index]) and index + 1 < len(words):
            if words[index] == "-o" and words[index + 1].startswith(name + "="):
                found = True
                if mode == DELETE:
                    del words[index : index + 2]
                    continue
                words[index + 1] = f"{name}={value}"
            index += 1
        index += 1
    if mode == EDIT and not found:
        words[index:index] = ["-o", f"{name}={value}"]


class _Editor:
    """The state of one pass over the file."""

    def __init__(self, what: str, mode: str, requests: list[Request], path: str, rules: Rules) -> None:
        self.what = what
        self.mode = mode
        self.requests = requests
        self.path = path
        self.rules = rules
        self.release = rules.release
        self.lines: list[str] = []
        self.position = 0
        self.number = 0

    def run(self, text: str) -> Iterator[str]:
        self.lines = physical_lines(text, repair_end=self.rules.repairs_end)
        matched = False
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            self.number += 1
            if not is_content(line):
                yield line
            elif line[0] in SPACE:
                if not matched:
                    yield line
                elif self.mode == COMMENT:
                    yield "#" + line
            else:
                matched, new, passed = self.edit(line)
                yield from passed
                if new is not None:
                    yield format_row(new, fold=True)
                elif not matched:
                    yield line
                elif self.mode == COMMENT:
                    yield "#" + line
        yield from self.unmatched()

    def service(self, line: str) -> tuple[str, str]:
        """The service name and type at the start of a row."""
        words = split_quoted(line, BLANKS) if "{" not in line else line.split()
        where = f"file {self.path}: line {self.number}"
        if len(words) < 2:
            raise FatalError(f"{where}: specify service name and type on the same line")
        if "=" in words[0]:
            raise FatalError(f'{where}: service name syntax "{words[0]}" is unsupported with {_OPTIONS}')
        if "=" in words[1] or "/" in words[1]:
            raise FatalError(f'{where}: service type syntax "{words[1]}" is unsupported with {_OPTIONS}')
        return words[0], words[1]

    def edit(self, line: str) -> tuple[bool, Row | None, list[str]]:
        """What becomes of the row that starts at `line`: whether a request matched, the new row, comments before it."""
        name, type = self.service(line)
        matched = False
        new: Row | None = None
        passed: list[str] = []
        for request in self.requests:
            replacement = self.new_row(request) if self.what == ROW and self.mode == EDIT else None
            if matches(request.pattern, name, type):
                matched = True
                request.count += 1
                if replacement is not None:
                    new = replacement if request.count == 1 else new
                elif self.what == FIELD or (self.what == SETTING and self.mode in (EDIT, DELETE)):
                    if new is None:
                        new, passed = self.whole_row(line)
                    self.change(new, request)
            elif replacement is not None and self.release >= (3, 5) and matches(replacement.words, name, type):
                matched = True
                request.count += 1
                new = replacement if request.count == 1 else new
        return matched, new, passed

    def change(self, row: Row, request: Request) -> None:
        if self.what == FIELD:
            set_field(row, request.field, request.value, self.release)
        else:
            set_parameter(row, self.mode, request.parameter, request.value)

    def new_row(self, request: Request) -> Row:
        try:
            return parse_row(request.value, self.release)
        except ValueError as error:
            raise FatalError(f'{error}: "{request.text}"') from None

    def whole_row(self, first: str) -> tuple[Row, list[str]]:
        """The row with its continuation lines, and the comments among and after them."""
        text, passed = first, []
        while self.position < len(self.lines):
            line = self.lines[self.position]
            if not line or (line[0] != "#" and line[0] not in SPACE):
                break
            self.position += 1
            if is_content(line):
                text += line
            else:
                passed.append(line)
        try:
            return parse_row(text, self.release), passed
        except ValueError as error:
            raise FatalError(f"file {self.path}: line {self.number}: {error}") from None

    def unmatched(self) -> Iterator[str]:
        for request in self.requests:
            if request.count:
                continue
            if self.what != ROW:
                log.warning(f'unmatched service_name/type: "{request.text}"')
            elif self.mode == EDIT:
                yield format_row(self.new_row(request), fold=True)


def edit_master(what: str, mode: str, arguments: list[str], directory: str, database: Database) -> None:
    """Apply `arguments` to master.cf in `directory`; `what` is ROW, FIELD or SETTING. Raises FatalError."""
    rules = Rules(database)
    requests = [parse_request(what, mode, argument, rules) for argument in arguments]
    with Replacement(f"{directory}/master.cf") as replacement:
        text = replacement.original()
        editor = _Editor(what, mode, requests, replacement.path, rules)
        replacement.write(editor.run(text))
        replacement.commit()
