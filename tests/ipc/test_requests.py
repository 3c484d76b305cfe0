"""Requests are acted upon in batches, one after another, and errors go where they belong."""

import asyncio
import socket

from postfixpy.errors import FatalError
from postfixpy.ipc.requests import Requests


class Fake:
    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.go = asyncio.Event()

    async def triggered(self, requests: bytes) -> None:
        self.batches.append(requests)
        await self.go.wait()
        if requests == b"F":
            raise FatalError("told to")
        if requests == b"B":
            raise KeyError("told to")

    def datagram(self, data: bytes) -> None:
        self.batches.append(data)
        if data == b"F":
            raise FatalError("told to")


def run(test):
    async def main():
        fake, errors = Fake(), []
        await test(fake, Requests(fake, errors.append, errors.append), errors)

    asyncio.run(main())


def test_what_comes_meanwhile_is_one_batch():
    async def test(fake, requests, errors):
        requests.add(b"W\0")
        await asyncio.sleep(0)
        requests.add(b"A")
        requests.add(b"\0")
        requests.add(b"D")
        fake.go.set()
        await requests.finish()
        assert fake.batches == [b"W", b"AD"] and errors == []

    run(test)


def test_nothing_to_do():
    async def test(fake, requests, errors):
        requests.add(b"\0\0")
        await requests.finish()
        assert fake.batches == []

    run(test)


def test_errors():
    async def test(fake, requests, errors):
        fake.go.set()
        for request in (b"F", b"B", b"W"):
            requests.add(request)
            await requests.finish()
        assert fake.batches == [b"F", b"B", b"W"]
        assert [type(error) for error in errors] == [FatalError, KeyError]

    run(test)


def test_from_a_connection():
    async def test(fake, requests, errors):
        fake.go.set()
        near, far = socket.socketpair()
        far.setblocking(False)
        near.send(b"WA")
        await requests.read_client(far)
        await requests.finish()
        assert fake.batches == [b"WA"] and near.recv(1) == b""
        near.close()

    run(test)


def test_datagrams_until_there_are_no_more():
    async def test(fake, requests, errors):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        far.setblocking(False)
        near.send(b"one")
        near.send(b"F")
        near.send(b"left")
        requests.read_datagrams(far.fileno())
        assert fake.batches == [b"one", b"F"] and len(errors) == 1
        requests.read_datagrams(far.fileno())
        assert fake.batches[2:] == [b"left"]
        near.close()
        far.close()

    run(test)
