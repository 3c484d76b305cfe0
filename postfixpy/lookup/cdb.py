"""cdb: tables, D. J. Bernstein's constant database: read without a lock, for a file is only ever replaced whole.

Every offset comes from the file and is checked; a damaged file gives an error, not a loop: a probe visits each slot of
a hash table at most once.
"""

import os
import struct
from collections.abc import Iterable, Iterator

from postfixpy.lookup.indexed import Indexed
from postfixpy.lookup.table import Flags, OpenError, Settings, SourceFile, Table, TableError, error_text, release

_PAIR = struct.Struct("<II")
HEADER = 2048


def cdb_hash(data: bytes) -> int:
    """The hash function of the format."""
    value = 5381
    for byte in data:
        value = ((value * 33) & 0xFFFFFFFF) ^ byte
    return value


class CdbError(Exception):
    """The file is not a cdb file, or damaged."""


class CdbFile:
    """An open cdb file; `fd` stays the caller's to close."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        header = os.pread(fd, HEADER, 0)
        if len(header) != HEADER:
            raise CdbError("shorter than its header")
        self.tables = list(_PAIR.iter_unpack(header))
        self.end_of_data = min((position for position, slots in self.tables), default=HEADER)

    def _read(self, length: int, position: int) -> bytes:
        if position + length > self.size:
            raise CdbError("item runs over the end of the file")
        data = os.pread(self.fd, length, position)
        if len(data) != length:
            raise CdbError("file was cut short")
        return data

    def get(self, key: bytes) -> bytes | None:
        """The first value stored under exactly `key`, or None."""
        wanted = cdb_hash(key)
        position, slots = self.tables[wanted & 255]
        if not slots:
            return None
        if slots > self.size // 8:
            raise CdbError("hash table longer than the file")
        first = (wanted >> 8) % slots
        for step in range(slots):
            stored, record = _PAIR.unpack(self._read(8, position + (first + step) % slots * 8))
            if not record:
                return None
            if stored == wanted:
                key_length, value_length = _PAIR.unpack(self._read(8, record))
                if key_length == len(key) and self._read(key_length, record + 8) == key:
                    return self._read(value_length, record + 8 + key_length)
        return None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value in the order they were written."""
        position = HEADER
        while position + 8 <= self.end_of_data:
            key_length, value_length = _PAIR.unpack(self._read(8, position))
            key = self._read(key_length, position + 8)
            yield key, self._read(value_length, position + 8 + key_length)
            position += 8 + key_length + value_length


def build(items: Iterable[tuple[bytes, bytes]]) -> bytearray:
    """The bytes of a cdb file of `items`, in their order."""
    data = bytearray(HEADER)
    chains: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    for key, value in items:
        hashed = cdb_hash(key)
        chains[hashed & 255].append((hashed, len(data)))
        data += _PAIR.pack(len(key), len(value)) + key + value
    if len(data) > 0xFFFFFFFF - 16 * sum(map(len, chains)):
        raise CdbError("more than 4 GB")
    for number, chain in enumerate(chains):
        slots: list[tuple[int, int]] = [(0, 0)] * (2 * len(chain))
        for hashed, position in chain:
            slot = (hashed >> 8) % len(slots)
            while slots[slot][1]:
                slot = (slot + 1) % len(slots)
            slots[slot] = (hashed, position)
        _PAIR.pack_into(data, number * 8, len(data), len(slots))
        data += b"".join(_PAIR.pack(*slot) for slot in slots)
    return data


class Cdb(Indexed):
    """``cdb:path``: the file ``path.cdb``."""

    kind = "cdb"
    suffix = ".cdb"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.fd = -1
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self.file = CdbFile(self.fd)
            self.watch = SourceFile(self.fd)
        except OSError as error:
            raise OpenError(f"open database {self.path}: {error_text(error)}") from None
        except CdbError:
            raise OpenError(f"dict_cdbq_open: unable to init {self.path}: Protocol error") from None
        self.warn_if_stale(self.watch.mtime_ns / 1e9)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def changed(self) -> bool:
        return self.watch.changed()

    def fetch(self, key: bytes) -> bytes | None:
        try:
            return self.file.get(key)
        except CdbError:
            raise TableError(f"error reading {self.path}: Protocol error", fatal=True) from None

    def items(self) -> Iterator[tuple[str, str]]:
        # Postfix lists them since 3.10.
        return super().items() if release(self.settings) >= (3, 10) else Table.items(self)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self.file.items()
        except CdbError:
            raise TableError(f"error seeking {self.path}: Protocol error", fatal=True) from None
