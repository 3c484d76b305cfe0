"""lmdb: tables, in the format of the LMDB library, which comes with the extra ``postfixpy[lmdb]``.

Postfix opens LMDB without that library's own locks and instead locks the file with fcntl(2), shared around each lookup
and exclusive around changes; so does this module, and so either side may change a table that the other reads.
"""

import fcntl
import os
from collections.abc import Iterator

from postfixpy.lookup.indexed import Indexed
from postfixpy.lookup.table import Flags, OpenError, Settings, SourceFile, TableError, error_text

try:
    import lmdb
except ImportError as missing:
    need = 'it needs the extra: pip install "postfixpy[lmdb]"'
    raise OpenError(f"unsupported dictionary type: lmdb ({need})") from missing


def reason(error: lmdb.Error) -> str:
    """The library's text of an error, without the file name that the binding puts before it."""
    text = str(error)
    return text.rpartition(": ")[2] if isinstance(error, lmdb.Error) else text


class Lmdb(Indexed):
    """``lmdb:path``: the file ``path.lmdb``."""

    kind = "lmdb"
    suffix = ".lmdb"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.environment: lmdb.Environment | None = None
        self.fd = -1
        try:
            # Our own descriptor, for locks. Closing any other on this file drops them, which happens at our close only.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            environment = lmdb.open(self.path, subdir=False, readonly=True, lock=False, create=False)
        except OSError as error:
            raise OpenError(f"open database {self.path}: {error_text(error)}") from None
        except lmdb.Error as error:
            raise OpenError(f"open database {self.path}: {reason(error)}") from None
        self.environment = environment
        self.watch = SourceFile(self.fd)
        self.warn_if_stale(self.watch.mtime_ns / 1e9)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        environment = getattr(self, "environment", None)
        if environment is not None:
            self.environment = None
            environment.close()
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def changed(self) -> bool:
        return self.watch.changed()

    def _transaction(self) -> "lmdb.Transaction":
        assert self.environment is not None
        try:
            return self.environment.begin()
        except lmdb.MapResizedError:
            self.environment.set_mapsize(0)  # another process made the file grow: take over its size
            return self.environment.begin()

    def get(self, key: str) -> str | None:
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        try:
            return super().get(key)
        except lmdb.BadValsizeError:
            return None  # longer than any key in a table can be
        except lmdb.Error as error:
            raise TableError(f"error reading lmdb:{self.path}: {reason(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def fetch(self, key: bytes) -> bytes | None:
        if not key:
            return None
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
            raise TableError(f"error seeking lmdb:{self.path}: {reason(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
