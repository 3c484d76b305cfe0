"""Buffering, time limits and deadlines of a conversation."""

from typing import Any

import pytest

from postfixpy.smtp.effects import Hangup, Read, Run, StreamError, Write
from postfixpy.smtp.stream import Stream


class Driver:
    """Plays the network: each read takes `delay` seconds and gives the next piece."""

    def __init__(self, pieces: list[bytes], delay: float = 0.0) -> None:
        self.now = 0.0
        self.pieces, self.delay = pieces, delay
        self.written: list[bytes] = []
        self.limits: list[float] = []
        self.closed = False
        self.fail_write = False
        self.stream = Stream("link", lambda: self.now)

    def run(self, generator: Run[Any]) -> Any:
        try:
            effect = next(generator)
            while True:
                try:
                    result = self.perform(effect)
                except StreamError as error:
                    effect = generator.throw(error)
                else:
                    effect = generator.send(result)
        except StopIteration as stop:
            return stop.value

    def perform(self, effect: Any) -> Any:
        if isinstance(effect, Hangup):
            self.closed = True
            return None
        self.limits.append(effect.limit)
        if isinstance(effect, Write):
            if self.fail_write:
                raise StreamError("eof")
            self.written.append(effect.data)
            return None
        assert isinstance(effect, Read)
        if self.delay > effect.limit:
            self.now += effect.limit
            raise StreamError("time")
        self.now += self.delay
        return self.pieces.pop(0) if self.pieces else b""


def test_output_goes_out_when_input_is_needed() -> None:
    driver = Driver([b"one\ntwo\n"])
    driver.stream.set_limit(5)
    driver.stream.put(b"A\r\n")
    driver.stream.put(b"B\r\n")
    assert driver.run(driver.stream.read_line(100)) == (b"one", False)
    assert driver.written == [b"A\r\nB\r\n"]
    driver.stream.put(b"C\r\n")
    assert driver.run(driver.stream.read_line(100)) == (b"two", False)  # was read already
    assert driver.written == [b"A\r\nB\r\n"]


def test_limit_is_for_each_wait() -> None:
    driver = Driver([b"a", b"b", b"c\n"], delay=4)
    driver.stream.set_limit(5)
    assert driver.run(driver.stream.read_line(100)) == (b"abc", False)
    assert driver.limits == [5, 5, 5]


def test_deadline_is_for_the_step() -> None:
    driver = Driver([b"a", b"b", b"c\n"], delay=2)
    driver.stream.set_limit(5, deadline=True)
    with pytest.raises(StreamError) as caught:
        driver.run(driver.stream.read_line(100))
    assert caught.value.kind == "time"
    assert driver.limits == [5, 3, 1] and driver.now == 5


def test_transferred_bytes_top_the_deadline_up() -> None:
    driver = Driver([b"x" * 100, b"y\n"], delay=3)
    driver.stream.set_limit(5, deadline=True, rate=50)
    driver.run(driver.stream.read_line(1000))
    assert driver.limits == [5, 4]  # 5 - 3 + 100 / 50


def test_lost_connection() -> None:
    driver = Driver([b"half"])
    driver.stream.set_limit(5)
    with pytest.raises(StreamError) as caught:
        driver.run(driver.stream.read_line(100))
    assert caught.value.kind == "eof" and not driver.stream.healthy


def test_nothing_is_sent_after_an_error() -> None:
    driver = Driver([])
    driver.fail_write = True
    driver.stream.set_limit(5)
    driver.stream.put(b"QUIT\r\n")
    with pytest.raises(StreamError):
        driver.run(driver.stream.flush())
    driver.stream.put(b"more\r\n")
    driver.run(driver.stream.close())
    assert driver.written == [] and driver.closed


def test_close_sends_what_waits() -> None:
    driver = Driver([])
    driver.stream.set_limit(5)
    driver.stream.put(b"QUIT\r\n")
    driver.run(driver.stream.close())
    assert driver.written == [b"QUIT\r\n"] and driver.closed


def test_long_lines_are_cut() -> None:
    driver = Driver([b"x" * 30 + b"\nnext\n"])
    driver.stream.set_limit(5)
    assert driver.run(driver.stream.read_line(10)) == (b"x" * 10, True)
    assert driver.run(driver.stream.skip_line(50)) is True
    assert driver.run(driver.stream.read_line(10)) == (b"next", False)
