"""Timers of an event loop that has no others: what is to be called, and when."""

import heapq
import time
from collections.abc import Callable


class Timers:
    """Calls in the future, in the order of their times; `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def add(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in so many seconds."""
        self._sequence += 1
        heapq.heappush(self._heap, (self._clock() + seconds, self._sequence, action))

    def until(self, most: float) -> float:
        """Seconds until the next is due, `most` at most."""
        if not self._heap:
            return most
        return min(most, max(0.0, self._heap[0][0] - self._clock()))

    def run(self) -> None:
        """Call what is due. What is added meanwhile waits for the next time, so that this ends."""
        now = self._clock()
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        for action in due:
            action()
