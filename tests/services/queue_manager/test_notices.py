"""What bounce, defer and trace are asked, by a message's envelope; and what their failure means."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from postfixpy import log
from postfixpy.ipc import bounce
from postfixpy.ipc.channel import Channel
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome
from postfixpy.services.queue_manager.envelope import Envelope
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.notices import MAX_REQUESTS, Notices

from .spool import Spool

VIEW: Any = SimpleNamespace(
    bounce_service_name="bounce", defer_service_name="defer", trace_service_name="trace", disable_verp_bounces=False
)


class FakeReporter:
    """Notes the outcomes; each has the result `result`."""

    def __init__(self, result: int) -> None:
        self.result = result
        self.calls: list[tuple[str, int, str, Outcome]] = []

    async def defer(self, flags: int, queue_id: str, outcome: Outcome) -> int:
        self.calls.append(("defer", flags, queue_id, outcome))
        return self.result

    async def sent(self, flags: int, queue_id: str, outcome: Outcome) -> int:
        self.calls.append(("sent", flags, queue_id, outcome))
        return self.result


def message(**facts: object) -> Message:
    envelope = Envelope("ID", sender="s@x", encoding="8bit", sendopts=1, envelope_id="env", ret_flags=2, arrival=5)
    for name, value in facts.items():
        setattr(envelope, name, value)
    return Message(envelope, queued_at=0, active_arrival=7)


def ask(directory: Path, what: str, found: Message, status: int | None = 0) -> tuple[bool, list[list[tuple[str, str]]]]:
    """Call Notices.`what` with services that answer `status`; its result, and the requests with the service's name."""
    (directory / "private").mkdir(exist_ok=True)
    requests: list[list[tuple[str, str]]] = []

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        tasks = []

        def server(name: str) -> Any:
            def accepted() -> Channel:
                channel = Channel("client")

                async def serve() -> None:
                    channel.write(bounce.ANNOUNCEMENT)
                    requests.append([("service", name), *await channel.read_list()])
                    if status is not None:
                        channel.send_message(bounce.Status(status))
                    channel.close()

                loop.call_soon(lambda: tasks.append(loop.create_task(serve())))
                return channel

            return loop.create_unix_server(accepted, f"private/{name}")

        servers = [await server(name) for name in ("bounce", "defer", "trace")]
        result: bool = await getattr(Notices(VIEW, FakeReporter(0), (3, 11)), what)(found)  # type: ignore[arg-type]
        for running in servers:
            running.close()
        await asyncio.gather(*tasks)
        return result

    return asyncio.run(main()), requests


COMMON = [
    ("queue_name", "active"),
    ("queue_id", "ID"),
    ("encoding", "8bit"),
    ("sendopts", "1"),
    ("sender", "s@x"),
    ("envelope_id", "env"),
    ("ret_flags", "2"),
]


@pytest.mark.parametrize(
    ("what", "service", "request_code", "flags"),
    [("bounce", "bounce", 1, 0), ("expire", "defer", 1, 2), ("warn", "defer", 2, 0), ("trace", "trace", 5, 0x400)],
)
def test_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, service: str, request_code: int, flags: int
) -> None:
    monkeypatch.chdir(tmp_path)
    done, requests = ask(tmp_path, what, message(trace_flags=0x400))
    assert done
    assert requests == [
        [("service", service), ("nrequest", str(request_code)), ("flags", str(flags)), *COMMON],
    ]


@pytest.mark.parametrize(("what", "service", "flags"), [("bounce", "bounce", 0), ("expire", "defer", 2)])
def test_verp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, service: str, flags: int) -> None:
    monkeypatch.chdir(tmp_path)
    _, requests = ask(tmp_path, what, message(verp_delimiters="+="))
    head = [("service", service), ("nrequest", "3"), ("flags", str(flags))]
    assert requests == [[*head, *COMMON, ("verp_delimiters", "+=")]]


@pytest.mark.parametrize(
    ("what", "text"),
    [("bounce", "bounce"), ("expire", "bounce"), ("warn", "delay warning"), ("trace", "trace")],
)
def test_failure_defers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    texts: list[str] = []
    old = log.set_sink(lambda severity, line: texts.append(line))
    try:
        assert ask(tmp_path, what, message(), -1)[0] is False
    finally:
        log.set_sink(old)
    assert texts == [f"ID: status=deferred ({text} failed)"]


def test_requests_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of messages may end at once; the services get a few requests at a time."""
    running = most = 0

    async def request(*arguments: object, **named: object) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return True

    async def main() -> None:
        notices = Notices(VIEW, FakeReporter(0))  # type: ignore[arg-type]  # a fake
        assert all(await asyncio.gather(*(notices.bounce(message()) for _ in range(100))))
        # and one that is given up while it waits leaves nothing behind
        waiting = [asyncio.create_task(notices.bounce(message())) for _ in range(100)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    monkeypatch.setattr(bounce, "request", request)
    asyncio.run(main())
    assert most == MAX_REQUESTS


def test_recipients_without_agent() -> None:
    reason = DSN("4.3.0", reason="mail transport unavailable")
    for result, settled in ((-1, False), (0, True)):
        reporter = FakeReporter(result)
        notices = Notices(VIEW, reporter)  # type: ignore[arg-type]  # a fake
        people = [Recipient("a@x"), Recipient("b@x")]
        assert asyncio.run(notices.defer(message(trace_flags=0x100), people, reason)) is settled
        found = [(call, flags, queue_id, o.recipient.address, o.dsn) for call, flags, queue_id, o in reporter.calls]
        assert found == [("defer", 0x100, "ID", "a@x", reason), ("defer", 0x100, "ID", "b@x", reason)]
        stats = reporter.calls[0][3].stats
        assert (stats.incoming_arrival, stats.active_arrival, stats.agent_handoff) == (5, 7, 0)


def test_discarded_recipients_are_marked(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    queue_id = spool.submit(["double-bounce@x"], "active")
    path = Path(spool.queue.path("active", queue_id))
    offset = path.read_bytes().index(b"R\x0fdouble-bounce@x")
    recipient = Recipient("double-bounce@x", offset=offset)
    for result in (-1, 0):
        notices = Notices(VIEW, FakeReporter(result))  # type: ignore[arg-type]  # a fake
        with spool.queue.open("active", queue_id) as file:
            assert asyncio.run(notices.discard(message(), file, recipient)) is (result == 0)
        assert path.read_bytes()[offset : offset + 1] == (b"D" if result == 0 else b"R")
