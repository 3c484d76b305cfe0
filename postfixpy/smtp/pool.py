"""The connections that a process keeps for its own requests, by label (spec 10).

It plays scache(8) inside one process: a label leads to one connection or more; a destination label leads to an
endpoint label. A connection is taken out by who finds it, and closed when its time is over.
"""

from collections.abc import Callable
from typing import Any

from .effects import CacheFind, CacheSave

MAX_CONNECTIONS = 1000
"""Connections to keep; the oldest goes first."""


class Pool:
    """`clock` gives the time in seconds; `close` hangs up a connection."""

    def __init__(self, clock: Callable[[], float], close: Callable[[Any], None]) -> None:
        self._clock = clock
        self._close = close
        self._endpoints: dict[str, list[tuple[float, str, Any]]] = {}
        self._destinations: dict[str, tuple[float, str, str]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def save(self, effect: CacheSave) -> None:
        """Keep a connection."""
        self.expire()
        if self._count >= MAX_CONNECTIONS:
            oldest = min(self._endpoints, key=lambda label: self._endpoints[label][0][0])
            self._close(self._take(oldest, 0)[2])
        until = self._clock() + effect.ttl
        self._endpoints.setdefault(effect.label, []).append((until, effect.properties, effect.link))
        self._count += 1
        if effect.destination_label:
            self._destinations[effect.destination_label] = (until, effect.destination_properties, effect.label)

    def find(self, effect: CacheFind) -> tuple[Any, str, str] | None:
        """(link, endpoint properties, destination properties), or None."""
        self.expire()
        label, properties = effect.label, ""
        if effect.by_destination:
            found = self._destinations.get(label)
            if found is None:
                return None
            _, properties, label = found
        if label not in self._endpoints:
            return None
        _, endpoint, link = self._take(label, -1)
        return link, endpoint, properties

    def _take(self, label: str, position: int) -> tuple[float, str, Any]:
        entries = self._endpoints[label]
        entry = entries.pop(position)
        self._count -= 1
        if not entries:
            del self._endpoints[label]
        return entry

    def expire(self) -> float:
        """Hang up what is too old; returns the seconds until there is more to do, 0 when nothing is kept."""
        now = self._clock()
        for label in list(self._endpoints):
            while label in self._endpoints and self._endpoints[label][0][0] <= now:
                self._close(self._take(label, 0)[2])
        for label in [label for label, (until, _, _) in self._destinations.items() if until <= now]:
            del self._destinations[label]
        if not self._endpoints:
            return 0.0
        return min(entries[0][0] for entries in self._endpoints.values()) - now

    def clear(self) -> None:
        """Hang up everything."""
        for label in list(self._endpoints):
            while label in self._endpoints:
                self._close(self._take(label, 0)[2])
        self._destinations.clear()
