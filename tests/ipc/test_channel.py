"""Connecting to a service's socket, and waiting for input: time limits, hang-ups, and cancellation."""

import asyncio
import socket
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.ipc.attributes import ProtocolError, encode
from postfixpy.ipc.bounce import Status
from postfixpy.ipc.channel import Channel, command, connect


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


def test_a_cancellation_is_not_lost_when_input_comes_at_the_same_time():
    async def main():
        channel = Channel("peer", timeout=100)
        task = asyncio.create_task(channel.read_list())
        await asyncio.sleep(0)
        channel.data_received(encode([("status", 0)]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancellation_is_not_lost_when_the_peer_hangs_up_at_the_same_time():
    async def main():
        channel = Channel("peer", timeout=100)
        task = asyncio.create_task(channel.read_list())
        await asyncio.sleep(0)
        channel.eof_received()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_input_in_pieces():
    async def main():
        channel = Channel("peer", timeout=100)
        task = asyncio.create_task(channel.read_list())
        for byte in encode([("status", 0), ("reason", "x")]):
            await asyncio.sleep(0)
            channel.data_received(bytes([byte]))
        assert await task == [("status", "0"), ("reason", "x")]

    asyncio.run(main())


@pytest.mark.parametrize("limit", [0, 0.01])
def test_the_time_limit(limit):
    async def main():
        with pytest.raises(ProtocolError, match="timeout on peer while reading input attribute name"):
            await Channel("peer", timeout=limit).read_list()

    asyncio.run(main())


def test_everybody_who_waits_for_room_gets_it():
    async def main():
        channel = Channel("peer", timeout=0.01)
        channel.pause_writing()
        with pytest.raises(TimeoutError):
            await channel.drain()
        waiting = [asyncio.create_task(channel.drain()) for _ in range(2)]
        await asyncio.sleep(0)
        channel.resume_writing()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["write error on peer: Broken pipe"] * 2  # it has no transport

    asyncio.run(main())


def test_last_words_of_a_peer_that_did_not_wait_for_ours():
    """A wakeup of master: a byte, and gone, before the service has announced its protocol."""

    async def main():
        near, far = socket.socketpair()
        far.send(b"W")
        far.close()
        _, channel = await asyncio.get_running_loop().connect_accepted_socket(lambda: Channel("peer"), near)
        channel.write(b"announcement")
        assert await channel.read_bytes() == b"W"
        assert await channel.read_bytes() == b""

    asyncio.run(main())


@pytest.mark.parametrize(
    ("says", "timeout", "warning"),
    [(b"", 0.0, "write s socket"), (b"protocol\0echo_protocol\0\0", 60.0, "write/read s socket")],
)
def test_a_service_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, timeout: float, warning: str
) -> None:
    monkeypatch.chdir(tmp_path)
    logged: list[str] = []

    def send(self: Channel, *messages: Status) -> None:
        self.timeout = 0.0  # the request goes out, and the answer is late

    monkeypatch.setattr(Channel, "send_message", send)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await reader.read()
        writer.close()

    async def run() -> Status | None:
        async with await asyncio.start_unix_server(serve, "s"):
            found = await command("s", "echo_protocol", Status(0), Status, timeout=timeout)
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            return found

    previous = log.set_sink(lambda severity, text: logged.append(f"{severity}: {text}"))
    try:
        assert asyncio.run(run()) is None
    finally:
        log.set_sink(previous)
    assert logged == [f"warning: {warning}: Connection timed out"]
