"""The queue manager with real queue files and pretended agents: what happens to messages and files."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.ipc.rewrite import RESOLVE_CLASS_LOCAL, RESOLVE_FLAG_ERROR, RESOLVE_FLAG_FAIL, Resolved
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.mail.dsn import DSN
from postfixpy.mail.queue import EXPIRE, UNTHROTTLE
from postfixpy.mail.records import Kind, encode_record
from postfixpy.services.queue_manager.settings import TransportSettings

from .spool import Answer, Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    monkeypatch.chdir(tmp_path)
    return Spool(tmp_path)


@pytest.fixture
def texts() -> Iterator[list[str]]:
    out: list[str] = []
    old = log.set_sink(lambda severity, text: out.append(text if severity == "info" else f"{severity}: {text}"))
    yield out
    log.set_sink(old)


def play(spool: Spool, scenario: Callable[[], Awaitable[None]], *services: str) -> None:
    """Start the manager, play, wait until it is idle, stop."""

    async def main() -> None:
        await spool.start(*(services or ("smtp", "retry", "error")))
        try:
            await scenario()
            await spool.idle()
        finally:
            await spool.stop()

    asyncio.run(main())


async def nothing() -> None:
    pass


def write(spool: Spool, queue: str, queue_id: str, data: bytes) -> None:
    Path(spool.queue.path(queue, queue_id)).write_bytes(data)


def read(spool: Spool, queue: str, queue_id: str) -> bytes:
    return Path(spool.queue.path(queue, queue_id)).read_bytes()


def test_message_is_delivered_and_removed(spool: Spool, texts: list[str]) -> None:
    queue_id = spool.submit(["a@one.example", "b@two.example", "c@one.example"])
    play(spool, nothing)
    assert spool.where(queue_id) == []
    requests = {r.nexthop: [p.address for p in r.recipients] for r in spool.requests}
    assert requests == {"one.example": ["a@one.example", "c@one.example"], "two.example": ["b@two.example"]}
    request = spool.requests[0]
    assert (request.queue_name, request.queue_id) == ("active", queue_id)
    assert (request.sender, request.size) == ("s@example.com", 14)
    assert request.flags == 3
    assert request.rewrite_context == "local"
    assert texts == [f"{queue_id}: from=<s@example.com>, size=14, nrcpt=3 (queue active)", f"{queue_id}: removed"]


def test_trigger_brings_new_mail(spool: Spool) -> None:
    async def scenario() -> None:
        await spool.idle()
        first = spool.submit(["a@x"])
        spool.manager.triggered(b"I")
        await spool.idle()
        assert spool.where(first) == []
        second = spool.submit(["a@x"])
        spool.manager.triggered(b"W")
        await spool.idle()
        assert spool.where(second) == []

    play(spool, scenario)
    assert len(spool.requests) == 2


def test_deferred_mail_backs_off(spool: Spool) -> None:
    async def refuse(service: str, request: DeliveryRequest) -> Answer:
        return None, -1

    spool.answer = refuse
    fresh = spool.submit(["a@x"])
    hour = spool.submit(["a@x"], arrival=spool.now - 3600)
    day = spool.submit(["a@x"], arrival=spool.now - 86400)
    play(spool, nothing)
    assert [spool.where(q) for q in (fresh, hour, day)] == [["deferred"]] * 3
    assert [spool.due_in(q) for q in (fresh, hour, day)] == [300, 3600, 4000]


def test_deferred_mail_waits_for_its_time(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"], "deferred")
    os.utime(spool.queue.path("deferred", queue_id), (spool.now + 100, spool.now + 100))

    async def scenario() -> None:
        await spool.idle()
        spool.manager.triggered(b"D")
        await spool.idle()
        assert spool.where(queue_id) == ["deferred"]
        spool.now += 101
        spool.manager.triggered(b"D")
        await spool.idle()
        assert spool.where(queue_id) == []

    play(spool, scenario)


def test_flush_ignores_times_and_dead_destinations(spool: Spool) -> None:
    async def refuse(service: str, request: DeliveryRequest) -> Answer:
        if service == "retry" or len(spool.requests) == 1:
            return (None, -1) if service == "retry" else (DSN("4.4.1", reason="no route"), -1)
        return await spool._deliver_all(service, request)

    spool.answer = refuse
    spool.transports["smtp"] = TransportSettings(initial_concurrency=1)
    queue_id = spool.submit(["a@x"])

    async def scenario() -> None:
        await spool.idle()
        assert spool.where(queue_id) == ["deferred"]
        spool.manager.triggered(b"A")
        spool.manager.triggered(b"D")
        await spool.idle()
        assert spool.requests[-1].nexthop == "4.4.1 delivery temporarily suspended: no route"
        spool.manager.triggered(b"DFIA")  # sendmail -q
        await spool.idle()
        assert spool.where(queue_id) == []

    play(spool, scenario)


def test_flush_of_one_message(spool: Spool) -> None:
    dead = DSN("4.4.1", reason="no route")

    async def answer(service: str, request: DeliveryRequest) -> Answer:
        return (None, -1) if service == "retry" else (dead, -1)

    spool.answer = answer
    spool.policy.defer_transports = frozenset(["smtp"])
    one = spool.submit(["a@x"])
    two = spool.submit(["a@x"], mode=UNTHROTTLE)
    play(spool, nothing)
    assert {r.queue_id: r.nexthop for r in spool.requests} == {one: "4.3.2 deferred transport", two: "x"}
    assert os.stat(spool.queue.path("deferred", two)).st_mode & 0o777 == 0o700


def test_bounce_log_is_returned_when_all_are_tried(spool: Spool) -> None:
    async def bounce(service: str, request: DeliveryRequest) -> Answer:
        write(spool, "bounce", request.queue_id, b"something")
        return await spool._deliver_all(service, request)

    spool.answer = bounce
    queue_id = spool.submit(["a@x"])
    play(spool, nothing)
    assert spool.notices.calls == [f"bounce {queue_id}"]
    assert spool.where(queue_id) == []


def test_bounce_that_cannot_be_sent_defers(spool: Spool) -> None:
    async def bounce(service: str, request: DeliveryRequest) -> Answer:
        write(spool, "bounce", request.queue_id, b"something")
        return await spool._deliver_all(service, request)

    spool.answer = bounce
    spool.notices.fail = {"bounce"}
    queue_id = spool.submit(["a@x"])
    play(spool, nothing)
    assert spool.where(queue_id) == ["deferred"]
    # The next attempt has nobody to deliver to, and asks again.
    spool.notices.fail = set()
    spool.now += 301
    spool.manager = None  # type: ignore[assignment]
    (spool.directory / "private" / "smtp").unlink()
    (spool.directory / "private" / "retry").unlink()
    (spool.directory / "private" / "error").unlink()
    play(spool, nothing)
    assert spool.notices.calls == [f"bounce {queue_id}", f"bounce {queue_id}"]
    assert spool.where(queue_id) == []


def test_expired_mail_is_kept_while_its_bounce_cannot_be_sent(spool: Spool) -> None:
    async def bounce_one(service: str, request: DeliveryRequest) -> Answer:
        write(spool, "bounce", request.queue_id, b"something")
        return None, -1

    spool.answer = bounce_one
    spool.notices.fail = {"bounce"}
    queue_id = spool.submit(["a@x"], arrival=spool.now - 6 * 86400)
    play(spool, nothing)
    assert spool.notices.calls == [f"bounce {queue_id}", f"expire {queue_id}"]
    assert spool.where(queue_id) == ["deferred"]


def test_a_bug_in_the_scheduler_ends_the_process(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"])

    def broken() -> list[object]:
        raise IndexError("oops")

    async def main() -> None:
        manager = await spool.start("smtp")
        manager.scheduler.decide = broken  # type: ignore[method-assign,assignment]
        while not spool.fatal:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0)
        await spool.stop()

    asyncio.run(main())
    assert spool.fatal[0].startswith("queue manager: unexpected IndexError at services/queue_manager/manager.py:")
    assert spool.where(queue_id) == ["active"], "the next one takes it up"


def test_empty_bounce_log_is_removed(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"])
    Path(spool.queue.path("bounce", queue_id)).touch()
    play(spool, nothing)
    assert spool.notices.calls == []
    assert not os.path.exists(spool.queue.path("bounce", queue_id))


def test_old_mail_is_returned(spool: Spool, texts: list[str]) -> None:
    async def refuse(service: str, request: DeliveryRequest) -> Answer:
        return None, -1

    spool.answer = refuse
    queue_id = spool.submit(["a@x"], arrival=spool.now - 5 * 86400)
    play(spool, nothing)
    assert spool.notices.calls == [f"expire {queue_id}"]
    assert f"{queue_id}: from=<s@example.com>, status=expired, returned to sender" in texts
    assert texts[-1] == f"{queue_id}: removed"


def test_double_bounces_have_a_lifetime_of_their_own(spool: Spool) -> None:
    async def refuse(service: str, request: DeliveryRequest) -> Answer:
        return None, -1

    spool.answer = refuse
    spool.settings.bounce_lifetime = 86400
    notice = spool.submit(["a@x"], sender="", arrival=spool.now - 86400)
    mail = spool.submit(["a@x"], arrival=spool.now - 86400)
    play(spool, nothing)
    assert (spool.where(notice), spool.where(mail)) == ([], ["deferred"])


def test_sender_is_warned_once(spool: Spool) -> None:
    async def refuse(service: str, request: DeliveryRequest) -> Answer:
        return None, -1

    spool.answer = refuse
    when = b"%15d" % int(spool.now + 3600)
    queue_id = spool.submit(["a@x"], extra=encode_record(Kind.WARN, when))

    async def scenario() -> None:
        await spool.idle()
        assert spool.notices.calls == []
        spool.now += 3599
        spool.manager.triggered(b"D")
        await spool.idle()
        assert spool.notices.calls == [f"warn {queue_id}"]
        data = read(spool, "deferred", queue_id)
        assert encode_record(Kind.WARN, b"%15d" % -1) in data
        spool.now += 4000
        spool.manager.triggered(b"D")
        await spool.idle()
        assert spool.notices.calls == [f"warn {queue_id}"]

    play(spool, scenario)


def test_delay_cleared_is_reported_when_asked_for(spool: Spool) -> None:
    spool.settings.delay_cleared = True
    queue_id = spool.submit(["a@x"], extra=encode_record(Kind.WARN, b"%15d" % -1))
    play(spool, nothing)
    assert spool.requests[0].flags == 3 | 0x2000
    assert spool.notices.calls == [f"trace {queue_id}"]


def test_trace_request_is_killed_after_the_report(spool: Spool) -> None:
    spool.answer = lambda service, request: _later(-1)
    queue_id = spool.submit(["a@x"], extra=encode_record(Kind.ATTRIBUTE, b"trace_flags=1024"))
    play(spool, nothing)
    assert spool.notices.calls == [f"trace {queue_id}"]
    data = Path(spool.queue.path("deferred", queue_id)).read_bytes()
    assert b"K\x10trace_flags=1024" in data


async def _later(status: int) -> Answer:
    return None, status


def test_force_expired_mail(spool: Spool, texts: list[str]) -> None:
    with_log = spool.submit(["a@x"], mode=EXPIRE)
    Path(spool.queue.path("defer", with_log)).write_bytes(b"why")
    without = spool.submit(["a@x"], mode=EXPIRE)
    play(spool, nothing)
    assert spool.notices.calls == [f"expire {with_log}", f"expire {without}"]
    assert [(r.queue_id, r.nexthop) for r in spool.requests] == [(without, "4.7.0 message is administratively expired")]
    assert f"{with_log}: from=<s@example.com>, status=force-expired, returned to sender" in texts


def test_corrupt_file_is_set_aside(spool: Spool, texts: list[str]) -> None:
    file = spool.queue.create("incoming", now=1)
    with file:
        file.write(b"nonsense")
        file.commit()
    os.utime(file.path, (spool.now, spool.now))
    play(spool, nothing)
    assert spool.where(file.id) == ["corrupt"]
    assert texts[-1] == f'warning: saving corrupt file "{file.id}" from queue "active" to queue "corrupt"'


def test_agent_that_finds_the_file_damaged(spool: Spool) -> None:
    async def damaged(service: str, request: DeliveryRequest) -> Answer:
        os.chmod(spool.queue.path("active", request.queue_id), 0o600)
        return None, -1

    spool.answer = damaged
    queue_id = spool.submit(["a@x"])
    play(spool, nothing)
    assert spool.where(queue_id) == ["corrupt"]


def test_incomplete_file_is_left_alone(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"])
    os.chmod(spool.queue.path("incoming", queue_id), 0o600)
    play(spool, nothing)
    assert spool.where(queue_id) == ["incoming"]


def test_locked_file_comes_back_in_a_minute(spool: Spool, texts: list[str]) -> None:
    import fcntl

    queue_id = spool.submit(["a@x"])

    async def scenario() -> None:
        await spool.idle()
        assert spool.where(queue_id) == ["incoming"]
        assert spool.due_in(queue_id, "incoming") == 60
        assert texts == [f"{queue_id}: skipped, still being delivered"]
        file.close()
        timer = spool.manager._cool_timer
        assert timer is not None
        assert 60 < timer.when() - asyncio.get_running_loop().time() <= 61
        spool.now += 61
        spool.manager._cooled_down()
        await spool.idle()
        assert spool.where(queue_id) == []

    with open(spool.queue.path("incoming", queue_id), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        play(spool, scenario)


def test_active_mail_is_recovered_and_done_recipients_are_respected(spool: Spool) -> None:
    queue_id = spool.submit(["a@x", "b@x"], "active")
    path = spool.queue.path("active", queue_id)
    data = Path(path).read_bytes()
    with open(path, "r+b") as file:
        file.seek(data.index(b"R\x03a@x"))
        file.write(b"D")
    play(spool, nothing)
    assert [[p.address for p in r.recipients] for r in spool.requests] == [["b@x"]]
    assert spool.where(queue_id) == []


def test_dead_transport(spool: Spool, texts: list[str]) -> None:
    queue_id = spool.submit(["a@x"])
    play(spool, nothing, "retry")
    assert spool.requests[0].nexthop == "4.3.0 mail transport unavailable"
    assert "warning: connect to transport private/smtp: No such file or directory" in texts
    assert spool.where(queue_id) == ["deferred"]


def test_no_agents_at_all(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"])
    play(spool, nothing, "error")
    assert spool.notices.calls == [f"defer {queue_id} a@x 4.3.0 mail transport unavailable"]
    assert spool.where(queue_id) == ["deferred"]


def test_agent_that_dies(spool: Spool, texts: list[str]) -> None:
    async def die(service: str, request: DeliveryRequest) -> Answer:
        return None

    spool.answer = die
    queue_id = spool.submit(["a@x"])
    play(spool, nothing)
    assert spool.where(queue_id) == ["deferred"]
    assert texts[1:] == [
        "warning: premature end-of-input on private/smtp socket while reading input attribute name",
        "warning: private/smtp socket: malformed response",
    ]


def test_resolver_problems(spool: Spool) -> None:
    routes = spool.resolver.routes
    routes["bad"] = Resolved("smtp", "x", "bad", RESOLVE_FLAG_ERROR)
    routes["later@x"] = Resolved("smtp", "x", "later@x", RESOLVE_FLAG_FAIL)
    routes["double-bounce@here"] = Resolved("local", "here", "double-bounce@here", RESOLVE_CLASS_LOCAL)
    routes["moved@x"] = Resolved("smtp", "y", "other@y", 0)
    queue_id = spool.submit(["bad", "later@x", "double-bounce@here", "moved@x"])
    play(spool, nothing)
    assert sorted((r.nexthop, r.recipients[0].address) for r in spool.requests) == [
        ("4.3.0 address resolver failure", "later@x"),
        ("5.1.3 bad address syntax", "bad"),
        ("y", "other@y"),
    ]
    assert spool.notices.calls == [f"discard {queue_id} double-bounce@here"]


def test_content_filter_and_redirect(spool: Spool) -> None:
    filtered = spool.submit(["a@x"], extra=encode_record(Kind.FILTER, b"scan:[127.0.0.1]:10025"))
    bare = spool.submit(["b@x"], extra=encode_record(Kind.FILTER, b"scan:"))
    redirected = spool.submit(["a@x", "b@x"], extra=encode_record(Kind.REDIRECT, b"postmaster"))
    play(spool, nothing, "smtp", "scan")
    found = {r.queue_id: (r.nexthop, [p.address for p in r.recipients]) for r in spool.requests}
    assert found == {
        filtered: ("[127.0.0.1]:10025", ["a@x"]),
        bare: ("x", ["b@x"]),
        redirected: ("local.example", ["postmaster@local.example"]),
    }


def test_large_message_is_read_in_batches(spool: Spool) -> None:
    spool.settings.recipient_limit = 20
    spool.settings.recipient_minimum = 5
    spool.transports["smtp"] = TransportSettings(recipient_limit=10, refill_limit=5, destination_recipient_limit=7)
    everybody = [f"u{n}@d{n % 9}" for n in range(500)]
    queue_id = spool.submit(everybody)
    most = 0

    async def count(service: str, request: DeliveryRequest) -> Answer:
        nonlocal most
        most = max(most, spool.manager.scheduler.recipients)
        return await spool._deliver_all(service, request)

    spool.answer = count
    play(spool, nothing)
    assert sorted(p.address for r in spool.requests for p in r.recipients) == sorted(everybody)
    assert most <= 30
    assert spool.where(queue_id) == []


def test_unexpected_errors_defer_the_message(spool: Spool, texts: list[str]) -> None:
    async def broken(sender: str, address: str, *, verify: bool = False) -> Resolved:
        raise KeyError("surprise")

    spool.resolver.resolve = broken  # type: ignore[method-assign]
    queue_id = spool.submit(["a@x"])
    play(spool, nothing)
    assert spool.where(queue_id) == ["deferred"]
    what = "message deferred, while reading the message: unexpected KeyError at services/queue_manager/intake.py:"
    assert texts[-1].startswith(f"warning: {queue_id}: {what}")


def test_unexpected_errors_at_the_end_defer_the_message(spool: Spool) -> None:
    queue_id = spool.submit(["a@x"])

    def broken(queue_id: str) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        spool.manager.store.remove = broken  # type: ignore[method-assign]

    play(spool, scenario)
    assert spool.where(queue_id) == ["deferred"]


def test_active_limit_holds(spool: Spool) -> None:
    spool.settings.active_limit = 3
    most = 0

    async def slow(service: str, request: DeliveryRequest) -> Answer:
        nonlocal most
        await asyncio.sleep(0.001)
        most = max(most, len(os.listdir(spool.directory / "active")))
        return await spool._deliver_all(service, request)

    spool.answer = slow
    ids = [spool.submit(["a@x"]) for _ in range(12)]
    play(spool, nothing)
    assert most <= 3
    assert all(spool.where(q) == [] for q in ids)
