import asyncio
import fcntl
import os

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import bounce
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.queue import Queue
from postfixpy.services import agent as agent_module
from postfixpy.services.agent import DeliveryAgent, reject_many_recipients
from tests.ipc.mail_system import MailSystem

from .agent_client import deliver, kinds, queue_message


@pytest.fixture
def system(tmp_path):
    with MailSystem(tmp_path) as mail_system:
        mail_system.service("private/defer", bounce.ANNOUNCEMENT)
        yield mail_system


def agent(method):
    """A delivery agent with this `deliver`."""
    return type("Agent", (DeliveryAgent,), {"deliver": method})


async def deliver_everything(self, job):
    status = 0
    for recipient in job.request.recipients:
        outcome = Outcome(recipient, "sent", DSN("2.0.0", "delivered", "ok"), "local", job.request.stats)
        status |= await job.disposition.sent(outcome)
    return status


def test_delivery(system):
    request = queue_message("a@example.com", "b@example.com")
    assert deliver(system, agent(deliver_everything), request) == (None, 0)
    assert kinds(request) == "DD"
    assert [line.partition(", delay")[0] for line in system.log] == [
        f"{request.queue_id}: to=<a@example.com>, relay=local",
        f"{request.queue_id}: to=<b@example.com>, relay=local",
    ]


def test_the_agent_stamps_the_hand_off_once(system):
    seen = []

    async def look(self, job):
        seen.append(job.request.stats.agent_handoff)
        return 0

    deliver(system, agent(look), queue_message("a@example.com"))
    passed_on = queue_message("a@example.com")
    passed_on.stats.agent_handoff = 1_700_000_001_000_000
    deliver(system, agent(look), passed_on)
    assert seen[0] > 1_700_000_001_000_000
    assert seen[1] == 1_700_000_001_000_000


def test_hop_status_is_returned(system):
    hop = DSN("4.4.1", "", "connect to mx: timed out")

    async def fail(self, job):
        job.hop = hop
        return -1

    assert deliver(system, agent(fail), queue_message("a@example.com")) == (hop, -1)


def test_request_of_an_older_queue_manager(system):
    request = queue_message("a@example.com")
    request.sendopts = 9
    seen = []

    async def look(self, job):
        seen.append(job.request.sendopts)
        return 0

    assert deliver(system, agent(look), request, release=(3, 7)) == (None, 0)
    assert seen == [9]


def test_queue_manager_that_changes_its_mind(system):
    async def main():
        from postfixpy.ipc.service import Context

        from .agent_client import serve

        one = agent(deliver_everything)(Context(None, system.view(), "agent", "agent"))
        await one.pre_jail()
        return await serve(one, b"", hang_up=True)

    assert system.run(main()) == [[("protocol", "delivery_request_protocol")]]
    assert system.log == []


def test_bad_request(system):
    async def main():
        from postfixpy.ipc.service import Context

        from .agent_client import serve

        one = agent(deliver_everything)(Context(None, system.view(), "agent", "agent"))
        await one.pre_jail()
        return await serve(one, b"flags\x001\0rubbish\0x\0\0")

    lists = system.run(main())
    assert dict(lists[1])["status"] == "4294967295"
    assert system.log == [
        "warning: unexpected attribute rubbish from unix.agent (expecting: queue_name)",
        "warning: deliver_request_get: error receiving common attributes",
    ]


def test_request_that_ends_before_its_recipients(system):
    async def main():
        from postfixpy.ipc import delivery
        from postfixpy.ipc.service import Context

        from .agent_client import serve

        one = agent(deliver_everything)(Context(None, system.view(), "agent", "agent"))
        await one.pre_jail()
        data = delivery.pack(queue_message("a@example.com"))
        return await serve(one, data[: data.index(b"original_recipient")], hang_up=True)

    system.run(main())
    assert system.log[-1] == "warning: deliver_request_get: error receiving recipient attributes"


