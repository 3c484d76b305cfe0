"""Making and changing indexed tables: what postmap(1) and postalias(1) do under their source formats.

A `Writer` collects entries and writes the whole file when it is finished, first beside the old one and then in its
place: a reader sees the old table or the new one, and a postmap that is killed leaves the old one. (Postfix truncates
and fills a .db file in place, under a lock.) The lock of the real postmap is held too, so both may work on one table.
Owner, group and mode of an existing file are kept; where that, or a second file in the directory, is impossible, or
the file has several links, the file is rewritten in place under the lock.
"""

import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.bdb import BdbError, DbFile
from postfixpy.lookup.indexed import to_bytes
from postfixpy.lookup.lmdb_file import LmdbError, LmdbFile
from postfixpy.lookup.redirect import LEGACY, redirected
from postfixpy.lookup.registry import TYPES, is_type, open_table
from postfixpy.lookup.table import LATEST, Flags, OpenError, Settings, Table, TableError, error_text, release


class Writer(Table):
    """A table being made (`create`) or changed. `update` and `remove` collect, `finish` writes, `abandon` does not."""

    suffix = ""
    with_null = True
    """Whether new keys and values get a null byte at their end when the flags do not say."""

    def __init__(self, name: str, settings: Settings, flags: Flags, *, create: bool) -> None:
        super().__init__(name, settings, flags, label=name + self.suffix)
        self.path = name + self.suffix
        self.create = create
        both = Flags.TRY0NULL | Flags.TRY1NULL
        if flags & both in (Flags.NONE, both):
            self.null = b"\0" if self.with_null else b""
        else:
            self.null = b"\0" if flags & Flags.TRY1NULL else b""
        self.ways = [self.null] if flags & both else [b"\0", b""]
        self.replace = bool(flags & Flags.DUP_REPLACE)
        self.label_in_warnings = self.label if self.suffix == ".db" else name

    def put(self, key: str, value: str) -> bool:
        stored_key, stored_value = to_bytes(key) + self.null, to_bytes(value) + self.null
        if self.store(stored_key, stored_value):
            return True
        if not self.flags & Flags.DUP_IGNORE:
            log.warning(f'{self.label_in_warnings}: duplicate entry: "{key}"')
        return False

    def delete(self, key: str) -> bool:
        data = to_bytes(key)
        for null in self.ways:
            if self.discard(data + null):
                self.ways = [null]  # the first hit settles it
                return True
        return False

    def store(self, key: bytes, value: bytes) -> bool:
        """Keep a pair; False if the key is there and is not to be replaced."""
        raise NotImplementedError

    def discard(self, key: bytes) -> bool:
        """Drop a key; False if it is not there."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what was collected. Raises FatalError."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Release what is held, and change nothing."""


class _Collected(Writer):
    """A writer that holds all items in memory."""

    lock_fd = -1

    def __init__(self, name: str, settings: Settings, flags: Flags, *, create: bool) -> None:
        super().__init__(name, settings, flags, create=create)
        self.collected: dict[bytes, bytes] = {}

    def store(self, key: bytes, value: bytes) -> bool:
        if key in self.collected and not self.replace:
            return False
        self.collected[key] = value
        return True

    def discard(self, key: bytes) -> bool:
        return self.collected.pop(key, None) is not None

    def abandon(self) -> None:
        fd, self.lock_fd = self.lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.abandon()


class BdbWriter(_Collected):
    """hash: and btree: tables."""

    suffix = ".db"

    def __init__(
        self, kind: str, name: str, settings: Settings, flags: Flags, *, create: bool, must_exist: bool
    ) -> None:
        self.kind = kind
        super().__init__(name, settings, flags, create=create)
        try:
            self.lock_fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if must_exist:
                raise FatalError(f"open database {self.path}: {error_text(error)}") from None
            return
        except OSError as error:
            doing = "open database" if must_exist else "open"
            raise FatalError(f"{doing} {self.path}: {error_text(error)}") from None
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)
        if os.fstat(self.lock_fd).st_size == 0 and not must_exist:
            log.warning(f"removing zero-length database file: {self.path}")
            os.unlink(self.path)
            self.abandon()
        elif not create:
            self._read_old()

    def _read_old(self) -> None:
        try:
            file = DbFile(self.lock_fd)
            if file.kind != self.kind:
                raise BdbError(f"the file is of type {file.kind}")
            self.collected = dict(file.items())
        except (BdbError, OSError):
            raise FatalError(f"open database {self.path}: Invalid argument") from None

    def finish(self) -> None:
        from postfixpy.lookup import bdb_write

        writer = bdb_write.write_hash if self.kind == "hash" else bdb_write.write_btree
        items = self.collected.items()
        try:
            replace_file(self.path, lambda file: writer(file, items), self.lock_fd)
        finally:
            self.abandon()


