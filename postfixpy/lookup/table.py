"""The table: one lookup interface over every table type, and what all types share.

A `Table` answers ``lookup(key) -> str | None``. None means "not in the table" and nothing else: a table that cannot
answer raises `TableError`, so that a request is deferred and never treated as "not found" (DESIGN section 4). Types
that wait for a network answer ``await table.find(key)``; `find` works for every type, so services use only that.

Around each type's own `get` this class does what Postfix does around its dictionaries (DATABASE_README, postmap(1)):

* keys are folded to lower case if the opener asks for it: with `Flags.FOLD_FIX` in tables with fixed keys, with
  `Flags.FOLD_MUL` in tables of patterns. With UTF-8 support that is Unicode case folding, otherwise ASCII only;
* with `smtputf8_enable` and `Flags.UTF8_REQUEST`, a key that is not UTF-8 is logged and not looked up (it cannot be
  there), and a result that is not UTF-8 is an error.

Text is `str` with surrogateescape (a byte that is not UTF-8 is a lone surrogate), so any byte survives.
"""

import enum
import os
from collections.abc import Iterator
from typing import Protocol

from postfixpy import log
from postfixpy.errors import TemporaryError


class Flags(enum.IntFlag):
    """How a table is opened. The values are those on the wire of the proxymap protocol."""

    NONE = 0
    DUP_WARN = 1 << 0
    DUP_IGNORE = 1 << 1
    TRY0NULL = 1 << 2
    TRY1NULL = 1 << 3
    FIXED = 1 << 4
    PATTERN = 1 << 5
    LOCK = 1 << 6
    DUP_REPLACE = 1 << 7
    SYNC_UPDATE = 1 << 8
    NO_REGSUB = 1 << 11
    NO_PROXY = 1 << 12
    NO_UNAUTH = 1 << 13
    FOLD_FIX = 1 << 14
    FOLD_MUL = 1 << 15
    OPEN_LOCK = 1 << 16
    BULK_UPDATE = 1 << 17
    MULTI_WRITER = 1 << 18
    UTF8_REQUEST = 1 << 19
    UTF8_ACTIVE = 1 << 20
    RHS_IS_FILE = 1 << 21

    MAPS = LOCK | FOLD_FIX | UTF8_REQUEST
    """What most ``*_maps`` parameters are opened with."""
    LIST = LOCK | UTF8_REQUEST
    """What matching lists open their tables with: the list folds the search string itself."""


class Settings(Protocol):
    """The main.cf parameters that tables and searches use. `config.View` has them; tests use any object that does."""

    @property
    def smtputf8_enable(self) -> bool: ...


class TableError(TemporaryError):
    """A table could not answer.

    `config` marks an error of configuration or content; the caller treats it alike, but postmap words it differently.
    `fatal` marks what ends a Postfix process on the spot; str(error) is then the text of that fatal error. `reason` is
    the system's error text (``%m``; "Application error" is Postfix's word for none).
    """

    def __init__(
        self, text: str, *, config: bool = False, fatal: bool = False, reason: str = "Application error"
    ) -> None:
        super().__init__(text)
        self.config = config
        self.fatal = fatal
        self.reason = reason


class OpenError(Exception):
    """A table type refuses to open. str(error) is Postfix's text; `open_table` makes it fatal or a surrogate."""


def release(settings: Settings) -> tuple[int, int]:
    """The Postfix release whose behaviour is wanted."""
    found: tuple[int, int] = getattr(settings, "release", LATEST)
    return found


LATEST = (3, 11)


def lowercase(text: str) -> str:
    """`text` with the ASCII letters in lower case, as lowercase() in Postfix: other characters are left alone."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """Whether `text` came from valid UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def casefold(text: str, utf8: bool) -> str:
    """`text` folded for comparison: Unicode full case folding when `utf8`, otherwise ASCII lower case (casefold(3))."""
    if utf8 and not text.isascii():
        return text.casefold()
    return lowercase(text)


