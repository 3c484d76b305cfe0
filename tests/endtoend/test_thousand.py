"""A thousand messages into a sink that refuses, defers and drops at random: everyone ends in exactly one place."""

import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from json import loads
from pathlib import Path

import pytest
from harness import MailSystem, running

MESSAGES = 1000
RULES = (
    "* sender@* ok",  # the returned mail itself arrives, so that it can be counted
    "connect * odds=2 close 421 4.3.2 too busy",
    "mail * odds=2 drop",
    "rcpt * odds=10 450 4.2.0 later",
    "rcpt * odds=8 550 5.1.1 never",
    "data * odds=1 drop",
    "body * odds=2 drop",
    "dot * odds=4 drop",
    "dot * odds=4 451 4.3.0 later",
    "dot * odds=2 554 5.6.0 never",
)


def moving(system: MailSystem) -> list[Path]:
    """Queue files that are not at rest."""
    return [p for q in ("maildrop", "incoming", "active") for p in (system.queue / q).rglob("*") if p.is_file()]


@pytest.mark.load
@pytest.mark.timeout(900)
def test_every_recipient_ends_in_exactly_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(20)
    recipients = [[f"r{n}-{k}@example.org" for k in range(rng.choice((1, 1, 1, 2, 5)))] for n in range(MESSAGES)]
    everyone = {r for group in recipients for r in group}
    with running(tmp_path, *RULES, smtp_tls_security_level="none", minimal_backoff_time="2s", queue_run_delay="2s") as (
        system,
        sink,
    ):

        def submit(number: int) -> None:
            message = f"Subject: {number}\n\nmessage {number}\n"
            system.check("sendmail", "-f", "sender@example.com", *recipients[number], stdin=message)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(submit, range(MESSAGES)))
        for _ in range(6):
            system.wait_for(lambda: not moving(system), "a quiet queue", 120)
            system.check("postqueue", "-f")
        system.wait_for(lambda: not moving(system), "a quiet queue", 120)
        system.stop()

        delivered = Counter(r for r in sink.recipients() if r != "sender@example.com")
        returned: Counter[str] = Counter()
        for delivery in sink.deliveries():
            if delivery["recipients"] == ["sender@example.com"]:
                returned.update(re.findall(r"^Final-Recipient: rfc822; (\S+)$", str(delivery["content"]), re.M))
        queued = Counter(
            r["address"] for line in system.check("postqueue", "-j").splitlines() for r in loads(line)["recipients"]
        )
        queued.pop("sender@example.com", None)
        with capsys.disabled():
            counts = f"{len(delivered)} delivered, {len(returned)} returned, {len(queued)} still queued"
            print(f"\n{MESSAGES} messages, {len(everyone)} recipients: {counts}")
        ends = Counter([*delivered.elements(), *returned.elements(), *queued.elements()])
        assert {r: n for r, n in ends.items() if n != 1} == {}
        assert set(ends) == everyone
