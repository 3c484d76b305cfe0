"""lmdb: tables, in the format of the LMDB library, which comes with the extra ``postfixpy[lmdb]``.

Postfix opens LMDB without that library's own locks and instead locks the file with fcntl(2), shared around each lookup
and exclusive around changes; so does this module, and so either side may change a table that the other reads.
"""

import fcntl
import os
import weakref
from collections.abc import Iterator

from postfixpy.lookup.indexed import Indexed
from postfixpy.lookup.table import Flags, OpenError, Settings, SourceFile, TableError, error_text

try:
    import lmdb
except ImportError as missing:
    need = 'it needs the extra: pip install "postfixpy[lmdb]"'
    raise OpenError(f"unsupported dictionary type: lmdb ({need})") from missing


_CODES = {
    "BadValsizeError": "MDB_BAD_VALSIZE",
    "CorruptedError": "MDB_CORRUPTED",
    "InvalidError": "MDB_INVALID",
    "MapFullError": "MDB_MAP_FULL",
    "PageNotFoundError": "MDB_PAGE_NOTFOUND",
    "PanicError": "MDB_PANIC",
    "VersionMismatchError": "MDB_VERSION_MISMATCH",
}


def reason(error: lmdb.Error) -> str:
    """The library's text of an error, with its code, without the file name that the binding puts before it."""
    text = str(error).rpartition(": ")[2]
    code = _CODES.get(type(error).__name__)
    return f"{code}: {text}" if code else text


class Environment:
    """An open file. A process may open it once only, so tables with different flags on one file share it."""

    def __init__(self, path: str) -> None:
        # Our own descriptor, for locks. Closing any other on this file drops them, which happens at our close only.
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.library = lmdb.open(path, subdir=False, readonly=True, lock=False, create=False)

    def __del__(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
        if hasattr(self, "fd"):
            os.close(self.fd)


_environments: "weakref.WeakValueDictionary[tuple[int, int], Environment]" = weakref.WeakValueDictionary()


def shared_environment(path: str) -> Environment:
    """The environment of the file `path`. Raises OSError, lmdb.Error."""
    status = os.stat(path)
    key = status.st_dev, status.st_ino
    environment = _environments.get(key)
    if environment is None:
        environment = _environments[key] = Environment(path)
    return environment


class Lmdb(Indexed):
    """``lmdb:path``: the file ``path.lmdb``."""

    kind = "lmdb"
    suffix = ".lmdb"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.label = name  # Postfix's log texts have this type without its suffix
        try:
            self.environment: Environment | None = shared_environment(self.path)
        except OSError as error:
            raise OpenError(f"open database {self.path}: {error_text(error)}") from None
        except lmdb.Error as error:
            raise OpenError(f"open database {self.path}: {reason(error)}") from None
        self.fd = self.environment.fd
        self.watch = SourceFile(self.fd)
        self.warn_if_stale(self.watch.mtime_ns / 1e9)

    def close(self) -> None:
        self.environment = None

    def changed(self) -> bool:
        return self.watch.changed()

    def _transaction(self) -> "lmdb.Transaction":
        assert self.environment is not None
        library = self.environment.library
        try:
            return library.begin()
        except lmdb.MapResizedError:
            library.set_mapsize(0)  # another process made the file grow: take over its size
            return library.begin()

    def get(self, key: str) -> str | None:
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        try:
            return super().get(key)
        except lmdb.Error as error:
            raise TableError(f"error reading lmdb:{self.label}: {reason(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def fetch(self, key: bytes) -> bytes | None:
        with self._transaction() as transaction:
            value = transaction.get(key)
            return None if value is None else bytes(value)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        try:
            with self._transaction() as transaction, transaction.cursor() as cursor:
                for key, value in cursor:
                    yield bytes(key), bytes(value)
        except lmdb.Error as error:
            raise TableError(f"error seeking lmdb:{self.label}: {reason(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