def test_no_recipients(system):
    request = queue_message()
    assert deliver(system, agent(deliver_everything), request) == (None, -1)
    assert system.log == [f"warning: {request.queue_id}: no recipients in delivery request for destination example.com"]


def test_message_that_is_not_complete_is_refused_in_silence(system):
    request = queue_message("a@example.com")
    os.chmod(Queue("").path("active", request.queue_id), 0o600)
    assert deliver(system, agent(deliver_everything), request) == (None, -1)
    assert system.log == []


def test_message_that_has_gone(system):
    request = queue_message("a@example.com")
    os.unlink(Queue("").path("active", request.queue_id))
    assert deliver(system, agent(deliver_everything), request) == (None, -1)


def test_names_from_the_queue_manager_are_not_paths(system):
    request = queue_message("a@example.com")
    request.queue_name = "../active"
    assert deliver(system, agent(deliver_everything), request) == (None, -1)
    assert system.log == ["warning: bad mail queue name: ../active"]


def test_message_that_a_queue_manager_has_locked(system):
    request = queue_message("a@example.com")
    with Queue("").open("active", request.queue_id) as file:
        fcntl.flock(file.fd, fcntl.LOCK_EX)
        with pytest.raises(FatalError, match=r"^shared lock active/\w+: Resource temporarily unavailable$"):
            deliver(system, agent(deliver_everything), request)


def test_the_file_is_locked_while_it_is_delivered(system):
    async def look(self, job):
        with Queue("").open("active", job.request.queue_id) as file:
            fcntl.flock(file.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            with pytest.raises(BlockingIOError):
                fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0

    request = queue_message("a@example.com")
    assert deliver(system, agent(look), request) == (None, 0)
    with Queue("").open("active", request.queue_id) as file:
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_bug_defers_who_is_left_and_says_where(system):
    async def fail(self, job):
        first = job.request.recipients[0]
        await job.disposition.sent(Outcome(first, "sent", DSN("2.0.0", "", "ok"), "local", job.request.stats))
        raise KeyError("bug")

    request = queue_message("a@example.com", "b@example.com")
    assert deliver(system, agent(fail), request) == (None, -1)
    assert kinds(request) == "DR"
    assert system.log[1].startswith(f"warning: {request.queue_id}: KeyError: 'bug' at services/")
    assert "(fail)" in system.log[1] or "(_deliver)" in system.log[1]
    assert "to=<b@example.com>, relay=none" in system.log[2]
    assert "dsn=4.3.0, status=deferred (mail system error)" in system.log[2]


def test_a_fatal_error_ends_without_an_answer(system):
    async def fail(self, job):
        raise FatalError("empty nexthop hostname")

    with pytest.raises(FatalError, match="empty nexthop hostname"):
        deliver(system, agent(fail), queue_message("a@example.com"))


def test_flags_that_need_one_recipient(system):
    async def one_only(self, job):
        status = await reject_many_recipients(job, "smtp", "D")
        return 0 if status is None else status

    assert deliver(system, agent(one_only), queue_message("a@example.com")) == (None, 0)
    assert system.log == []
    request = queue_message("a@example.com", "b@example.com")
    assert deliver(system, agent(one_only), request) == (None, -1)
    assert system.log[0] == "warning: flag `D' requires smtp_destination_recipient_limit = 1"
    assert "to=<a@example.com>, relay=smtp, " in system.log[1]
    assert "dsn=4.3.5, status=deferred (mail system configuration error)" in system.log[2]


def test_a_request_that_takes_longer_than_daemon_timeout(system, monkeypatch):
    stopped = []

    async def wait(self, job):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(job.request.queue_id)

    monkeypatch.setattr(agent_module, "LEAST", 0)
    monkeypatch.setattr(DeliveryAgent, "watchdog_time", lambda self: 0.01)
    request = queue_message("a@example.com")
    assert deliver(system, agent(wait), request) is None
    assert stopped == [request.queue_id]
    assert (system.log, kinds(request)) == (["fatal: watchdog timeout"], "R")
