"""Reading Berkeley DB files, hash (versions 8 to 10) and btree (8 to 10), as Postfix's hash: and btree: tables are.

No library is needed: the file format is read with pread(2). Not with mmap: real postmap truncates a table in place, and
a mapped reader would die of SIGBUS. The caller holds the lock that keeps a rebuild out while it reads, and calls
`refresh` under that lock, so that cached pages never outlive a change of the file.

Refused, because no Postfix table has them: duplicates, encryption, checksums, transactions' logs.

Every offset and length comes from the file and is checked: whatever the bytes are, the answer is a value, None or
BdbError, after a bounded amount of work (each page of a chain is visited once at most).

Source: the format is Berkeley DB's db_page.h; facts and measurements in ARCHITECTURE.md (lookup).
"""

import os
import struct
from collections.abc import Iterator

HASH_MAGIC, BTREE_MAGIC = 0x061561, 0x053162
P_INVALID, P_HASH_UNSORTED, P_IBTREE, P_LBTREE, P_OVERFLOW, P_HASH = 0, 2, 3, 5, 7, 13
KEYDATA, DUPLICATE, OFFPAGE = 1, 2, 3
DELETED = 0x80
HEADER = 26
"""Size of a page header; the index of the page's items follows."""

_CACHE_PAGES = 1024
_HASH_CHECK = b"%$sniglet^&\0"
"""The string whose hash the meta page keeps, to tell which hash function was used."""
_MAX_DEPTH = 64


class BdbError(Exception):
    """The file is not what it should be. str(error) says what was found, for the debugging reader."""


def fnv(data: bytes) -> int:
    """Berkeley DB's default hash function (Fowler, Noll, Vo)."""
    value = 0
    for byte in data:
        value = ((value * 16777619) & 0xFFFFFFFF) ^ byte
    return value


def log2_ceiling(number: int) -> int:
    """The smallest i with 1 << i >= number."""
    return (number - 1).bit_length() if number > 1 else 0


class Page:
    """One page: its header fields, its bytes, and the offsets of its items."""

    __slots__ = ("data", "entries", "fill", "index", "keys", "next", "number", "type")

    def __init__(self, data: bytes, number: int, order: str) -> None:
        _, _, self.next, self.entries, self.fill, _, self.type = struct.unpack_from(order + "IIIHHBB", data, 8)
        self.data = data
        self.number = number
        self.index: tuple[int, ...] = ()
        self.keys: dict[bytes, int] | None = None
        """Where the items of a hash page or a leaf are that lie on the page itself, once somebody has asked."""
        if self.type in (P_HASH, P_HASH_UNSORTED, P_IBTREE, P_LBTREE):
            if HEADER + 2 * self.entries > len(data):
                raise BdbError(f"page {number}: {self.entries} entries do not fit")
            self.index = struct.unpack_from(f"{order}{self.entries}H", data, HEADER)


