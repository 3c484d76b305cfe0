import asyncio
import os
import socket

import pytest

from postfixpy.ipc.trigger import WAKEUP, send_trigger, trigger_blocking


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(5)
    return listener


def received(listener):
    client, _ = listener.accept()
    with client:
        return client.recv(100)


def test_a_socket(tmp_path):
    path = f"{tmp_path}/qmgr"
    with listen(path) as listener:
        trigger_blocking(path, WAKEUP)
        assert received(listener) == b"W"
        asyncio.run(send_trigger(path, b"FA"))
        assert received(listener) == b"FA"
    with pytest.raises(ConnectionRefusedError):
        trigger_blocking(path, WAKEUP)
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(send_trigger(path, WAKEUP))


def test_a_fifo(tmp_path):
    path = f"{tmp_path}/qmgr"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        trigger_blocking(path, WAKEUP)  # nobody reads
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    trigger_blocking(path, b"W")
    asyncio.run(send_trigger(path, b"I"))
    assert os.read(fd, 10) == b"WI"
    os.close(fd)


def test_nobody(tmp_path):
    with pytest.raises(FileNotFoundError):
        trigger_blocking(f"{tmp_path}/none", WAKEUP)
