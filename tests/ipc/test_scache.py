"""The client of the connection cache: what it does when the service is not well. (What it does when it is:
tests/services/test_scache.py, and inside the real mail system tests/endtoend/test_inside.py.)"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from postfixpy.ipc.attributes import Pair, encode
from postfixpy.ipc.scache import PROTOCOL, ScacheClient
from tests.ipc.mail_system import MailSystem

HELLO = encode([("protocol", PROTOCOL)])


async def no_wait(seconds: float) -> None:
    assert seconds == 1


def test_no_service_is_no_failure(tmp_path: Path) -> None:
    async def main() -> None:
        client = ScacheClient(sleep=no_wait)
        assert await client.find_endpoint("x") is None
        assert await client.find_destination("x") is None
        assert not await client.save_destination(1, "x", "", "y")
        assert client.usable

    with MailSystem(tmp_path) as system:
        asyncio.run(main())
    assert system.log == []


def test_a_broken_service_is_given_up(tmp_path: Path) -> None:
    def answer(pairs: list[Pair]) -> bytes:
        return encode([("status", 0), ("nonsense", "")])

    async def main() -> None:
        client = ScacheClient(sleep=no_wait)
        assert await client.find_endpoint("x") is None
        assert not client.usable
        assert await client.find_destination("x") is None
        client.close()

    with MailSystem(tmp_path) as system:
        system.service("private/scache", HELLO, answer)
        system.run(main())
    problem = "warning: problem talking to service private/scache: "
    problem += "unexpected attribute nonsense from private/scache (expecting: property)"
    assert system.log == [problem, problem, "warning: disabling connection caching"]
    assert len(system.requests("private/scache")) == 2


def test_a_service_that_hung_up_while_idle_is_asked_again(tmp_path: Path) -> None:
    served: list[int] = []

    def answer() -> Callable[[list[Pair]], bytes]:
        def one(pairs: list[Pair]) -> bytes:
            served.append(1)
            return b"" if len(served) == 2 else encode([("status", 2), ("property", "")])

        return one

    async def main() -> None:
        client = ScacheClient(sleep=no_wait)
        assert await client.find_endpoint("a") is None
        assert await client.find_endpoint("b") is None  # the service hangs up at this one, and answers it again
        client.close()

    with MailSystem(tmp_path) as system:
        system.service("private/scache", HELLO, answer())
        system.run(main())
    assert len(served) == 3 and system.log == []
