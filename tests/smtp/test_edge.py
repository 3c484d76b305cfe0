"""The driver of a real process."""

import asyncio
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

import pytest

from postfixpy.dns.lookup import Resolver
from postfixpy.mail.delivery import MessageStats, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.smtp import effects
from postfixpy.smtp.edge import Edge, native_lookup, outcome_of
from postfixpy.smtp.effects import (
    Connect,
    ConnectError,
    Hangup,
    NativeError,
    Peek,
    Read,
    Run,
    Sleep,
    StreamError,
    Write,
)
from postfixpy.smtp.names import Zone

from .scripted import ScriptedServer


def drive(generator: Run[Any]) -> Any:
    return asyncio.run(Edge(Resolver(Zone([]))).run(generator))


def test_conversation() -> None:
    with ScriptedServer([b"hello\r\n", None, b"bye\r\n", "close"]) as server:

        def talk() -> Run[list[bytes]]:
            link = yield from Connect(4, "127.0.0.1", server.port)
            first = yield from Read(link, 5)
            yield from Write(link, b"word\r\n", 5)
            found = [first]
            while data := (yield from Read(link, 5)):
                found.append(data)
            assert not (yield from Peek(link))
            yield from Hangup(link)
            return found

        assert b"".join(drive(talk())) == b"hello\r\nbye\r\n"


def test_time_limit() -> None:
    with ScriptedServer(["stall"]) as server:

        def wait() -> Run[None]:
            link = yield from Connect(4, "127.0.0.1", server.port)
            yield from Read(link, 0.05)

        with pytest.raises(StreamError) as caught:
            drive(wait())  # the connection is closed all the same, or the server would not end
        assert caught.value.kind == "time"


def test_no_connection() -> None:
    with pytest.raises(ConnectError, match="Connection refused"):
        drive(iter_of(Connect(4, "127.0.0.1", 1)))
    with pytest.raises(ConnectError, match="No such file or directory"):
        drive(iter_of(Connect(0, "/no/such/socket")))


def test_bind() -> None:
    with pytest.raises(effects.BindError):
        drive(iter_of(Connect(4, "127.0.0.1", 1, bind="192.0.2.1", must_bind=True)))
    with pytest.raises(ConnectError):
        drive(iter_of(Connect(4, "127.0.0.1", 1, bind="192.0.2.1")))


def test_sleep() -> None:
    assert drive(iter_of(Sleep(0))) is None


def iter_of(effect: effects.Effect[Any]) -> Run[Any]:
    return (yield from effect)


def test_native_lookup() -> None:
    assert "127.0.0.1" in asyncio.run(native_lookup("localhost"))
    with pytest.raises(NativeError) as caught:
        asyncio.run(native_lookup("no such host"))
    assert caught.value.known


def test_outcome() -> None:
    recipient, dsn = Recipient("a@b"), DSN("4.4.1", reason="r")
    report = effects.Report("deferred", recipient, dsn, "none", MessageStats(), "", "site", "", "", True)
    outcome = outcome_of(report)
    assert (outcome.recipient, outcome.result, outcome.dsn, outcome.scope, outcome.maybe_accepted) == (
        recipient, "deferred", dsn, "site", True,
    )  # fmt: skip


def test_window() -> None:
    with ScriptedServer([b"hello\r\n", "stall"]) as server:

        def sizes(window: int) -> Run[list[int]]:
            link = yield from Connect(4, "127.0.0.1", server.port, window=window)
            yield from Read(link, 5)
            found = [link.sock.getsockopt(SOL_SOCKET, option) for option in (SO_RCVBUF, SO_SNDBUF)]
            yield from Hangup(link)
            return found

        assert drive(sizes(20_000)) == [40_000, 40_000]  # Linux doubles it, for its own needs
