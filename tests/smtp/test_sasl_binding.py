"""SCRAM with channel binding: our client over our TLS engine, a server over Python's, which has bindings of its own."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from postfixpy.mail.outcome import Outcome
from postfixpy.sasl.passwords import Passwords
from postfixpy.sasl.server import Challenge, Local, Peer, Refused
from postfixpy.smtp.library import Client

CERTIFICATE = Path(__file__).parents[2] / "compat/certificates/good.pem"


class Server:
    """Offers STARTTLS and then `mechanisms`; the binding of the TLS session is `binding`, or the true one."""

    def __init__(self, mechanisms: str, binding: bytes | None = None) -> None:
        self.mechanisms, self.binding = mechanisms, binding
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(CERTIFICATE)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2  # Python has tls-unique only
        self.used: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (ConnectionError, Refused):
            pass
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        offer = "STARTTLS"
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(f"250-mail.example\r\n250 {offer}\r\n".encode())
            elif verb == b"STAR":
                writer.write(b"220 go\r\n")
                await writer.start_tls(self.context)
                offer = f"AUTH {self.mechanisms}"
            elif verb == b"AUTH":
                writer.write(await self._authenticate(line, reader, writer))
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 ok\r\n")
            else:
                writer.write(b"250 ok\r\n")

    async def _authenticate(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        async def find(user: str) -> str | None:
            return "{PLAIN}wonder" if user == "alice" else None

        true = writer.get_extra_info("ssl_object").get_channel_binding("tls-unique")
        peer = Peer(secured=True, bindings={"tls-unique": self.binding or true})
        _, name, initial = line.split()
        self.used.append(name.decode())
        backend = Local(Passwords(find, ("SCRAM-SHA-256", "SCRAM-SHA-1")))
        exchange = backend.exchange(name.decode(), peer)
        try:
            found = await exchange.respond(base64.b64decode(initial))
            while isinstance(found, Challenge):
                writer.write(b"334 " + base64.b64encode(found.data) + b"\r\n")
                found = await exchange.respond(base64.b64decode(await reader.readline()))
        except Refused as error:
            return f"535 5.7.8 {error}\r\n".encode()
        return b"235 2.7.0 ok\r\n"


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[int]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


def deliver(directory: Path, server: Server) -> Outcome:
    async def run() -> Outcome:
        async with listening(server) as port:
            (directory / "main.cf").write_text(
                f"myhostname = client.example\nrelayhost = [127.0.0.1]:{port}\ndata_directory = {directory}\n"
                "smtp_tls_security_level = encrypt\nsmtp_sasl_auth_enable = yes\n"
                "smtp_sasl_password_maps = static:alice:wonder\n"
            )
            async with Client(str(directory), reuse=False) as client:
                (outcome,) = await client.deliver(b"Subject: x\n\nx\n", "me@client.example", ["you@example.org"])
                return outcome

    return asyncio.run(run())


@pytest.mark.parametrize("name", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"])
def test_bound(tmp_path: Path, name: str) -> None:
    server = Server(f"SCRAM-SHA-256 {name}")
    outcome = deliver(tmp_path, server)
    assert outcome.result == "sent", outcome.dsn.reason
    assert server.used == [name]


def test_somebody_in_between(tmp_path: Path) -> None:
    """A server that sees another TLS session than the client does."""
    server = Server("SCRAM-SHA-256-PLUS", b"of another session")
    outcome = deliver(tmp_path, server)
    assert (outcome.result, outcome.dsn.status) == ("deferred", "4.7.8")
    assert "channel binding of another exchange" in outcome.dsn.reason


def test_a_server_that_does_not_bind(tmp_path: Path) -> None:
    server = Server("SCRAM-SHA-256")
    assert deliver(tmp_path, server).result == "sent"
    assert server.used == ["SCRAM-SHA-256"]
