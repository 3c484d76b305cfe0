"""Two thousand sessions in flight in one process, and what each costs in memory."""

import asyncio
import gc
import multiprocessing
import resource
import socket
from pathlib import Path

import pytest

from postfixpy.mail.outcome import Outcome
from postfixpy.smtp.library import Client

pytestmark = pytest.mark.load

SESSIONS = 2000


def serve(listener: socket.socket) -> None:
    """Answers everything; the content only when all sessions have sent theirs."""

    async def main() -> None:
        waiting = 0
        everyone = asyncio.Event()

        async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            writer.write(b"220 server ESMTP\r\n")
            for reply in (b"250 server\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await reader.readline()
                writer.write(reply)
            await reader.readuntil(b"\r\n.\r\n")
            waiting += 1
            if waiting == SESSIONS:
                everyone.set()
            await everyone.wait()
            writer.write(b"250 ok\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(session, sock=listener, backlog=SESSIONS)
        async with server:
            await server.serve_forever()

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(main())


def resident() -> int:
    """Bytes of memory in use by this process."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def test_two_thousand_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < SESSIONS + 200:
        pytest.skip("too few file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")
    listener = socket.create_server(("127.0.0.1", 0), backlog=SESSIONS)
    port = listener.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    listener.close()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident())
            await asyncio.sleep(0.05)

    async def run() -> list[list[Outcome]]:
        watcher = asyncio.create_task(watch())
        async with Client(str(tmp_path), reuse=False) as client:
            message = b"Subject: x\n\nbody\n"
            nexthop = f"[127.0.0.1]:{port}"
            work = [client.deliver(message, "a@b.example", ["c@d.example"], nexthop=nexthop) for _ in range(SESSIONS)]
            found = await asyncio.gather(*work)
        watcher.cancel()
        return found

    gc.collect()
    before = resident()
    try:
        outcomes = asyncio.run(run())
    finally:
        server.terminate()
        server.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(outcome.result == "sent" for found in outcomes for outcome in found)
    each = (most - before) // SESSIONS
    with capsys.disabled():
        print(f"\n{SESSIONS} sessions in flight: {each / 1024:.1f} KB each")
    assert each < 40_000
