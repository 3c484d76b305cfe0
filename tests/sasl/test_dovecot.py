"""The client of dovecot's authentication protocol: against a scripted service, and against a real dovecot."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sasl.bearer import OAuthBearer, XOAuth2
from postfixpy.sasl.cram_md5 import CramMD5
from postfixpy.sasl.digest_md5 import DigestMD5
from postfixpy.sasl.dovecot import Dovecot, escape, unescape
from postfixpy.sasl.mechanism import Credentials, Mechanism
from postfixpy.sasl.scram import ScramSHA1, ScramSHA256
from postfixpy.sasl.server import Challenge, Offer, Peer, Refused, Success
from postfixpy.sasl.simple import Login, Plain

from . import dovecot_server
from .dovecot_server import PASSWORD, TOKEN, USER
from .provider import Provider

HELLO = (
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-1\tdictionary\tmutual-auth\nMECH\tX-SECRET\tprivate\n"
    "SPID\t1\nCUID\t2\nCOOKIE\tabc\nDONE\n"
)
PEER = Peer(client="192.0.2.1", server="192.0.2.2", client_port=1234, server_port=587, secured=True)
Answer = Callable[[list[str]], str]


@asynccontextmanager
async def service(path: str, answer: Answer, hello: str = HELLO) -> AsyncIterator[list[str]]:
    """A scripted service: `answer` makes the reply to a line. The lines that came."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(hello.encode())
            while line := (await reader.readline()).decode():
                lines.append(line.rstrip("\n"))
                reply = answer(lines[-1].split("\t"))
                if reply == "HANGUP":
                    break
                writer.write(reply.encode())
        except OSError:
            pass  # the client has hung up
        finally:
            writer.transport.abort()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield lines
    finally:
        server.close()


def ok(fields: list[str]) -> str:
    return f"OK\t{fields[1]}\tuser=alice\n" if fields[0] in ("AUTH", "CONT") else ""


def test_an_authentication(tmp_path: Path) -> None:
    path = str(tmp_path / "auth")

    async def run() -> None:
        backend = Dovecot(path)
        async with service(path, ok) as lines:
            assert await backend.offers(PEER) == [
                Offer("PLAIN", plaintext=True),
                Offer("SCRAM-SHA-1", dictionary=True, mutual=True),
            ]
            assert await backend.exchange("PLAIN", PEER).respond(b"\0alice\0x") == Success("alice")
            await backend.close()
        response = base64.b64encode(b"\0alice\0x").decode()
        assert lines == [
            "VERSION\t1\t1",
            f"CPID\t{os.getpid()}",
            "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.2\trip=192.0.2.1\tlport=587\trport=1234\tsecured"
            f"\tresp={response}",
        ]

    asyncio.run(run())


def test_challenges_and_giving_up(tmp_path: Path) -> None:
    path = str(tmp_path / "auth")

    def answer(fields: list[str]) -> str:
        return f"CONT\t{fields[1]}\t{base64.b64encode(b'say more').decode()}\n" if fields[0] == "AUTH" else ""

    async def run() -> None:
        backend = Dovecot(path, timeout=0.2)
        async with service(path, answer) as lines:
            exchange = backend.exchange("LOGIN", Peer())
            assert await exchange.respond(None) == Challenge(b"say more")
            await exchange.cancel()
            second = backend.exchange("LOGIN", Peer())
            await second.respond(None)
            with pytest.raises(Refused, match="no answer within") as caught:
                await second.respond(b"x")
            assert caught.value.temporary
            await backend.close()
        assert "CANCEL\t1" in lines and "CONT\t2\teA==" in lines
        assert "resp=" not in lines[2]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("reply", "text", "temporary"),
    [
        ("FAIL\t1\tuser=alice\n", "authentication failed", False),
        ("FAIL\t1\tuser=alice\treason=no\x01tway\n", "no?way", False),
        ("FAIL\t1\tuser=alice\ttemp\n", "authentication failed", True),
        ("FAIL\t1\tcode=temp_fail\n", "authentication failed", True),
        ("OK\t1\n", "malformed answer", True),
        ("CONT\t1\t!!\n", "malformed challenge", True),
        ("HANGUP", "connection lost", True),
        ("OK\t7\tuser=mallory\nnonsense\n\nOK\tx\n", "no answer within", True),
    ],
)
def test_refusals(tmp_path: Path, reply: str, text: str, temporary: bool) -> None:
    path = str(tmp_path / "auth")

    async def run() -> None:
        backend = Dovecot(path, timeout=0.3)
        async with service(path, lambda fields: reply if fields[0] == "AUTH" else ""):
            with pytest.raises(Refused) as caught:
                await backend.exchange("PLAIN", PEER).respond(b"\0a\0b")
            assert text in str(caught.value) and caught.value.temporary == temporary
            await backend.close()

    asyncio.run(run())


