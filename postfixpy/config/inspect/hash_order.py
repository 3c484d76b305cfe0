"""The order in which Postfix visits its hash tables, which is the order of several of postconf's warnings.

With the environment variable NORANDOMIZE, as in tests, the order of the real program is fixed; ours is always that one.
From 3.7 on the hash is hash_fnv(3), before that the PJW hash of htable(3).
"""

from __future__ import annotations

from postfixpy.config.lines import encode

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

_PRIME = 0x100000001B3
_BASIS = 0xCBF29CE484222325
_MASK = 2**64 - 1


def fnv_hash(key: str) -> int:
    """Postfix's FNV-1a variant: each byte plus one."""
    value = _BASIS
    for byte in encode(key):
        value = ((value ^ (byte + 1)) * _PRIME) & _MASK
    return value


def pjw_hash(key: str) -> int:
    """The hash of htable(3) before hash_fnv."""
    value = 0
    for byte in encode(key):
        value = ((value << 4) + byte) & _MASK
        top = value & 0xF0000000
        if top:
            value ^= top >> 24
            value ^= top
    return value


def hash_order(keys: Iterable[str], *, fnv: bool = True, size: int = 13) -> list[str]:
    """`keys`, given in order of insertion, in the order of a table created for `size`. Equal keys come newest first."""
    hash_key = fnv_hash if fnv else pjw_hash
    capacity = max(size, 13) | 1
    buckets: list[list[str]] = [[] for _ in range(capacity)]
    hashes: dict[str, int] = {}
    for used, key in enumerate(keys):
        if used >= capacity:
            capacity = 2 * capacity | 1
            grown: list[list[str]] = [[] for _ in range(capacity)]
            for bucket in buckets:
                for old in reversed(bucket):
                    grown[hashes[old] % capacity].append(old)
            buckets = grown
        hashes[key] = hash_key(key)
        buckets[hashes[key] % capacity].append(key)
    # A chain is visited from its newest entry.
    return [key for bucket in buckets for key in reversed(bucket)]
