"""The queue manager at work: carries out what the scheduler decides, with files, resolver, agents and notices.

A few `_feed_all` tasks take messages from the incoming and deferred queues while the active queue has room.
Each connection to an agent, each refill and each finished message is a task; what they find out goes to the
scheduler, and `_pump` (once per turn of the event loop) carries out its decisions. No task may lose a message: an
unexpected error puts the message off with a warning that says where it happened, and an error in the scheduler itself
ends the process; what is active then is taken up again by the next one.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from postfixpy import log
from postfixpy.errors import FatalError, describe
from postfixpy.ipc.message import CURRENT, Release
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.queue import BOUNCE, INCOMING

from . import agents
from .decisions import Connect, Decision, DeferEntry, Deliver, Finish, Refill
from .decisions import Release as LetGo
from .disposal import Progress, Step, backoff, expiry, next_step
from .envelope import Envelope
from .flow import Flow
from .intake import Intake, Routed
from .model import Message, Transport
from .request import delivery_request
from .scan import Scan, Scans
from .store import LOCKED_DELAY, CorruptFile, StillBeingDelivered

FEEDERS = 3
"""Messages that are read and resolved at once, so that one with many recipients does not hold up those behind it."""

SLICE = 0.005
"""Seconds that reading files may take before other work gets a turn."""


class Manager:
    """See the module. `agent_timeout` is daemon_timeout, seconds; `release` the Postfix release of the agents;
    `fatal` is called when the process must end."""

    def __init__(
        self,
        intake: Intake,
        flow: Flow,
        *,
        fatal: Callable[[FatalError], None],
        release: Release = CURRENT,
        agent_timeout: float = 18000.0,
    ) -> None:
        self.intake = intake
        self.settings = intake.settings
        self.scheduler = intake.scheduler
        self.store = intake.store
        self.notices = intake.notices
        self.flow = flow
        self.release = release
        self.agent_timeout = agent_timeout
        self.scans = Scans(self.store.listing)
        self._fatal = fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._hungry = asyncio.Event()
        self._pump_planned = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._run_timer: asyncio.TimerHandle | None = None
        self._cool_timer: asyncio.TimerHandle | None = None
        # The scheduler's clock does not jump when somebody sets the wall clock.
        self._epoch = self.store.clock() - time.monotonic()

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

    def _scan_incoming_later(self) -> None:
        """Look at the incoming queue when files that are still being delivered now have cooled down."""
        if self._cool_timer is None:
            loop = asyncio.get_running_loop()
            self._cool_timer = loop.call_later(LOCKED_DELAY + 1, self._cooled_down)

    def _cooled_down(self) -> None:
        self._cool_timer = None
        self.scans.incoming.request(start=True)
        self._hungry.set()

    def triggered(self, requests: bytes) -> None:
        """Trigger requests, one byte each (see `scan`)."""
        if self.scans.triggered(requests):
            self.scheduler.enable_all()
            self._wake()
        self._hungry.set()

    async def stop(self) -> None:
        """End all tasks. Agents finish what they do; its result is found in the queue files."""
        self._stopped = True
        for timer in (self._timer, self._run_timer, self._cool_timer):
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
        if self._stopped:
            return
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
            queued_at=int(self._epoch + time.monotonic()),
            active_arrival=int(now * 1_000_000),
            run_deferred=mode.run_deferred,
        )
        message.reader = self.intake.reader(message.envelope)
        limit = self.scheduler.admit(message)
        try:
            routed = await self.intake.load(message, limit, found.st_mode)
        except StillBeingDelivered:
            self._forget(message)
            self.store.postpone(queue_id, LOCKED_DELAY, INCOMING)
            self._scan_incoming_later()
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

    async def _refill(self, message: Message, limit: int) -> None:
        """Read more recipients of a message that is being delivered."""
        routed: Routed = []
        try:
            routed = await self.intake.read_more(message, limit)
        except CorruptFile:
            pass  # found again, and dealt with, when the recipients in memory have been tried
        except FatalError:
            raise
        except Exception as error:
            message.deferred = True
            _complain(message.queue_id, "reading more recipients", error)
        self.scheduler.assign(message, routed)
        self._wake()

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

    async def _dispose(self, message: Message) -> Routed | None:
        """More recipients to deliver, or None: the file has been put where it belongs."""
        store, settings, queue_id = self.store, self.settings, message.queue_id
        progress = Progress()
        while True:
            now = store.clock()
            bounce_log = not progress.bounced and store.has_log(BOUNCE, queue_id)
            match next_step(message, progress, settings, now, bounce_log=bounce_log):
                case Step.BOUNCE:
                    progress.bounced = True
                    progress.failed |= not await self.notices.bounce(message)
                    message.deferred |= progress.failed
                case Step.CHECK:
                    progress.checked = True
                    if not store.usable(queue_id):
                        store.mark_corrupt(queue_id)
                        return None
                case Step.READ_MORE:
                    try:
                        return await self.intake.read_more(message, max(message.slots - message.in_core, 1))
                    except CorruptFile:
                        store.mark_corrupt(queue_id)
                        return None
                case Step.TRACE:
                    progress.traced = True
                    if not await self.notices.trace(message):
                        message.deferred = progress.failed = True
                    elif message.envelope.trace_offset:
                        store.kill_trace_request(message)
                case Step.EXPIRE:
                    progress.notified = True
                    sender = self.intake.external(message.envelope.from_)
                    status = expiry(message, settings, now)
                    log.info(f"{queue_id}: from=<{sender}>, status={status}, returned to sender")
                    message.deferred = not await self.notices.expire(message) or progress.failed
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
        self.intake.probes.discard(message)
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
