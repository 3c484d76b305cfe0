"""The stub resolver against a name server on loopback."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from postfixpy.dns import message
from postfixpy.dns.lookup import NoReply
from postfixpy.dns.record import TXT, A
from postfixpy.dns.stub import Stub
from postfixpy.dns.testing import ZoneServer, serve

ZONE = [
    "a.example A 192.0.2.1",
    "big.example TXT " + " ".join(f'"{"x" * 200}"' for _ in range(5)),
    "bad.example A SERVFAIL",
]


def with_server(tmp_path: Path, work: Callable[[Stub], Coroutine[Any, Any, None]], options: str = "") -> None:
    async def run() -> None:
        udp, tcp = await serve(ZoneServer(ZONE), "127.0.0.1", 0)
        port = udp.get_extra_info("sockname")[1]
        path = tmp_path / "resolv.conf"
        path.write_text(f"nameserver [127.0.0.1]:{port}\noptions attempts:1 timeout:1 {options}\n")
        try:
            await work(Stub(str(path)))
        finally:
            udp.close()
            tcp.close()
            await tcp.wait_closed()

    asyncio.run(run())


def test_answer(tmp_path: Path) -> None:
    async def work(stub: Stub) -> None:
        reply = await stub("a.example", A, False)
        assert [raw.text for raw in reply.answers] == ["192.0.2.1"]
        assert (await stub("none.example", A, False)).rcode == message.NXDOMAIN

    with_server(tmp_path, work)


def test_truncated_answers_are_asked_for_over_tcp(tmp_path: Path) -> None:
    async def work(stub: Stub) -> None:
        reply = await stub("big.example", TXT, False)
        assert len(reply.answers[0].text) == 1000

    with_server(tmp_path, work)


def test_tcp_only(tmp_path: Path) -> None:
    async def work(stub: Stub) -> None:
        assert (await stub("a.example", A, False)).answers

    with_server(tmp_path, work, "use-vc")


def test_servfail_is_no_reply(tmp_path: Path) -> None:
    async def work(stub: Stub) -> None:
        with pytest.raises(NoReply):
            await stub("bad.example", A, False)

    with_server(tmp_path, work)


def test_no_server(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver [127.0.0.1]:1\noptions attempts:1 timeout:1\n")
    with pytest.raises(NoReply):
        asyncio.run(Stub(str(path))("a.example", A, False))
