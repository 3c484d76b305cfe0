"""The queue manager at work: carries out what the scheduler decides, with files, resolver, agents and notices.

A few `_feed_all` tasks take messages from the incoming and deferred queues while the active queue has room.
Each connection to an agent, each refill and each finished message is a task; what they find out goes to the
scheduler, and `_pump` (once per turn of the event loop) carries out its decisions. No task may lose a message: an
unexpected error puts the message off with a warning that says where it happened, and an error in the scheduler itself
ends the process; what is active then is taken up again by the next one.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc.message import CURRENT, Release
from postfixpy.ipc.rewrite import LOCAL, Resolved
from postfixpy.ipc.runner import describe
from postfixpy.mail.delivery import MTA_VERIFY, RECORD_DELAYED_SENT, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import log_address
from postfixpy.mail.queue import BOUNCE, DEFER, INCOMING, QueueFile

from . import agents, routing
from .disposal import Progress, Step, backoff, expiry, next_step
from .envelope import Envelope, EnvelopeReader
from .flow import Flow
from .model import Message, Transport
from .request import delivery_request
from .scan import Scan, Scans
from .scheduler import Connect, Decision, DeferEntry, Deliver, Finish, Refill, Route, Scheduler
from .scheduler import Release as LetGo
from .settings import Settings
from .store import CorruptFile, StillBeingDelivered, Store

FEEDERS = 3
"""Messages that are read and resolved at once, so that one with many recipients does not hold up those behind it."""

SLICE = 0.005
"""Seconds that reading files may take before other work gets a turn."""


class Resolver(Protocol):
    """postfixpy.ipc.rewrite.RewriteClient."""

    async def resolve(self, sender: str, address: str, *, verify: bool = False) -> Resolved: ...

    async def rewrite_internal(self, rule: str, address: str) -> str: ...


class Notifier(Protocol):
    """postfixpy.services.queue_manager.notices.Notices."""

    async def bounce(self, message: Message) -> bool: ...

    async def expire(self, message: Message) -> bool: ...

    async def warn(self, message: Message) -> bool: ...

    async def trace(self, message: Message) -> bool: ...

    async def defer(self, message: Message, recipients: list[Recipient], reason: DSN) -> bool: ...

    async def discard(self, message: Message, file: QueueFile, recipient: Recipient) -> bool: ...


class Manager:
    """See the module. `agent_timeout` is daemon_timeout, seconds; `release` the Postfix release of the agents;
    `external_addresses`: info_log_address_format; `fatal` is called when the process must end."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        store: Store,
        resolver: Resolver,
        notices: Notifier,
        policy: routing.Policy,
        flow: Flow,
        *,
        fatal: Callable[[FatalError], None],
        release: Release = CURRENT,
        agent_timeout: float = 18000.0,
        verp_filter: str = "-=+",
        external_addresses: bool = True,
    ) -> None:
        self.settings = settings
        self.scheduler = scheduler
        self.store = store
        self.resolver = resolver
        self.notices = notices
        self.policy = policy
        self.flow = flow
        self.release = release
        self.agent_timeout = agent_timeout
        self.verp_filter = verp_filter
        self.external_addresses = external_addresses
        self.scans = Scans(store.listing)
        self.probes = 0
        self._fatal = fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._hungry = asyncio.Event()
        self._pump_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._run_timer: asyncio.TimerHandle | None = None
        # The scheduler's clock does not jump when somebody sets the wall clock.
        self._epoch = store.clock() - time.monotonic()

    # Start, stop, requests from outside

    def start(self) -> None:
        """Take up what was active, and begin to scan the queues. Raises FatalError."""
        self.store.recover()
        self.scans.incoming.request(start=True)
        self._deferred_run()
        for _ in range(FEEDERS):
            self._spawn(self._feed_all())

    def _deferred_run(self) -> None:
        self.scans.deferred.request(start=True)
        self._hungry.set()
        loop = asyncio.get_running_loop()
        self._run_timer = loop.call_later(self.settings.queue_run_delay, self._deferred_run)

    def triggered(self, requests: bytes) -> None:
        """Trigger requests, one byte each (see `scan`)."""
        if self.scans.triggered(requests):
            self.scheduler.enable_all()
            self._wake()
        self._hungry.set()

    async def stop(self) -> None:
        """End all tasks. Agents finish what they do; its result is found in the queue files."""
        for timer in (self._timer, self._run_timer):
            if timer is not None:
                timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except FatalError as error:
            self._fatal(error)
        except Exception as error:
            self._fatal(FatalError(f"queue manager: {describe(error)}"))

    # Decisions

    def _wake(self) -> None:
        """Carry out decisions soon."""
        if not self._pump_planned:
            self._pump_planned = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_planned = False
        try:
            self.scheduler.advance(self._epoch + time.monotonic())
            for decision in self.scheduler.decide():
                self._carry_out(decision)
            self._plan()
        except Exception as error:
            self._fatal(FatalError(f"queue manager: {describe(error)}"))

    def _plan(self) -> None:
        """Wake up when the scheduler's next timer is due."""
        due = self.scheduler.next_due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + due - (self._epoch + time.monotonic()), self._pump)

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Connect(transport):
                self._spawn(self._use_agent(transport))
            case Deliver(agent, entry):
                agent.entry.set_result(entry)
            case LetGo(agent):
                agent.entry.set_result(None)
            case Refill(message, limit):
                self._spawn(self._refill(message, limit))
            case DeferEntry(message, recipients, reason):
                self._spawn(self._defer(message, recipients, reason))
            case Finish(message):
                self._spawn(self._finish(message))

    # Agents

    async def _use_agent(self, transport: Transport) -> None:
        agent = await agents.find_agent(transport.name, self.agent_timeout, self.release)
        if agent is None:
            self.scheduler.agent_unavailable(transport)
            self._wake()
            return
        self.scheduler.agent_available(transport, agent)
        self._wake()
        try:
            entry = await agent.entry
        except BaseException:
            agent.channel.close()
            raise
        if entry is None:
            agent.channel.close()
            self._wake()
            return
        destination = entry.destination
        request = delivery_request(
            entry.message,
            entry.recipients,
            destination.nexthop,
            destination.connection_flags,
            smtputf8=self.settings.smtputf8,
        )
        answer = await agents.deliver(agent, request, self.release)
        self.scheduler.delivered(entry, done=answer.done, hop=answer.hop, crashed=answer.crashed)
        self._wake()

    async def _defer(self, message: Message, recipients: list[Recipient], reason: DSN) -> None:
        settled = False
        try:
            settled = await self.notices.defer(message, recipients, reason)
        except Exception as error:
            _complain(message.queue_id, "deferring recipients", error)
        self.scheduler.recipients_deferred(message, settled=settled)
        self._wake()

    # Messages in

    async def _feed_all(self) -> None:
        """Keep the active queue filled."""
        slice_end = time.monotonic() + SLICE
        while True:
            room = len(self.scheduler.messages) < self.settings.active_limit
            if not room:
                self.scans.prefer_new_mail()
            found = self.scans.next() if room else None
            took_new = False
            if found is not None:
                scan, queue_id = found
                took_new = await self._feed(scan, queue_id) and scan.queue == INCOMING
            self.flow.update(took_new=took_new, idle=not self.scans.incoming.running)
            if found is None:
                self._hungry.clear()
                await self._hungry.wait()
            elif time.monotonic() >= slice_end:
                await asyncio.sleep(0)
            else:
                continue
            slice_end = time.monotonic() + SLICE

    async def _feed(self, scan: Scan, queue_id: str) -> bool:
        """Make a message active and schedule it; False when there is nothing to do for this file."""
        mode = scan.mode
        found = self.store.claim(scan.queue, queue_id, all_times=mode.all_times)
        if found is None:
            return False
        now = self.store.clock()
        message = Message(
            Envelope(queue_id),
            queued_at=self._epoch + time.monotonic(),
            active_arrival=int(now * 1_000_000),
            run_deferred=mode.run_deferred,
        )
        message.reader = EnvelopeReader(message.envelope, self.verp_filter, self._opened)
        limit = self.scheduler.admit(message)
        try:
            routed = await self._load(message, limit, found.st_mode)
        except StillBeingDelivered:
            self._forget(message)
            self.store.postpone(queue_id, 60, INCOMING)
            return False
        except CorruptFile:
            self._forget(message)
            self.store.mark_corrupt(queue_id)
            return False
        except FatalError:
            raise
        except Exception as error:
            self._give_up(message, "reading the message", error)
            return False
        self.scheduler.assign(message, routed)
        self._wake()
        return True

    async def _load(self, message: Message, limit: int, mode: int) -> list[tuple[Recipient, Route]]:
        file = self.store.open(message.queue_id)
        if file is None:
            raise CorruptFile(message.queue_id)
        with file:
            recipients = self.store.load(message, file, limit, mode)
            self._after_reading(message)
            if message.envelope.trace_flags & MTA_VERIFY:
                self.probes += 1
            if message.force_expire and self.store.has_log(DEFER, message.queue_id):
                # Its recipients' fate is known; returning the defer log is all that is left to do.
                message.deferred = True
                return []
            self.store.reset_defer_log(message.queue_id)
            return await self._route(message, recipients, file)

    def _after_reading(self, message: Message) -> None:
        if self.settings.delay_cleared and message.envelope.warn_time < 0:
            message.envelope.trace_flags |= RECORD_DELAYED_SENT

    def _opened(self, envelope: Envelope) -> None:
        sender = log_address(envelope.from_, external=self.external_addresses)
        nrcpt = envelope.unread
        log.info(f"{envelope.queue_id}: from=<{sender}>, size={envelope.size}, nrcpt={nrcpt} (queue active)")

    async def _route(
        self, message: Message, recipients: list[Recipient], file: QueueFile
    ) -> list[tuple[Recipient, Route]]:
        """Where each recipient goes; those for whom that settles it (double bounces) are left out."""
        envelope, policy = message.envelope, self.policy
        recipients = routing.sorted_for_resolving(recipients)
        if envelope.redirect and recipients:
            envelope.next_offset = envelope.unread = 0
            recipients = recipients[:1]
            recipients[0].address = await self.resolver.rewrite_internal(LOCAL, envelope.redirect)
        verify = bool(envelope.trace_flags & MTA_VERIFY)
        routed = []
        for recipient in recipients:
            resolved = None if envelope.redirect else routing.filter_route(policy, message, recipient)
            if resolved is None:
                resolved = await self.resolver.resolve(envelope.from_, recipient.address, verify=verify)
            recipient.address = resolved.recipient
            if routing.is_double_bounce(policy, message, resolved):
                if not await self.notices.discard(message, file, recipient):
                    message.deferred = True
                continue
            limit = self.settings.verify_pending_limit
            route = routing.final_route(policy, message, resolved, self.probes, limit, self._recipient_limit)
            routed.append((recipient, route))
        return routed

    def _recipient_limit(self, transport: str) -> int:
        return self.scheduler.transport(transport).settings.destination_recipient_limit

    async def _refill(self, message: Message, limit: int) -> None:
        """Read more recipients of a message that is being delivered."""
        routed: list[tuple[Recipient, Route]] = []
        try:
            routed = await self._read_more(message, limit)
        except CorruptFile:
            pass  # found again, and dealt with, when the recipients in memory have been tried
        except FatalError:
            raise
        except Exception as error:
            message.deferred = True
            _complain(message.queue_id, "reading more recipients", error)
        self.scheduler.assign(message, routed)
        self._wake()

    async def _read_more(self, message: Message, limit: int) -> list[tuple[Recipient, Route]]:
        file = self.store.open(message.queue_id)
        if file is None:
            raise CorruptFile(message.queue_id)
        with file:
            recipients = self.store.read(message, file, limit)
            self._after_reading(message)
            return await self._route(message, recipients, file)

    # Messages out

    async def _finish(self, message: Message) -> None:
        """All recipients in memory have been tried: see `disposal`."""
        try:
            routed = await self._dispose(message)
        except FatalError:
            raise
        except Exception as error:
            self._give_up(message, "finishing the message", error)
            return
        if routed is None:
            self._forget(message)
        else:
            self.scheduler.assign(message, routed)
        self._wake()

    async def _dispose(self, message: Message) -> Iterable[tuple[Recipient, Route]] | None:
        """More recipients to deliver, or None: the file has been put where it belongs."""
        store, settings, queue_id = self.store, self.settings, message.queue_id
        progress = Progress()
        while True:
            now = store.clock()
            bounce_log = not progress.bounced and store.has_log(BOUNCE, queue_id)
            match next_step(message, progress, settings, now, bounce_log=bounce_log):
                case Step.BOUNCE:
                    progress.bounced = True
                    message.deferred |= not await self.notices.bounce(message)
                case Step.CHECK:
                    progress.checked = True
                    if not store.usable(queue_id):
                        store.mark_corrupt(queue_id)
                        return None
                case Step.READ_MORE:
                    try:
                        return await self._read_more(message, max(message.slots - message.in_core, 1))
                    except CorruptFile:
                        store.mark_corrupt(queue_id)
                        return None
                case Step.TRACE:
                    progress.traced = True
                    if not await self.notices.trace(message):
                        message.deferred = True
                    elif message.envelope.trace_offset:
                        store.kill_trace_request(message)
                case Step.EXPIRE:
                    progress.notified = True
                    sender = log_address(message.envelope.from_, external=self.external_addresses)
                    status = expiry(message, settings, now)
                    log.info(f"{queue_id}: from=<{sender}>, status={status}, returned to sender")
                    message.deferred = not await self.notices.expire(message)
                case Step.WARN:
                    progress.notified = True
                    if await self.notices.warn(message):
                        store.note_warned(message)
                case Step.DEFER:
                    store.postpone(queue_id, backoff(message.envelope.create_time, settings, now))
                    return None
                case Step.REMOVE:
                    store.remove(queue_id)
                    return None

    def _forget(self, message: Message) -> None:
        if message.envelope.trace_flags & MTA_VERIFY:
            self.probes -= 1
        self.scheduler.forget(message)
        self._hungry.set()

    def _give_up(self, message: Message, what: str, error: Exception) -> None:
        """An error that nobody expected: the message is tried again later."""
        _complain(message.queue_id, what, error)
        self.store.postpone(message.queue_id, self.settings.minimal_backoff)
        self._forget(message)
        self._wake()


def _complain(queue_id: str, what: str, error: Exception) -> None:
    log.warning(f"{queue_id}: message deferred, while {what}: {describe(error)}")
