"""Reading LMDB files (format version 1, 64-bit, little-endian), as Postfix's lmdb: tables are, without the library.

LMDB trusts its files: on a damaged one its C code follows wild pointers, and the process dies. Here every page number,
offset and length is checked, pages are read with pread(2), and what comes is a value, None or LmdbError. Writing needs
the library (see build).

A lookup reads the newer of two meta pages and walks the tree that it names. Pages of that tree are not overwritten
while a shared lock is held, so the caller locks around `refresh` and what follows; cached pages belong to one
transaction.

Source: the format is LMDB's mdb.c.
"""

import errno
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIG_DATA, SUB_DATABASE, DUPLICATES = 0x01, 0x02, 0x04
HEADER = 16
_EMPTY = (1 << 64) - 1
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_CACHE_PAGES = 1024
_MAX_DEPTH = 32


class LmdbError(Exception):
    """The file is not what it should be. str(error) is the library's text for that."""


INVALID = "MDB_INVALID: File is not an LMDB file"
MISMATCH = "MDB_VERSION_MISMATCH: Database environment version mismatch"
CORRUPTED = "MDB_CORRUPTED: Located page was wrong type"
NOT_FOUND = "MDB_PAGE_NOTFOUND: Requested page not found"
BAD_SIZE = "MDB_BAD_VALSIZE: Unsupported size of key/DB name/data, or wrong DUPFIXED size"


