"""Writing whole Berkeley DB files that libdb, and so the real Postfix, reads, verifies and updates.

A table is built in one go from its items: a hash file with as many buckets as it needs and no page splits, a btree
packed from the left. Format versions are those of libdb 4 and 5 (hash 9, btree 9), little-endian, 4096-byte pages.
"""

import os
import struct
from collections.abc import Callable, Iterable
from typing import BinaryIO

from postfixpy.lookup.bdb import (
    BTREE_MAGIC,
    HASH_MAGIC,
    HEADER,
    KEYDATA,
    OFFPAGE,
    P_HASH_UNSORTED,
    P_IBTREE,
    P_LBTREE,
    P_OVERFLOW,
    fnv,
    log2_ceiling,
)

PAGE_SIZE = 4096
_VERSION = 9
_P_HASHMETA, _P_BTREEMETA = 8, 9
_MINIMUM_KEYS = 2
_HASH_BIG = (PAGE_SIZE - HEADER) // 4
_BTREE_BIG = (PAGE_SIZE - HEADER) // 4 - 6
_HASH_CHECK = fnv(b"%$sniglet^&\0")
_Link = tuple[bytes, int]
"""The first key below a page, and the page's number."""


class _Pages:
    """Numbers pages and writes each once, straight to its place in the file."""

    def __init__(self, file: BinaryIO, first: int) -> None:
        self.file = file
        self.next = first

    def allocate(self, count: int = 1) -> int:
        first = self.next
        self.next += count
        return first

    def put(
        self,
        number: int,
        before: int,
        after: int,
        entries: int,
        fill: int,
        level: int,
        kind: int,
        body: bytes,
        tail: bytes,
    ) -> None:
        """Write a page: its header, `body` after that, `tail` at its end. The log sequence number 1 says "no log"."""
        header = struct.pack("<QIIIHHBB", 1 << 32, number, before, after, entries, fill, level, kind)
        self.file.seek(number * PAGE_SIZE)
        self.file.write(header + body + bytes(PAGE_SIZE - HEADER - len(body) - len(tail)) + tail)

    def overflow(self, data: bytes) -> int:
        """Write `data` as a chain of overflow pages; the number of the first."""
        step = PAGE_SIZE - HEADER
        count = -(-len(data) // step)
        first = self.allocate(count)
        for index in range(count):
            part = data[index * step : (index + 1) * step]
            before = first + index - 1 if index else 0
            after = first + index + 1 if index < count - 1 else 0
            self.put(first + index, before, after, 1, len(part), 0, P_OVERFLOW, part, b"")
        return first

    def meta(self, magic: int, kind: int, keys: int, flags: bytes, extra: bytes) -> None:
        """Write the meta page, which is page 0, and set the file's size."""
        page = bytearray(PAGE_SIZE)
        struct.pack_into("<QIIIIBB", page, 0, 1 << 32, 0, magic, _VERSION, PAGE_SIZE, 0, kind)
        struct.pack_into("<III", page, 32, self.next - 1, 0, keys)
        page[44:52] = flags
        page[52:72] = os.urandom(20)  # the file's unique id
        page[72 : 72 + len(extra)] = extra
        self.file.seek(0)
        self.file.write(page)
        self.file.truncate(self.next * PAGE_SIZE)


class _Filling:
    """Items that will make one page. `align`: each starts at a multiple of four (btree)."""

    def __init__(self, align: int) -> None:
        self.items: list[bytes] = []
        self.align = align
        self.used = HEADER

    def add(self, item: bytes) -> None:
        padding = -len(item) % self.align
        self.items.append(item + bytes(padding))
        self.used += len(item) + padding + 2

    def fits(self, *items: bytes) -> bool:
        return self.used + sum(len(item) + 5 for item in items) <= PAGE_SIZE  # 5: an index entry, at most 3 of padding

    def put(self, pages: _Pages, number: int, before: int, after: int, level: int, kind: int) -> None:
        """Write the page: offsets after the header, items from its end downwards."""
        offsets, offset = [], PAGE_SIZE
        for item in self.items:
            offset -= len(item)
            offsets.append(offset)
        index = struct.pack(f"<{len(offsets)}H", *offsets)
        tail = b"".join(reversed(self.items))
        pages.put(number, before, after, len(offsets), offset, level, kind, index, tail)


def _put_row(pages: _Pages, row: list[_Filling], numbers: list[int], level: int, kind: int) -> None:
    """Write pages that are linked to each other."""
    for index, page in enumerate(row):
        before = numbers[index - 1] if index else 0
        after = numbers[index + 1] if index + 1 < len(row) else 0
        page.put(pages, numbers[index], before, after, level, kind)


def write_hash(file: BinaryIO, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a hash file of `items`, whose keys are unique, to the empty `file`."""
    pairs = list(items)
    total = len(pairs)
    average = min(1024, sum(len(key) + len(value) + 6 for key, value in pairs) // total) if total else 64
    # Filled to three quarters on average, few buckets need a second page.
    buckets = 1 << log2_ceiling(max(2, -(-total * average * 4 // (3 * (PAGE_SIZE - HEADER)))))
    mask = buckets - 1
    chains: list[list[tuple[bytes, bytes]]] = [[] for _ in range(buckets)]
    for pair in pairs:
        chains[fnv(pair[0]) & mask].append(pair)
    pages = _Pages(file, 1 + buckets)

    def item(data: bytes) -> bytes:
        if len(data) > _HASH_BIG:
            return struct.pack("<BxxxII", OFFPAGE, pages.overflow(data), len(data))
        return bytes((KEYDATA,)) + data

    for bucket, chain in enumerate(chains):
        row = [_Filling(1)]
        for key, value in sorted(chain):
            stored_key, stored_value = item(key), item(value)
            if not row[-1].fits(stored_key, stored_value):
                row.append(_Filling(1))
            row[-1].add(stored_key)
            row[-1].add(stored_value)
        numbers = [1 + bucket, *(pages.allocate() for _ in row[1:])]
        _put_row(pages, row, numbers, 0, P_HASH_UNSORTED)
    spares = [1 if index <= log2_ceiling(buckets) else 0 for index in range(32)]  # bucket b is page 1 + b
    extra = struct.pack("<IIIIII32I", mask, mask, mask >> 1, 0, total, _HASH_CHECK, *spares)
    pages.meta(HASH_MAGIC, _P_HASHMETA, 0, bytes(8), extra)


def write_btree(file: BinaryIO, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a btree file of `items`, whose keys are unique, to the empty `file`."""
    pages = _Pages(file, 1)
    root = pages.allocate()  # page 1, as libdb has it

    def item(data: bytes) -> bytes:
        if len(data) > _BTREE_BIG:
            return struct.pack("<HBBII", 0, OFFPAGE, 0, pages.overflow(data), len(data))
        return struct.pack("<HB", len(data), KEYDATA) + data

    def link(key: bytes, number: int) -> bytes:
        if len(key) > _BTREE_BIG:
            copy = struct.pack("<HBBII", 0, OFFPAGE, 0, pages.overflow(key), len(key))
            return struct.pack("<HBBII", 12, OFFPAGE, 0, number, 0) + copy
        return struct.pack("<HBBII", len(key), KEYDATA, 0, number, 0) + key

    row, first_keys, total = [_Filling(4)], [b""], 0
    for key, value in sorted(items):
        stored_key, stored_value = item(key), item(value)
        if not row[-1].fits(stored_key, stored_value):
            row.append(_Filling(4))
            first_keys.append(key)
        row[-1].add(stored_key)
        row[-1].add(stored_value)
        total += 1
    level, kind = 1, P_LBTREE
    while True:
        numbers = [root] if len(row) == 1 else [pages.allocate() for _ in row]
        _put_row(pages, row, numbers, level, kind)
        if len(row) == 1:
            break
        links = list(zip(first_keys, numbers, strict=True))
        row, first_keys = _next_level(links, link)
        level, kind = level + 1, P_IBTREE
    extra = struct.pack("<5I", 0, _MINIMUM_KEYS, 0, ord(" "), root)
    pages.meta(BTREE_MAGIC, _P_BTREEMETA, total, struct.pack("<II", total, 0), extra)


def _next_level(links: list[_Link], link: Callable[[bytes, int], bytes]) -> tuple[list[_Filling], list[bytes]]:
    """The internal pages over `links`, and the first key below each. A page's own first key stays empty: it stands for
    everything smaller than the second.
    """
    row: list[_Filling] = []
    first_keys: list[bytes] = []
    for key, number in links:
        size = 24 if len(key) > _BTREE_BIG else 12 + len(key)
        if row and row[-1].fits(bytes(size)):
            row[-1].add(link(key, number))
        else:
            row.append(_Filling(4))
            row[-1].add(link(b"", number))
            first_keys.append(key)
    return row, first_keys
