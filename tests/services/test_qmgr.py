"""The service as a whole, from main.cf and master.cf to its sockets."""

import asyncio
import os
from pathlib import Path

import pytest

from postfixpy import config, log
from postfixpy.errors import FatalError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.rewrite import ANNOUNCEMENT, Resolve, ResolveReply
from postfixpy.ipc.service import Context
from postfixpy.services.qmgr import QueueManager

from .queue_manager.spool import Spool


def service(directory: Path, *settings: str, words: tuple[str, ...] = ()) -> QueueManager:
    (directory / "main.cf").write_text(
        "\n".join((f"queue_directory = {directory}", "myhostname = me.example", *settings))
    )
    (directory / "master.cf").write_text(
        "smtp unix - - n - 7 smtp\nfree unix - - n - 0 smtp\nqmgr unix n - n 300 1 qmgr\n"
    )
    configuration = config.load(str(directory))
    view = configuration.view(process_name="qmgr", service_name="qmgr")
    return QueueManager(Context(configuration, view, "qmgr", "qmgr", words=list(words)))


def test_it_takes_no_arguments(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="unexpected command-line argument: what"):
        service(tmp_path, words=("what",))


def test_process_limits_come_from_master_cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = service(tmp_path)
    asyncio.run(found.pre_jail())
    assert [found._transport(name).process_limit for name in ("smtp", "free", "unknown")] == [7, 0, 0]


def test_its_own_time_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = service(tmp_path, "qmgr_daemon_timeout = 77s", "qmgr_ipc_timeout = 33s")
    asyncio.run(found.pre_jail())
    assert (found.watchdog_time(), found.reporter.timeout) == (77, 33)


def test_a_fatal_error_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    texts: list[str] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    old = log.set_sink(lambda severity, text: texts.append(f"{severity}: {text}"))
    service(tmp_path)._fatal(FatalError("no more"))
    log.set_sink(old)
    assert (ended, texts) == ([1], ["fatal: no more"])


def test_mail_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triggered, resolved over private/rewrite, delivered over private/smtp, removed."""
    spool = Spool(tmp_path)
    monkeypatch.chdir(tmp_path)

    async def resolver(channel: Channel) -> None:
        channel.write(ANNOUNCEMENT)
        while await channel.wait_readable():
            query = await channel.read(Resolve)
            channel.send_message(ResolveReply(0, "smtp", "hop.example", query.address, 1 << 12))
        channel.close()
        await channel.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def accepted() -> Channel:
            channel = Channel("qmgr", timeout=None)
            loop.call_soon(lambda: tasks.append(loop.create_task(resolver(channel))))
            return channel

        server = await loop.create_unix_server(accepted, "private/rewrite")
        await spool.agent("smtp")
        found = service(tmp_path)
        await found.pre_jail()
        await found.start()
        spool.manager = found.manager
        queue_id = spool.submit(["a@x", "b@y"])
        os.utime(spool.queue.path("incoming", queue_id))
        await found.triggered(b"I")
        await spool.idle()
        assert spool.where(queue_id) == []
        assert [(r.nexthop, len(r.recipients)) for r in spool.requests] == [("hop.example", 2)]
        await found.stop()
        await spool.stop()
        server.close()
        await asyncio.gather(*tasks)

    asyncio.run(main())
