import os
import socket
import threading
import time

import pytest

from postfixpy.ipc.attributes import ProtocolError, encode
from postfixpy.ipc.blocking import Client, connect, connect_patiently


def pair(timeout=5.0):
    near, far = socket.socketpair()
    return Client(near, "public/showq", timeout), far


def test_lists_in_and_out():
    client, far = pair()
    with client, far:
        far.sendall(encode([("protocol", "p"), ("queue_id", "1")]) + encode([("status", 0)]))
        assert client.read_announcement("p") == [("queue_id", "1")]
        assert client.read_list() == [("status", "0")]
        client.send(("request", "x"), ("n", -1))
        assert far.recv(100) == b"request\0x\0n\x004294967295\0\0"
        far.sendall(b"abc")
        assert client.read_bytes() == b"abc"
        far.shutdown(socket.SHUT_WR)
        assert client.at_end()
        assert client.read_bytes() == b""


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"", "premature end-of-input on public/showq while reading input attribute name"),
        (b"a\0b", "premature end-of-input on public/showq while reading input attribute name"),
        (b"\0", "unexpected attribute (list terminator) from public/showq (expecting: protocol)"),
        (b"status\x000\0\0", "unexpected attribute status from public/showq (expecting: protocol)"),
        (b"protocol\0q\0\0", "unexpected protocol q from public/showq (expected: p)"),
    ],
)
def test_a_peer_that_is_not_what_we_think(sent, text):
    client, far = pair()
    with client:
        far.sendall(sent)
        far.close()
        with pytest.raises(ProtocolError) as caught:
            client.read_announcement("p")
        assert str(caught.value) == text


def test_silence_and_deafness():
    client, far = pair(0.05)
    with client:
        with pytest.raises(ProtocolError, match="timeout on public/showq while reading input attribute name"):
            client.read_list()
        far.close()
        with pytest.raises(ProtocolError, match="write error on public/showq: Broken pipe"):
            client.write(b"x")


def test_paths_of_any_length(tmp_path):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    here = os.getcwd()
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(directory)
    try:
        listener.bind("s")
    finally:
        os.chdir(here)
    with listener:
        listener.listen()
        connect(f"{directory}/s").close()
        with connect(f"{directory}/s", peer="x") as client:
            assert client.peer == "x"


def test_patience(tmp_path):
    path = f"{tmp_path}/s"
    with pytest.raises(FileNotFoundError):
        connect_patiently(path, 1, tries=2, pause=0.01)
    listener = socket.socket(socket.AF_UNIX)

    def open_late():
        time.sleep(0.05)
        listener.bind(path)
        listener.listen()

    thread = threading.Thread(target=open_late)
    thread.start()
    connect_patiently(path, 1, tries=100, pause=0.01).close()
    thread.join()
    listener.close()
