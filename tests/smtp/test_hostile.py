"""Servers that mean harm: bounded memory and time, and the right result."""

import tracemalloc
from typing import Any

import pytest

from postfixpy.smtp import effects
from postfixpy.smtp.effects import StreamError
from postfixpy.smtp.memory import Clock

from .conftest import World


class Hostile:
    """A server that sends `chunk` again and again, a chunk a read, each after `delay` seconds; deaf to all input."""

    def __init__(self, clock: Clock, chunk: bytes, delay: float = 0.0, first: bytes = b"", most: int = 100_000) -> None:
        self.clock, self.chunk, self.delay, self.first, self.most = clock, chunk, delay, first, most
        self.reads = 0

    def write(self, data: bytes) -> None:
        pass

    def read(self, limit: float) -> bytes:
        if self.delay > limit:
            self.clock.now += limit
            raise StreamError("time")
        self.clock.now += self.delay
        self.reads += 1
        if self.reads > self.most:
            return b""
        if self.first:
            data, self.first = self.first, b""
            return data
        return self.chunk

    def hang_up(self) -> None:
        pass

    def pending(self) -> bool:
        return True


def attack(world: World, server: Hostile) -> None:
    def connect(request: effects.Connect) -> Any:
        return server

    world.network.connect = connect  # type: ignore[method-assign]  # that is the attack
    tracemalloc.start()
    world.deliver()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


GREETING = b"220 server\r\n"


@pytest.mark.parametrize(
    ("chunk", "first"),
    [
        (b"x" * 4096, b""),
        (b"220-more and more text\r\n", b""),
        (b"250-KEYWORD\r\n", GREETING),
        (b"garbage\r\n", GREETING),
        (b"\r\n", b""),
        (b"\0" * 100 + b"\n", b""),
        (b"250-" + b"A" * 2000 + b"\r\n", GREETING),
    ],
)
def test_endless(make_world, log_lines, chunk: bytes, first: bytes) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    server = Hostile(world.clock, chunk, first=first, most=20_000)
    attack(world, server)
    (outcome,) = world.outcomes
    assert outcome.result == "deferred" and outcome.dsn.status == "4.4.2"


def test_replies_before_commands(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    """Everything is answered in advance: the message is taken by the letter of the protocol, or not at all."""
    world = make_world()
    replies = GREETING + b"250 server\r\n" * 3 + b"354 go\r\n250 queued\r\n"
    attack(world, Hostile(world.clock, b"250 x\r\n", first=replies))
    assert len(world.outcomes) == 1


def test_one_byte_a_second_with_a_deadline(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world("smtp_per_request_deadline = yes\n")
    server = Hostile(world.clock, b"2", delay=1.0)
    started = world.clock()
    attack(world, server)
    assert world.clock() - started <= 301
    assert "timed out while receiving the initial server greeting" in world.outcomes[0].dsn.reason


def test_thousands_of_keywords(make_world) -> None:  # type: ignore[no-untyped-def]
    words = [f"> 250-KEYWORD{n}" for n in range(5000)]
    script = ["> 220 a", "< EHLO", "> 250-a", *words, "> 250 PIPELINING", "< MAIL", "> 550 no", "< RSET", "> 250 ok"]
    world = make_world(servers={"127.0.0.11:25": [script]})
    world.deliver()
    assert world.outcomes[0].dsn.status == "5.0.0"


def test_reply_closed_at_any_byte(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    reply = b"220 server.example ESMTP\r\n"
    for size in range(len(reply) - 1):
        world = make_world()
        attack(world, Hostile(world.clock, b"", first=reply[:size] or b"2", most=1))
        assert world.outcomes[0].dsn.status == "4.4.2"