class CdbWriter(_Collected):
    """cdb: tables, which can be made, but not changed."""

    kind = "cdb"
    suffix = ".cdb"
    with_null = False

    def __init__(self, name: str, settings: Settings, flags: Flags, *, create: bool) -> None:
        super().__init__(name, settings, flags, create=create)
        if not create:
            if release(settings) >= LATEST:
                raise FatalError("unsupported non-bulk change request")
            text = "inappropriate open flags for cdb database - specify O_RDONLY or O_WRONLY|O_CREAT|O_TRUNC"
            raise FatalError(f"dict_cdb_open: {text}")
        self.items_again: list[tuple[bytes, bytes]] = []

    def store(self, key: bytes, value: bytes) -> bool:
        if self.replace:
            self.collected.pop(key, None)
        elif key in self.collected and self.flags & Flags.DUP_IGNORE:
            self.items_again.append((key, value))  # as in Postfix: a lookup finds the first, a listing both
            return True
        return super().store(key, value)

    def finish(self) -> None:
        from postfixpy.lookup import cdb

        try:
            data = cdb.build([*self.collected.items(), *self.items_again])
        except cdb.CdbError as error:
            raise FatalError(f"error writing {self.path}: {error}") from None
        replace_file(self.path, lambda file: file.write(data), -1)


class LmdbWriter(Writer):
    """lmdb: tables: one transaction of the library, begun again with a larger limit when the file is full."""

    kind = "lmdb"
    suffix = ".lmdb"

    def __init__(self, name: str, settings: Settings, flags: Flags, *, create: bool, must_exist: bool) -> None:
        super().__init__(name, settings, flags, create=create)
        try:
            import lmdb
        except ImportError:
            need = 'it needs the extra: pip install "postfixpy[lmdb]"'
            raise FatalError(f"no 'map create' support for this type: lmdb ({need})") from None
        self.lmdb = lmdb
        self.label = name
        self.label_in_warnings = f"lmdb:{name}"
        size = max(int(getattr(settings, "lmdb_map_size", 0)), 16 << 20)
        self.fd = -1
        try:
            way = os.O_RDWR | os.O_CLOEXEC | (0 if must_exist else os.O_CREAT)
            self.fd = os.open(self.path, way, 0o644)
            size = max(size, 2 * os.fstat(self.fd).st_size)
            self._check()
            self.environment = lmdb.open(self.path, subdir=False, lock=False, map_size=size, mode=0o644)
        except OSError as error:
            raise FatalError(f"open database {self.path}: {error_text(error)}") from None
        except (lmdb.Error, LmdbError) as error:
            raise FatalError(f"open database {self.path}: {_lmdb_text(error)}") from None
        self.size = size
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        self.log: list[tuple[bytes, bytes | None]] = []
        self._begin()

    def _check(self) -> None:
        """Raise LmdbError for a damaged file: the library would crash on it."""
        if os.fstat(self.fd).st_size:
            for _ in LmdbFile(self.fd).items():
                pass

    def _begin(self) -> None:
        self.transaction = self.environment.begin(write=True)
        if self.create:
            self.transaction.drop(self.environment.open_db(txn=self.transaction), delete=False)

    def store(self, key: bytes, value: bytes) -> bool:
        return self._do(key, value)

    def discard(self, key: bytes) -> bool:
        return self._do(key, None)

    def _do(self, key: bytes, value: bytes | None) -> bool:
        try:
            done = self._apply(key, value)
        except self.lmdb.MapFullError:
            self._grow()
            return self._do(key, value)
        except self.lmdb.Error as error:
            doing = "updating" if value is not None else "deleting from"
            raise FatalError(f"error {doing} lmdb:{self.label}: {_lmdb_text(error)}") from None
        if done:
            self.log.append((key, value))
        return done

    def _apply(self, key: bytes, value: bytes | None) -> bool:
        if value is None:
            return bool(self.transaction.delete(key))
        return bool(self.transaction.put(key, value, overwrite=self.replace))

    def _grow(self) -> None:
        self.transaction.abort()
        self.size *= 2
        self.environment.set_mapsize(self.size)
        self._begin()
        try:
            for key, value in self.log:
                self._apply(key, value)
        except self.lmdb.MapFullError:
            self._grow()

    def finish(self) -> None:
        try:
            self.transaction.commit()
        except self.lmdb.MapFullError:
            self._grow()
            self.finish()
            return
        except self.lmdb.Error as error:
            raise FatalError(f"error updating lmdb:{self.label}: {_lmdb_text(error)}") from None
        self.abandon()

    def abandon(self) -> None:
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            if hasattr(self, "environment"):
                self.environment.close()
            os.close(fd)

    def __del__(self) -> None:
        self.abandon()


_LMDB_CODES = {
    "BadValsizeError": "MDB_BAD_VALSIZE",
    "CorruptedError": "MDB_CORRUPTED",
    "InvalidError": "MDB_INVALID",
    "PageNotFoundError": "MDB_PAGE_NOTFOUND",
    "PanicError": "MDB_PANIC",
    "VersionMismatchError": "MDB_VERSION_MISMATCH",
}


