"""What postmap(1) and postalias(1) have in common: options, queries, deletions, listings, and the making of tables.

Texts, exit statuses and what is on standard output when a program dies are Postfix's: results wait in a 4096-byte
buffer, and what is still in it at a fatal error is lost.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator

from postfixpy import config, log
from postfixpy.config.parameters import default_release, parse_release
from postfixpy.errors import FatalError
from postfixpy.ipc.startup import check
from postfixpy.lookup import build, redirect, registry, source
from postfixpy.lookup.syntax import braced, tokens
from postfixpy.lookup.table import LATEST, Flags, Table, TableError, error_text

_BUFFER = 4096


class UsageError(Exception):
    """The command line is wrong. str(error) is getopt(3)'s complaint; `options` are those before the wrong one."""

    options: list[tuple[str, str]]


def getopt(argv: list[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The options, in order, and the arguments of a command line, as getopt(3) in POSIX mode reads it.

    `letters`: a colon after a letter means that it has a value. Raises UsageError.
    """
    options: list[tuple[str, str]] = []

    def wrong(text: str) -> UsageError:
        error = UsageError(text)
        error.options = options
        return error

    index = 1
    while index < len(argv) and argv[index].startswith("-") and argv[index] != "-":
        word = argv[index]
        index += 1
        if word == "--":
            break
        position = 1
        while position < len(word):
            letter = word[position]
            position += 1
            where = letters.find(letter)
            if where < 0 or letter == ":":
                raise wrong(f"invalid option -- '{letter}'")
            if letters[where + 1 : where + 2] != ":":
                options.append((letter, ""))
                continue
            value = word[position:]
            if not value:
                if index >= len(argv):
                    raise wrong(f"option requires an argument -- '{letter}'")
                value = argv[index]
                index += 1
            options.append((letter, value))
            break
    return options, argv[index:]


class Output:
    """Standard output as Postfix's programs use it."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def write(self, text: str) -> None:
        """Add `text`; full buffers go out."""
        self.pending += text.encode("utf-8", "surrogateescape")
        full = len(self.pending) // _BUFFER * _BUFFER
        if full:
            _write_all(bytes(self.pending[:full]))
            del self.pending[:full]

    def flush(self) -> None:
        """Send what is pending."""
        _write_all(bytes(self.pending))
        self.pending.clear()


def _write_all(data: bytes) -> None:
    sys.stdout.flush()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def json_text(text: str) -> str:
    """`text` quoted for JSON as Postfix does it: controls and DEL escaped, everything else as it is."""
    short = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
    return "".join(
        short.get(char) or (f"\\u{ord(char):04X}" if char < " " or char == "\x7f" else char) for char in text
    )


class Tool:
    """One run of postmap or postalias: the options that both have, and what they ask for."""

    letters = ""
    usage = ""
    separator = ""
    """Between key and value in a listing, before the tab."""

    def __init__(self, argv: list[str]) -> None:
        self.program = os.path.basename(argv[0]) or argv[0]
        self.flags = Flags.DUP_WARN | Flags.FOLD_FIX | Flags.UTF8_REQUEST
        self.as_owner = self.keep_mode = True
        self.query: str | None = None
        self.doomed: str | None = None
        self.update = self.list = self.json = False
        self.output = Output()
        self.opened: list[Table] = []
        self.directory: str | None = None
        self.old = parse_release(default_release()) < LATEST
        try:
            options, self.maps = getopt(argv, self.letters.replace("j", "") if self.old else self.letters)
        except UsageError as error:
            for letter, value in error.options:
                self.option(letter, value)
            sys.stderr.write(f"{self.program}: {error}\n")
            raise self.usage_error() from None
        for letter, value in options:
            self.option(letter, value)
        if self.json and not self.list and self.query is None:
            raise FatalError("option -j requires -q or -s")
        if self.directory is not None:
            os.environ["MAIL_CONFIG"] = self.directory
        self.view = config.load(self.directory).view(process_name=self.program)
        check(self.view)
        lenient = parse_release(default_release()) < (3, 9)
        log.set_sink(log.stderr_sink(self.program, self.view.smtputf8_enable, lenient=lenient))
        self._import_environment()
        if redirect.enabled(self.view):
            redirect.custom_mapping(self.view, surrogates=False)

    def usage_error(self) -> FatalError:
        """The fatal error that tells how the program is used."""
        return FatalError(f"usage: {self.program} {self.usage}")

    def option(self, letter: str, value: str) -> None:
        """Take in one option."""
        keyed = self.query is not None or self.doomed is not None
        asked = self.list or keyed
        if self.old:
            if (letter in "dq" and asked) or (letter == "s" and keyed):
                raise FatalError(f"specify only one of -s {'or ' if letter == 's' else ''}-q or -d")
        elif letter in "diqs" and (asked or self.update):
            raise FatalError("specify only one of -d -i -q or -s")
        match letter:
            case "N":
                self.flags = (self.flags | Flags.TRY1NULL) & ~Flags.TRY0NULL
            case "n":
                self.flags = (self.flags | Flags.TRY0NULL) & ~Flags.TRY1NULL
            case "c":
                self.directory = value
            case "d":
                self.doomed = value
            case "f":
                self.flags &= ~Flags.FOLD_FIX
            case "i":
                self.update = True
            case "j":
                self.json = True
            case "o":
                self.as_owner = False
            case "p":
                self.keep_mode = False
            case "q":
                self.query = value
            case "r":
                self.flags = self.flags & ~(Flags.DUP_WARN | Flags.DUP_IGNORE) | Flags.DUP_REPLACE
            case "s":
                self.list = True
            case "u":
                self.flags &= ~Flags.UTF8_REQUEST
            case "w":
                self.flags = self.flags & ~(Flags.DUP_WARN | Flags.DUP_REPLACE) | Flags.DUP_IGNORE

    def _import_environment(self) -> None:
        for item in tokens(self.view.text("import_environment")):
            setting, error = braced(item) if item.startswith("{") else (item, "")
            if error:
                raise FatalError(f"import_environment: {error}")
            name, equals, value = setting.partition("=")
            if equals:
                os.environ[name.strip()] = value.strip()

    # What was asked for.

    def run(self) -> int:
        """Do it; the exit status. Raises FatalError."""
        if self.list:
            if not self.maps:
                return 1
            self.list_all(self.maps[0])
            return 0
        if not self.maps:
            raise self.usage_error()
        if self.doomed is not None:
            found = self.delete_many() if self.doomed == "-" else self.delete_one(self.doomed)
            return 0 if found else 1
        if self.query is not None:
            found = self.query_many() if self.query == "-" else self.query_one(self.query)
            return 0 if found else 1
        for spec in self.maps:
            self.make(spec)
        return 0

    def split(self, spec: str) -> tuple[str, str]:
        """The type and the name of a table."""
        kind, colon, name = spec.partition(":")
        return (kind, name) if colon else (self.view.default_database_type, spec)

    def open(self, spec: str, *, writable: bool = False) -> Table:
        """Open a table, or end the program."""
        kind, name = self.split(spec)
        flags = self.flags | Flags.LOCK
        table = registry.open_table(f"{kind}:{name}", self.view, flags=flags, surrogates=False, writable=writable)
        self.opened.append(table)
        return table

    def close(self) -> None:
        """Close what was opened: some libraries complain about connections that are left open."""
        for table in self.opened:
            table.close()

    def show(self, key: str, value: str, *, with_key: bool = True) -> None:
        """Print a result."""
        if self.json:
            self.output.write(f'{{"{json_text(key)}": "{json_text(value)}"}}\n')
        else:
            self.output.write(f"{key}{self.separator}\t{value}\n" if with_key else f"{value}\n")

    def warn_if_empty(self, table: str, key: str, value: str) -> None:
        """Warn about a value that Postfix takes for an error."""
        if not value:
            log.warning(f"table {table}: key {key}: empty string result is not allowed")
            log.warning(f"table {table} should return NO RESULT in case of NOT FOUND")

    def lookup(self, table: Table, key: str) -> str | None:
        """The value of `key`; a table that cannot answer ends the program."""
        try:
            value = table.lookup(key)
            if value is not None and self.flags & Flags.RHS_IS_FILE:
                value = self._decoded(table, key, value)
            return value
        except TableError as error:
            raise failure(error, f"table {table.kind}:{table.label}: query error") from None

    def _decoded(self, table: Table, key: str, value: str) -> str:
        try:
            return source.decode_file_value(value)
        except ValueError as error:
            log.warning(f"table {table.kind}:{table.label}: key {key}: {error}")
            raise TableError(str(error), config=True) from None

    def query_one(self, key: str) -> bool:
        """Print the value of `key` in the first table that has it."""
        for spec in self.maps:
            table = self.open(spec)
            value = self.lookup(table, key)
            if value is not None:
                self.warn_if_empty(":".join(self.split(spec)), key, value)
                self.show(key, value, with_key=False)
                self.output.flush()
                return True
        return False

    def query_keys(self, keys: Iterator[str]) -> bool:
        """Print each key that a table has, with its value. Tables are opened when they are needed."""
        tables: list[Table | None] = [None] * len(self.maps)
        found = False
        for key in keys:
            for index, spec in enumerate(self.maps):
                table = tables[index]
                if table is None:
                    table = tables[index] = self.open(spec)
                value = self.lookup(table, key)
                if value is not None:
                    self.warn_if_empty(f"{table.kind}:{table.label}", key, value)
                    self.show(key, value)
                    found = True
                    break
        if found:
            self.output.flush()
        return found

    def query_many(self) -> bool:
        """Look up the lines of standard input."""
        return self.query_keys(input_lines())

    def delete_one(self, key: str) -> bool:
        """Delete `key` from every table."""
        return sum(self._delete(spec, [key]) for spec in self.maps) > 0

    def delete_many(self) -> bool:
        """Delete the lines of standard input from every table."""
        keys = list(input_lines())
        return sum(self._delete(spec, keys) for spec in self.maps) > 0

    def _delete(self, spec: str, keys: list[str]) -> bool:
        kind, name = self.split(spec)
        flags = self.flags | Flags.LOCK
        table: Table | None = None
        if registry.is_type(kind, self.view) and kind != "fail":
            table = build.open_writer(kind, name, self.view, flags, create=False, must_exist=True)
        writer = table
        if table is None:
            table = self.open(spec, writable=True)
        try:
            found = sum(table.remove(key) for key in keys) > 0
        except TableError as error:
            raise failure(error, f"table {table.kind}:{table.label}: delete error") from None
        if isinstance(writer, build.Writer):
            if found:
                writer.finish()
            else:
                writer.abandon()
        return found

    def list_all(self, spec: str) -> None:
        """Print every key and value of a table."""
        table = self.open(spec)
        named = ":".join(self.split(spec))
        try:
            for key, value in table.items():
                if not key:
                    log.warning(f"table {named}: empty lookup key value is not allowed")
                else:
                    self.warn_if_empty(named, key, value)
                if self.flags & Flags.RHS_IS_FILE:
                    try:
                        value = source.decode_file_value(value)
                    except ValueError as error:
                        log.warning(f"table {table.kind}:{table.label}: key {key}: {error}")
                        continue
                self.show(key, value)
        except TableError as error:
            raise failure(error, f"table {table.kind}:{table.label}: sequence error") from None
        self.output.flush()

    # Making tables.

    def fill(self, data: bytes, path: str, table: Table) -> None:
        """Store the entries of the source `data`, the file `path`, in `table`."""
        raise NotImplementedError

    def make(self, spec: str) -> None:
        """Make the table `spec` from its source, or add standard input to it."""
        kind, path = self.split(spec)
        shown = path
        if self.update:
            shown, data, status = "stdin", sys.stdin.buffer.read(), os.fstat(sys.stdin.fileno())
        else:
            if kind == "proxy":
                raise FatalError("can't create maps via the proxy service")
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise FatalError(f"open {path}: {error_text(error)}") from None
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                os.close(fd)
                data = b""  # as in Postfix, which takes the error for the end of the file
            else:
                with open(fd, "rb") as file:
                    data = file.read()
        saved_mask = os.umask(0o022)
        if self.keep_mode and stat.S_ISREG(status.st_mode):
            os.umask(0o022 | ~status.st_mode & 0o077)
        try:
            if self.as_owner and os.getuid() == 0:
                if status.st_uid:
                    as_user(status.st_uid, status.st_gid, lambda: self._make(kind, path, shown, data))
                    return
                warn_about_directory(path, shown)
            self._make(kind, path, shown, data)
        finally:
            os.umask(saved_mask)

    def _make(self, kind: str, path: str, shown: str, data: bytes) -> None:
        flags = self.flags | (Flags.NONE if self.update else Flags.BULK_UPDATE)
        writer = build.open_writer(kind, path, self.view, flags, create=not self.update)
        table = writer or self.open(f"{kind}:{path}", writable=True)
        try:
            self.fill(data, shown, table)
        except TableError as error:
            raise failure(error, f"table {table.kind}:{table.label}: write error") from None
        if writer is not None:
            writer.finish()


def failure(error: TableError, text: str) -> FatalError:
    """The fatal error that a TableError is for these programs."""
    if error.fatal:
        return FatalError(str(error))
    return FatalError(text if error.config else f"{text}: {error.reason}")


def input_lines() -> Iterator[str]:
    """The lines of standard input. Like a C string, a line ends at a null byte."""
    for line in sys.stdin.buffer:
        if line.endswith(b"\xff"):
            return  # as the last byte of the input it passes for "end of file" in Postfix
        yield line.removesuffix(b"\n").partition(b"\0")[0].decode("utf-8", "surrogateescape")


def as_user(uid: int, gid: int, action: Callable[[], None]) -> None:
    """Do `action` with the rights of the owner of the source, so that the result is theirs."""
    groups = os.getgroups()
    group, user = os.getegid(), os.geteuid()
    try:
        os.setegid(gid)
        os.setgroups([gid])
        os.seteuid(uid)
        action()
    finally:
        os.seteuid(user)
        os.setegid(group)
        os.setgroups(groups)


def warn_about_directory(path: str, shown: str) -> None:
    """Warn when root makes a file where another user could have put a link."""
    parent = os.path.dirname(path) or "."
    try:
        owner = os.stat(parent).st_uid
    except OSError as error:
        raise FatalError(f"stat {parent}: {error_text(error)}") from None
    if owner:
        log.warning(
            f"Creating root-owned database file(s) {path}.* in non-root-owned directory {parent}. Files {shown}, "
            f"{path}.*, and directory {parent} should have the same owner. Please fix ownership to avoid a "
            "privilege-escalation attack."
        )


def main(tool: type[Tool], argv: list[str]) -> int:
    """Run a program: its exit status."""
    program = os.path.basename(argv[0]) or argv[0]
    previous = log.set_sink(log.stderr_sink(program))
    run: Tool | None = None
    try:
        run = tool(argv)
        return run.run()
    except FatalError as error:
        log.fatal(str(error))
        return error.status
    finally:
        if run is not None:
            run.close()
        log.set_sink(previous)
