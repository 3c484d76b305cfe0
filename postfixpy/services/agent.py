"""What all delivery agents have in common: a request of the queue manager, from its arrival to the final status.

One connection carries one request (spec/smtp-client.md 1.1). The agent announces itself, which tells the queue manager
that it is ready; receives the request; opens the queue file and takes a shared lock, so that no queue manager that was
restarted meanwhile starts the same delivery; delivers; reports; and waits for the queue manager to hang up.

A subclass writes `deliver`. What happens when it fails:

    FatalError                no final status; the process ends, the queue manager defers and lets the transport rest
    daemon_timeout passes     no final status: the queue manager defers and lets the transport rest, as when Postfix's
    watchdog(3) ends the process
    any other exception       a bug: every recipient that nothing was said about is deferred (4.3.0), and the log
    says where

Differs from Postfix: one process serves many requests at once, so a failure of one touches no other.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import ClassVar

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError, place_of
from postfixpy.ipc import delivery
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.disposition import NO_RELAY, Disposition, Reporter, now_us
from postfixpy.ipc.service import Context, Service
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome, Result
from postfixpy.mail.queue import Queue, QueueFile, lock

MAX_RECIPIENTS = 1_000_000
"""Recipients of one request. The queue manager's limit is the transport's destination_recipient_limit."""

LEAST = 3.0
"""Seconds that a request may take at least, whatever daemon_timeout says: Postfix's watchdog(3) counts three."""


@dataclass(slots=True)
class Job:
    """One delivery request at work.

    file          the open, locked queue file
    disposition   where the outcome of each recipient goes
    hop           set by `deliver` when the whole destination failed: the queue manager lets it rest
    """

    request: DeliveryRequest
    file: QueueFile
    disposition: Disposition
    hop: DSN | None = None


class DeliveryAgent(Service):
    """Base of the delivery agents."""

    protocol = delivery.PROTOCOL

    filter_parameter: ClassVar[str] = ""
    """The delivery status filter's parameter, such as "pipe_delivery_status_filter"; "" for agents without one."""

    reporter: Reporter

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        view = self.view
        self.queue = Queue("", view.hash_queue_names, view.hash_queue_depth)

    async def pre_jail(self) -> None:
        """Open the tables that every agent uses. Subclasses call this first. Raises FatalError."""
        self.reporter = Reporter.of(self.view, self.filter_parameter)

    async def deliver(self, job: Job) -> int:
        """Deliver to the recipients of `job.request`, and report each through `job.disposition`.

        The result is 0 when all are disposed of, else -1: the bit-wise OR of what the disposition returned. Raises
        FatalError when the process cannot go on.
        """
        raise NotImplementedError

    def tables_changed(self) -> str | None:
        """See `Service`."""
        return self.reporter.tables_changed()

    async def stop(self) -> None:
        """Hang up kept connections."""
        self.reporter.close()

    async def serve(self, channel: Channel) -> None:
        """One request. Raises FatalError."""
        if not await channel.wait_readable():
            return  # the queue manager changed its mind
        job = await self._receive(channel)
        status = -1
        if job is not None:
            with job.file:
                try:
                    async with asyncio.timeout(max(LEAST, self.watchdog_time())):
                        status = await self._deliver(job)
                except TimeoutError:
                    log.fatal("watchdog timeout")
                    return
        channel.send_message(delivery.Result.of(job.hop if job is not None else None, status))
        await channel.wait_closed_by_peer()

    async def _receive(self, channel: Channel) -> Job | None:
        request = await read_request(channel)
        if request is None:
            return None
        if self.queue.open_ok(request.queue_name, request.queue_id, time.time()) is None:
            return None
        request.stats.agent_handoff = request.stats.agent_handoff or now_us()
        if not request.recipients:
            text = f"no recipients in delivery request for destination {request.nexthop}"
            log.warning(f"{request.queue_id}: {text}")
            return None
        file = open_message(self.queue, request.queue_name, request.queue_id)
        if file is None:
            return None
        return Job(request, file, Disposition(self.reporter, request, file))

    async def _deliver(self, job: Job) -> int:
        try:
            return await self.deliver(job)
        except (FatalError, asyncio.CancelledError):
            raise
        except Exception as error:
            queue_id = job.request.queue_id
            where = "" if isinstance(error, TemporaryError) else f" at {place_of(error)}"
            log.warning(f"{queue_id}: {type(error).__name__}: {error}{where}")
            return await reject(job, "deferred", DSN("4.3.0", reason="mail system error")) or -1


async def read_request(channel: Channel) -> DeliveryRequest | None:
    """The request that a client sends; None, after Postfix's warnings, when it is not one."""
    try:
        head = await channel.read(delivery.Request)
        if not 0 <= head.recipient_count <= MAX_RECIPIENTS:
            raise ProtocolError(f"bad recipient count from {channel.peer}: {head.recipient_count}")
        request = delivery.unpack(head, [])
    except ProtocolError as error:
        log.warning(str(error))
        log.warning("deliver_request_get: error receiving common attributes")
        return None
    try:
        recipients = [await channel.read(delivery.RequestRecipient) for _ in range(head.recipient_count)]
    except ProtocolError as error:
        log.warning(str(error))
        log.warning("deliver_request_get: error receiving recipient attributes")
        return None
    request.recipients = delivery.unpack(head, recipients).recipients
    return request


def open_message(queue: Queue, queue_name: str, queue_id: str) -> QueueFile | None:
    """The queue file, open for reading and marking, with a shared lock; None, after a warning, when it has gone.

    Raises FatalError for any other failure, which makes the mail system back off.
    """
    try:
        file = queue.open(queue_name, queue_id)
    except FileNotFoundError as error:
        log.warning(f"open {queue_name} {queue_id}: {error.strerror}")
        return None
    except OSError as error:
        raise FatalError(f"open {queue_name} {queue_id}: {error.strerror}") from error
    try:
        locked = lock(file.fd, exclusive=False)
    except OSError as error:
        file.close()
        raise FatalError(f"shared lock {file.path}: {error.strerror}") from error
    if not locked:
        file.close()
        raise FatalError(f"shared lock {file.path}: Resource temporarily unavailable")
    return file


async def reject(job: Job, result: Result, dsn: DSN, relay: str = NO_RELAY) -> int:
    """Give the same outcome to every recipient of which nothing has been said yet. The combined result, 0 or -1."""
    status = 0
    for recipient in job.disposition.unreported():
        outcome = Outcome(recipient, result, dsn, relay, job.request.stats)
        status |= await job.disposition.dispose(outcome)
    return status


async def reject_many_recipients(job: Job, service: str, flag: str) -> int | None:
    """For agents with ``flags=D`` or ``flags=O`` (`flag`), which need one recipient a request: None when that is so;
    else all recipients are deferred, and the result is -1 (spec 1.10)."""
    if len(job.request.recipients) == 1:
        return None
    log.warning(f"flag `{flag}' requires {service}_destination_recipient_limit = 1")
    return await reject(job, "deferred", DSN("4.3.5", reason="mail system configuration error"), service)
