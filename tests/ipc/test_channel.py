"""Waiting for input: time limits, hang-ups, and cancellation."""

import asyncio

import pytest

from postfixpy.ipc.attributes import ProtocolError, encode
from postfixpy.ipc.channel import Channel


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
