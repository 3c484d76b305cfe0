"""Editing main.cf: -e replaces or appends settings, -X deletes them, -# comments them out.

Comments and blank lines stay, also those inside a setting that is removed. The file is replaced as a whole by
renaming a finished copy, FILE.tmp, over it: mode 0644, owned by the caller. If something is refused on the way, the
copy stays behind and the file is untouched. (spec/postconf.md section 10.)
"""

from __future__ import annotations

import os

from postfixpy import log
from postfixpy.config.inspect.hash_order import hash_order
from postfixpy.config.lines import BLANKS, SPACE, encode, read_file, split_name_value, strerror
from postfixpy.config.parameters import Database, Release
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

EDIT, DELETE, COMMENT = "-e", "-X", "-#"


class Rules:
    """What an edit does differently in older releases and patch levels."""

    __slots__ = ("merges", "release", "repairs_end", "silent_repeats", "sorts", "trims")

    def __init__(self, database: Database) -> None:
        self.release: Release = database.release
        current = database.release >= (3, 7)
        date = database.build_date
        self.merges = database.release >= (3, 5)  # a later request for a name replaces the earlier one
        self.repairs_end = current and date >= 20250316  # a missing final newline is added
        self.sorts = current and date >= 20250919  # new settings are sorted
        self.silent_repeats = current and date >= 20251120  # no warning if the replaced request is the same
        self.trims = current and date >= 20251120  # blanks after a name to delete do not count


