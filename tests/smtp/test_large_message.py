"""A message of 500 megabytes from the queue file to a server, in bounded memory."""

import asyncio
import multiprocessing
import resource
import socket
import time
from pathlib import Path

import pytest

from postfixpy import config
from postfixpy.dns.lookup import Resolver
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.records import Kind, RecordFile, encode_record
from postfixpy.smtp import agent
from postfixpy.smtp.content import QueueFileSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.edge import Edge, reporting
from postfixpy.smtp.names import Zone
from postfixpy.smtp.settings import Settings

pytestmark = [pytest.mark.load, pytest.mark.timeout(280)]

SIZE = 500_000_000
LINES = [b".dot" + b"x" * 70, b"y" * 76, b"", b"z" * 76]


def serve(listener: socket.socket) -> None:
    """Takes one message, and says how many bytes of content came."""
    connection, _ = listener.accept()
    connection.sendall(b"220 server ESMTP\r\n")
    for reply in (b"250 server\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        connection.recv(4096)
        connection.sendall(reply)
    count, tail = 0, b""
    while not tail.endswith(b"\r\n.\r\n"):
        data = connection.recv(1 << 20)
        if not data:
            return
        count += len(data)
        tail = (tail + data)[-5:]
    connection.sendall(b"250 %d bytes\r\n" % (count - 3))
    connection.recv(4096)


def write_queue_file(path: Path) -> tuple[int, int]:
    """The offset of the content, and its size on the wire."""
    block = b"".join(encode_record(Kind.NORMAL, line) for line in LINES) * 1000
    wire = sum(len(line) + 2 + line.startswith(b".") for line in LINES) * 1000
    blocks = SIZE // wire
    with path.open("wb") as file:
        file.write(encode_record(Kind.MESSAGE, b""))
        offset = file.tell()
        for _ in range(blocks):
            file.write(block)
        file.write(encode_record(Kind.EXTRACTED, b"") + encode_record(Kind.END, b""))
    return offset, wire * blocks


def resident() -> int:
    """Bytes of memory in use by this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_500_megabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")
    offset, wire = write_queue_file(tmp_path / "message")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    listener.close()
    settings = Settings(config.load(str(tmp_path)).view(process_name="smtp"), interfaces=["127.0.0.1"])
    now = time.time_ns() // 1000
    request = DeliveryRequest(
        0, "active", "LARGE", offset, wire, f"[127.0.0.1]:{port}", "7bit", 0, "s@client.example",
        stats=MessageStats(now, now, now), recipients=[Recipient("r@server.example")],
    )  # fmt: skip
    outcomes: list[Outcome] = []

    async def dispose(outcome: Outcome) -> int:
        outcomes.append(outcome)
        return 0

    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident())
            await asyncio.sleep(0.02)

    async def run() -> None:
        watcher = asyncio.create_task(watch())
        with (tmp_path / "message").open("rb", buffering=0) as file:
            source = QueueFileSource(RecordFile(file, "message"))
            delivery = Delivery(settings, request, source, time.time)
            await Edge(Resolver(Zone([]))).run(agent.deliver(delivery), reporting(dispose))
        watcher.cancel()

    before, started = resident(), time.monotonic()
    asyncio.run(run())
    seconds, grown = time.monotonic() - started, most - before
    server.join(10)
    (outcome,) = outcomes
    assert (outcome.result, outcome.dsn.reason) == ("sent", f"250 {wire} bytes")
    with capsys.disabled():
        print(f"\n{wire / 1e6:.0f} MB in {seconds:.1f} s; the peak of memory grew by {grown / 1e6:.1f} MB")
    assert grown < 20_000_000
