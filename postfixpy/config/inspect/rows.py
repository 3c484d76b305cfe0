"""master.cf rows as postconf shows and edits them: words, with the options brought into one form.

``-voname=value`` becomes ``-v -o name=value``, ``-o { name = value }`` becomes ``name=value`` with its outer blanks
removed, and arguments in {} lose their braces. "-" stays. (spec/postconf.md section 9, which also tells of the
quirks kept here.)
"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.lines import (
    BLANKS,
    extract_braces,
    logical_lines,
    read_file,
    split_name_value,
    split_quoted,
    strerror,
)
from postfixpy.config.master_cf import TYPES
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from postfixpy.config.parameters import Release

MIN_FIELDS = 8
FIELD_NAMES = ("service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command")
"""The columns, by the names that -F gives them."""
COMMAND = 7
_FILE = "master.cf"


class Row:
    """One row: `words` are the eight fields and the arguments; `line` is where it starts in the file."""

    __slots__ = ("line", "words")

    def __init__(self, words: list[str], line: int = 0) -> None:
        self.words = words
        self.line = line

    @property
    def name_space(self) -> str:
        """``service/type``, the name of the row's own name space."""
        return f"{self.words[0]}/{self.words[1]}"

    @property
    def process_name(self) -> str:
        """The base name of the command."""
        return self.words[COMMAND].rstrip("/").rpartition("/")[2]

    def settings(self) -> list[tuple[str, str]]:
        """The -o settings, in order."""
        return [setting for _, setting in self.positions()]

    def positions(self) -> list[tuple[int, tuple[str, str]]]:
        """The -o settings with the index of the option's word."""
        found = []
        index = MIN_FIELDS
        words = self.words
        while index < len(words):
            word = words[index]
            if not word.startswith("-") or word == "--":
                break
            if takes_value(word) and index + 1 < len(words):
                if word == "-o":
                    try:
                        found.append((index, split_name_value(words[index + 1])))
                    except ValueError:
                        pass  # not name=value: shown as it is, and the daemon will complain
                index += 1
            index += 1
        return found


def takes_value(option: str) -> bool:
    """Whether the word after `option` is its value: after -o, and after a lone "-", by the way strchr(3) finds NUL."""
    return option == "-" or option[1:2] == "o"


def parse_row(text: str, release: Release, line: int = 0) -> Row:
    """A row from its logical line. Raises ValueError ``bad field count`` and FatalError for a bad field."""
    words = split_quoted(text, BLANKS) if release >= (3, 0) else text.split()
    if len(words) < MIN_FIELDS:
        raise ValueError("bad field count")
    row = Row(words, line)
    if release >= (2, 11):
        check_row(row, text)
    normalise(row, release)
    return row


def _refuse(field: str, value: str, text: str) -> FatalError:
    return FatalError(f'invalid {field} field "{value}" in "{text}"'.replace("\n", " "))


def check_row(row: Row, text: str) -> None:
    """Raise FatalError for a field that master would not take; `text` is shown."""
    words = row.words
    if words[1] not in TYPES:
        raise _refuse("type", words[1], text)
    for index in (2, 3, 4):
        if words[index] not in ("y", "n", "-", ""):  # -F takes an empty value for it
            raise _refuse(FIELD_NAMES[index], words[index], text)
    wakeup = words[5].removesuffix("?")
    if wakeup != "-" and wakeup.strip("0123456789"):
        raise _refuse("wakeup", words[5], text)
    if words[6] != "-" and words[6].strip("0123456789"):
        raise _refuse("process_limit", words[6], text)


def normalise(row: Row, release: Release) -> None:
    """Bring the arguments of `row` into their one form."""
    words = row.words
    index = MIN_FIELDS
    while index < len(words):
        word = words[index]
        if not word.startswith("-") or word == "--":
            break
        split = word.find("o", 2)
        if split > 0:
            words.insert(index + 1, "-" + word[split:])
            words[index] = word = word[:split]
        if not takes_value(word):
            index += 1
            continue
        if len(word) > 2:
            words.insert(index + 1, word[2:])
            words[index] = "-o"
        if index + 1 < len(words):
            index += 1
            if words[index].startswith("{") and release >= (3, 0):
                words[index] = _without_braces(words[index])
                if words[index - 1] == "-o":
                    words[index] = _name_value(words[index])
        index += 1
    if release >= (3, 0):
        for position in range(index, len(words)):
            if words[position].startswith("{"):
                words[position] = _without_braces(words[position])


def _without_braces(word: str) -> str:
    inside, problem = extract_braces(word, strip=True)
    if problem is not None:
        log.warning(f"{_FILE}: {problem}")
    return inside


def _name_value(text: str) -> str:
    try:
        name, value = split_name_value(text)
    except ValueError as error:
        log.warning(f'{_FILE}: {error}: "{text}"')
        return text
    return f"{name}={value}"


def read_rows(path: str, release: Release, *, required: bool) -> list[Row]:
    """The rows of master.cf at `path`. If it cannot be read: FatalError if `required`, else a warning and no rows."""
    try:
        text = read_file(path)
    except IsADirectoryError:
        return []  # it can be opened; that it cannot be read, Postfix takes for its end
    except OSError as error:
        problem = f"open {path}: {strerror(error)}"
        if required:
            raise FatalError(problem) from None
        log.warning(problem)
        return []
    rows = []
    for first, last, line in logical_lines(text, path, log.warning, warn_null=release >= (3, 9)):
        try:
            rows.append(parse_row(line, release, first))
        except ValueError as error:
            raise FatalError(f"file {path}: line {first if release >= (3, 0) else last}: {error}") from None
    return rows


def matches(pattern: list[str], service: str, type: str) -> bool:
    """Whether a service pattern (``name type ...``, ``*`` for any) fits."""
    return pattern[0] in ("*", service) and pattern[1] in ("*", type)


def parse_pattern(text: str, minimum: int, maximum: int) -> list[str] | None:
    """``service/type/...`` as a list of `maximum` components, missing ones as ``*``; None if it is malformed."""
    if text.startswith("/"):
        return None
    parts = [part for part in text.split("/") if part]
    if not minimum <= len(parts) <= maximum or any("*" in part and part != "*" for part in parts):
        return None
    return parts + ["*"] * (maximum - len(parts))
