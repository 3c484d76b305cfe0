"""Connecting to a service's socket."""

import asyncio
import socket
from pathlib import Path

import pytest

from postfixpy.ipc.channel import connect


def full_socket(path: Path) -> tuple[socket.socket, list[socket.socket]]:
    """A listening socket that nobody accepts from, and clients that fill its queue."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    clients = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:
            client.close()
            return listener, clients
        clients.append(client)


def test_waits_while_the_queue_is_full(tmp_path: Path) -> None:
    listener, clients = full_socket(tmp_path / "s")

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(connect(str(tmp_path / "s"), timeout=5))
        await asyncio.sleep(0)
        assert not waiting.done()
        listener.accept()[0].close()
        channel = await waiting
        peer = listener.accept()[0]
        peer.setblocking(False)
        channel.write(b"hello")
        data = await loop.sock_recv(peer, 100)
        peer.close()
        channel.close()
        await channel.wait_closed()
        return data

    assert asyncio.run(main()) == b"hello"
    for open_socket in (listener, *clients):
        open_socket.close()


def test_gives_up_in_the_end(tmp_path: Path) -> None:
    listener, clients = full_socket(tmp_path / "s")
    with pytest.raises(TimeoutError, match="Connection timed out"):
        asyncio.run(connect(str(tmp_path / "s"), connect_timeout=0.02))
    for open_socket in (listener, *clients):
        open_socket.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(connect(str(tmp_path / "s")))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(connect(str(tmp_path / "s")))
