#!/usr/bin/env python3
"""TLS handshakes of our client and of the real smtp(8), in one run against the same sink.

    tools/bench_tls.py [-n DELIVERIES] [--held N]

Deliveries: one message over one connection each, one after the other, so that what differs is the client. The figures
are of the client's process alone: processor time a delivery and proportional memory (PSS) at the end; with and without
a session cache. Then the engine by itself: handshakes a second over sockets, several at once, full and resumed, and the
memory that each held session costs. Needs root and Debian's postfix; everything is in a network namespace of its own.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from recorder import namespace, programs, run
from recorder.services import Services

from postfixpy import config, log
from postfixpy.ipc import delivery as wire
from postfixpy.migrate import replay_smtp, scenario
from postfixpy.smtp.effects import Connect
from postfixpy.smtp.sockets import Link, connect
from postfixpy.tls.context import ClientContext, client_context
from postfixpy.tls.handshake import TLSRequest
from postfixpy.tls.level import Level

SINK = "127.0.0.11:25"
SCENARIO = """\
A benchmark.
== main.cf
smtp_tls_security_level = encrypt
max_use = 1000000
{cache}== request
nexthop = [127.0.0.11]
"""
CACHE = "smtp_tls_session_cache_database = btree:$data_directory/smtp_scache\n"


def start_sink() -> subprocess.Popen[bytes]:
    words = ["sink", "--tls-cert", str(scenario.CERTIFICATES / "good.pem"), "-m", "2000", SINK]
    sink = subprocess.Popen([sys.executable, "-m", "postfixpy", *words], stdout=subprocess.DEVNULL)
    host, _, port = SINK.partition(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port))).close()
            return sink
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the sink does not start")


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        found += [int(child) for child in children]
    return found


def processor_time(pid: int) -> float:
    """Seconds of a process and its descendants."""
    used = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Proportional set size of a process and its descendants in kilobytes."""
    size = 0
    for member in family(pid):
        lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        size += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return size


def drain(status: socket.socket) -> None:
    """Read what the program tells its master, who is not there; when nobody reads it the program stops in the end."""
    while status.recv(65536):
        pass


def deliveries(installation: programs.Installation, count: int, cached: bool) -> str:
    """Deliver `count` messages; returns the figures."""
    found = scenario.parse(SCENARIO.format(cache=CACHE if cached else ""))
    directory = installation.work_directory()
    try:
        run.configure(found, directory, installation.inside(directory))
        Services(directory, sessions=cached)
        run.start_dns([])
        process = programs.Process(installation, "smtp", directory, [])
        threading.Thread(target=drain, args=(process._status,), daemon=True).start()
        pid = process.process.pid
        file = Path(directory, "active", scenario.QUEUE_ID)

        def deliver() -> None:
            request = replay_smtp.request_of(found, 0)
            request.offset, offsets = run.queue_file(file, found, request, installation.mail_owner())
            request.recipients[0].offset = offsets[0]
            answer = run.run_request(wire.pack(request, installation.numbers), process)
            assert answer == "result 0", answer

        deliver()  # what a process does once
        used, start = processor_time(pid), time.monotonic()
        for _ in range(count):
            deliver()
        wall = time.monotonic() - start
        used = processor_time(pid) - used
        size = memory(pid)
        process.stop()
    finally:
        shutil.rmtree(directory)
    return f"{count / wall:6.0f} deliveries/s, {used / count * 1000:5.2f} ms processor time each, {size:6d} KB"


def in_child(installation: programs.Installation, count: int, cached: bool) -> str:
    """`deliveries` in a process of its own, for its threads and its name server."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, deliveries(installation, count, cached).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text or "failed"


def make_context() -> ClientContext:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "main.cf").write_text("compatibility_level = 3.6\n")
        found = client_context(config.load(directory, profile="upstream").view(process_name="smtp"))
    assert found is not None
    return found


async def connected() -> Link:
    host, _, port = SINK.partition(":")
    link = await connect(Connect(4, host, int(port), 30.0))
    await link.receive(30)
    for command in (b"EHLO client.example\r\n", b"STARTTLS\r\n"):
        await link.send(command, 30)
        await link.receive(30)
    return link


async def engine(count: int, held: int) -> None:
    context = make_context()
    log.set_sink(lambda severity, text: None)
    session = b""

    async def one(keep: bytes) -> bytes:
        link = await connected()
        state = await link.start_tls(TLSRequest(context, "sink", Level.MAY, session_id="x", session=keep), 30)
        assert state.reused == bool(keep)
        await link.send(b"EHLO client.example\r\n", 30)
        await link.receive(30)
        link.close()
        return state.session

    session = await one(b"")
    for title, keep in (("full", b""), ("resumed", session)):
        used, start = time.process_time(), time.monotonic()
        for _ in range(count // 20):
            await asyncio.gather(*(one(keep) for _ in range(20)))
        wall, used = time.monotonic() - start, time.process_time() - used
        done = count // 20 * 20
        print(
            f"  {title:8}: {done / wall:6.0f} sessions/s, {used / done * 1000:5.2f} ms processor time each", flush=True
        )
    links = [await connected() for _ in range(held)]
    before = memory(os.getpid())
    states = [await link.start_tls(TLSRequest(context, "sink", Level.MAY), 30) for link in links]
    after = memory(os.getpid())
    print(f"  {len(states)} held sessions: {(after - before) / held:.1f} KB each")
    for link in links:
        link.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=300, metavar="DELIVERIES")
    parser.add_argument("--held", type=int, default=500)
    options = parser.parse_args()
    namespace.enter()
    release = programs.machine_release()
    ours = programs.Installation(release, programs.own_programs())
    sink = start_sink()
    try:
        for title, installation in (("Postfix " + release, programs.real(release)), ("ours", ours)):
            for cached in (False, True):
                kind = "with a session cache" if cached else "without"
                print(f"{title:12} {kind:21}: {in_child(installation, options.n, cached)}", flush=True)
        print("the engine by itself, twenty connections at once, the sink beside it:")
        asyncio.run(engine(options.n, options.held))
    finally:
        sink.terminate()
        sink.wait()
        shutil.rmtree(ours.daemons)
    return 0


if __name__ == "__main__":
    sys.exit(main())