class DbFile:
    """An open hash or btree file. `kind` is "hash" or "btree"; `fd` stays the caller's to close."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._state: tuple[int, int] | None = None
        self._pages: dict[int, Page] = {}
        self.refresh()

    def refresh(self) -> None:
        """Forget what was read if the file has changed since. Raises BdbError if it is no such file (now)."""
        status = os.fstat(self.fd)
        state = (status.st_mtime_ns, status.st_size)
        if state != self._state:
            self._pages.clear()
            self._state = None
            self._read_meta(status.st_size)
            self._state = state

    def _read_meta(self, size: int) -> None:
        meta = os.pread(self.fd, 512, 0)
        if len(meta) < 512:
            raise BdbError("no meta page")
        for order in "<>":
            magic, version, page_size = struct.unpack_from(order + "III", meta, 12)
            if magic in (HASH_MAGIC, BTREE_MAGIC):
                break
        else:
            raise BdbError("no Berkeley DB hash or btree magic")
        if not 8 <= version <= 10:
            raise BdbError(f"version {version} is not supported")
        if meta[24] or meta[26]:
            raise BdbError("encrypted, checksummed or partitioned files are not supported")
        if page_size < 512 or page_size > 65536 or page_size & (page_size - 1):
            raise BdbError(f"bad page size {page_size}")
        self.order, self.page_size = order, page_size
        self.kind = "hash" if magic == HASH_MAGIC else "btree"
        self.last = min(struct.unpack_from(order + "I", meta, 32)[0], size // page_size)
        if self.kind == "hash":
            self.max_bucket, self.high_mask, self.low_mask = struct.unpack_from(order + "III", meta, 72)
            self.spares: tuple[int, ...] = struct.unpack_from(order + "32I", meta, 96)
            if struct.unpack_from(order + "I", meta, 92)[0] != fnv(_HASH_CHECK):
                raise BdbError("unknown hash function")
            if self.max_bucket > self.last:
                raise BdbError("more buckets than pages")
        else:
            self.root: int = struct.unpack_from(order + "I", meta, 88)[0]

    def page(self, number: int) -> Page:
        """Page `number`, from the cache or the file."""
        page = self._pages.get(number)
        if page is None:
            if not 0 < number <= self.last:
                raise BdbError(f"page {number} is outside the file")
            data = os.pread(self.fd, self.page_size, number * self.page_size)
            if len(data) != self.page_size:
                raise BdbError(f"page {number} is cut short")
            page = Page(data, number, self.order)
            if len(self._pages) >= _CACHE_PAGES:
                self._pages.clear()
            self._pages[number] = page
        return page

    def get(self, key: bytes) -> bytes | None:
        """The value stored under exactly `key`, or None."""
        return self._hash_get(key) if self.kind == "hash" else self._btree_get(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value, in the order of the file (hash: by bucket; btree: by key)."""
        return self._hash_items() if self.kind == "hash" else self._btree_items()

    def _overflow(self, number: int, length: int) -> bytes:
        """The `length` bytes of the chain of overflow pages that starts at page `number`."""
        if length > self.last * self.page_size:
            raise BdbError("overflow item longer than the file")
        parts: list[bytes] = []
        have = 0
        while number and have < length:
            page = self.page(number)
            if page.type != P_OVERFLOW or not 0 < page.fill <= self.page_size - HEADER:
                raise BdbError(f"page {number}: not an overflow page")
            parts.append(page.data[HEADER : HEADER + page.fill])
            have += page.fill
            number = page.next
        if have != length:
            raise BdbError("overflow item of the wrong length")
        return b"".join(parts)

    def _off_page(self, data: bytes, offset: int) -> bytes:
        """The item that the page number and length at `offset` refer to."""
        if offset + 8 > len(data):
            raise BdbError("item runs over the end of its page")
        return self._overflow(*struct.unpack_from(self.order + "II", data, offset))

    # Hash: buckets are chains of pages that hold pairs of items, the first item at the end of the page.

    def _bucket(self, bucket: int) -> Iterator[Page]:
        number = bucket + self.spares[log2_ceiling(bucket + 1)]
        for _ in range(self.last + 1):
            if not number or number > self.last:
                return  # allocated in the meta page only: libdb extends the file when the bucket is first used
            page = self.page(number)
            if page.type == P_INVALID:
                return
            if page.type not in (P_HASH, P_HASH_UNSORTED) or page.entries % 2:
                raise BdbError(f"page {number}: not a hash page")
            yield page
            number = page.next
        raise BdbError(f"bucket {bucket}: its chain of pages is a loop")

    def _hash_item(self, page: Page, position: int) -> bytes:
        start = page.index[position]
        end = page.index[position - 1] if position else self.page_size
        if not HEADER < start < end <= self.page_size:
            raise BdbError(f"page {page.number}: bad item offset")
        kind = page.data[start]
        if kind == KEYDATA:
            return page.data[start + 1 : end]
        if kind == OFFPAGE:
            return self._off_page(page.data, start + 4)
        raise BdbError(f"page {page.number}: item type {kind} is not supported")

    def _hash_get(self, key: bytes) -> bytes | None:
        bucket = fnv(key) & self.high_mask
        if bucket > self.max_bucket:
            bucket &= self.low_mask
        if bucket > self.max_bucket:
            raise BdbError("bad bucket masks")
        may_be_off_page = len(key) > self.page_size // 8  # libdb moves an item out at a quarter of a page
        for page in self._bucket(bucket):
            if not may_be_off_page:
                keys = page.keys
                if keys is None:
                    keys = page.keys = self._keys(page)
                if key in keys:
                    return self._hash_item(page, keys[key] + 1)
                continue
            for position in range(0, page.entries, 2):
                if self._hash_item(page, position) == key:
                    return self._hash_item(page, position + 1)
        return None

    def _keys(self, page: Page) -> dict[bytes, int]:
        """The keys on a hash page itself, and where each is first. The pages of long ones are not read."""
        keys: dict[bytes, int] = {}
        for position in range(0, page.entries, 2):
            start = page.index[position]
            if not HEADER < start < self.page_size:
                raise BdbError(f"page {page.number}: bad item offset")
            if page.data[start] != OFFPAGE:
                keys.setdefault(self._hash_item(page, position), position)
        return keys

    def _hash_items(self) -> Iterator[tuple[bytes, bytes]]:
        for bucket in range(self.max_bucket + 1):
            for page in self._bucket(bucket):
                for position in range(0, page.entries, 2):
                    yield self._hash_item(page, position), self._hash_item(page, position + 1)

    # Btree: leaves hold pairs of items in key order; an internal page holds the first key of each page below.

    def _leaf_item(self, page: Page, position: int) -> bytes | None:
        """An item of a leaf; None for one that is deleted."""
        start = page.index[position]
        if not HEADER < start <= self.page_size - 3:
            raise BdbError(f"page {page.number}: bad item offset")
        kind = page.data[start + 2]
        if kind & DELETED:
            return None
        if kind == KEYDATA:
            length = struct.unpack_from(self.order + "H", page.data, start)[0]
            if start + 3 + length > self.page_size:
                raise BdbError(f"page {page.number}: item runs over the end")
            return page.data[start + 3 : start + 3 + length]
        if kind == OFFPAGE:
            return self._off_page(page.data, start + 4)
        raise BdbError(f"page {page.number}: item type {kind} is not supported")

    def _separator(self, page: Page, position: int) -> tuple[bytes, int]:
        """The key and the page number of an entry of an internal page."""
        start = page.index[position]
        if not HEADER < start <= self.page_size - 12:
            raise BdbError(f"page {page.number}: bad item offset")
        length, kind, child = struct.unpack_from(self.order + "HBxI", page.data, start)
        if kind & ~DELETED == OFFPAGE:
            return self._off_page(page.data, start + 16), child
        return page.data[start + 12 : start + 12 + length], child

    def _leaf(self, key: bytes | None) -> Page:
        """The leaf where `key` would be; the first leaf for None."""
        number = self.root
        for _ in range(_MAX_DEPTH):
            page = self.page(number)
            if page.type == P_LBTREE and page.entries % 2 == 0:
                return page
            if page.type != P_IBTREE or not page.entries:
                raise BdbError(f"page {number}: not a btree page")
            low, high = 1, page.entries  # the first entry stands for everything smaller
            if key is None:
                high = 1
            while key is not None and low < high:
                middle = (low + high) // 2
                if self._separator(page, middle)[0] <= key:
                    low = middle + 1
                else:
                    high = middle
            number = struct.unpack_from(self.order + "I", page.data, self._checked(page, low - 1) + 4)[0]
        raise BdbError("tree too deep")

    def _checked(self, page: Page, position: int) -> int:
        start = page.index[position]
        if not HEADER < start <= self.page_size - 8:
            raise BdbError(f"page {page.number}: bad item offset")
        return start

    def _btree_get(self, key: bytes) -> bytes | None:
        page = self._leaf(key)
        keys = page.keys
        if keys is None:
            keys = page.keys = self._leaf_keys(page)
        if key in keys:
            return self._leaf_item(page, keys[key] + 1)
        if 2 * len(keys) == page.entries:
            return None
        low, high = 0, page.entries // 2
        while low < high:
            middle = (low + high) // 2
            found = self._leaf_item(page, 2 * middle)
            if found is None:
                break  # a deleted entry has no key to compare with: search the page from end to end
            if found < key:
                low = middle + 1
            elif found > key:
                high = middle
            else:
                return self._leaf_item(page, 2 * middle + 1)
        if low < high:
            for position in range(0, page.entries, 2):
                if self._leaf_item(page, position) == key:
                    return self._leaf_item(page, position + 1)
        return None

    def _leaf_keys(self, page: Page) -> dict[bytes, int]:
        """As `_keys`, of a leaf; deleted items are left out, too."""
        keys: dict[bytes, int] = {}
        for position in range(0, page.entries, 2):
            start = page.index[position]
            if HEADER < start <= self.page_size - 3 and page.data[start + 2] == KEYDATA:
                found = self._leaf_item(page, position)
                if found is not None:
                    keys.setdefault(found, position)
        return keys

    def _btree_items(self) -> Iterator[tuple[bytes, bytes]]:
        page = self._leaf(None)
        for _ in range(self.last + 1):
            for position in range(0, page.entries, 2):
                key = self._leaf_item(page, position)
                value = None if key is None else self._leaf_item(page, position + 1)
                if key is not None and value is not None:
                    yield key, value
            if not page.next:
                return
            page = self.page(page.next)
            if page.type != P_LBTREE or page.entries % 2:
                raise BdbError(f"page {page.number}: not a btree leaf")
        raise BdbError("the chain of leaves is a loop")
