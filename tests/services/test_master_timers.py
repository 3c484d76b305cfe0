"""Timers with a clock that the test moves."""

from postfixpy.services.master_timers import Timers


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_in_the_order_of_time():
    clock, called = Clock(), []
    timers = Timers(clock)
    timers.add(3, lambda: called.append("third"))
    timers.add(1, lambda: called.append("first"))
    timers.add(1, lambda: called.append("second"))
    assert timers.until(50) == 1
    timers.run()
    assert called == []
    clock.now += 1
    assert timers.until(50) == 0
    timers.run()
    assert called == ["first", "second"]
    clock.now += 5
    timers.run()
    assert called == ["first", "second", "third"]
    assert timers.until(50) == 50


def test_a_timer_that_adds_itself_again_runs_once_a_turn():
    clock, called = Clock(), []
    timers = Timers(clock)

    def again() -> None:
        called.append(clock.now)
        timers.add(0, again)

    timers.add(0, again)
    timers.run()
    timers.run()
    assert called == [100.0, 100.0]


def test_the_longest_wait():
    timers = Timers(Clock())
    timers.add(900, lambda: None)
    assert timers.until(500) == 500
