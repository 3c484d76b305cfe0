"""kill -9 of any process, fifty times at random moments under load: no accepted message is lost."""

import os
import random
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from harness import Sink, running

from postfixpy.mail.queue_id import time_of

KILLS = 50


def submitted_again_too_early(sink: Sink) -> list[tuple[str, str, float, str, float]]:
    """Recipients of a message that got a second queue id before the sink had taken it under the first.

    A long queue id tells when its file was made, and the journal when the sink answered.
    """
    first: dict[str, tuple[str, float]] = {}
    early = []
    for delivery in sink.deliveries():
        found = re.search(r"^\tid (\w+);", str(delivery["content"]), re.M)
        assert found is not None
        queue_id, (to,) = found[1], delivery["recipients"]
        known, answered = first.setdefault(to, (queue_id, float(str(delivery["time"]))))
        made = time_of(queue_id)
        assert made is not None
        if known != queue_id and made / 1e6 < answered:
            early.append((to, known, answered, queue_id, made / 1e6))
    return early


@pytest.mark.load
@pytest.mark.timeout(900)
def test_no_accepted_message_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(9)
    accepted: list[str] = []
    refused = 0
    done = threading.Event()
    settings = {
        "minimal_backoff_time": "2s",
        "queue_run_delay": "2s",
        "transport_retry_time": "2s",
        "smtp_tls_security_level": "none",
        "enable_long_queue_ids": "yes",
    }
    with running(tmp_path, "dot * odds=20 delay=0.2 ok", "rcpt * odds=10 450 4.2.0 later", **settings) as (
        system,
        sink,
    ):

        def load() -> None:
            nonlocal refused
            number = 0
            while not done.is_set():
                number += 1
                to = f"k{number}@example.org"
                result = system.command("sendmail", "-f", "sender@example.com", to, stdin=f"Subject: {number}\n\nx\n")
                if result.returncode == 0:
                    accepted.append(to)
                else:
                    refused += 1

        feeders = [threading.Thread(target=load)]
        for feeder in feeders:
            feeder.start()
        killed = Counter[str]()
        try:
            for _ in range(KILLS):
                done.wait(rng.uniform(0.1, 0.9))
                victims = system.pids()
                if victims:
                    victim = rng.choice(victims)
                    try:
                        words = Path(f"/proc/{victim}/cmdline").read_text().split("\0")
                        os.kill(victim, signal.SIGKILL)
                    except (OSError, ProcessLookupError):
                        continue  # it ended by itself
                    killed[next((w for w in words if w in NAMES), "?")] += 1
                assert system.process is not None
                if system.process.poll() is not None:
                    system.start()
        finally:
            done.set()
            for feeder in feeders:
                feeder.join()
        if system.process is None or system.process.poll() is not None:
            system.start()

        def finished() -> bool:
            system.command("postqueue", "-f")
            return not list(system.queued())

        system.wait_for(finished, "an empty queue", 240)
        got = Counter(sink.recipients())
        lost = set(accepted) - set(got)
        early = submitted_again_too_early(sink)
        with capsys.disabled():
            print(f"\n{sum(killed.values())} killed: {dict(killed)}")
            print(f"{len(accepted)} accepted, {refused} refused at submission, {len(lost)} lost")
            print(f"{sum(got.values()) - len(got)} delivered again, after the sink had answered the final dot")
        assert lost == set()
        assert early == [], "\n".join(
            line for line in system.log().splitlines() if any(e[1] in line or e[3] in line for e in early)
        )
        assert sum(killed.values()) >= KILLS * 0.8
        assert not re.search(r"Traceback|panic:", system.log())


NAMES = (
    "master",
    "qmgr",
    "pickup",
    "cleanup",
    "trivial-rewrite",
    "smtp",
    "bounce",
    "postlogd",
    "showq",
    "error",
    "postfix",
)
