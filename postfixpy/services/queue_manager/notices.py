"""What the queue manager asks of the bounce, defer and trace services, and the recipients that it disposes of itself.

A request that fails leaves the log where it is, and the message is deferred: the next attempt asks again.

Source: qmgr(8), abounce(3), spec/smtp-client.md 15.8.
"""

import asyncio
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.ipc import bounce as wire
from postfixpy.ipc.message import CURRENT, Release
from postfixpy.mail.delivery import MessageStats, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.queue import ACTIVE

from .model import Message

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.ipc.disposition import Reporter
    from postfixpy.mail.queue import QueueFile

MAX_REQUESTS = 20
"""Requests under way at once: more would only wait in the services' sockets, and take descriptors."""

_TIMEOUT = 1000.0
"""Seconds that the service may take to return a message (abounce(3))."""


class Notices:
    """Clients of the three services that `view` names. `release` is the Postfix release of the services."""

    def __init__(self, view: "View", reporter: "Reporter", release: Release = CURRENT) -> None:
        self.reporter = reporter
        self.release = release
        self.bounce_path = f"private/{view.bounce_service_name}"
        self.defer_path = f"private/{view.defer_service_name}"
        self.trace_path = f"private/{view.trace_service_name}"
        self._verp = not view.disable_verp_bounces
        self._turn = asyncio.Semaphore(MAX_REQUESTS)

    async def bounce(self, message: Message) -> bool:
        """Return the message for what the bounce log holds. False: the message must be deferred."""
        return await self._return(message, self.bounce_path, 0)

    async def expire(self, message: Message) -> bool:
        """Return the message for what the defer log holds: it is too old."""
        return await self._return(message, self.defer_path, wire.DELETE_RECIPIENTS)

    async def _return(self, message: Message, path: str, flags: int) -> bool:
        verp = message.envelope.verp_delimiters
        if verp and self._verp:
            request = wire.NotifyVerp(wire.VERP, flags, *_about(message), verp)
            return await self._request(message, path, request, "verp-bounce")
        return await self._request(message, path, wire.Notify(wire.FLUSH, flags, *_about(message)), "bounce")

    async def warn(self, message: Message) -> bool:
        """Warn the sender of the delay, for what the defer log holds."""
        request = wire.Notify(wire.WARN, 0, *_about(message))
        return await self._request(message, self.defer_path, request, "delay warning")

    async def trace(self, message: Message) -> bool:
        """Send the delivery report for what the trace log holds."""
        request = wire.Notify(wire.TRACE, message.envelope.trace_flags, *_about(message))
        return await self._request(message, self.trace_path, request, "trace")

    async def _request(self, message: Message, path: str, request: wire.Notify, what: str) -> bool:
        async with self._turn:
            done = await wire.request(path, request, timeout=_TIMEOUT, release=self.release)
        if not done:
            log.info(f"{message.queue_id}: status=deferred ({what} failed)")
        return done

    async def defer(self, message: Message, recipients: list[Recipient], reason: DSN) -> bool:
        """Defer recipients without an agent. True: they need no more attempts all the same (they were probes)."""
        settled = True
        for recipient in recipients:
            outcome = Outcome(recipient, "deferred", reason, stats=_stats(message))
            async with self._turn:
                result = await self.reporter.defer(message.envelope.trace_flags, message.queue_id, outcome)
            settled = settled and result == 0
        return settled

    async def discard(self, message: Message, file: "QueueFile", recipient: Recipient) -> bool:
        """Deliver a double bounce to nobody. False: the message must be deferred."""
        dsn = DSN("2.0.0", reason="undeliverable postmaster notification discarded")
        outcome = Outcome(recipient, "sent", dsn, stats=_stats(message))
        if await self.reporter.sent(message.envelope.trace_flags, message.queue_id, outcome) != 0:
            return False
        file.mark_done(recipient.offset)
        return True


def _stats(message: Message) -> MessageStats:
    return MessageStats(incoming_arrival=message.envelope.arrival, active_arrival=message.active_arrival)


def _about(message: Message) -> tuple[str, str, str, int, str, str, int]:
    """What every request says of the message, in the order of `wire.Notify`."""
    e = message.envelope
    return ACTIVE, e.queue_id, e.encoding, e.sendopts, e.from_, e.envelope_id, e.ret_flags
