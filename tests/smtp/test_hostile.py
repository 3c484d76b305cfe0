"""Servers that mean harm: bounded memory and time, and the right result."""

import asyncio
import socket
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from postfixpy.smtp import effects
from postfixpy.smtp.effects import StreamError
from postfixpy.smtp.library import Client
from postfixpy.smtp.memory import Clock

from .conftest import World
from .scripted import ScriptedServer, good


class Hostile:
    """A server that sends `chunk` again and again, a chunk a read, each after `delay` seconds; deaf to all input."""

    def __init__(self, clock: Clock, chunk: bytes, delay: float = 0.0, first: bytes = b"", most: int = 100_000) -> None:
        self.clock, self.chunk, self.delay, self.first, self.most = clock, chunk, delay, first, most
        self.reads = 0

    def write(self, data: bytes, limit: float) -> None:
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


def test_a_lie_in_advance_is_not_a_delivery(make_world) -> None:  # type: ignore[no-untyped-def]
    """Replies before commands, with one too few: the final dot has none of its own, and nothing is delivered."""
    world = make_world()
    server = Hostile(world.clock, b"", first=GREETING + b"250 server\r\n" * 3 + b"354 go\r\n", most=1)
    attack(world, server)
    assert [outcome.result for outcome in world.outcomes] == ["deferred"]


def test_one_byte_a_second(make_world) -> None:  # type: ignore[no-untyped-def]
    """Without a deadline a slow server is only slow: each byte is in time."""
    script = ["> 220 a", "< EHLO", "> 250 a", "< MAIL"]
    for byte in "250 ok":
        script += [f">> {byte}" if byte != " " else ">>  ", "sleep 1"]
    script += [">> \\r\\n", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data", "> 250 ok"]
    world = make_world(servers={"127.0.0.11:25": [script]})
    started = world.clock()
    world.deliver()
    assert world.outcomes[0].result == "sent"
    assert 6 <= world.clock() - started <= 7


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


CONVERSATION = [
    "> 220 server.example ESMTP", "< EHLO", "> 250-server.example", "> 250 {words}", "< MAIL", "> 250 ok", "< RCPT",
    "> 250 2.1.5 ok", "< DATA", "> 354 go on", "<data", "> 250 2.0.0 queued",
]  # fmt: skip


@pytest.mark.parametrize("program", ["smtp", "lmtp"])
@pytest.mark.parametrize("words", ["PIPELINING", "SIZE"])
def test_closed_at_any_byte_of_a_conversation(make_world, log_lines, program: str, words: str) -> None:  # type: ignore[no-untyped-def]
    """Only the complete last reply makes a delivery."""
    steps = [step.format(words=words) for step in CONVERSATION]
    if program == "lmtp":
        steps[1] = "< LHLO"
    replies = [position for position, step in enumerate(steps) if step.startswith(">")]
    for position in replies:
        line = steps[position][2:] + "\\r\\n"
        for size in range(len(line) - 2):
            script = [*steps[:position], f">> {line[:size]}", "close"]
            port = 24 if program == "lmtp" else 25
            world = make_world(servers={f"127.0.0.11:{port}": [script]}, program=program)
            world.deliver()
            (outcome,) = world.outcomes
            assert outcome.dsn.status == "4.4.2", script
    world = make_world(servers={f"127.0.0.11:{port}": [[*steps, "close"]]}, program=program)
    world.deliver()
    assert world.outcomes[0].result == "sent"


def flood(listener: socket.socket) -> None:
    """A server that sends lines of a reply without end, as fast as it can."""
    connection, _ = listener.accept()
    with connection:
        try:
            while True:
                connection.sendall(b"220-more and more text\r\n" * 1000)
        except OSError:
            pass


def test_a_flood_over_sockets_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """One process serves all: while a server floods it, mail for another is delivered."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    threading.Thread(target=flood, args=(listener,), daemon=True).start()

    async def run(other: int) -> str:
        async with Client(str(tmp_path)) as client:
            message = b"Subject: x\n\nbody\n"
            flooded = asyncio.create_task(client.deliver(message, "", ["a@b.example"], nexthop=f"[127.0.0.1]:{port}"))
            await asyncio.sleep(0.05)
            async with asyncio.timeout(20):
                (outcome,) = await client.deliver(message, "", ["a@b.example"], nexthop=f"[127.0.0.1]:{other}")
            assert not flooded.done()
            flooded.cancel()
            await asyncio.gather(flooded, return_exceptions=True)
            return outcome.result

    with ScriptedServer(good()) as server:
        assert asyncio.run(run(server.port)) == "sent"
    listener.close()
