"""What became of one recipient, and the log line that says so.

An `Outcome` is the one place where a delivery agent says what happened; the log line, the records of the bounce, defer
and trace logs, the update of the address verification database and the mark in the queue file are made from it
(postfixpy.ipc.disposition).

Source: log_adhoc(3), format_tv(3), spec/smtp-client.md 1.5, 1.8.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from .addresses import quote_822_local
from .delivery import MessageStats, Recipient
from .dsn import DSN

Result = Literal["sent", "deferred", "bounced"]
Scope = Literal["recipient", "message", "session", "site", "nexthop"]

_SIGNIFICANT = 2
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient.

    result           "sent", "deferred" or "bounced"
    dsn              status, reason and diagnostic; its action counts for "sent" only
    relay            ``host[address]:port``, "none" when there was no session
    stats            when the message passed each stage, microseconds
    tls              the ``tls=`` field's value; "" leaves the field out
    scope            what failed: this recipient, the message, the session, the site, the whole destination
    command          the command in flight, "RCPT TO"; may be empty
    server           the server's name and address; may be empty
    maybe_accepted   the server may have taken the message although we do not know it
    """

    recipient: Recipient
    result: Result
    dsn: DSN
    relay: str = "none"
    stats: MessageStats = field(default_factory=MessageStats)
    tls: str = ""
    scope: Scope = "recipient"
    command: str = ""
    server: str = ""
    maybe_accepted: bool = False

    def with_dsn(self, dsn: DSN) -> "Outcome":
        """The same outcome with another status."""
        return replace(self, dsn=dsn)


def format_delay(microseconds: int, resolution: int = 2) -> str:
    """A time difference for people: two significant digits below ten seconds, whole seconds above.

    `resolution` is delay_logging_resolution_limit: the largest number of decimals, 0 to 6. A negative difference, which
    a clock that was set back gives, is "0".
    """
    seconds, micro = divmod(max(microseconds, 0), _MILLION)
    unit = 10 ** (6 - resolution)
    scale: int = 10**_SIGNIFICANT
    if unit < _MILLION:
        if seconds > 0:
            digits = 1
            while seconds >= digits and digits <= scale // 10:
                digits *= 10
            unit = _MILLION // scale * digits
        else:
            while micro >= scale * unit:
                unit *= 10
    if unit > 1:
        micro += unit // 2
        if micro >= _MILLION:
            seconds, micro = seconds + 1, micro - _MILLION
    if micro < unit:
        return str(seconds)
    fraction = ""
    place = _MILLION // 10
    while micro >= unit and place > 0:
        digit, micro = divmod(micro, place)
        fraction += str(digit)
        place //= 10
    return f"{seconds}.{fraction}"


def delays(stats: MessageStats, now: int) -> tuple[int, int, int, int, int]:
    """(total, before the queue manager, in the queue manager, connection set-up, transmission), in microseconds.

    `now` (microseconds since the epoch) stands for a stage that was not reached.
    """
    end = stats.delivery_done or now
    arrival, active, handoff, connected = (
        stats.incoming_arrival,
        stats.active_arrival,
        stats.agent_handoff,
        stats.connection_done,
    )
    before, queued, setup, transmission = end - arrival, 0, 0, 0
    if active:
        before = active - arrival
        if not handoff:
            queued = end - active
        else:
            queued = handoff - active
            if connected:
                setup = connected - handoff
            transmission = end - (connected or handoff)
    return end - arrival, before, queued, setup, transmission


def same_address(left: str, right: str, *, smtputf8: bool = True) -> bool:
    """Whether two addresses differ in case only; `smtputf8` is smtputf8_enable, which folds more than ASCII."""
    if left == right:
        return True
    if smtputf8 and not (left.isascii() and right.isascii()):
        return left.casefold() == right.casefold()
    return ascii_lower(left) == ascii_lower(right)


def ascii_lower(text: str) -> str:
    """`text` with A to Z lowered, and nothing else."""
    if text.isascii():
        return text.lower()
    return "".join(c.lower() if c <= "Z" else c for c in text)


def log_address(address: str, *, external: bool = True) -> str:
    """An address as the log shows it (info_log_address_format)."""
    return quote_822_local(address) if external and address else address


def log_line(
    queue_id: str,
    outcome: Outcome,
    status: str,
    now: int,
    *,
    external: bool = True,
    resolution: int = 2,
    smtputf8: bool = True,
) -> str:
    """The delivery log line; `status` is the word behind ``status=`` ("sent", "deferred", "SOFTBOUNCE"...).

    `now`: microseconds since the epoch; `external`: info_log_address_format; `resolution`:
    delay_logging_resolution_limit; `smtputf8`: smtputf8_enable.
    """
    recipient, stats, dsn = outcome.recipient, outcome.stats, outcome.dsn
    out = [f"{queue_id}: to=<{log_address(recipient.address, external=external)}>"]
    if recipient.original and not same_address(recipient.address, recipient.original, smtputf8=smtputf8):
        out.append(f"orig_to=<{log_address(recipient.original, external=external)}>")
    out.append(f"relay={outcome.relay}")
    if stats.reuse_count > 0:
        out.append(f"conn_use={stats.reuse_count + 1}")
    total, *stages = (format_delay(delay, resolution) for delay in delays(stats, now))
    out.append(f"delay={total}")
    out.append("delays=" + "/".join(stages))
    if outcome.tls:
        out.append(f"tls={outcome.tls}")
    out.append(f"dsn={dsn.status}")
    out.append(f"status={status} ({dsn.reason})")
    return ", ".join(out)
