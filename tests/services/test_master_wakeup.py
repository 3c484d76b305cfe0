"""The wakeup call, to each kind of end point."""

import errno
import os
import socket

import pytest

from postfixpy.config import MasterEntry, load
from postfixpy.services.master_wakeup import wake


def row(tmp_path, kind: str, name: str = "x") -> MasterEntry:
    (tmp_path / "main.cf").write_text("")
    (tmp_path / "master.cf").write_text(f"{name} {kind} n - n 60 1 x\n")
    (entry,) = load(str(tmp_path)).master
    return entry


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/s")
        sock.listen()
        sock.settimeout(10)
        yield sock


def test_unix(tmp_path, listener):
    wake(row(tmp_path, "unix"), f"{tmp_path}/s")
    client, _ = listener.accept()
    with client:
        assert client.recv(10) == b"W" and client.recv(10) == b""


def test_pass(tmp_path, listener):
    wake(row(tmp_path, "pass"), f"{tmp_path}/s")
    client, _ = listener.accept()
    with client:
        _, (fd,), _, _ = socket.recv_fds(client, 1, 1)
    with socket.socket(fileno=fd) as passed:
        assert passed.recv(10) == b"W" and passed.recv(10) == b""


def test_fifo(tmp_path):
    path = f"{tmp_path}/f"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    wake(row(tmp_path, "fifo"), path)
    assert os.read(fd, 10) == b"W"
    os.close(fd)
    with pytest.raises(OSError):
        wake(row(tmp_path, "fifo"), path)


def test_inet(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wake(row(tmp_path, "inet", f"127.0.0.1:{port}"), str(port))
        client, _ = server.accept()
        with client:
            assert client.recv(10) == b"W"


def test_what_cannot_be_woken(tmp_path):
    with pytest.raises(OSError) as caught:
        wake(row(tmp_path, "unix-dgram"), f"{tmp_path}/s")
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(FileNotFoundError):
        wake(row(tmp_path, "unix"), f"{tmp_path}/nobody")
