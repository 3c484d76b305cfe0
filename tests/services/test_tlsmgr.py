"""The TLS session manager, asked by our own client over a socket, and its files."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import tlsmgr as wire
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import announcement
from postfixpy.ipc.service import Context
from postfixpy.ipc.tlsmgr import TlsmgrClient
from postfixpy.services.tlsmgr import Tlsmgr
from tests.ipc.mail_system import MailSystem

CACHES = "smtp_tls_session_cache_database = btree:$data_directory/smtp_scache\nsmtp_tls_session_cache_timeout = 300s\n"


class Time:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def running(
    directory: Path, main: Callable[[TlsmgrClient, Tlsmgr, Time], Coroutine[Any, Any, None]], text: str = CACHES
) -> list[str]:
    """Run `main` with a client of a service; what was logged."""
    (directory / "lib").mkdir(exist_ok=True)

    async def serve() -> None:
        clock = Time()
        service = Tlsmgr(Context(None, system.view(), "tlsmgr", "tlsmgr"), clock)  # type: ignore[arg-type]  # unused
        await service.start()

        class Server(Channel):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self.write(announcement(wire.PROTOCOL, self.release))
                self.task = asyncio.get_running_loop().create_task(self.work())

            async def work(self) -> None:
                await service.serve(self)
                self.close()
                await self.wait_closed()

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Server("tlsmgr socket", timeout=1), "private/tlsmgr")
        client = TlsmgrClient(timeout=1)
        await main(client, service, clock)
        client.close()
        server.close()
        await service.stop()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    system = MailSystem(directory, f"data_directory = {directory}/lib\n{text}")
    with system:
        asyncio.run(serve())
    return system.log


def test_sessions(tmp_path: Path) -> None:
    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        assert await client.policy("smtp") == (True, 300)
        assert await client.policy("lmtp") == (False, 3600)
        assert await client.find("smtp", "key") == b""
        await client.save("smtp", "key", b"session\0\xff")
        assert await client.find("smtp", "key") == b"session\0\xff"
        assert await client.find("smtp", "other") == b""
        clock.now += 301
        assert await client.find("smtp", "key") == b""
        await client.save("smtp", "key", b"again")
        await client.save("smtp", "key", b"")
        assert await client.find("smtp", "key") == b""

    running(tmp_path, main)


def test_sessions_survive_the_process(tmp_path: Path) -> None:
    async def first(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        await client.save("smtp", "key", b"session")

    async def second(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        assert await client.find("smtp", "key") == b"session"

    running(tmp_path, first)
    running(tmp_path, second)


def test_log(tmp_path: Path) -> None:
    """As the real one's, of 3.7 and of 3.11, with the same requests."""

    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        assert await client.find("smtp", "k") == b""
        await client.save("smtp", "k", b"x" * 20)
        assert await client.find("smtp", "k")
        await client.save("smtp", "k", b"")
        await client.save("smtp", "k", b"")

    assert running(tmp_path, main) == []
    assert running(tmp_path, main, CACHES + "smtp_tls_loglevel = 2\n") == [
        f"open smtp TLS cache btree:{tmp_path}/lib/smtp_scache",
        "tlsmgr_cache_run_event: start TLS smtp session cache cleanup",
        "lookup smtp session id=k",
        "put smtp session id=k [data 20 bytes]",
        "write smtp TLS cache entry k: time=1000000 [data 20 bytes]",
        "lookup smtp session id=k",
        "read smtp TLS cache entry k: time=1000000 [data 20 bytes]",
        "delete smtp session id=k",
        "delete smtp session id=k",
    ]


def test_other_requests(tmp_path: Path) -> None:
    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        seed = service.answer(wire.Seed("seed", 32))
        assert isinstance(seed, wire.SeedAnswer) and seed.status == wire.OK and len(seed.seed) == 32
        assert service.answer(wire.Seed("seed", 256)) == wire.SeedAnswer(wire.FAIL, b"")
        assert service.answer(wire.Lookup("lookup", "smtpd", "x")) == wire.Session(wire.FAIL, b"")
        assert service.answer(wire.Lookup("lookup", "imap", "x")) == wire.Session(wire.FAIL, b"")
        assert service.answer(wire.Lookup("delete", "smtp", "x")) == wire.Status(wire.ERROR)

    assert running(tmp_path, main) == [
        'warning: bogus seed length "256" in "seed" request',
        'warning: bogus cache type "imap" in "lookup" request',
    ]


def test_ticket_keys_rotate(tmp_path: Path) -> None:
    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        def key(name: bytes = b"") -> bytes:
            answer = service.answer(wire.TicketKey("tktkey", name))
            assert isinstance(answer, wire.KeyAnswer)
            return answer.keybuf

        first = key()
        assert len(first) == 88 and key() == first and key(first[:16]) == first
        clock.now += 1801
        second = key()
        assert second != first and key(first[:16]) == first
        clock.now += 3600
        assert key(first[:16]) == b""

    running(tmp_path, main)


def test_one_file_for_two_caches(tmp_path: Path) -> None:
    text = CACHES + "lmtp_tls_session_cache_database = btree:$data_directory/smtp_scache\n"

    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        pass

    with pytest.raises(FatalError, match="do not use the same TLS cache file"):
        running(tmp_path, main, text)


def test_a_damaged_file_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/smtp_scache.db").write_bytes(b"x" * 5000)

    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        assert await client.find("smtp", "key") == b""
        await client.save("smtp", "key", b"session")

    assert any("starting with an empty cache" in line for line in running(tmp_path, main))


def test_without_the_service(tmp_path: Path) -> None:
    async def ask() -> bytes:
        client = TlsmgrClient(str(tmp_path / "nothing"))
        await client.save("smtp", "key", b"session")
        return await client.find("smtp", "key")

    assert asyncio.run(ask()) == b""


@pytest.mark.real
@pytest.mark.skipif(shutil.which("postmap") is None, reason="needs Postfix")
def test_the_real_postmap_reads_the_file(tmp_path: Path) -> None:
    async def main(client: TlsmgrClient, service: Tlsmgr, clock: Time) -> None:
        await client.save("smtp", "smtp&a&b&c&&ABC", b"session")

    running(tmp_path, main)
    shown = subprocess.check_output(["postmap", "-s", f"btree:{tmp_path}/lib/smtp_scache"], text=True)
    assert shown.split() == [
        "smtp&a&b&c&&ABC",
        (1_000_000).to_bytes(8, "little").hex().upper() + b"session".hex().upper(),
    ]