class Table:
    """A lookup table that is open. Subclasses implement `get` and, where they can, `items`, `put` and `delete`."""

    kind = ""
    """The type, "hash"."""

    def __init__(self, name: str, settings: Settings, flags: Flags, *, pattern: bool = False, label: str = "") -> None:
        self.name = f"{self.kind}:{name}"
        """``type:name`` as it was opened."""
        self.label = label or name
        """The name in log texts; for an indexed file its path with the suffix."""
        self.flags = flags
        self.settings = settings
        self.utf8 = bool(flags & Flags.UTF8_REQUEST) and settings.smtputf8_enable
        self._set_pattern(pattern)

    def _set_pattern(self, pattern: bool) -> None:
        self.pattern = pattern
        """Keys are patterns: no lookups of partial keys."""
        self.fold = bool(self.flags & (Flags.FOLD_MUL if pattern else Flags.FOLD_FIX))

    @property
    def warn_of_null(self) -> bool:
        """Whether null bytes in a source are worth a warning."""
        return release(self.settings) >= (3, 9)

    @property
    def fixed(self) -> bool:
        """Keys are fixed strings: callers may look up parts of an address."""
        return not self.pattern

    def __repr__(self) -> str:
        return f"<Table {self.name}>"

    # What callers use.

    def lookup(self, key: str) -> str | None:
        """The value of `key`, None if the table has none. Raises TableError if that cannot be known now."""
        folded = self._fold(key)
        return None if folded is None else self._checked(key, self.get(folded))

    async def find(self, key: str) -> str | None:
        """`lookup` for services: table types that wait for a network override `aget`."""
        folded = self._fold(key)
        return None if folded is None else self._checked(key, await self.aget(folded))

    def changed(self) -> bool:
        """Whether the file under the table was changed or replaced since it was opened: open the table again."""
        return False

    def close(self) -> None:
        """Release descriptors and connections. The table must not be used afterwards."""

    def update(self, key: str, value: str) -> bool:
        """Store `value` under `key`; False when the key exists and is kept. Logs as Postfix does."""
        folded = self._fold(key)
        if folded is None:
            return True
        if self.utf8 and not is_utf8(value):
            log.warning(f'{self.kind}:{self.label}: key "{key}": non-UTF-8 value "{value}": {BAD_UTF8}')
            return True
        return self.put(folded, value)

    def remove(self, key: str) -> bool:
        """Delete `key`; False when it was not there."""
        folded = self._fold(key)
        return True if folded is None else self.delete(folded)

    # What types implement.

    def get(self, key: str) -> str | None:
        """`lookup` of a key that is checked and folded."""
        raise NotImplementedError

    async def aget(self, key: str) -> str | None:
        """`find` of a key that is checked and folded."""
        return self.get(key)

    def items(self) -> Iterator[tuple[str, str]]:
        """Every key and value (postmap -s). Raises TableError when the type cannot list."""
        raise TableError(f"table {self.kind}:{self.label}: sequence operation is not supported", fatal=True)

    def put(self, key: str, value: str) -> bool:
        """`update` of a key that is checked and folded."""
        raise TableError(f"table {self.kind}:{self.label}: update operation is not supported", fatal=True)

    def delete(self, key: str) -> bool:
        """`remove` of a key that is checked and folded."""
        raise TableError(f"table {self.kind}:{self.label}: delete operation is not supported", fatal=True)

    # The key and value rules.

    def _fold(self, key: str) -> str | None:
        if self.utf8:
            if key.isascii():
                return key.lower() if self.fold else key
            if not is_utf8(key):
                log.warning(f'{self.kind}:{self.label}: non-UTF-8 key "{key}": {BAD_UTF8}')
                return None
            return key.casefold() if self.fold else key
        return lowercase(key) if self.fold else key

    def _checked(self, key: str, value: str | None) -> str | None:
        if value is not None and self.utf8 and not is_utf8(value):
            log.warning(f'{self.kind}:{self.label}: key "{key}": non-UTF-8 value "{value}": {BAD_UTF8}')
            raise TableError(f"{self.kind}:{self.label}: non-UTF-8 value", config=True)
        return value


BAD_UTF8 = "malformed UTF-8 or invalid codepoint"


class Surrogate(Table):
    """Stands for a table that could not be opened: each use logs the reason and fails, for the program lives on."""

    def __init__(self, kind: str, name: str, settings: Settings, flags: Flags, reason: str) -> None:
        self.kind = kind
        super().__init__(name, settings, flags & ~Flags.UTF8_REQUEST, pattern=True)
        self.reason = reason

    def _unavailable(self) -> TableError:
        text = f"{self.kind}:{self.label} is unavailable. {self.reason}"
        log.warning(text)
        return TableError(text)

    def get(self, key: str) -> str | None:
        raise self._unavailable()

    def items(self) -> Iterator[tuple[str, str]]:
        raise self._unavailable()

    def put(self, key: str, value: str) -> bool:
        raise self._unavailable()

    def delete(self, key: str) -> bool:
        raise self._unavailable()


class SourceFile:
    """Change detection of one open file: dict_changed_name() compares the inode that is open, not the path."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.mtime_ns = os.fstat(fd).st_mtime_ns

    def changed(self) -> bool:
        status = os.fstat(self.fd)
        return status.st_mtime_ns != self.mtime_ns or status.st_nlink == 0


def need_read_only(kind: str, name: str, writable: bool) -> None:
    """Refuse to open a type for writing that can only be read."""
    if writable:
        raise OpenError(f"{kind}:{name} map requires O_RDONLY access mode")


def error_text(error: OSError) -> str:
    """The C library's text of a system error (``%m``)."""
    return error.strerror or str(error)
