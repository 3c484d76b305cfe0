"""OAuth 2.0 as a whole: the client over sockets, a server that takes tokens, a provider that gives them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from postfixpy.mail.outcome import Outcome
from postfixpy.sasl import oauth2
from postfixpy.smtp.library import Client
from tests.sasl.provider import REVOKED, Provider, token


class Server:
    """Takes mail from who has one of the `good` tokens. `used` are the tokens that came."""

    def __init__(self) -> None:
        self.good = {"access-1"}
        self.used: list[str] = []
        self.messages = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
            await writer.drain()
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            reply = "250 ok"
            if verb == b"EHLO":
                reply = "250-mail.example\r\n250 AUTH PLAIN XOAUTH2"
            elif verb == b"AUTH":
                fields = base64.b64decode(line.split()[2]).split(b"\x01")
                self.used.append(fields[1].removeprefix(b"auth=Bearer ").decode())
                reply = "235 ok"
                if self.used[-1] not in self.good:
                    writer.write(b"334 " + base64.b64encode(b'{"status":"401"}') + b"\r\n")
                    assert await reader.readline() == b"\r\n"
                    reply = "535 5.7.8 no"
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.messages += 1
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            writer.write(reply.encode() + b"\r\n")


class World:
    def __init__(self, directory: Path, provider: Provider) -> None:
        self.provider, self.directory = provider, directory
        self.server = Server()
        self.path = directory / "token"
        self.write("refresh-1")

    def write(self, refresh_token: str) -> None:
        values = {"client_id": "me", "refresh_token": refresh_token, "token_endpoint": self.provider.url}
        self.path.write_text(json.dumps(values))
        self.path.chmod(0o600)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of the server."""
        server = await asyncio.start_server(self.server.serve, "127.0.0.1", 0, backlog=300)
        port = server.sockets[0].getsockname()[1]
        (self.directory / "main.cf").write_text(
            f"myhostname = client.example\nrelayhost = [127.0.0.1]:{port}\ndata_directory = {self.directory}\n"
            "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\n"
            f"smtp_sasl_password_maps = static:me@example.com:{self.path}\n"
        )
        try:
            async with Client(str(self.directory), reuse=False) as client:
                yield client
        finally:
            server.close()


async def send(client: Client) -> Outcome:
    (outcome,) = await client.deliver(b"Subject: x\n\nx\n", "me@client.example", ["you@example.org"])
    return outcome


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as tokens see it."""
    now = [1_000_000.0]
    original = oauth2.Tokens.__init__

    def made(self: oauth2.Tokens, directory: str = "", **more: Any) -> None:
        original(self, directory, configuration="/nonexistent", clock=lambda: now[0], **more)

    monkeypatch.setattr(oauth2.Tokens, "__init__", made)
    return now


def test_two_hundred_sessions_at_once(tmp_path: Path, clock: list[float]) -> None:
    async def run(world: World) -> list[Outcome]:
        async with world.client() as client:
            return await asyncio.gather(*(send(client) for _ in range(200)))

    with Provider(token(1), token(2), delay=0.05) as provider:
        world = World(tmp_path, provider)
        outcomes = asyncio.run(run(world))
        assert {outcome.result for outcome in outcomes} == {"sent"}
        assert (len(provider.asked), world.server.messages) == (1, 200)


def test_expiry_in_the_middle_of_the_queue(tmp_path: Path, clock: list[float]) -> None:
    async def run(world: World) -> list[str]:
        results = []
        async with world.client() as client:
            for _ in range(6):
                results.append((await send(client)).result)
                clock[0] += 1000
                world.server.good = {"access-1" if clock[0] < 1_003_600 else "access-2"}
        return results

    with Provider(token(1), token(2)) as provider:
        world = World(tmp_path, provider)
        assert asyncio.run(run(world)) == ["sent"] * 6
        assert world.server.used == ["access-1"] * 4 + ["access-2"] * 2
        assert len(provider.asked) == 2


def test_a_token_that_was_revoked_is_replaced_at_once(tmp_path: Path, clock: list[float]) -> None:
    async def run(world: World) -> list[str]:
        async with world.client() as client:
            first = await send(client)
            world.server.good = {"access-2"}
            second = await send(client)
            return [first.result, second.result]

    with Provider(token(1), token(2)) as provider:
        world = World(tmp_path, provider)
        assert asyncio.run(run(world)) == ["sent", "sent"]
        assert world.server.used == ["access-1", "access-1", "access-2"]


def test_consent_revoked_and_given_again(tmp_path: Path, clock: list[float]) -> None:
    async def run(world: World) -> list[Outcome]:
        async with world.client() as client:
            outcomes = [await send(client), await send(client)]
            world.write("refresh-of-today")
            return [*outcomes, await send(client)]

    with Provider(REVOKED, token(1)) as provider:
        world = World(tmp_path, provider)
        first, second, third = asyncio.run(run(world))
        for outcome in (first, second):
            assert (outcome.result, outcome.dsn.status) == ("deferred", "4.7.0")
            assert "invalid_grant" in outcome.dsn.reason and "postfixpy oauth get-token" in outcome.dsn.reason
        assert third.result == "sent"
        assert len(provider.asked) == 2


def test_endpoint_down(tmp_path: Path, clock: list[float]) -> None:
    async def run(world: World) -> list[Outcome]:
        async with world.client() as client:
            outcomes = await asyncio.gather(*(send(client) for _ in range(50)))
            clock[0] += 61
            return [*outcomes, await send(client)]

    with Provider((500, b"oops"), token(1)) as provider:
        world = World(tmp_path, provider)
        *failed, last = asyncio.run(run(world))
        assert {outcome.result for outcome in failed} == {"deferred"}
        assert all("answered 500; trying again later" in outcome.dsn.reason for outcome in failed)
        assert (last.result, len(provider.asked)) == ("sent", 2)
