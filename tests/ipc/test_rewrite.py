"""The client of trivial-rewrite(8): questions, the kept connection, patience."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import Pair, encode, parse
from postfixpy.ipc.rewrite import ANNOUNCEMENT, RESOLVE_CLASS_LOCAL, Resolved, RewriteClient


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


class World:
    """A service that gives the scripted answers (None hangs up), a clock that moves only when something sleeps."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers, self.requests, self.connections, self.now = answers, list[dict[str, str]](), 0, 0.0
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(ANNOUNCEMENT)
        buffer = b""
        while data := await reader.read(4096):
            buffer += data
            while (parsed := parse(buffer)) is not None:
                buffer = buffer[parsed[1] :]
                self.requests.append(dict[str, str](parsed[0]))
                answer = self.answers.pop(0)
                if answer is None:
                    writer.close()
                    return
                writer.write(answer)
        writer.close()

    def run(self, talk: Callable[[RewriteClient], Awaitable[object]], *, listen: bool = True) -> object:
        async def go() -> object:
            client = RewriteClient("rewrite", clock=lambda: self.now, sleep=self.sleep)
            if not listen:
                return await talk(client)
            async with await asyncio.start_unix_server(self.serve, "rewrite"):
                try:
                    return await talk(client)
                finally:
                    client.close()
                    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - until the service sees the end
                        await asyncio.sleep(0)

        return asyncio.run(go())


def rewritten(address: str, flags: int = 0) -> bytes:
    return encode([("flags", flags), ("address", address)])


def resolved(*values: str | int) -> bytes:
    names = ("flags", "transport", "nexthop", "recipient", "flags")
    pairs: list[Pair] = [(name, str(value)) for name, value in zip(names, values, strict=True)]
    return encode(pairs)


def test_rewrite_and_resolve_share_a_connection(logged: list[str]) -> None:
    world = World([rewritten("al@example.com"), resolved(0, "local", "example.com", "al@example.com", 256)])

    async def talk(client: RewriteClient) -> object:
        return await client.rewrite("local", "al"), await client.resolve("", "al@example.com")

    assert world.run(talk) == (
        "al@example.com",
        Resolved("local", "example.com", "al@example.com", RESOLVE_CLASS_LOCAL),
    )
    assert world.requests == [
        {"request": "rewrite", "rule": "local", "address": "al"},
        {"request": "resolve", "sender": "", "address": "al@example.com"},
    ]
    assert world.connections == 1


def test_answers_are_remembered_for_thirty_seconds(logged: list[str]) -> None:
    world = World([rewritten("one"), rewritten("two")])

    async def talk(client: RewriteClient) -> object:
        first = [await client.rewrite("local", "al") for _ in range(3)]
        await world.sleep(30)
        return [*first, await client.rewrite("local", "al")]

    assert world.run(talk) == ["one", "one", "one", "two"]


def test_probe_route_is_another_question(logged: list[str]) -> None:
    world = World([resolved(0, "a", "h", "r@h", 0), resolved(0, "b", "h", "r@h", 0)])

    async def talk(client: RewriteClient) -> object:
        one, two = await client.resolve("s@x", "r@h"), await client.resolve("s@x", "r@h", verify=True)
        return one.transport, two.transport

    assert world.run(talk) == ("a", "b")
    assert [r["request"] for r in world.requests] == ["resolve", "verify"]


def test_service_may_ask_to_disconnect(logged: list[str]) -> None:
    world = World([rewritten("one", flags=1), rewritten("two")])

    async def talk(client: RewriteClient) -> object:
        return await client.rewrite("local", "a"), await client.rewrite("local", "b")

    assert world.run(talk) == ("one", "two")
    assert world.connections == 2


def test_idle_hang_up_is_nothing(logged: list[str]) -> None:
    world = World([rewritten("one"), None, rewritten("two")])

    async def talk(client: RewriteClient) -> object:
        return await client.rewrite("local", "a"), await client.rewrite("local", "b")

    assert world.run(talk) == ("one", "two")
    assert (logged, world.sleeps) == ([], [])


def test_failures_are_repeated_and_logged_from_the_second(logged: list[str]) -> None:
    world = World([None, b"nonsense\0x\0\0", rewritten("one")])
    assert world.run(lambda client: client.rewrite("local", "a")) == "one"
    assert world.sleeps == [1, 1]
    assert logged == [
        "warning: problem talking to service rewrite: unexpected attribute nonsense from rewrite (expecting: flags)"
    ]


def test_useless_answers_are_repeated(logged: list[str]) -> None:
    world = World([resolved(0, "", "h", "r", 0), resolved(0, "smtp", "h", "", 0), resolved(0, "smtp", "h", "r@h", 0)])
    assert world.run(lambda client: client.resolve("", "r@h")) == Resolved("smtp", "h", "r@h", 0)
    assert logged == [
        "warning: resolve_clnt: null transport result for: <r@h>",
        "warning: resolve_clnt: null recipient result for: <r@h>",
    ]


def test_nobody_listens(logged: list[str]) -> None:
    world = World([])
    with pytest.raises(FatalError, match="connect #11 to subsystem rewrite: No such file or directory"):
        world.run(lambda client: client.rewrite("local", "a"), listen=False)
    assert len(logged) == 10
    assert world.sleeps == [10] * 10
