"""master.cf as master(8) reads it.

A row is a service: name, type, private, unprivileged, chroot, wakeup, maxproc, command and arguments. "-" stands
for the default. Arguments in {} are one word, and their outer braces and blanks are removed. Services of the same
name and class are one service: the last row wins, with a warning. (master(5); spec/postconf.md section 9;
params/master-stock.json.)

Differs from Postfix: host names and ports of inet services are not resolved here; that is for whoever listens.
"""

from postfixpy import log
from postfixpy.config.lines import (
    BLANKS,
    extract_braces,
    logical_lines,
    open_or_fatal,
    split_name_value,
    split_quoted,
)
from postfixpy.errors import FatalError

TYPES = ("unix", "fifo", "inet", "pass", "unix-dgram")
OPTIONS_WITH_VALUE = "imnorst"
"""Options of the daemon skeletons (single_server(3) and others) that take a value."""


class MasterEntry:
    """One row of master.cf.

    name        service name as written (for inet: [host:]port)
    type        inet, unix, unix-dgram, fifo or pass
    private, unprivileged, chroot   resolved columns
    wakeup      seconds between wakeups, 0 for none; wakeup_always is False for ``60?`` (only once used)
    maxproc     process limit, 0 for none; "-" is resolved through default_process_limit
    command     program name
    args        words after the command, as master passes them
    overrides   (name, value) of every -o, in order; FatalError for one that is malformed, which is the daemon's to
                say: master starts the others
    line        number of the first line
    columns     the eight columns as written
    """

    __slots__ = (
        *("args", "chroot", "columns", "command", "line", "maxproc", "name"),
        *("private", "type", "unprivileged", "wakeup", "wakeup_always"),
    )

    name: str
    type: str
    private: bool
    unprivileged: bool
    chroot: bool
    wakeup: int
    wakeup_always: bool
    maxproc: int
    command: str
    args: list[str]
    line: int
    columns: tuple[str, ...]

    @property
    def process_name(self) -> str:
        """The base name of the command, which is $process_name in the service."""
        return self.command.rpartition("/")[2]

    @property
    def overrides(self) -> list[tuple[str, str]]:
        """See the class."""
        return overrides_in(self.args)

    def __repr__(self) -> str:
        return f"<MasterEntry {self.name}/{self.type} {self.command}>"


class RowDefaults:
    """What "-" means: the process limit and whether services are chrooted."""

    __slots__ = ("chroot", "maxproc")

    def __init__(self, maxproc: int, chroot: bool) -> None:
        self.maxproc = maxproc
        self.chroot = chroot


def read_master(path: str, defaults: RowDefaults) -> list[MasterEntry]:
    """The services of master.cf at `path`. Raises FatalError with master's text."""
    return parse_master(open_or_fatal(path), path, defaults)


def parse_master(text: str, path: str, defaults: RowDefaults) -> list[MasterEntry]:
    """The services in `text`, which was read from `path`."""
    services: dict[tuple[str, str, bool], MasterEntry] = {}
    for first, _, line in logical_lines(text, path, log.warning):
        entry = parse_row(line, f"{path}: line {first}", defaults)
        entry.line = first
        key = (entry.name, "inet" if entry.type == "inet" else "", entry.private)
        if key in services:
            internal = entry.name if entry.type == "inet" else f"{_class(entry)}/{entry.name}"
            log.warning(f'duplicate master.cf entry for service "{entry.name}" ({internal}) -- using the last entry')
        services[key] = entry
    return list(services.values())


def _class(entry: MasterEntry) -> str:
    return "private" if entry.private else "public"


def parse_row(line: str, where: str, defaults: RowDefaults) -> MasterEntry:
    """One logical line. `where` starts the error texts."""
    words = split_quoted(line, BLANKS)
    columns = tuple(words[:8])

    def column(position: int, name: str, default: str | None) -> str:
        if position >= len(words):
            raise FatalError(f'{where}: missing "{name}" field')
        value = words[position]
        if value != "-":
            return value
        if default is None:
            raise FatalError(f'{where}: field "{name}" has no default value')
        return default

    def flag(position: int, name: str, default: str) -> bool:
        value = column(position, name, default)
        if value not in ("y", "n"):
            raise FatalError(f'{where}: field "{name}": bad value: "{value}"')
        return value == "y"

    def number(position: int, name: str, default: int) -> int:
        value = column(position, name, str(default))
        digits = len(value) - len(value.lstrip("0123456789"))
        if digits == 0:
            raise FatalError(f'{where}: field "{name}": bad value: "{value}"')
        return int(value[:digits])

    entry = MasterEntry()
    entry.line = 0
    entry.columns = columns
    entry.name = words[0]
    entry.type = column(1, "transport type", None)
    if entry.type not in TYPES:
        raise FatalError(f"{where}: bad transport type: {entry.type}")
    entry.private = flag(2, "private", "y")
    if entry.type == "inet" and entry.private:
        raise FatalError(f"{where}: inet service cannot be private")
    entry.unprivileged = flag(3, "unprivileged", "y")
    entry.chroot = flag(4, "chroot", "y" if defaults.chroot else "n")
    entry.wakeup = number(5, "wakeup_time", 0)
    entry.wakeup_always = not words[5].endswith("?")
    entry.maxproc = number(6, "max_proc", defaults.maxproc)
    entry.command = column(7, "command", None)
    entry.args = _arguments(words[8:], where)
    return entry


def _arguments(words: list[str], where: str) -> list[str]:
    args = []
    for word in words:
        if word.startswith("{"):
            word, problem = extract_braces(word, strip=True)
            if problem is not None:
                raise FatalError(f"{where}: {problem}")
        args.append(word)
    return args


def overrides_in(args: list[str]) -> list[tuple[str, str]]:
    """The -o settings among a daemon's arguments, as its getopt(3) finds them.

    Raises FatalError for one that is not ``name=value``, as the daemon would.
    """
    overrides = []
    words = iter(args)
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            break
        for position, letter in enumerate(word[1:], 2):
            if letter not in OPTIONS_WITH_VALUE:
                continue
            value = word[position:] or next(words, "")
            if letter == "o":
                try:
                    overrides.append(split_name_value(value))
                except ValueError as error:
                    raise FatalError(f'invalid "-o {value}" option value: {error}') from None
            break
    return overrides
