import asyncio
import fcntl
import os
import socket

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.accept import AcceptLock, Listeners, accept


def test_a_lock_that_is_free_is_ours_at_once(tmp_path):
    async def main():
        lock = AcceptLock(f"{tmp_path}/lock")
        assert lock.acquire(lambda: None)
        assert lock.held
        other = AcceptLock(f"{tmp_path}/lock")
        got = asyncio.Event()
        assert not other.acquire(got.set)
        assert not other.acquire(got.set)
        lock.release()
        async with asyncio.timeout(5):
            await got.wait()
        assert other.held

    asyncio.run(main())
    assert os.stat(tmp_path / "lock").st_mode & 0o777 == 0o600


def test_a_lock_file_that_cannot_be(tmp_path):
    with pytest.raises(FatalError, match="open lock file /no/such: cannot create file exclusively: No such file"):
        AcceptLock("/no/such")
    os.symlink("/etc/passwd", tmp_path / "link")
    with pytest.raises(FatalError):
        AcceptLock(f"{tmp_path}/link")


def test_listeners_watch_only_while_they_hold_the_lock(tmp_path):
    async def main():
        sibling = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(sibling, fcntl.LOCK_EX)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{tmp_path}/s")
        listener.listen()
        clients: list[socket.socket] = []
        came = asyncio.Event()

        def ready(fd: int) -> None:
            client = accept(fd)
            if client is not None:
                clients.append(client)
                came.set()

        listeners = Listeners([listener.detach()], ready, AcceptLock(f"{tmp_path}/lock"))
        listeners.open()
        first = socket.socket(socket.AF_UNIX)
        first.connect(f"{tmp_path}/s")
        await asyncio.sleep(0.05)
        assert not clients
        fcntl.flock(sibling, fcntl.LOCK_UN)
        async with asyncio.timeout(5):
            await came.wait()
        assert len(clients) == 1
        listeners.yield_turn()
        await asyncio.sleep(0.01)
        listeners.shut()
        fcntl.flock(sibling, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it has let go
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(f"{tmp_path}/s")
        for sock in (first, *clients):
            sock.close()
        os.close(sibling)

    asyncio.run(main())


def test_accept_when_a_sibling_was_faster(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/s")
    listener.listen()
    listener.setblocking(False)
    assert accept(listener.fileno()) is None
    listener.close()
