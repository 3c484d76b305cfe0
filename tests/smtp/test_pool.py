"""Connections kept for the process's own requests."""

from typing import Any

from postfixpy.smtp.effects import CacheFind, CacheSave
from postfixpy.smtp.pool import MAX_CONNECTIONS, Pool


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Pool, Time, list[Any]]:
    clock, closed = Time(), []
    return Pool(clock, closed.append), clock, closed


def test_found_once() -> None:
    pool, _, closed = make()
    pool.save(CacheSave(2, "endpoint", "props", "destination", "dest props", "link"))
    assert pool.find(CacheFind("other", False)) is None
    assert pool.find(CacheFind("destination", True)) == ("link", "props", "dest props")
    assert pool.find(CacheFind("destination", True)) is None
    assert pool.find(CacheFind("endpoint", False)) is None
    assert len(pool) == 0 and closed == []


def test_expired() -> None:
    pool, clock, closed = make()
    pool.save(CacheSave(2, "a", "", "", "", "one"))
    clock.now = 1
    pool.save(CacheSave(2, "a", "", "", "", "two"))
    assert pool.expire() == 1
    clock.now = 2
    assert pool.find(CacheFind("a", False)) == ("two", "", "")
    assert closed == ["one"]


def test_bounded() -> None:
    pool, _, closed = make()
    for number in range(MAX_CONNECTIONS + 3):
        pool.save(CacheSave(2 + number, f"label{number}", "", "", "", number))
    assert len(pool) == MAX_CONNECTIONS and closed == [0, 1, 2]
    pool.clear()
    assert len(pool) == 0 and len(closed) == MAX_CONNECTIONS + 3