def _lmdb_text(error: Exception) -> str:
    """The library's text of an error, with its code, without the file name that the binding puts before it."""
    if isinstance(error, LmdbError):
        return str(error)
    text = str(error).rpartition(": ")[2]
    code = _LMDB_CODES.get(type(error).__name__)
    return f"{code}: {text}" if code else text


class FailWriter(Writer):
    """fail: tables: every change fails."""

    kind = "fail"

    def put(self, key: str, value: str) -> bool:
        raise TableError(f"{self.name}: always fails")

    def finish(self) -> None:
        return


def open_writer(
    kind: str, name: str, settings: Settings, flags: Flags, *, create: bool, must_exist: bool = False
) -> Writer | None:
    """A writer for the table ``kind:name``: of a new table if `create`, else of the one there is (`must_exist`, or none
    yet). None for a type whose tables are changed through `open_table`. Raises FatalError with Postfix's text.
    """
    old = release(settings) < (3, 8)
    if not is_type(kind, settings):
        raise FatalError(f"unsupported {'dictionary' if old else 'map'} type: {kind}")
    mapped = ""
    if kind in LEGACY:
        given = kind
        try:
            kind = redirected(kind, name, settings, TYPES, surrogates=False, making=not must_exist)
            mapped = " non_bdb mapped" if kind != given else ""
        except OpenError as error:
            raise FatalError(str(error)) from None
    if kind in ("hash", "btree"):
        return BdbWriter(kind, name, settings, flags, create=create, must_exist=must_exist)
    if kind == "cdb":
        return CdbWriter(name, settings, flags, create=create)
    if kind == "lmdb":
        return LmdbWriter(name, settings, flags, create=create, must_exist=must_exist)
    if kind == "fail":
        return FailWriter(name, settings, flags, create=create)
    if create or ((old or mapped) and not must_exist):  # before 3.8, "postmap -i" took the way of "create"
        if old:
            raise FatalError(f"unsupported dictionary type: {kind} does not support bulk-mode creation.")
        raise FatalError(f"no 'map create' support for{mapped or ' this'} type: {kind}")
    return None


STORED = ("btree", "hash", "lmdb")
"""Types whose tables lie in files that can be changed."""


class StoredTable(Table):
    """A table in a file that is looked up and changed, one entry at a time. `open_table` opens it for lookups only."""

    def __init__(self, spec: str, settings: Settings, flags: Flags) -> None:
        self.kind, _, self.path = spec.partition(":")
        super().__init__(self.path, settings, flags)
        self._writer().abandon()  # fatal now, if it cannot be

    def _writer(self) -> Writer:
        writer = open_writer(self.kind, self.path, self.settings, self.flags, create=False, must_exist=True)
        assert writer is not None
        return writer

    def _reader(self) -> Table:
        return open_table(self.name, self.settings, flags=self.flags)

    def get(self, key: str) -> str | None:
        return self._reader().get(key)

    def items(self) -> Iterator[tuple[str, str]]:
        return self._reader().items()

    def put(self, key: str, value: str) -> bool:
        writer = self._writer()
        done = writer.put(key, value)
        writer.finish()
        return done

    def delete(self, key: str) -> bool:
        writer = self._writer()
        done = writer.delete(key)
        writer.finish() if done else writer.abandon()
        return done


def replace_file(path: str, write: Callable[[io.BufferedRandom], object], old_fd: int) -> None:
    """Put what `write` writes in the place of `path`.

    `old_fd` is the open and locked present file, or -1. Raises FatalError.
    """
    path = os.path.realpath(path)
    temporary = f"{path}.tmp"
    try:
        try:
            fd = _new_file(temporary)
        except OSError:
            if old_fd < 0:
                raise
            return _rewrite(path, write)  # no room beside it: a directory that we may not write to
        try:
            old = _status(path)
            if old is not None and not _take_over(fd, old):
                return _rewrite(path, write)
            with open(fd, "r+b", closefd=False) as file:
                write(file)
                file.flush()
            os.fsync(fd)
            os.rename(temporary, path)
            temporary = ""
        finally:
            if temporary:
                os.unlink(temporary)
            os.close(fd)
    except OSError as error:
        raise FatalError(f"open database {path}: {error_text(error)}") from None


def _new_file(path: str) -> int:
    """An empty file that is ours alone: it is locked, and still has its name once it is."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        here, there = os.fstat(fd), _status(path)
        if there is not None and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            os.ftruncate(fd, 0)
            return fd
        os.close(fd)  # another process renamed or removed it while we waited


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _take_over(fd: int, old: os.stat_result) -> bool:
    """Give the new file the owner, group and mode of the old; False if that cannot be done by replacing it."""
    if old.st_nlink > 1 or not stat.S_ISREG(old.st_mode):
        return False
    new = os.fstat(fd)
    try:
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(fd, old.st_uid, old.st_gid)
        os.fchmod(fd, stat.S_IMODE(old.st_mode))
    except OSError:
        return False
    return True


def _rewrite(path: str, write: Callable[[io.BufferedRandom], object]) -> None:
    with open(path, "r+b") as file:
        file.truncate()
        write(file)
