"""What becomes of a message when all its recipients have been tried: bounced, traced, expired, warned about, put off,
removed. One step at a time, since each may fail: `next_step` looks at the state and says what to do, the caller does it
and notes the result in the state.

Order, as in qmgr(8): return the bounce log; set a damaged file aside; read more recipients; send the trace report; when
recipients are left over and the message is too old, return the defer log, else warn the sender of the delay when it is
time; finally put the message off, or remove it.

Differs from Postfix: a message whose bounce log could not be returned is kept even when its defer log could be, so
that the other notice is sent later.

The next attempt is after as long as the message has been in the queue, within minimal_backoff_time and
maximal_backoff_time.
"""

from dataclasses import dataclass
from enum import Enum, auto

from postfixpy.mail.delivery import RECORD, RECORD_DELAYED_SENT, USER_VERIFY

from .envelope import NOTIFY_SUCCESS
from .model import Message
from .settings import Settings


class Step(Enum):
    """What to do next with a message."""

    BOUNCE = auto()  # flush the bounce log: return the message for recipients that were refused
    CHECK = auto()  # see whether an agent has marked the file as damaged
    READ_MORE = auto()
    TRACE = auto()  # flush the trace log: delivery report
    EXPIRE = auto()  # flush the defer log: return the message for recipients that could not be reached
    WARN = auto()  # tell the sender that the message is delayed; the defer log stays
    DEFER = auto()
    REMOVE = auto()


@dataclass(slots=True)
class Progress:
    """Which steps have been taken for a message since its recipients were tried; `failed`: a bounce or trace log could
    not be returned, and waits for another attempt."""

    bounced: bool = False
    failed: bool = False
    checked: bool = False
    traced: bool = False
    notified: bool = False


def next_step(message: Message, progress: Progress, settings: Settings, now: float, *, bounce_log: bool) -> Step:
    """The next step. `bounce_log`: the message has a non-empty bounce log. `now` in seconds since the epoch."""
    envelope = message.envelope
    if bounce_log and not progress.bounced:
        return Step.BOUNCE
    if message.deferred and not progress.checked:
        return Step.CHECK
    if not envelope.all_read:
        return Step.READ_MORE
    wants_trace = envelope.trace_flags & (USER_VERIFY | RECORD | RECORD_DELAYED_SENT) or envelope.flags & NOTIFY_SUCCESS
    if wants_trace and not progress.traced:
        return Step.TRACE
    if message.deferred and not progress.notified:
        if expiry(message, settings, now):
            return Step.EXPIRE
        if envelope.warn_time > 0 and int(now) >= envelope.warn_time - 1:
            return Step.WARN
    return Step.DEFER if message.deferred else Step.REMOVE


def expiry(message: Message, settings: Settings, now: float) -> str:
    """ "expired" or "force-expired" (for the log) when the message is not tried again, else ""."""
    if message.force_expire:
        return "force-expired"
    lifetime = settings.maximal_lifetime if message.envelope.from_ else settings.bounce_lifetime
    return "expired" if int(now) >= message.envelope.create_time + lifetime else ""


def backoff(create_time: int, settings: Settings, now: float) -> int:
    """Seconds until the next attempt for a message whose file was made at `create_time` (0: unknown)."""
    if create_time <= 0:
        return settings.minimal_backoff
    return max(settings.minimal_backoff, min(int(now) - create_time, settings.maximal_backoff))
