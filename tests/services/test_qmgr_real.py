"""Our queue manager under the real master(8), with the real cleanup, trivial-rewrite, smtp, bounce, error and showq."""

import random
import re
import shutil
import time

import pytest

from .queue_manager.real_system import DAEMONS, RealSystem

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "qmgr").exists(), reason="no real Postfix"),
    pytest.mark.skipif(shutil.which("postfix") is None, reason="no real Postfix"),
    pytest.mark.timeout(300),
]

QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "4s", "queue_run_delay": "1s"}


def test_sent_deferred_and_refused() -> None:
    rules = ("rcpt refuse@* 550 5.1.1 no such user", "rcpt later@* times=1 450 4.2.0 greylisted")
    with RealSystem(*rules, **QUICK) as system:
        system.send("me@real.example", "ok@a.example", "ok@b.example", "refuse@a.example", "later@b.example")
        system.wait(lambda: ": removed" in str(system.log()), "the end")
        system.wait(lambda: not system.queued(), "an empty queue")
        log = system.log()
        assert sum("status=sent" in line for line in log) == 4, "three recipients and the notice"
        assert sum("status=bounced" in line for line in log) == 1
        assert sum("status=deferred" in line for line in log) == 1
        assert any(line.startswith("bounce: ") and "sender non-delivery notification" in line for line in log)
        assert sorted(system.sink.recipients()) == [
            "later@b.example",
            "me@real.example",
            "ok@a.example",
            "ok@b.example",
        ]
        assert not [line for line in log if re.search("warning|fatal|panic", line) and "symlink" not in line]


def test_dead_destination_then_alive() -> None:
    with RealSystem("connect * times=5 close 421 go away", **QUICK) as system:
        for n in range(8):
            system.send("me@real.example", f"u{n}@a.example")
        system.wait(lambda: len(system.sink.recipients()) == 8, "all mail at the sink")
        system.wait(lambda: not system.queued(), "an empty queue")
        assert any("delivery temporarily suspended" in line and line.startswith("error: ") for line in system.log())
        assert len(set(system.sink.recipients())) == 8


def test_expiry_warning_flush_and_force_expire() -> None:
    slow = {"minimal_backoff_time": "1000s", "maximal_queue_lifetime": "3s", "delay_warning_time": "1s"}
    with RealSystem("rcpt *@a.example 450 4.2.0 not now", **slow) as system:
        system.send("me@real.example", "u@a.example")
        system.wait(lambda: "status=deferred" in str(system.log()), "the first attempt")
        time.sleep(1.2)
        system.command("postqueue", "-f")
        system.wait(lambda: "sender delay notification" in str(system.log()), "the warning")
        time.sleep(2)
        system.command("postqueue", "-f")
        system.wait(lambda: "status=expired, returned to sender" in str(system.log()), "expiry")
        system.wait(lambda: not system.queued(), "an empty queue")
    with RealSystem("rcpt *@a.example 450 4.2.0 not now", minimal_backoff_time="1000s") as system:
        system.send("me@real.example", "u@a.example")
        system.wait(
            lambda: "status=deferred" in str(system.log()) and not list((system.queue / "active").rglob("?*[0-9A-F]")),
            "the first attempt",
        )
        system.command("postsuper", "-e", "ALL")
        system.command("postqueue", "-f")
        system.wait(lambda: "status=force-expired, returned to sender" in str(system.log()), "expiry")
        system.wait(lambda: not system.queued(), "an empty queue")


