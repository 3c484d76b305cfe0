"""How many deliveries one destination takes at once: the concurrency window and its feedback.

Each delivery that reaches the destination widens the window a little, each connection or handshake failure narrows
it, and a destination where `cohort_limit` whole windows of deliveries have failed is dead. Feedback below 1 adds up:
the window grows at the end of a cycle of positive feedback, but shrinks at the beginning of a cycle of negative
feedback, because a correction for overload must not come late. The safety rule of SCHEDULER_README holds: no growth
beyond what is really in use plus the initial concurrency.

Source: SCHEDULER_README, "Postfix 2.5 concurrency feedback algorithm"; postconf(5) default_destination_concurrency_*.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

DEAD, SUSPENDED = 0, -1
"""Values of a window that takes no deliveries: the destination failed, or rests between two (rate delay)."""

_FEEDBACK = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\.)(?:\s*/\s*(\S{1,30}))?\Z")


@dataclass(frozen=True, slots=True)
class Feedback:
    """The amount of feedback of one delivery: `base`, or `base` divided by the window."""

    base: float
    per_window: bool = False

    def at(self, window: int) -> float:
        """The amount when the window is `window`."""
        return self.base / window if self.per_window else self.base


def parse_feedback(text: str) -> Feedback | None:
    """A feedback parameter: "number", "number / number", "number / concurrency"; None unless it is within 0..1."""
    match = _FEEDBACK.match(text)
    if match is None:
        return None
    base = float(match[1])
    per_window = False
    if match[2] is not None:
        if match[2] == "concurrency":
            per_window = True
        else:
            try:
                divisor = float(match[2])
            except ValueError:
                return None
            if not 1 / 0x7FFFFFFF <= divisor <= 0x7FFFFFFF:
                return None
            base /= divisor
    return Feedback(base, per_window) if 0 <= base <= 1 else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the window of a destination obeys: `limit` (0: none) and `initial` concurrency, feedback, dead after
    `cohort_limit` failed windows (0: never)."""

    limit: int
    initial: int
    positive: Feedback
    negative: Feedback
    cohort_limit: int


class Concurrency:
    """The window of destination `name`. `trace` gets the texts of destination_concurrency_feedback_debug."""

    __slots__ = ("cohorts", "failure", "limits", "name", "success", "trace", "window")

    def __init__(self, limits: Limits, name: str = "", trace: Callable[[str], None] | None = None) -> None:
        self.limits = limits
        self.name = name
        self.trace = trace
        self.window = limits.initial
        self.success = self.failure = self.cohorts = 0.0

    @property
    def ready(self) -> bool:
        """Whether the destination takes deliveries at all."""
        return self.window > 0

    def worked(self, busy: int) -> None:
        """A delivery reached the destination; `busy` deliveries are under way, this one included.

        A dead destination comes back to life with the initial window, or with what is already in use.
        """
        self.cohorts = 0.0
        if self.window == DEAD:
            self.window = busy or self.limits.initial
            self.success = self.failure = 0.0
        else:
            limit = self.limits.limit
            if (not limit or limit > self.window) and self.window < busy + self.limits.initial:
                amount = self.limits.positive.at(self.window)
                self._trace_amount("qmgr_queue_unthrottle", amount)
                self.success += amount
                while self.success + amount / 2 >= 1:  # half an amount of tolerance: 1/3 + 1/3 + 1/3 is less than 1
                    self.window += 1
                    self.success -= 1
                    self.failure = 0.0
                if limit:
                    self.window = min(self.window, limit)
        self._trace_state("qmgr_queue_unthrottle")

    def failed(self) -> None:
        """The destination could not be reached. Afterwards the window may be `DEAD`."""
        self.cohorts += 1 / self.window
        if self.limits.cohort_limit and self.cohorts >= self.limits.cohort_limit:
            self.window = DEAD
        else:
            amount = self.limits.negative.at(self.window)
            self._trace_amount("qmgr_queue_throttle", amount)
            self.failure -= amount
            while self.failure - amount / 2 < 0:
                self.window -= 1
                self.success = 0.0
                self.failure += 1
            self.window = max(self.window, 1)
        self._trace_state("qmgr_queue_throttle")

    def _trace_amount(self, event: str, amount: float) -> None:
        if self.trace is not None:
            self.trace(f"{event}: feedback {amount:g}")

    def _trace_state(self, event: str) -> None:
        if self.trace is not None:
            self.trace(
                f"{event}: queue {self.name}: limit {self.limits.limit} window {self.window} success {self.success:g}"
                f" failure {self.failure:g} fail_cohorts {self.cohorts:g}"
            )
