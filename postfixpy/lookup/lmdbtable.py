"""lmdb: tables. Reading needs no library (see lmdb_file); making and changing them needs the extra ``postfixpy[lmdb]``.

Postfix opens LMDB without that library's own locks and instead locks the file with fcntl(2), shared around each lookup
and exclusive around changes; so does this module, and so either side may change a table that the other reads.
"""

import fcntl
import os
import weakref
from collections.abc import Iterator

from postfixpy.lookup.indexed import Indexed
from postfixpy.lookup.lmdb_file import LmdbError, LmdbFile
from postfixpy.lookup.table import Flags, OpenError, Settings, SourceFile, TableError, error_text


class Environment:
    """An open file. Tables with different flags on one file share it: a process loses all its fcntl(2) locks on a file
    when it closes any descriptor of it.
    """

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.file = LmdbFile(self.fd)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


_environments: "weakref.WeakValueDictionary[tuple[int, int], Environment]" = weakref.WeakValueDictionary()


def shared_environment(path: str) -> Environment:
    """The environment of the file `path`. Raises OSError, LmdbError."""
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
            self.environment = shared_environment(self.path)
        except OSError as error:
            raise OpenError(f"open database {self.path}: {error_text(error)}") from None
        except LmdbError as error:
            raise OpenError(f"open database {self.path}: {error}") from None
        self.fd = self.environment.fd
        self.watch = SourceFile(self.fd)
        self.warn_if_stale(self.watch.mtime_ns / 1e9)

    def changed(self) -> bool:
        return self.watch.changed()

    def get(self, key: str) -> str | None:
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        try:
            self.environment.file.refresh()
            return super().get(key)
        except (LmdbError, OSError) as error:
            raise TableError(f"error reading lmdb:{self.label}: {_text(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def fetch(self, key: bytes) -> bytes | None:
        return self.environment.file.get(key)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        try:
            self.environment.file.refresh()
            yield from self.environment.file.items()
        except (LmdbError, OSError) as error:
            raise TableError(f"error seeking lmdb:{self.label}: {_text(error)}", fatal=True) from None
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)


def _text(error: Exception) -> str:
    return error_text(error) if isinstance(error, OSError) else str(error)