def scenario(system: RealSystem) -> None:
    """Mail of many kinds, one message after another, so that the log has one order."""
    steps: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("one@a.example",), ()),
        (("one@a.example", "two@a.example", "x@b.example"), ()),
        (("refuse@a.example",), ()),
        (("one@a.example", "refuse@a.example"), ("-N", "never")),
        (("one@a.example",), ("-N", "success,failure,delay", "-V", "envid", "-R", "hdrs")),
        (("probe@a.example",), ("-bv",)),
        (("seen@a.example",), ("-v",)),
        (("one@a.example", "two@b.example"), ("-V", "-XV")),
        (("bad address@a.example",), ()),
        ((f"u@{'x' * 70}.example",), ()),
        (tuple(f"many{n}@a.example" for n in range(120)), ()),
        (("none@nowhere.invalid",), ()),
    ]
    for recipients, options in steps:
        system.send("me@real.example", *recipients, options=options)
        time.sleep(0.3)
        system.wait(lambda: not system.queued(), "an empty queue")


def test_the_log_is_the_real_one() -> None:
    rules = ("rcpt refuse@* 550 5.1.1 no such user",)
    with RealSystem(*rules, ours=True, **QUICK) as system:
        scenario(system)
        ours, ours_error = system.qmgr_log(), system.qmgr_log("error")
        ours_sink = sorted(system.sink.recipients())
    with RealSystem(*rules, ours=False, **QUICK) as system:
        scenario(system)
        real, real_error = system.qmgr_log(), system.qmgr_log("error")
        real_sink = sorted(system.sink.recipients())
    assert ours_sink == real_sink
    assert ours == real
    assert ours_error == real_error


@pytest.mark.parametrize(("negative", "cohorts"), [("1/concurrency", "3"), ("1/4", "2")])
def test_feedback_is_the_real_one(negative: str, cohorts: str) -> None:
    """One delivery at a time to a server that hangs up: the window's whole story, and how much mail is not tried."""
    told = {}
    for ours in (True, False):
        with RealSystem(
            "connect * close 421 go away",
            ours=ours,
            destination_concurrency_feedback_debug="yes",
            smtp_destination_concurrency_negative_feedback=negative,
            smtp_destination_concurrency_failed_cohort_limit=cohorts,
            smtp_destination_recipient_limit="2",
            default_process_limit="1",
            initial_destination_concurrency="8",
        ) as system:
            system.send("me@real.example", *[f"u{n}@a.example" for n in range(60)])
            system.wait(lambda: str(system.log()).count("status=deferred") == 60, "the first attempts")
            lines = [line for line in system.qmgr_log() if "feedback" in line or "window" in line]
            suspended = sum("delivery temporarily suspended" in line for line in system.log())
            told[ours] = ([re.sub(r":\d+:", ":", line) for line in lines], suspended)
    assert told[True] == told[False]


def test_requests_are_the_real_ones() -> None:
    """Every attribute of every delivery request, but for what differs between two runs of anything."""
    kinds: list[tuple[str, ...]] = [(), ("-N", "success,failure", "-V", "env+2Bid", "-R", "hdrs")]
    kinds += [("-v",), ("-bv",), ("-XV",), ("-B", "8BITMIME")]
    told = {}
    for ours in (True, False):
        system = RealSystem(
            ours=ours, master="spy unix - - n - 1 spy\n", default_transport="spy", relayhost="", **QUICK
        )
        system.add_spy()
        with system:
            for number, options in enumerate(kinds):
                system.send(f"me{number}@real.example", "b@x.example", "a@x.example", "c@Y.example", options=options)
            system.send("", "postmaster@x.example")
            system.send("me@real.example", *[f"u{n}@z{n % 3}.example" for n in range(170)])
            system.wait(lambda system=system: not system.queued(), "an empty queue")
            requests = system.requests()
        for head, *recipients in requests:
            for recipient in recipients:  # the arrival time is a record of varying length
                recipient["offset"] = str(int(recipient["offset"]) - int(head["offset"]))
            head |= {"time": str(len(head["time"])), "queue_id": "", "offset": "", "size": ""}
            head["flags"] = str(int(head["flags"]) & ~0x1800)  # connection caching depends on the time
        told[ours] = sorted(requests, key=str)
    assert told[True] == told[False]
    assert len(told[True]) >= 20


