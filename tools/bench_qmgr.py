"""How many messages a second does the queue manager get through?

    python tools/bench_qmgr.py [--messages N] [--recipients N] [--domains N] [--postfix]

Fills a queue with messages, then measures from start to empty queue. Without --postfix: our queue manager, with
agents and a resolver that do nothing but answer, in a process of their own; `stall` is the longest time (seconds) for
which its event loop did one thing. With --postfix (as root): under the real master(8), with the real trivial-rewrite
and discard agents; first our queue manager, then the real one, and the ratio.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postfixpy.ipc.channel import Channel
from postfixpy.ipc.delivery import ANNOUNCEMENT, Request, RequestRecipient, Result
from postfixpy.ipc.rewrite import ANNOUNCEMENT as RESOLVER_ANNOUNCEMENT
from postfixpy.ipc.rewrite import Resolve, ResolveReply
from postfixpy.mail.queue import INCOMING, Queue
from postfixpy.mail.records import Kind, Sizes, encode_record, encode_sizes, encode_time

QUEUES = ("incoming", "active", "deferred", "corrupt", "hold", "defer", "bounce", "trace", "private", "public", "pid")


def fill(spool: Path, messages: int, recipients: int, domains: int, owner: str = "") -> None:
    """Write `messages` queue files to `spool`/incoming, as cleanup writes them."""
    chance = random.Random(1)
    queue = Queue(str(spool))
    size_length = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0)))
    content = encode_record(Kind.NORMAL, b"Subject: test") + encode_record(Kind.NORMAL, b"")
    for n in range(messages):
        now = time.time_ns() // 1000
        envelope = encode_record(Kind.TIME, encode_time(now)) + encode_record(Kind.ATTRIBUTE, b"rewrite_context=local")
        envelope += encode_record(Kind.FROM, b"sender@bench.example")
        for r in range(recipients):
            address = f"u{n}.{r}@d{chance.randrange(domains)}.example"
            envelope += encode_record(Kind.ATTRIBUTE, f"dsn_orig_rcpt=rfc822;{address}".encode())
            envelope += encode_record(Kind.ORIGINAL, address.encode()) + encode_record(Kind.RECIPIENT, address.encode())
        envelope += encode_record(Kind.MESSAGE, b"")
        sizes = Sizes(len(content), size_length + len(envelope), recipients, 0, 14, 0)
        end = encode_record(Kind.EXTRACTED, b"") + encode_record(Kind.END, b"")
        with queue.create(INCOMING, now=now) as file:
            file.write(encode_sizes(sizes) + envelope + content + end)
            os.fchmod(file.fd, 0o700)
            if owner:
                shutil.chown(file.path, owner)


def left(spool: Path) -> int:
    """Messages that are still queued."""
    return sum(1 for name in ("incoming", "active", "deferred") for p in (spool / name).rglob("?*") if p.is_file())


# Pretended agents and resolver


async def _peers(spool: Path, delay: float) -> None:
    tasks = set()
    queue = Queue(str(spool))

    async def agent(channel: Channel) -> None:
        channel.write(ANNOUNCEMENT)
        if not await channel.wait_readable():
            return
        head = await channel.read(Request)
        with queue.open(head.queue_name, head.queue_id) as file:
            for _ in range(head.recipient_count):
                file.mark_done((await channel.read(RequestRecipient)).offset)
        if delay:
            await asyncio.sleep(delay)
        channel.send_message(Result.of(None, 0))
        await channel.wait_readable()

    async def resolver(channel: Channel) -> None:
        channel.write(RESOLVER_ANNOUNCEMENT)
        while await channel.wait_readable():
            query = await channel.read(Resolve)
            domain = query.address.rpartition("@")[2]
            channel.send_message(ResolveReply(0, "smtp", domain, query.address, 1 << 12))

    def serve(name: str, work: object) -> object:
        loop = asyncio.get_running_loop()

        def accepted() -> Channel:
            channel = Channel("qmgr", timeout=None)

            async def client() -> None:
                try:
                    await work(channel)  # type: ignore[operator]  # one of the two above
                finally:
                    channel.close()

            def started() -> None:
                task = loop.create_task(client())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            loop.call_soon(started)
            return channel

        return loop.create_unix_server(accepted, str(spool / "private" / name), backlog=1000)

    await serve("smtp", agent)  # type: ignore[misc]  # a coroutine
    await serve("rewrite", resolver)  # type: ignore[misc]
    await asyncio.Event().wait()


async def _longest_stall(limit: list[float]) -> None:
    """Keep limit[0] at the longest time, in seconds, that the event loop was busy with one thing."""
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0)
        limit[0] = max(limit[0], time.perf_counter() - start)
        await asyncio.sleep(0.002)


async def _run_ours(spool: Path, stall: list[float]) -> float:
    from postfixpy import config
    from postfixpy.ipc.service import Context
    from postfixpy.services.qmgr import QueueManager

    configuration = config.load(str(spool / "etc"))
    view = configuration.view(process_name="qmgr", service_name="qmgr")
    service = QueueManager(Context(configuration, view, "qmgr", "qmgr"))
    await service.pre_jail()
    start = time.perf_counter()
    await service.start()
    ticker = asyncio.create_task(_longest_stall(stall))
    manager = service.manager
    while manager.scheduler.messages or manager.scans.incoming.running:  # noqa: ASYNC110  # nothing announces the end
        await asyncio.sleep(0.01)
    elapsed = time.perf_counter() - start
    ticker.cancel()
    await service.stop()
    return elapsed


def bench_alone(arguments: argparse.Namespace) -> None:
    """Ours with pretended peers."""
    with tempfile.TemporaryDirectory() as name:
        spool = Path(name)
        for queue in (*QUEUES, "etc"):
            (spool / queue).mkdir()
        (spool / "etc" / "main.cf").write_text(f"queue_directory = {spool}\nmyhostname = bench.example\n")
        (spool / "etc" / "master.cf").write_text(f"smtp unix - - n - {arguments.processes} smtp\n")
        fill(spool, arguments.messages, arguments.recipients, arguments.domains)
        peers = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(_peers(spool, arguments.delay)))
        peers.start()
        os.chdir(spool)
        while not (spool / "private" / "rewrite").exists():
            time.sleep(0.01)
        stall = [0.0]
        used = resource.getrusage(resource.RUSAGE_SELF)
        if arguments.profile:
            import cProfile

            profile = cProfile.Profile()
            elapsed = profile.runcall(asyncio.run, _run_ours(spool, stall))
            profile.dump_stats(arguments.profile)
        else:
            elapsed = asyncio.run(_run_ours(spool, stall))
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        report("ours, pretended peers", arguments, elapsed, cpu=cpu, memory=now.ru_maxrss, stall=stall[0])
        print(f"left in the queue: {left(spool)}")
        peers.terminate()
        os.chdir("/")


def bench_postfix(arguments: argparse.Namespace) -> None:
    """Ours and the real one, with real peers."""
    from tests.services.queue_manager.real_system import RealSystem

    times = {}
    for ours in (True, False):
        name = "ours" if ours else "real"
        with RealSystem(ours=ours, default_transport="discard", relayhost="") as system:
            system.postfix("stop")
            fill(system.queue, arguments.messages, arguments.recipients, arguments.domains, owner="postfix")
            start = time.perf_counter()
            subprocess.run(["postfix", "-c", str(system.config), "start"], capture_output=True, check=False)
            while left(system.queue):
                time.sleep(0.05)
            times[name] = time.perf_counter() - start
        report(f"{name}, real peers", arguments, times[name])
    print(json.dumps({"ratio": round(times["real"] / times["ours"], 3)}))


def report(what: str, arguments: argparse.Namespace, elapsed: float, **more: float) -> None:
    """One line of JSON."""
    numbers = {
        "what": what,
        "messages": arguments.messages,
        "recipients": arguments.recipients,
        "seconds": round(elapsed, 2),
        "messages/s": round(arguments.messages / elapsed),
        "recipients/s": round(arguments.messages * arguments.recipients / elapsed),
    }
    print(json.dumps({**numbers, **{name: round(value, 3) for name, value in more.items()}}), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Queue manager benchmark.")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a pretended delivery takes")
    parser.add_argument("--postfix", action="store_true")
    parser.add_argument("--profile", default="")
    arguments = parser.parse_args()
    if arguments.postfix:
        bench_postfix(arguments)
    else:
        bench_alone(arguments)


if __name__ == "__main__":
    main()
