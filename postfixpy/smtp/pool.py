"""The connections that a process keeps, by label (spec 10): scache(8) inside one process.

An endpoint label leads to the connections to one server; a destination label leads to endpoint labels. The oldest
connection is found first, as in scache_multi(3). It is taken out by who finds it, and closed when its time is over.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .effects import CacheFind, CacheSave

MAX_CONNECTIONS = 1000
"""Connections to keep; the oldest goes first."""


@dataclass(slots=True)
class _Kept:
    """A connection. `label` is "" when it has been taken."""

    until: float
    label: str
    properties: str
    link: Any


class Pool:
    """`clock` gives the time in seconds; `close` hangs up a connection."""

    def __init__(self, clock: Callable[[], float], close: Callable[[Any], None]) -> None:
        self._clock = clock
        self._close = close
        self._endpoints: dict[str, list[_Kept]] = {}
        self._destinations: dict[str, dict[tuple[str, str], float]] = {}
        self._queue: list[tuple[float, int, _Kept]] = []
        self._bindings: list[tuple[float, int, str, tuple[str, str]]] = []
        self._numbers = itertools.count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def sizes(self) -> tuple[int, int, int]:
        """How many destinations, endpoints and connections there are."""
        return len(self._destinations), len(self._endpoints), self._count

    def save(self, effect: CacheSave) -> None:
        """Keep a connection."""
        self.save_endpoint(effect.ttl, effect.label, effect.properties, effect.link)
        if effect.destination_label:
            self.bind(effect.ttl, effect.destination_label, effect.destination_properties, effect.label)

    def save_endpoint(self, ttl: float, label: str, properties: str, link: Any) -> None:
        """Keep a connection under an endpoint label for `ttl` seconds."""
        self.expire()
        if self._count >= MAX_CONNECTIONS:
            self._close(self._take(next(kept for _, _, kept in self._queue if kept.label)).link)
        kept = _Kept(self._clock() + ttl, label, properties, link)
        self._endpoints.setdefault(label, []).append(kept)
        heapq.heappush(self._queue, (kept.until, next(self._numbers), kept))
        self._count += 1

    def bind(self, ttl: float, destination: str, properties: str, endpoint: str) -> None:
        """Let a destination label lead to an endpoint label for `ttl` seconds."""
        until = self._clock() + ttl
        self._destinations.setdefault(destination, {})[endpoint, properties] = until
        heapq.heappush(self._bindings, (until, next(self._numbers), destination, (endpoint, properties)))

    def find(self, effect: CacheFind) -> tuple[Any, str, str] | None:
        """(link, endpoint properties, destination properties), or None."""
        self.expire()
        if not effect.by_destination:
            return self._found(effect.label, "")
        for endpoint, properties in self._destinations.get(effect.label, ()):
            found = self._found(endpoint, properties)
            if found is not None:
                return found
        return None

    def _found(self, label: str, properties: str) -> tuple[Any, str, str] | None:
        if label not in self._endpoints:
            return None
        kept = self._take(self._endpoints[label][0])
        return kept.link, kept.properties, properties

    def _take(self, kept: _Kept) -> _Kept:
        same = self._endpoints[kept.label]
        same.remove(kept)
        if not same:
            del self._endpoints[kept.label]
        kept.label = ""
        self._count -= 1
        return kept

    def expire(self) -> float:
        """Hang up what is too old; returns the seconds until there is more to do, 0 when nothing is kept."""
        now = self._clock()
        queue = self._queue
        while queue and (not queue[0][2].label or queue[0][0] <= now):
            kept = heapq.heappop(queue)[2]
            if kept.label:
                self._close(self._take(kept).link)
        while self._bindings and self._bindings[0][0] <= now:
            _, _, destination, binding = heapq.heappop(self._bindings)
            bound = self._destinations.get(destination, {})
            if bound.get(binding, now + 1) <= now:  # not renewed meanwhile
                del bound[binding]
                if not bound:
                    del self._destinations[destination]
        return queue[0][0] - now if queue else 0.0

    def take_all(self) -> Iterator[CacheSave]:
        """Take everything out, each connection with the destinations that lead to it, and the seconds that it has."""
        self.expire()
        now = self._clock()
        known: dict[str, list[tuple[str, str]]] = {}
        for destination, bound in self._destinations.items():
            for endpoint, properties in bound:
                known.setdefault(endpoint, []).append((destination, properties))
        for _, _, kept in sorted(self._queue):
            if kept.label:
                label = kept.label
                destination, about = next(iter(known.get(label, [])), ("", ""))
                self._take(kept)
                yield CacheSave(kept.until - now, label, kept.properties, destination, about, kept.link)
        self._destinations.clear()
        self._bindings.clear()
        self._queue.clear()

    def clear(self) -> None:
        """Hang up everything."""
        for effect in self.take_all():
            self._close(effect.link)
