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


def test_a_destination_leads_to_several_servers_the_oldest_connection_first() -> None:
    pool, _, _ = make()
    for number in range(3):
        pool.save(CacheSave(9, f"endpoint{number % 2}", "", "destination", f"about {number % 2}", number))
    assert [pool.find(CacheFind("destination", True)) for _ in range(4)] == [
        (0, "", "about 0"),
        (2, "", "about 0"),
        (1, "", "about 1"),
        None,
    ]


def test_a_binding_ends_unless_it_is_renewed() -> None:
    pool, clock, _ = make()
    pool.bind(2, "destination", "", "endpoint")
    clock.now = 1
    pool.bind(2, "destination", "", "endpoint")
    pool.save_endpoint(9, "endpoint", "", "link")
    clock.now = 2.5
    pool.expire()
    assert pool.sizes() == (1, 1, 1)
    clock.now = 3
    pool.expire()
    assert pool.sizes() == (0, 1, 1)


def test_take_all() -> None:
    pool, clock, closed = make()
    pool.save(CacheSave(5, "a", "about a", "destination", "about it", "one"))
    pool.save(CacheSave(7, "b", "about b", "", "", "two"))
    pool.save(CacheSave(1, "c", "", "", "", "three"))
    assert pool.find(CacheFind("b", False)) == ("two", "about b", "")
    clock.now = 2
    assert list(pool.take_all()) == [CacheSave(3, "a", "about a", "destination", "about it", "one")]
    assert len(pool) == 0 and closed == ["three"]
