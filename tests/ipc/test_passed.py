"""A connection is passed, with attributes in either form; peers that do not keep to it."""

import asyncio
import socket

import pytest

from postfixpy.ipc.attributes import ProtocolError, encode
from postfixpy.ipc.passed import receive_passed


def receive(*parts: bytes, descriptor: bool = True) -> tuple[bytes, dict[str, str]]:
    """What is received when a peer sends a descriptor and `parts`, and hangs up; the connection as what it says."""

    async def main():
        near, far = socket.socketpair()
        client, passed = socket.socketpair()
        far.setblocking(False)
        with near, client:
            if descriptor:
                socket.send_fds(near, [b"\0"], [passed.fileno()])
            passed.close()
            for part in parts:
                near.send(part)
            near.shutdown(socket.SHUT_WR)
            connection, attributes = await receive_passed(far)
            client.send(b"hello")
            with connection:
                return connection.recv(10), attributes

    return asyncio.run(main())


def test_attribute_list():
    sent = encode([("client_address", "192.0.2.1"), ("client_port", "25")])
    assert receive(sent) == (b"hello", {"client_address": "192.0.2.1", "client_port": "25"})


def test_in_pieces():
    sent = encode([("client_address", "192.0.2.1")])
    assert receive(*(bytes([byte]) for byte in sent)) == (b"hello", {"client_address": "192.0.2.1"})


def test_lines():
    assert receive(b"client_address=192.0.2.1\nclient_port=25\n\n")[1]["client_port"] == "25"


@pytest.mark.parametrize("nothing", [b"\0", b"\n"])
def test_no_attributes(nothing):
    assert receive(nothing) == (b"hello", {})


def test_a_peer_that_hangs_up():
    with pytest.raises(ProtocolError, match="the peer hung up"):
        receive(descriptor=False)
    with pytest.raises(ProtocolError, match="cannot receive connection attributes"):
        receive(b"client_address")
