"""The scache service, asked by our own client over a socket: connections come and go as descriptors."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import announcement
from postfixpy.ipc.scache import PROTOCOL, ScacheClient, owned_socket
from postfixpy.ipc.service import Context
from postfixpy.services.scache import Scache
from tests.ipc.mail_system import MailSystem


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def running(
    directory: Path,
    main: Callable[[ScacheClient, Scache, Time], Coroutine[Any, Any, None]],
    text: str = "connection_cache_ttl_limit = 60s\n",
) -> list[str]:
    """Run `main` with a client of a service; what was logged."""

    async def serve() -> None:
        clock = Time()
        service = Scache(Context(None, system.view(), "scache", "scache"), clock)  # type: ignore[arg-type]  # unused
        await service.start()

        class Server(Channel):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self.write(announcement(PROTOCOL, self.release))
                self.task = asyncio.get_running_loop().create_task(self.work())

            async def work(self) -> None:
                await service.serve(self)
                self.close()
                await self.wait_closed()

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Server("scache socket", timeout=1), "private/scache")
        client = ScacheClient(timeout=1)
        await main(client, service, clock)
        client.close()
        server.close()
        await service.stop()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    with MailSystem(directory, text) as system:
        Path("private").mkdir(exist_ok=True)
        asyncio.run(serve())
        return system.log


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    return ours, theirs


def test_saved_and_found(tmp_path: Path) -> None:
    async def main(client: ScacheClient, service: Scache, clock: Time) -> None:
        ours, theirs = pair()
        assert await client.save_destination(5, "dest", "about the destination", "endp")
        assert await client.save_endpoint(5, "endp", "about the session", ours.fileno())
        ours.close()
        assert await client.find_endpoint("other") is None
        found = await client.find_destination("dest")
        assert found is not None and found[1:] == ("about the session", "about the destination")
        with owned_socket(found[0]) as sock:
            sock.send(b"still there")
        assert theirs.recv(100) == b"still there" and theirs.recv(100) == b""  # the service has kept no copy
        assert await client.find_destination("dest") is None
        theirs.close()

    log = running(tmp_path, main)
    assert log[0].startswith("statistics: start interval ")
    assert log[1:] == [
        "statistics: domain lookup hits=1 miss=1 success=50%",
        "statistics: address lookup hits=0 miss=1 success=0%",
        "statistics: max simultaneous domains=1 addresses=1 connection=1",
    ]


def test_the_oldest_first_and_many_under_one_label(tmp_path: Path) -> None:
    async def main(client: ScacheClient, service: Scache, clock: Time) -> None:
        theirs = []
        for number in range(3):
            ours, other = pair()
            assert await client.save_endpoint(5, "endp", f"{number}", ours.fileno())
            ours.close()
            theirs.append(other)
        for number in range(3):
            found = await client.find_endpoint("endp")
            assert found is not None and found[1] == f"{number}"
            os.close(found[0])
            assert theirs[number].recv(1) == b""
            theirs[number].close()

    running(tmp_path, main)


def test_a_time_limit(tmp_path: Path) -> None:
    async def main(client: ScacheClient, service: Scache, clock: Time) -> None:
        ours, theirs = pair()
        assert await client.save_endpoint(5000, "endp", "", ours.fileno())
        ours.close()
        clock.now += 60  # connection_cache_ttl_limit
        assert await client.find_endpoint("endp") is None
        assert theirs.recv(1) == b""
        theirs.close()

    running(tmp_path, main)


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    async def main(client: ScacheClient, service: Scache, clock: Time) -> None:
        assert not await client.save_destination(0, "dest", "", "endp")
        channel = await client._access()
        assert channel is not None
        channel.send(("request", "nonsense"))
        assert await channel.read_list() == [("status", "1")]
        channel.send(("request", "find_dest"), ("labell", "x"))
        assert await channel.read_list() == [("status", "1"), ("property", ""), ("property", "")]

    log = running(tmp_path, main)
    assert log == [
        "warning: scache_save_dest_service: bad or missing request parameter",
        'warning: unrecognized request: "nonsense", ignored',
        "warning: unexpected attribute labell from scache socket (expecting: label)",
        "warning: scache_find_dest_service: bad or missing request parameter",
    ]


def test_a_client_that_sends_no_descriptor(tmp_path: Path) -> None:
    async def main(client: ScacheClient, service: Scache, clock: Time) -> None:
        channel = await client._access()
        assert channel is not None
        channel.send(("request", "save_endp"), ("ttl", 5), ("label", "endp"), ("property", ""))
        assert await channel.read_list() == [("dummy", "")]
        channel.write(b"x")
        assert await channel.read_list() == [("status", "2")]
        assert len(service.pool) == 0

    log = running(tmp_path, main)
    assert log == [
        "warning: scache_save_endp_service: unable to receive file descriptor: no file descriptor from scache socket"
    ]


def test_arguments() -> None:
    with pytest.raises(FatalError, match="unexpected command-line argument: x"):
        Scache(Context(None, None, "scache", "scache", words=["x"]))  # type: ignore[arg-type]  # unused
