"""Tables in an indexed file beside their source: what hash, btree, cdb and lmdb share.

A program on some system wrote each key and value with a null byte at its end, on another it did not. A table is tried
both ways until the first hit settles it (`Flags.TRY1NULL`, `Flags.TRY0NULL`); new files get the null byte, except cdb.
"""

import fcntl
import os
import time
from collections.abc import Iterator

from postfixpy import log
from postfixpy.lookup.bdb import BdbError, DbFile
from postfixpy.lookup.table import Flags, OpenError, Settings, SourceFile, Table, TableError, error_text


def to_bytes(text: str) -> bytes:
    """The bytes that `text` stands for."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """The text of a stored item: like a C string it ends at the first null byte."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class Indexed(Table):
    """A table in the file `name` plus `suffix`. Subclasses implement `fetch` and `scan` on bytes."""

    suffix = ""

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, label=name + self.suffix)
        self.path = name + self.suffix
        self.try_with_null, self.try_without_null = bool(flags & Flags.TRY1NULL), bool(flags & Flags.TRY0NULL)
        if not flags & (Flags.TRY1NULL | Flags.TRY0NULL):
            self.try_with_null = self.try_without_null = True

    def warn_if_stale(self, mtime: float) -> None:
        """Log Postfix's warning when the source is newer than the index, unless it changed only seconds ago."""
        source = self.path.removesuffix(self.suffix)
        try:
            changed = int(os.stat(source).st_mtime)
        except OSError:
            return  # a table needs no source file
        if int(mtime) < changed < time.time() - 100:
            log.warning(f"database {self.path} is older than source file {source}")

    def get(self, key: str) -> str | None:
        data = to_bytes(key)
        value = None
        if self.try_with_null:
            value = self.fetch(data + b"\0")
            if value is not None:
                self.try_without_null = False
        if value is None and self.try_without_null:
            value = self.fetch(data)
            if value is not None:
                self.try_with_null = False
        return None if value is None else from_bytes(value)

    def items(self) -> Iterator[tuple[str, str]]:
        for key, value in self.scan():
            yield from_bytes(key), from_bytes(value)

    def fetch(self, key: bytes) -> bytes | None:
        """The value stored under exactly `key`."""
        raise NotImplementedError

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Every stored key and value."""
        raise NotImplementedError


class BerkeleyDb(Indexed):
    """hash: and btree: tables. Each lookup holds a shared lock on the file, against a rebuild in place by postmap."""

    suffix = ".db"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.fd = -1
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self.file = self._locked_open()
            self.watch = SourceFile(self.fd)
        except OSError as error:
            raise OpenError(f"open database {self.path}: {error_text(error)}") from None
        except BdbError:
            raise OpenError(f"open database {self.path}: Invalid argument") from None
        if flags & Flags.LOCK:
            self.warn_if_stale(self.watch.mtime_ns / 1e9)

    def _locked_open(self) -> DbFile:
        fcntl.flock(self.fd, fcntl.LOCK_SH)
        try:
            file = DbFile(self.fd)
            if file.kind != self.kind:
                raise BdbError(f"the file is of type {file.kind}")
            return file
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def changed(self) -> bool:
        return self.watch.changed()

    def get(self, key: str) -> str | None:
        fcntl.flock(self.fd, fcntl.LOCK_SH)
        try:
            self.file.refresh()
            return super().get(key)
        except (BdbError, OSError) as error:
            raise self._unreadable("reading", error) from None
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def _unreadable(self, doing: str, error: Exception) -> TableError:
        reason = error_text(error) if isinstance(error, OSError) else "Invalid argument"
        return TableError(f"error {doing} {self.path}: {reason}", fatal=True)

    def fetch(self, key: bytes) -> bytes | None:
        return self.file.get(key)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        fcntl.flock(self.fd, fcntl.LOCK_SH)
        try:
            self.file.refresh()
            yield from self.file.items()
        except (BdbError, OSError) as error:
            raise self._unreadable("seeking", error) from None
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


class Hash(BerkeleyDb):
    """``hash:path``: the Berkeley DB hash file ``path.db``."""

    kind = "hash"


class Btree(BerkeleyDb):
    """``btree:path``: the Berkeley DB btree file ``path.db``."""

    kind = "btree"
