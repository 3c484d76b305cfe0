import os
import socket
import threading

import pytest

from postfixpy.ipc import doorkeeper
from postfixpy.ipc.master_status import AVAIL, TAKEN, pack, unpack


@pytest.fixture
def ends(monkeypatch):
    """The serving process's end, master's end, and the doorkeeper's end of the first."""
    serving, inner = socket.socketpair()
    master, outer = socket.socketpair()
    monkeypatch.setattr(doorkeeper, "STATUS", outer.fileno())
    yield serving, master, inner
    for sock in (serving, master, inner, outer):
        sock.close()


def keep(inner, pid):
    result = []
    thread = threading.Thread(target=lambda: result.append(doorkeeper.keep_door(inner, pid)))
    thread.start()
    return thread, result


def test_messages_get_the_process_id_that_master_knows(ends):
    serving, master, inner = ends
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
    thread, result = keep(inner, pid)
    for state in (TAKEN, AVAIL):
        serving.send(pack(12345, 6, state))
        assert unpack(master.recv(12)) == (os.getpid(), 6, state)
    serving.close()
    thread.join(10)
    assert result == [3]  # and it ends as the serving process did


def test_leaves_at_once_when_master_goes(ends):
    _, master, inner = ends
    thread, result = keep(inner, 0)
    master.close()
    thread.join(10)
    assert result == [0]
