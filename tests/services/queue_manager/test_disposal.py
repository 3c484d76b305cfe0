"""What becomes of a message, step by step, under a virtual clock."""

import pytest

from postfixpy.services.queue_manager.disposal import Progress, Step, backoff, expiry, next_step
from postfixpy.services.queue_manager.envelope import NOTIFY_SUCCESS, Envelope
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.settings import Settings

DAY = 86400
CREATED = 1_000_000


def message(**facts: int | str) -> Message:
    envelope = Envelope("ID", sender="s@x", create_time=CREATED)
    for name, value in facts.items():
        setattr(envelope, name, value)
    return Message(envelope, queued_at=0)


def steps(found: Message, now: float, *, bounce_log: bool = False, settings: Settings | None = None) -> list[str]:
    """All steps up to the end, when each of them works and changes nothing else."""
    progress = Progress()
    out = []
    while True:
        step = next_step(found, progress, settings or Settings(), now, bounce_log=bounce_log)
        out.append(step.name)
        if step is Step.BOUNCE:
            progress.bounced = True
        elif step is Step.CHECK:
            progress.checked = True
        elif step is Step.TRACE:
            progress.traced = True
        elif step is Step.EXPIRE:
            progress.notified, found.deferred = True, False
        elif step is Step.WARN:
            progress.notified = True
        else:
            return out


def test_delivered_message_is_removed() -> None:
    assert steps(message(), CREATED) == ["REMOVE"]
    assert steps(message(), CREATED, bounce_log=True) == ["BOUNCE", "REMOVE"]


def test_deferred_message_is_put_off() -> None:
    found = message()
    found.deferred = True
    assert steps(found, CREATED, bounce_log=True) == ["BOUNCE", "CHECK", "DEFER"]


def test_more_recipients_come_first() -> None:
    found = message(next_offset=100)
    found.deferred = True
    assert steps(found, CREATED + 10 * DAY) == ["CHECK", "READ_MORE"]


def test_trace_report() -> None:
    for facts in ({"trace_flags": 0x200}, {"trace_flags": 0x400}, {"trace_flags": 0x2000}, {"flags": NOTIFY_SUCCESS}):
        assert steps(message(**facts), CREATED) == ["TRACE", "REMOVE"]
    assert steps(message(trace_flags=0x100), CREATED) == ["REMOVE"], "a probe of verify(8) reports there"


def test_five_day_expiry() -> None:
    found = message()
    found.deferred = True
    assert steps(found, CREATED + 5 * DAY - 1) == ["CHECK", "DEFER"]
    assert steps(found, CREATED + 5 * DAY) == ["CHECK", "EXPIRE", "REMOVE"]
    assert expiry(found, Settings(), CREATED + 5 * DAY) == "expired"


def test_null_sender_has_its_own_lifetime() -> None:
    settings = Settings(bounce_lifetime=DAY)
    found = message(sender="")
    found.deferred = True
    assert steps(found, CREATED + DAY, settings=settings) == ["CHECK", "EXPIRE", "REMOVE"]
    found = message()
    found.deferred = True
    assert steps(found, CREATED + DAY, settings=settings) == ["CHECK", "DEFER"]


def test_lifetime_of_zero_returns_after_one_attempt() -> None:
    found = message()
    found.deferred = True
    assert steps(found, CREATED, settings=Settings(maximal_lifetime=0)) == ["CHECK", "EXPIRE", "REMOVE"]


def test_forced_expiry() -> None:
    found = message()
    found.deferred = found.force_expire = True
    assert steps(found, CREATED) == ["CHECK", "EXPIRE", "REMOVE"]
    assert expiry(found, Settings(), CREATED) == "force-expired"
    found = message()
    found.force_expire = True
    assert steps(found, CREATED) == ["REMOVE"], "nothing is left to return"


def test_warning() -> None:
    found = message(warn_time=CREATED + 3600)
    found.deferred = True
    assert steps(found, CREATED + 3598) == ["CHECK", "DEFER"]
    assert steps(found, CREATED + 3599) == ["CHECK", "WARN", "DEFER"]
    found = message(warn_time=-1)
    found.deferred = True
    assert steps(found, CREATED + 7200) == ["CHECK", "DEFER"], "the sender has been warned"
    assert steps(message(warn_time=CREATED), CREATED + 7200) == ["REMOVE"]


@pytest.mark.parametrize(
    ("age", "delay"), [(0, 300), (299, 300), (300, 300), (301, 301), (3999, 3999), (4000, 4000), (99999, 4000)]
)
def test_backoff_is_the_age_within_limits(age: int, delay: int) -> None:
    assert backoff(CREATED, Settings(), CREATED + age) == delay


def test_backoff_schedule() -> None:
    """Attempts of a message that is always put off, with a deferred run every 300 seconds."""
    settings = Settings()
    now, attempts = 0, []
    while now < 5 * 3600:
        attempts.append(now)
        due = now + backoff(CREATED, settings, CREATED + now)
        now = -(-due // settings.queue_run_delay) * settings.queue_run_delay
    assert attempts == [0, 300, 600, 1200, 2400, 4800, 9000, 13200, 17400]


def test_backoff_without_time_or_with_a_clock_set_back() -> None:
    assert backoff(0, Settings(), CREATED) == 300
    assert backoff(CREATED, Settings(), CREATED - 5000) == 300
    odd = Settings(minimal_backoff=500, maximal_backoff=100)
    assert backoff(CREATED, odd, CREATED + 50) == 500, "the minimum wins"
