"""The end point and the counters of ``postfixpy sink``."""

import os
import pty
import re
import smtplib
import socket
import subprocess
import sys

import pytest

from postfixpy.commands import sink
from postfixpy.errors import FatalError

SINK = [sys.executable, "-m", "postfixpy", "sink"]


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("127.0.0.1:99999", "127.0.0.1:99999: port out of range: 99999"),
        ("127.0.0.1:nosuchservice", "127.0.0.1:nosuchservice: Servname not supported for ai_socktype"),
        ("127.0.0.1:", "127.0.0.1:: Servname not supported for ai_socktype"),
        ("inet:127.0.0.1:-1", "127.0.0.1:-1: Servname not supported for ai_socktype"),
        ("unix:/nonexistent/x", "bind: /nonexistent/x: No such file or directory"),
    ],
)
def test_end_points_that_are_wrong(endpoint: str, text: str) -> None:
    with pytest.raises(FatalError, match=rf"^{re.escape(text)}$"):
        sink.main(["sink", endpoint])


def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FatalError, match=rf"^bind 127\.0\.0\.1 port {port}: Address already in use$"):
            sink.main(["sink", f"127.0.0.1:{port}"])


def test_a_port_that_is_not_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied (while attempting to bind on address ('127.0.0.1', 22))")

    monkeypatch.setattr("socket.create_server", refuse)
    with pytest.raises(FatalError, match=r"^bind 127\.0\.0\.1 port 22: Permission denied$"):
        sink.main(["sink", "127.0.0.1:22"])


def _talk(process: subprocess.Popen[bytes], port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@example.com", "b@example.com", "Subject: x\n\nx\n")
    process.wait(20)


def test_counters_in_a_file_are_lines() -> None:
    with subprocess.Popen([*SINK, "-c", "-n", "1", "--print-port", "127.0.0.1:0"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        _talk(process, int(process.stdout.readline()))
        assert process.stdout.read() == b"sess=0 quit=0 mesg=1\nsess=0 quit=1 mesg=1\nsess=1 quit=1 mesg=1\n"


def test_counters_on_a_terminal_stay_in_their_place() -> None:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([*SINK, "-c", "-n", "1", "--print-port", "127.0.0.1:0"], stdout=theirs) as process:
            first = b""
            while not first.endswith(b"\n"):
                first += os.read(ours, 1)
            _talk(process, int(first))
        shown = b""
        while not shown.endswith(b"\n"):
            shown += os.read(ours, 1000)
        assert shown == b"sess=0 quit=0 mesg=1\rsess=0 quit=1 mesg=1\rsess=1 quit=1 mesg=1\r\r\n"
    finally:
        os.close(ours)
        os.close(theirs)