def order(ours: bool, slots: dict[str, str]) -> list[str]:
    """The senders in the order of deliveries; [] when a message was late: its age counts, in whole seconds."""
    settings = {f"spy_delivery_slot_{name}": value for name, value in slots.items()}
    system = RealSystem(
        ours=ours,
        master="spy unix - - n - 1 spy\n",
        default_transport="spy",
        relayhost="",
        spy_destination_recipient_limit="1",
        **settings,
    )
    system.add_spy()
    hold = system.directory / "data" / "hold"
    hold.touch()
    late = False
    with system:
        start = time.time() // 1 + 1
        for number, size in enumerate((60, 1, 2, 1, 5, 25, 1, 3, 2, 1)):
            time.sleep(max(0, start + number - time.time()))
            people = [f"u{n}@d{number}-{n}.example" for n in range(size)]
            system.send(f"m{number}@real.example", *people)
            system.wait(lambda: str(system.log()).count("queue active") == number + 1, "its turn")  # noqa: B023  # now
            late = late or time.time() > start + number + 0.9
        time.sleep(max(0, start + 10 - time.time()))
        hold.unlink()
        system.wait(lambda: not system.queued(), "an empty queue")
        return [] if late else [head["sender"][1] for head, *_ in system.requests()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("cost", "loan", "discount"), [("2", "0", "0"), ("5", "3", "50")])
def test_order_is_the_real_one(cost: str, loan: str, discount: str) -> None:
    """A list, and then small messages of all sizes, all of them active before the first delivery ends."""
    slots = {"cost": cost, "loan": loan, "discount": discount}
    told = {ours: next((found for _ in range(4) if (found := order(ours, slots))), []) for ours in (True, False)}
    assert told[True] == told[False]
    assert len(told[True]) == 101


def test_reload_in_the_middle_of_deliveries() -> None:
    """The agents finish what they do; the next queue manager waits for them."""
    with RealSystem("dot * delay=8 ok", **QUICK) as system:
        for n in range(5):
            system.send("me@real.example", f"u{n}@a.example", f"v{n}@b.example")
        system.wait(lambda: str(system.log()).count("queue active") == 5, "all to be active")
        system.wait(lambda: system.sink.recipients(), "a message at the sink, which does not answer yet")
        system.postfix("reload")
        system.wait(lambda: not system.queued(), "an empty queue", 100)
        assert len(system.sink.recipients()) == len(set(system.sink.recipients())) == 10
        assert "skipped, still being delivered" in str(system.log())
        assert not [line for line in system.log() if re.search("qmgr.*(warning|fatal|panic)", line)]


def test_kill_9_loses_nothing() -> None:
    """A hundred messages, a server that refuses, defers and hangs up, and a queue manager that is killed ten times."""
    rules = (
        "rcpt refuse*@* 550 5.1.1 no such user",
        "rcpt * odds=10 450 4.2.0 not now",
        "dot * odds=5 drop",
        "connect * odds=5 close 421 go away",
    )
    chance = random.Random(1)
    with RealSystem(*rules, notify_classes="", **QUICK) as system:
        expected = []
        for n in range(100):
            recipients = [f"{chance.choice(['ok', 'refuse'])}{n}.{i}@d{chance.randrange(8)}.example" for i in range(3)]
            expected += recipients
            system.send("me@real.example", *recipients)
            if n % 10 == 5:
                system.kill_qmgr()
        system.wait(lambda: not system.queued(), "an empty queue", 200)
        arrived = [address for address in system.sink.recipients() if address != "me@real.example"]
        bounced = set(re.findall(r"to=<(refuse\S+?)>.*status=bounced", "\n".join(system.log())))
        assert set(arrived) | bounced == set(expected)
        assert not set(arrived) & bounced
        # A killed queue manager leaves its agents at work; they mark what they have delivered: nothing is sent twice.
        assert len(arrived) == len(set(arrived))
