"""The concurrency window: the feedback functions and the rules of SCHEDULER_README."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.services.queue_manager.feedback import DEAD, Concurrency, Feedback, Limits, parse_feedback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Feedback(1.0)),
        ("0.25", Feedback(0.25)),
        ("1/8", Feedback(0.125)),
        ("1 / 8", Feedback(0.125)),
        ("1/concurrency", Feedback(1.0, True)),
        ("0.5 / concurrency", Feedback(0.5, True)),
        ("0", Feedback(0.0)),
        (".5", Feedback(0.5)),
        ("1/sqrt_concurrency", None),  # only in special builds of Postfix
        ("2", None),
        ("-1", None),
        ("1/0", None),
        ("3/2", None),
        ("1/8/9", None),
        ("", None),
        ("much", None),
    ],
)
def test_parameter(text: str, expected: Feedback | None) -> None:
    assert parse_feedback(text) == expected


@given(st.text(max_size=40))
def test_any_text_gives_a_feedback_within_bounds_or_none(text: str) -> None:
    feedback = parse_feedback(text)
    assert feedback is None or 0 <= feedback.at(1) <= 1


def limits(limit: int = 20, initial: int = 5, positive: str = "1", negative: str = "1", cohorts: int = 1) -> Limits:
    up, down = parse_feedback(positive), parse_feedback(negative)
    assert up is not None and down is not None
    return Limits(limit, initial, up, down, cohorts)


def grown(concurrency: Concurrency, successes: int) -> list[int]:
    """The window after each of a number of successes at full use."""
    out = []
    for _ in range(successes):
        concurrency.worked(concurrency.window)
        out.append(concurrency.window)
    return out


def test_feedback_of_one_widens_by_one_each_time() -> None:
    assert grown(Concurrency(limits(limit=8)), 5) == [6, 7, 8, 8, 8]


def test_feedback_per_window_widens_after_a_cohort() -> None:
    # linear growth: one more after as many successes as the window is wide
    assert grown(Concurrency(limits(initial=3, positive="1/concurrency")), 8) == [3, 3, 4, 4, 4, 4, 5, 5]


def test_fractions_add_up() -> None:
    assert grown(Concurrency(limits(positive="1/3")), 6) == [5, 5, 6, 6, 6, 7]
    assert grown(Concurrency(limits(positive="0")), 3) == [5, 5, 5]


def test_window_does_not_run_away_from_its_use() -> None:
    concurrency = Concurrency(limits())
    for _ in range(20):
        concurrency.worked(1)
    assert concurrency.window == 6, "what is busy, and the initial concurrency"


def test_negative_feedback_acts_at_the_beginning_of_its_cycle() -> None:
    concurrency = Concurrency(limits(initial=10, limit=10, negative="1/4", cohorts=0))
    windows = []
    for _ in range(9):
        concurrency.failed()
        windows.append(concurrency.window)
    assert windows == [9, 9, 9, 8, 8, 8, 8, 7, 7]


def test_success_interrupts_no_negative_cycle_unless_the_window_grows() -> None:
    concurrency = Concurrency(limits(initial=10, limit=20, positive="1/2", negative="1/4", cohorts=0))
    concurrency.failed()
    assert concurrency.window == 9
    concurrency.worked(9)
    concurrency.failed()
    assert concurrency.window == 9, "the cycle goes on"
    concurrency.worked(9)
    assert concurrency.window == 10
    concurrency.failed()
    assert concurrency.window == 9, "a new cycle begins with a step down"


def test_dead_after_the_limit_of_failed_cohorts() -> None:
    concurrency = Concurrency(limits(initial=4, negative="0", cohorts=2))
    failures = 0
    while concurrency.ready:
        concurrency.failed()
        failures += 1
    assert failures == 8, "two cohorts of four"
    # Any success starts the count again.
    concurrency = Concurrency(limits(initial=5, positive="0", negative="0", cohorts=1))
    for _ in range(100):
        concurrency.failed()
        concurrency.worked(5)
    assert concurrency.ready


def test_limit_of_zero_cohorts_never_kills() -> None:
    concurrency = Concurrency(limits(cohorts=0))
    for _ in range(100):
        concurrency.failed()
    assert concurrency.window == 1


def test_back_from_the_dead() -> None:
    concurrency = Concurrency(limits())
    while concurrency.ready:
        concurrency.failed()
    concurrency.worked(0)
    assert concurrency.window == 5
    concurrency.window = DEAD
    concurrency.worked(3)
    assert concurrency.window == 3


def test_debug_texts() -> None:
    texts: list[str] = []
    concurrency = Concurrency(limits(), "there", texts.append)
    concurrency.worked(5)
    concurrency.failed()
    assert texts == [
        "qmgr_queue_unthrottle: feedback 1",
        "qmgr_queue_unthrottle: queue there: limit 20 window 6 success 0 failure 0 fail_cohorts 0",
        "qmgr_queue_throttle: feedback 1",
        "qmgr_queue_throttle: queue there: limit 20 window 4 success 0 failure 1 fail_cohorts 0.166667",
    ]
