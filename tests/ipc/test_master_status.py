import os
import socket

import pytest

from postfixpy.ipc.master_status import (
    AVAIL,
    TAKEN,
    Status,
    flow_count,
    flow_get,
    flow_put,
    pack,
    unpack,
)


def test_a_message_is_the_native_structure_of_12_bytes():
    assert pack(1, 2, TAKEN) == b"\x01\0\0\0\x02\0\0\0\0\0\0\0"
    assert unpack(pack(77, 0xFFFFFFFF, AVAIL)) == (77, 0xFFFFFFFF, AVAIL)


@pytest.mark.parametrize("data", [b"", b"x" * 11, b"x" * 13])
def test_partial_messages_are_refused(data):
    with pytest.raises(ValueError, match="status message"):
        unpack(data)


def test_tells_until_master_has_gone():
    near, far = socket.socketpair()
    status = Status(3, near.fileno())
    assert status.tell(TAKEN, AVAIL)
    assert far.recv(100) == pack(os.getpid(), 3, TAKEN) + pack(os.getpid(), 3, AVAIL)
    far.close()
    assert not status.tell(TAKEN)
    near.close()


def test_stand_alone_has_nobody_to_tell():
    assert Status(0, -1).tell(TAKEN)


def test_flow_tokens():
    read, write = os.pipe()
    flow_put(3, write)
    assert flow_count(read) == 3
    assert not flow_get(4, read)
    assert flow_get(2, read)
    assert flow_count(read) == 1
    flow_put(100_000, write)  # a full pipe has tokens enough
    os.close(read)
    os.close(write)
    assert not flow_get(1, read)
