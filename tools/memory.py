#!/usr/bin/env python3
"""Memory of our one smtp process beside that of the real ones, with many deliveries in flight.

    tools/memory.py [--release 3.7] [--deliveries 500] [--sessions 2000]

Deliveries go to a server that answers everything but the end of the message. First the real smtp(8), a process for each
delivery, then ours, both under the real master and queue manager, in worlds of their own (real_postfix.py). Then ours
alone with `--sessions` deliveries, for the memory of one session. Proportional set size (PSS) counts a page that
several processes share in parts; resident set size (RSS) counts it in each.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from real_postfix import INSTALLED, PYTHON, RealPostfix

STALLING = """
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
count = 0

async def serve(reader, writer):
    global count
    writer.write(b"220 stall.example ESMTP\\r\\n")
    while line := await reader.readline():
        word = line[:4].upper()
        if word == b"EHLO":
            writer.write(b"250-stall.example\\r\\n250-PIPELINING\\r\\n250 8BITMIME\\r\\n")
        elif word == b"DATA":
            writer.write(b"354 go on\\r\\n")
            while await reader.readline() != b".\\r\\n":
                pass
            count += 1
            print(count, flush=True)
            await asyncio.Event().wait()
        else:
            writer.write(b"250 2.0.0 Ok\\r\\n")

async def main():
    server = await asyncio.start_server(serve, "10.0.0.1", 25, backlog=4000)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def memory(pids: list[int]) -> tuple[int, int]:
    """PSS and RSS of processes together, bytes."""
    pss = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
    return pss, rss


def measure(release: str, deliveries: int, ours: bool) -> tuple[int, int, int, int]:
    """Processes, PSS and RSS of the client with so many deliveries in flight, and PSS with one (its process's own)."""
    settings = {
        "default_process_limit": str(deliveries + 50),
        "initial_destination_concurrency": str(deliveries),
        "default_destination_concurrency_limit": str(deliveries),
        "qmgr_message_active_limit": str(deliveries + 50),
        "qmgr_message_recipient_limit": str(4 * deliveries + 100),
        "smtp_destination_recipient_limit": "1",
        "default_recipient_limit": str(4 * deliveries + 100),
        "in_flow_delay": "0",
    }
    zone = ["example.com MX 10 stall.example", "stall.example A 10.0.0.1", "client.example A 10.0.0.1"]
    with RealPostfix(release, ours=["smtp"] if ours else [], zone=zone, **settings) as system:
        stall = system.popen(PYTHON, "-c", STALLING, stdout=-1)
        assert stall.stdout is not None
        stall.stdout.readline()
        system.send("a@client.example", "first@example.com")
        stall.stdout.readline()
        time.sleep(1)
        one, _ = memory(clients(system))
        per_message = 250
        for start in range(1, deliveries, per_message):
            system.send(
                "a@client.example", *(f"u{n}@example.com" for n in range(start, min(start + per_message, deliveries)))
            )
        for _ in range(1, deliveries):
            if not stall.stdout.readline():
                raise SystemExit("the stalling server has ended")
        time.sleep(2)
        pids = clients(system)
        return len(pids), *memory(pids), one


def clients(system: RealPostfix) -> list[int]:
    """The client's processes; ours has a doorkeeper, which counts."""
    return sorted(system.processes("smtp"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", default=INSTALLED)
    parser.add_argument("--deliveries", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=2000)
    options = parser.parse_args()
    mega = 1 << 20
    for name, ours in (("real", False), ("ours", True)):
        processes, pss, rss, _ = measure(options.release, options.deliveries, ours)
        what = f"{options.deliveries} deliveries in flight, Postfix {options.release}, {name} smtp"
        print(f"{what}: {processes} processes, PSS {pss / mega:.0f} MB, RSS {rss / mega:.0f} MB", flush=True)
    processes, pss, rss, one = measure(options.release, options.sessions, True)
    each = (pss - one) / options.sessions / 1024
    print(
        f"{options.sessions} sessions in flight in one process of ours (and its doorkeeper): PSS {pss / mega:.0f} MB, "
        f"RSS {rss / mega:.0f} MB; with one session PSS {one / mega:.0f} MB: {each:.1f} KB a session"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
