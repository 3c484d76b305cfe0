"""TLS of the sink, with the standard library's client."""

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postfixpy.sink.rules import Script, parse_rule
from postfixpy.sink.server import Sink, listen_tcp

CERTIFICATES = Path(__file__).parents[2] / "compat/certificates"


def make(*, first: bool = False, rule: str = "") -> Sink:
    sink = Sink(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls_first=first, journal=io.StringIO())
    assert sink.tls is not None
    sink.tls.load_cert_chain(CERTIFICATES / "good.pem")
    sink.offer.starttls = not first
    if rule:
        sink.script = Script([parse_rule(rule)], sink.script.rng)
    return sink


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATES / "root-ca.pem")
    return context


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line)
            if line[3:4] != "-":
                return "".join(lines)

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\r\n")
        return await self.reply()


@contextlib.asynccontextmanager
async def served(sink: Sink) -> AsyncIterator[int]:
    """The port on which the sink serves."""
    listener = listen_tcp("127.0.0.1", 0)
    task = asyncio.create_task(sink.serve(listener))
    yield listener.getsockname()[1]
    sink.done.set()
    await task


async def deliver(client: Client) -> None:
    await client.say("MAIL FROM:<a@example.com>")
    await client.say("RCPT TO:<b@example.com>")
    await client.say("DATA")
    assert (await client.say("hello\r\n.")).startswith("250")
    assert (await client.say("QUIT")).startswith("221")
    client.writer.close()


def test_starttls() -> None:
    async def talk() -> None:
        sink = make()
        async with served(sink) as port:
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            await client.reply()
            assert "STARTTLS" in await client.say("EHLO client.example")
            assert (await client.say("STARTTLS")).startswith("220")
            await client.writer.start_tls(client_context(), server_hostname="mx.server.example")
            assert "STARTTLS" not in await client.say("EHLO client.example")
            await deliver(client)
            assert isinstance(sink.journal, io.StringIO)
            entry = json.loads(sink.journal.getvalue())
            assert (entry["protocol"], entry["tls"].split()[0]) == ("ESMTPS", "TLSv1.3")

    asyncio.run(talk())


def test_wrapper_mode() -> None:
    async def talk() -> None:
        async with served(make(first=True)) as port:
            context = client_context()
            streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="mx.server.example")
            client = Client(*streams)
            assert (await client.reply()).startswith("220")
            await client.say("EHLO client.example")
            await deliver(client)

    asyncio.run(talk())


@pytest.mark.parametrize("data", [b"this is no TLS\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 5000])
def test_garbage_ends_the_connection(data: bytes) -> None:
    async def talk() -> None:
        async with served(make(first=True)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            await reader.read()
            writer.close()

    asyncio.run(talk())


def test_refused_by_a_rule() -> None:
    async def talk() -> None:
        async with served(make(rule="starttls * 454 4.7.0 not now")) as port:
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            await client.reply()
            await client.say("EHLO client.example")
            assert (await client.say("STARTTLS")) == "454 4.7.0 not now\r\n"
            assert (await client.say("NOOP")).startswith("250")
            client.writer.close()

    asyncio.run(talk())
