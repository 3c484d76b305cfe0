"""Things to do later, under a clock that somebody else advances."""

import heapq
from collections.abc import Callable


class Timer:
    """One thing to do later; set `cancelled` to leave it undone."""

    __slots__ = ("action", "cancelled")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.cancelled = False


class Timers:
    """Timers by time. `now` is in seconds; a clock that goes back does no harm."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def later(self, delay: float, action: Callable[[], None]) -> Timer:
        """Have `action` called in `delay` seconds."""
        timer = Timer(action)
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, timer))
        return timer

    def advance(self, now: float) -> None:
        """It is `now`: do what has become due, in order."""
        self.now = max(now, self.now)
        while self._heap and self._heap[0][0] <= self.now:
            timer = heapq.heappop(self._heap)[2]
            if not timer.cancelled:
                timer.action()

    def next_due(self) -> float | None:
        """When the next thing is due; None when nothing is planned."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