class LmdbFile:
    """An open file; `fd` stays the caller's to close. Raises LmdbError, OSError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pages: dict[int, tuple[bytes, tuple[int, ...]]] = {}
        self._page_keys: dict[int, list[bytes]] = {}
        self.transaction = -1
        self.page_size = self.root = self.last = 0
        self.refresh()

    def refresh(self) -> None:
        """Find the newest transaction. Call it under the lock, before each lookup."""
        head = os.pread(self.fd, 4096, 0)
        if not head:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        first = self._meta(head)
        self.page_size = struct.unpack_from("<I", head, 40)[0]
        try:
            second = self._meta(os.pread(self.fd, 256, self.page_size))
        except LmdbError:
            second = first
        transaction, root, last = max(first, second)
        if transaction != self.transaction:
            self._forget()
            self.transaction, self.root = transaction, root
            self.last = min(last, os.fstat(self.fd).st_size // self.page_size)

    def _forget(self) -> None:
        self._pages.clear()
        self._page_keys.clear()

    def _meta(self, page: bytes) -> tuple[int, int, int]:
        """Transaction number, root page and last page of a meta page."""
        if len(page) < 152:
            raise LmdbError(INVALID)
        flags, magic, version = struct.unpack_from("<H4xII", page, 10)
        if not flags & META or magic != MAGIC:
            raise LmdbError(INVALID)
        if version != VERSION:
            raise LmdbError(MISMATCH)
        page_size: int = struct.unpack_from("<I", page, 40)[0]
        if not 256 <= page_size <= 65536 or page_size & (page_size - 1):
            raise LmdbError(INVALID)
        root, last, transaction = struct.unpack_from("<QQQ", page, 128)
        return transaction, root, last

    def _page(self, number: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
        """The bytes of a page of the tree, and the offsets of its nodes."""
        found = self._pages.get(number)
        if found is None:
            if not 1 < number <= self.last:
                raise LmdbError(NOT_FOUND)
            data = os.pread(self.fd, self.page_size, number * self.page_size)
            if len(data) != self.page_size:
                raise LmdbError(NOT_FOUND)
            _, _, flags, lower, _ = _PAGE.unpack_from(data)
            count = (lower - HEADER) // 2
            if flags & ~0x10 not in (BRANCH, LEAF) or count < 0 or lower > self.page_size:
                raise LmdbError(CORRUPTED)
            found = data, struct.unpack_from(f"<{count}H", data, HEADER)
            if len(self._pages) >= _CACHE_PAGES:
                self._forget()
            self._pages[number] = found
        if not found[0][10] & kind:
            raise LmdbError(CORRUPTED)
        return found

    def _node(self, data: bytes, offset: int) -> tuple[int, int, int, bytes]:
        """Low and high half, flags and key of a node."""
        if offset < HEADER or offset + 8 > self.page_size:
            raise LmdbError(CORRUPTED)
        low, high, flags, size = _NODE.unpack_from(data, offset)
        if offset + 8 + size > self.page_size:
            raise LmdbError(CORRUPTED)
        return low, high, flags, data[offset + 8 : offset + 8 + size]

    def _child(self, data: bytes, offset: int) -> int:
        low, high, flags, _ = self._node(data, offset)
        return low | high << 16 | flags << 32

    def _value(self, data: bytes, offset: int) -> bytes:
        low, high, flags, key = self._node(data, offset)
        size = low | high << 16
        start = offset + 8 + len(key)
        if flags & (SUB_DATABASE | DUPLICATES):
            raise LmdbError("MDB_INCOMPATIBLE: Operation and DB incompatible, or DB flags changed")
        if not flags & BIG_DATA:
            if start + size > self.page_size:
                raise LmdbError(CORRUPTED)
            return data[start : start + size]
        if start + 8 > self.page_size:
            raise LmdbError(CORRUPTED)
        number = struct.unpack_from("<Q", data, start)[0]
        if not 1 < number <= self.last or size > (self.last - number + 1) * self.page_size - HEADER:
            raise LmdbError(NOT_FOUND)
        head = os.pread(self.fd, HEADER, number * self.page_size)
        if len(head) != HEADER or not _PAGE.unpack(head)[2] & OVERFLOW:
            raise LmdbError(CORRUPTED)
        value = os.pread(self.fd, size, number * self.page_size + HEADER)
        if len(value) != size:
            raise LmdbError(NOT_FOUND)
        return value

    def _depth(self, number: int) -> bool:
        """Whether page `number` is a branch."""
        return bool(self._page(number, BRANCH | LEAF)[0][10] & BRANCH)

    def get(self, key: bytes) -> bytes | None:
        """The value stored under exactly `key`, or None."""
        if not key:
            raise LmdbError(BAD_SIZE)
        if self.root == _EMPTY:
            return None
        number = self.root
        for _ in range(_MAX_DEPTH):
            if not self._depth(number):
                return self._find(number, key)
            data, offsets = self._page(number, BRANCH)
            # The first key is empty and stands for everything smaller.
            low = bisect_right(self._keys(number, data, offsets), key, 1) if len(offsets) > 1 else 1
            if not offsets:
                raise LmdbError(CORRUPTED)
            number = self._child(data, offsets[low - 1])
        raise LmdbError(CORRUPTED)

    def _find(self, number: int, key: bytes) -> bytes | None:
        data, offsets = self._page(number, LEAF)
        keys = self._keys(number, data, offsets)
        low = bisect_left(keys, key)
        return self._value(data, offsets[low]) if low < len(keys) and keys[low] == key else None

    def _keys(self, number: int, data: bytes, offsets: tuple[int, ...]) -> list[bytes]:
        """The keys of a page, in its order."""
        keys = self._page_keys.get(number)
        if keys is None:
            keys = self._page_keys[number] = [self._node(data, offset)[3] for offset in offsets]
        return keys

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value, in the order of the keys."""
        if self.root != _EMPTY:
            yield from self._walk(self.root, _MAX_DEPTH, [self.last])

    def _walk(self, number: int, depth: int, budget: list[int]) -> Iterator[tuple[bytes, bytes]]:
        """The items under a page; `budget` is how many more pages a tree in this file can have."""
        budget[0] -= 1
        if depth == 0 or budget[0] < 0:
            raise LmdbError(CORRUPTED)
        data, offsets = self._page(number, BRANCH | LEAF)
        for offset in offsets:
            if data[10] & BRANCH:
                yield from self._walk(self._child(data, offset), depth - 1, budget)
            else:
                yield self._node(data, offset)[3], self._value(data, offset)