class Replacement:
    """The new content of a file, written beside it and renamed over it by `commit`.

    Opening takes an exclusive lock, so that two edits do not mix. Raises FatalError.
    """

    def __init__(self, path: str) -> None:
        import fcntl

        self.path = path
        self.temporary = path + ".tmp"
        self._unread = ""
        try:
            while True:
                descriptor = os.open(self.temporary, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                self.file = os.fdopen(descriptor, "wb")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self._is_ours(os.fstat(descriptor)):
                    break
                self.file.close()
            os.ftruncate(descriptor, 0)
        except OSError as error:
            raise FatalError(f"open {self.temporary}: {strerror(error)}") from None

    def _is_ours(self, status: os.stat_result) -> bool:
        """Whether the locked file is still FILE.tmp, and fit to be written; removes it if it is not fit."""
        try:
            now = os.stat(self.temporary)
        except FileNotFoundError:
            return False
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
            return False
        if now.st_nlink == 1 and now.st_mode == 0o100600:
            return True
        os.unlink(self.temporary)
        return False

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def original(self) -> str:
        """The present content. Raises FatalError after removing the copy.

        A directory can be opened; that it cannot be read is noticed by `commit`.
        """
        try:
            return read_file(self.path)
        except IsADirectoryError as error:
            self._unread = f"read {self.path}: {strerror(error)}"
            return ""
        except OSError as error:
            os.unlink(self.temporary)
            raise FatalError(f"open {self.path} for reading: {strerror(error)}") from None

    def write(self, lines: Iterable[str]) -> None:
        """Add text to the copy."""
        for line in lines:
            self.file.write(encode(line))

    def commit(self) -> None:
        """Make the copy the file. Raises FatalError after removing the copy."""
        if self._unread:
            raise FatalError(self._unread)
        try:
            self.file.flush()
            os.fchmod(self.file.fileno(), 0o644)
            os.fsync(self.file.fileno())
            os.rename(self.temporary, self.path)
        except OSError as error:
            os.unlink(self.temporary)
            raise FatalError(f"close {self.temporary}: {strerror(error)}") from None


def physical_lines(text: str, *, repair_end: bool) -> list[str]:
    """The lines of `text`, each with its newline; a missing last one is added if `repair_end`.

    From a NUL on, nothing of a line is left, not even the newline.
    """
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    if last:
        lines.append(last + "\n" if repair_end else last)
    return [line.partition("\0")[0] for line in lines] if "\0" in text else lines


def is_content(line: str) -> bool:
    """Whether the line is neither blank nor a comment."""
    stripped = line.lstrip(SPACE)
    return bool(stripped) and stripped[0] != "#"


def _options(release: Release) -> str:
    if release >= (2, 10):
        return "-e, -X, or -#"
    return "-e or -#" if release >= (2, 6) else "edit"


def parse_requests(mode: str, arguments: list[str], rules: Rules) -> list[tuple[str, str]]:
    """Names with new values (empty for -X and -#). Raises FatalError for a bad argument.

    From 3.5 on a later request for the same name replaces the earlier one.
    """
    release = rules.release
    requests: list[tuple[str, str]] = []
    for argument in arguments:
        text = argument.lstrip(SPACE)
        if "\n" in argument:
            raise FatalError(f"{_options(release)} accepts no multi-line input")
        if text.startswith("#"):
            raise FatalError(f"{_options(release)} accepts no comment input")
        if mode == EDIT:
            try:
                name, value = split_name_value(text)
            except ValueError as error:
                raise FatalError(f'{error}: "{text}"') from None
        else:
            if not text and release >= (2, 10):
                raise FatalError("-X or -# requires non-blank parameter names")
            if release < (2, 11) and (not text or "=" in text):
                raise FatalError(f"{'-X or ' if release >= (2, 10) else ''}-# requires parameter names only")
            if "=" in text:
                raise FatalError("-X or -# requires parameter names without value")
            name, value = text.rstrip(SPACE) if rules.trims else text, ""
        earlier = [request for request in requests if request[0] == name] if rules.merges else []
        for request in earlier:
            requests.remove(request)
            if mode == EDIT and (request[1] != value or not rules.silent_repeats):
                log.warning(f"ignoring earlier request: '{name} = {request[1]}'")
        requests.append((name, value))
    return requests


def edited(text: str, mode: str, requests: list[tuple[str, str]], path: str, rules: Rules) -> Iterator[str]:
    """The lines of the file after the edit. Warns about names that the file has more than once."""
    values = dict(requests)
    found: dict[str, int] = {}
    removing = False
    for line in physical_lines(text, repair_end=rules.repairs_end):
        if not is_content(line):
            yield line
        elif line[0] in SPACE:
            if not removing:
                yield line
            elif mode == COMMENT:
                yield "#" + line
        else:
            name = _name_of(line)
            removing = name in values
            if not removing:
                yield line
                continue
            found[name] = found.get(name, 0) + 1
            if found[name] == 2:
                log.warning(f'{path}: multiple entries for "{name}"')
            if mode == EDIT:
                yield f"{name} = {values[name]}\n"
            elif mode == COMMENT:
                yield "#" + line
    if mode == EDIT:
        yield from _new_settings(requests, set(found), rules)


def _new_settings(requests: list[tuple[str, str]], found: set[str], rules: Rules) -> Iterator[str]:
    """The settings that were not in the file: sorted, or in the order of a hash table before that was so.

    Before 3.5 an earlier request for a name of the file is taken for one of those.
    """
    names = [name for name, _ in requests]
    order = sorted(names) if rules.sorts else hash_order(names, fnv=rules.release >= (3, 7), size=len(names))
    values: dict[str, list[str]] = {}
    for name, value in requests:
        values.setdefault(name, []).append(value)
    for name in found:
        values[name].pop()
    for name in order:
        if values[name]:
            yield f"{name} = {values[name].pop()}\n"


def _name_of(line: str) -> str:
    end = 0
    while end < len(line) and line[end] not in BLANKS + "=":
        end += 1
    return line[:end]


def edit_main(mode: str, arguments: list[str], directory: str, database: Database) -> None:
    """Apply `arguments` to main.cf in `directory`. Raises FatalError."""
    rules = Rules(database)
    requests = parse_requests(mode, arguments, rules)
    with Replacement(f"{directory}/main.cf") as replacement:
        text = replacement.original()
        replacement.write(edited(text, mode, requests, replacement.path, rules))
        replacement.commit()