@pytest.mark.parametrize("hello", ["VERSION\t2\t0\nDONE\n", "MECH\tPLAIN\n", "x" * 100000, ""])
def test_handshakes_that_fail(tmp_path: Path, hello: str) -> None:
    path = str(tmp_path / "auth")

    async def run() -> None:
        backend = Dovecot(path, timeout=0.2)
        async with service(path, ok, hello):
            with pytest.raises(Refused) as caught:
                await backend.offers(PEER)
            assert caught.value.temporary

    asyncio.run(run())


def test_nobody_there_and_back_again(tmp_path: Path) -> None:
    path = str(tmp_path / "auth")

    async def run() -> None:
        backend = Dovecot(path)
        with pytest.raises(Refused, match=r"connect to .*: No such file or directory"):
            await backend.offers(PEER)
        async with service(path, ok):
            assert await backend.exchange("PLAIN", PEER).respond(b"\0a\0b") == Success("alice")
        await backend.close()

    asyncio.run(run())


def test_many_at_once_on_one_connection(tmp_path: Path) -> None:
    path = str(tmp_path / "auth")

    def answer(fields: list[str]) -> str:
        if fields[0] != "AUTH":
            return ""
        response = base64.b64decode(fields[-1].removeprefix("resp="))
        return f"OK\t{fields[1]}\tuser={response.split(bytes(1))[1].decode()}\n"

    async def run() -> None:
        backend = Dovecot(path)
        async with service(path, answer) as lines:
            calls = [backend.exchange("PLAIN", PEER).respond(f"\0user{n}\0x".encode()) for n in range(100)]
            assert await asyncio.gather(*calls) == [Success(f"user{n}") for n in range(100)]
            assert len([line for line in lines if line.startswith("CPID")]) == 1
            await backend.close()

    asyncio.run(run())


def test_nothing_can_be_smuggled_in() -> None:
    backend = Dovecot("/nowhere")
    with pytest.raises(Refused):
        backend.exchange("PLAIN\tservice=imap", PEER)
    exchange: Any = backend.exchange("PLAIN", Peer(client="x\ty\nAUTH\t2", service="{number}"))
    assert "\n" not in exchange._first("eA==") and exchange._first("eA==").count("\t") == 5


@given(st.text())
def test_fields_come_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not {"\t", "\n", "\r", "\0"} & set(escape(text))


CLIENTS: tuple[type[Mechanism], ...] = (
    Plain, Login, CramMD5, DigestMD5, ScramSHA1, ScramSHA256, XOAuth2, OAuthBearer,
)  # fmt: skip


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root")
def test_a_real_dovecot() -> None:
    """Each mechanism that dovecot has, with the right and the wrong secret; then dovecot goes away, and comes back."""

    async def converse(backend: Dovecot, kind: type[Mechanism], **wrong: str) -> str:
        words = {"password": PASSWORD, "token": TOKEN, **wrong}
        client = kind(Credentials(USER, service="smtp", host="dovecot.example", **words))  # type: ignore[arg-type]
        exchange = backend.exchange(kind.name, PEER)
        found = await exchange.respond(client.initial())
        while isinstance(found, Challenge):
            found = await exchange.respond(client.step(found.data))
        return found.user

    async def run(server: dovecot_server.Dovecot) -> None:
        backend = Dovecot(server.path)
        offered = {offer.name for offer in await backend.offers(PEER)}
        assert offered == {kind.name for kind in CLIENTS} == set(dovecot_server.MECHANISMS)
        for kind in CLIENTS:
            assert await converse(backend, kind) == USER, kind.name
            with pytest.raises(Refused) as caught:
                await converse(backend, kind, password="wrong", token="wrong")
            assert not caught.value.temporary, kind.name
        server.stop()
        with pytest.raises(Refused) as caught:
            while True:  # its auth process may answer for a moment longer than dovecot
                await converse(backend, Plain)
        assert caught.value.temporary
        server.start()
        assert await converse(backend, Plain) == USER
        await backend.close()

    answers = [(200, {"active": True, "username": USER}), (200, {"active": False})] * 4
    with Provider(*answers) as provider, dovecot_server.running(provider.url) as server:
        asyncio.run(run(server))
        assert {form["token"] for form in provider.asked} == {TOKEN, "wrong"}
