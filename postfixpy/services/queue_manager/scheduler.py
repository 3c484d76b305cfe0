"""The scheduler: events in, decisions out, under an explicit clock. No input or output.

Events are method calls: `assign` (recipients of a message have been resolved), `agent_available`,
`agent_unavailable`, `delivered`, `advance` (time has passed), `enable_all` (flush). What must happen next comes out
of `decide`: connect to an agent, hand it an entry, let it go, read more recipients, defer recipients, finish a
message. Every entry that was handed out must come back through `delivered`, every `DeferEntry` through
`recipients_deferred`, every `Refill` through `assign`, and every `Finish` ends in `forget` or in another `assign`.

A destination that fails is throttled for minimal_backoff_time, a transport that has no agents for
transport_retry_time; what waits for them goes to the retry(8) service, with the reason, or is deferred directly when
there is no retry service.

Source: qmgr(8), SCHEDULER_README, spec/smtp-client.md 15.6. Differs from Postfix: connections of a transport never
exceed its row's process limit, because one agent process of ours serves many of them; Postfix lets two more wait.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from postfixpy import log
from postfixpy.mail.delivery import CONNECTION_LOAD, CONNECTION_STORE, Recipient
from postfixpy.mail.dsn import DSN, valid_status

from . import jobs
from .clog import warn_if_clogged
from .decisions import Connect, Decision, DeferEntry, Deliver, Finish, Refill, Release, Route
from .feedback import DEAD, SUSPENDED, Concurrency
from .links import Links
from .model import ERROR, RETRY, Destination, Entry, Job, Message, Peer, Transport
from .settings import Settings, TransportSettings
from .timers import Timers

MAX_PENDING = 2
"""Connections of one transport that wait for an agent at once: enough to keep the agents busy (qmgr's pipeline)."""

MAX_BATCH = 5000
"""Recipients that are read in one go, so that other work is not held up for long."""

SUSPENDED_TEXT = "delivery temporarily suspended: "


class Scheduler:
    """What the queue manager has in memory. `now` is in seconds; `transport_settings` answers for a new transport."""

    def __init__(self, settings: Settings, transport_settings: Callable[[str], TransportSettings], now: float) -> None:
        self.settings = settings
        self.transports: dict[str, Transport] = {}
        self.messages: set[Message] = set()
        self.recipients = 0
        self.destinations = 0
        self._transport_settings = transport_settings
        self._turns: Links[Transport] = Links()
        self._decisions: list[Decision] = []
        self._timers = Timers(now)

    # Time

    @property
    def now(self) -> float:
        """The time that the scheduler knows, in seconds."""
        return self._timers.now

    def advance(self, now: float) -> None:
        """It is `now`: do what has become due."""
        self._timers.advance(now)

    def next_due(self) -> float | None:
        """When `advance` has something to do, in seconds; None when nothing is planned."""
        return self._timers.next_due()

    # Messages and recipients

    def admit(self, message: Message) -> int:
        """A message enters memory. Answers how many recipients to read at first (1 or more)."""
        message.slots = self.settings.recipient_minimum
        self.messages.add(message)
        return min(max(self.settings.recipient_limit - self.recipients, message.slots), MAX_BATCH)

    def forget(self, message: Message) -> None:
        """The message leaves memory; all its recipients must have been tried."""
        assert message.entries == 0
        for job in list(message.jobs.values()):
            jobs.free(job)
        self.messages.discard(message)

    def assign(self, message: Message, routed: Iterable[tuple[Recipient, Route]]) -> None:
        """Recipients of `message` have been resolved: make delivery requests of them.

        When none is left to deliver (and none is under way), a `Finish` follows.
        """
        message.refilling = False
        message.refilled_at = self.now
        bound: list[tuple[Recipient, Destination]] = []
        refused: dict[DSN, list[Recipient]] = {}
        for recipient, route in routed:
            destination = self._bind(message, route)
            if isinstance(destination, Destination):
                bound.append((recipient, destination))
            else:
                refused.setdefault(destination, []).append(recipient)
        for reason, recipients in refused.items():
            message.entries += 1  # until recipients_deferred
            self._decisions.append(DeferEntry(message, recipients, reason))
        bound.sort(key=_order)
        for recipient, destination in bound:
            self._assign_one(message, recipient, destination)
        for job in message.jobs.values():
            if job.level >= 0 and job.has_entries and job.blocked != job.transport.epoch:
                job.transport.candidate_for = None
            elif job.blocked == job.transport.epoch and not job.has_entries:
                job.blocked = -1  # it waited for recipients, and got none: to be retired
                job.transport.current = job.transport.jobs.first
        if message.envelope.all_read:
            for job in list(message.jobs.values()):
                jobs.release_slots(job)
        if message.entries == 0:
            self._decisions.append(Finish(message))

    def _bind(self, message: Message, route: Route) -> Destination | DSN:
        """The destination of a route; when it is dead, the retry service; when that is dead too, the reason."""
        transport = self.transport(route.transport)
        if message.flush and transport.reason is not None:
            self._revive_transport(transport)
        if transport.reason is not None:
            return self._retry_destination(transport.reason) or transport.reason
        destination = self._destination(transport, route.queue, route.nexthop)
        if message.flush and destination.concurrency.window == DEAD:
            self._revive(destination)
        if destination.reason is not None:
            return self._retry_destination(destination.reason) or destination.reason
        return destination

    def _assign_one(self, message: Message, recipient: Recipient, destination: Destination) -> None:
        job = message.jobs.get(destination.transport)
        if job is None or job.level < 0 or job.blocked == job.transport.epoch:
            job = jobs.obtain(message, destination.transport)
        peer = self._peer(job, destination)
        entry = peer.waiting.last
        limit = destination.transport.settings.destination_recipient_limit
        if entry is None or message.envelope.verp_delimiters or (limit and len(entry.recipients) >= limit):
            entry = self._entry(message, peer)
        entry.recipients.append(recipient)
        job.in_core += 1
        message.in_core += 1
        self.recipients += 1

    def _peer(self, job: Job, destination: Destination) -> Peer:
        peer = job.peers.get(destination)
        if peer is None:
            peer = job.peers[destination] = Peer(job, destination)
            job.turns.insert(peer)
        return peer

    def _entry(self, message: Message, peer: Peer) -> Entry:
        destination = peer.destination
        entry = Entry(message, peer, destination)
        message.entries += 1
        peer.waiting.insert(entry)
        peer.entries += 1
        peer.job.read += 1
        destination.todo[entry] = None
        destination.recount()
        warn_if_clogged(destination, len(self.messages), self.settings, self.now)
        return entry

    # Transports and destinations

    def transport(self, name: str) -> Transport:
        """The transport of that name, made when it is new."""
        transport = self.transports.get(name)
        if transport is None:
            transport = self.transports[name] = Transport(name, self._transport_settings(name))
            self._turns.insert(transport, self._turns.first)
        return transport

    def _destination(self, transport: Transport, name: str, nexthop: str) -> Destination:
        destination = transport.destinations.get(name)
        if destination is None:
            trace = log.info if self.settings.feedback_debug and transport.name not in (ERROR, RETRY) else None
            concurrency = Concurrency(transport.limits, name, trace)
            destination = transport.destinations[name] = Destination(transport, name, nexthop, concurrency)
            self.destinations += 1
        return destination

    def _discard_if_empty(self, destination: Destination) -> None:
        known = destination.transport.destinations
        if destination.empty and destination.concurrency.ready and known.get(destination.name) is destination:
            del known[destination.name]
            self.destinations -= 1

    def _retry_destination(self, reason: DSN) -> Destination | None:
        """The destination in the retry service that defers with `reason`; None when that does not work."""
        transport = self.transport(RETRY)
        if transport.reason is not None:
            return None
        text = f"{reason.status} {reason.reason}"
        destination = self._destination(transport, text, text)
        return destination if destination.reason is None else None

    def _throttle_transport(self, transport: Transport, reason: DSN) -> None:
        if transport.reason is None:
            transport.reason = reason
            transport.timer = self._timers.later(
                self.settings.transport_retry_time, lambda: self._revive_transport(transport)
            )

    def _revive_transport(self, transport: Transport) -> None:
        if transport.reason is not None:
            transport.reason = None
            transport.timer.cancelled = True
        transport.rate_locked = False

    def _throttle(self, destination: Destination, reason: DSN) -> None:
        """A failure of the destination. It may be dead afterwards."""
        destination.concurrency.failed()
        if destination.concurrency.window == DEAD:
            destination.reason = reason
            destination.connection_flags = 0
            destination.timer = self._timers.later(self.settings.minimal_backoff, lambda: self._wake(destination))
        destination.recount()

    def _wake(self, destination: Destination) -> None:
        self._revive(destination)
        self._discard_if_empty(destination)

    def _revive(self, destination: Destination) -> None:
        """A success at the destination, or a dead one's next chance."""
        if destination.reason is not None:
            destination.reason = None
            destination.timer.cancelled = True
        destination.concurrency.worked(len(destination.busy))
        destination.recount()

    def _suspend(self, destination: Destination, delay: float) -> None:
        destination.concurrency.window = SUSPENDED
        destination.recount()
        self._timers.later(delay, lambda: self._resume(destination))

    def _resume(self, destination: Destination) -> None:
        destination.concurrency.window = 1
        destination.recount()
        if destination.empty:
            self._discard_if_empty(destination)
        else:
            self._unblock(destination)

    def _unblock(self, destination: Destination) -> None:
        """If the destination kept jobs from being chosen, and does so no more, look at them again."""
        transport = destination.transport
        if destination.blocked != transport.epoch:
            return
        if destination.has_room or destination.concurrency.window == DEAD:
            destination.blocked = -1
        if destination.has_room and destination.todo:
            jobs.unblock(transport)

    def enable_all(self) -> None:
        """Flush: every dead transport and destination gets another chance at once."""
        for transport in self.transports.values():
            if transport.reason is not None:
                self._revive_transport(transport)
            for destination in list(transport.destinations.values()):
                if destination.reason is not None:
                    self._revive(destination)
                self._discard_if_empty(destination)

    # Deferring what waits

    def _defer_waiting(self, destination: Destination, reason: DSN) -> None:
        """Everything that waits for `destination` is deferred, by the retry service if possible."""
        retry = None if destination.transport.name == RETRY else self._retry_destination(reason)
        for entry in list(destination.todo):
            if retry is not None:
                self._move(entry, retry)
            else:
                message = entry.message
                message.entries += 1  # until recipients_deferred
                self._decisions.append(DeferEntry(message, list(entry.recipients), reason))
                self._dispose(entry, was_busy=False)
        self._discard_if_empty(destination)
        if retry is not None:
            self._discard_if_empty(retry)

    def _defer_transport(self, transport: Transport, reason: DSN) -> None:
        for destination in list(transport.destinations.values()):
            if destination.todo:
                self._defer_waiting(destination, reason)

    def _move(self, entry: Entry, destination: Destination) -> None:
        """Move a waiting entry's recipients to another destination."""
        message = entry.message
        peer = self._peer(jobs.obtain(message, destination.transport), destination)
        moved = self._entry(message, peer)
        moved.recipients, entry.recipients = entry.recipients, []
        entry.peer.job.in_core -= len(moved.recipients)
        peer.job.in_core += len(moved.recipients)
        self._dispose(entry, was_busy=False)

    def recipients_deferred(self, message: Message, *, settled: bool = False) -> None:
        """A `DeferEntry` has been carried out; `settled`: the recipients need no more attempts all the same."""
        message.deferred |= not settled
        self._release(message)

    # Agents

    def decide(self) -> list[Decision]:
        """What to do now; nothing is repeated."""
        for transport in list(self._turns):
            while self._wants_agent(transport):
                transport.pending += 1
                transport.rate_locked = transport.settings.transport_rate_delay > 0
                self._turns.rotate(transport)
                self._decisions.append(Connect(transport))
        decisions, self._decisions = self._decisions, []
        return decisions

    def _wants_agent(self, transport: Transport) -> bool:
        limit = transport.settings.process_limit
        return (
            transport.available > transport.pending
            and transport.pending < MAX_PENDING
            and transport.reason is None
            and not transport.rate_locked
            and (not limit or transport.pending + transport.busy < limit)
        )

    def agent_available(self, transport: Transport, agent: Any) -> None:
        """An agent has announced itself on the connection `agent`."""
        transport.pending -= 1
        delay = transport.settings.transport_rate_delay
        if delay:
            self._timers.later(delay, lambda: self._hand_over(transport, agent))
        else:
            self._hand_over(transport, agent)

    def _hand_over(self, transport: Transport, agent: Any) -> None:
        entry = jobs.select(transport, self.now, self._refill)
        if entry is None and transport.available:
            jobs.unblock(transport)
            entry = jobs.select(transport, self.now, self._refill)
        if entry is None:
            transport.rate_locked = False
            self._decisions.append(Release(agent))
            return
        destination = entry.destination
        del destination.todo[entry]
        destination.busy[entry] = None
        destination.recount()
        transport.busy += 1
        self._connection_reuse(destination)
        self._decisions.append(Deliver(agent, entry))

    def _connection_reuse(self, destination: Destination) -> None:
        """On-demand connection caching: on at back-to-back deliveries, off for storing when concurrency drops."""
        back_to_back = destination.last_done + 1 >= int(self.now)
        if not destination.connection_flags & CONNECTION_STORE:
            if back_to_back:
                destination.connection_flags |= CONNECTION_LOAD | CONNECTION_STORE
        elif not back_to_back and len(destination.busy) <= 1:
            destination.connection_flags &= ~CONNECTION_STORE

    def _refill(self, message: Message) -> None:
        message.refilling = True
        limit = min(message.slots - message.in_core, MAX_BATCH)
        self._decisions.append(Refill(message, limit))

    def agent_unavailable(self, transport: Transport) -> None:
        """The connection could not be made, or the agent did not announce itself."""
        transport.pending -= 1
        transport.rate_locked = False
        reason = DSN("4.3.0", reason="mail transport unavailable")
        self._throttle_transport(transport, reason)
        self._defer_transport(transport, reason)

    def delivered(self, entry: Entry, *, done: bool, hop: DSN | None, crashed: bool = False) -> None:
        """The agent has answered: `done` with all recipients or not, hop status; or it went away (`crashed`)."""
        destination = entry.destination
        transport = destination.transport
        if crashed:
            done, hop = False, DSN("4.3.0", reason="unknown mail transport error")
        trouble = hop is not None and bool(hop.reason)
        if not done:
            entry.message.deferred = True
            if hop is not None and hop.status:
                trouble = True
                self._hop_failed(destination, hop)
        if not crashed:
            self._revive_transport(transport)
            if not trouble and destination.concurrency.window >= DEAD:
                self._revive(destination)
        elif transport.settings.transport_rate_delay:
            transport.rate_locked = False
        self._dispose(entry, was_busy=True)

    def _hop_failed(self, destination: Destination, hop: DSN) -> None:
        status = hop.status if valid_status(hop.status) else "4.0.0"
        reason = replace(hop, status=status, reason=SUSPENDED_TEXT + (hop.reason or "unknown error"))
        if destination.concurrency.ready:
            self._throttle(destination, reason)
            if destination.concurrency.window == DEAD:
                self._defer_waiting(destination, reason)

    def _dispose(self, entry: Entry, *, was_busy: bool) -> None:
        """The entry has been dealt with."""
        message, peer, destination = entry.message, entry.peer, entry.destination
        job, transport = peer.job, destination.transport
        if was_busy:
            del destination.busy[entry]
            transport.busy -= 1
        else:
            peer.waiting.remove(entry)
            job.selected += 1
            del destination.todo[entry]
        destination.recount()
        count = len(entry.recipients)
        job.in_core -= count
        message.in_core -= count
        self.recipients -= count
        self._return_slots(message, job)
        if was_busy:
            self._rest(destination)
            destination.last_done = int(self.now)
        if destination.concurrency.window != SUSPENDED:
            self._unblock(destination)
        peer.entries -= 1
        if peer.entries == 0:
            job.turns.remove(peer)
            del job.peers[destination]
        if destination.empty:
            if destination.concurrency.window == DEAD and self.destinations > 2 * self.settings.recipient_limit:
                self._revive(destination)
            self._discard_if_empty(destination)
        self._release(message)

    def _return_slots(self, message: Message, job: Job) -> None:
        """Recipient slots that other jobs of the message lent it go back first, then its own."""
        all_read = message.envelope.all_read
        for lender in message.jobs.values():
            if lender is not job and lender.in_core < lender.slots and (lender.level < 0 or all_read):
                jobs.release_slots(lender)
        if all_read:
            jobs.release_slots(job)

    def _rest(self, destination: Destination) -> None:
        """The rate delay after a delivery."""
        delay = destination.transport.settings.destination_rate_delay
        if not delay:
            return
        if destination.concurrency.window == DEAD:
            self._revive(destination)
        if destination.concurrency.ready:
            self._suspend(destination, delay)

    def _release(self, message: Message) -> None:
        message.entries -= 1
        if message.entries == 0 and not message.refilling:
            self._decisions.append(Finish(message))


def _order(item: tuple[Recipient, Destination]) -> tuple[str, str, bool, str, str]:
    """Recipients that can share a request come together: by transport, queue, domain, address."""
    recipient, destination = item
    _, at, domain = recipient.address.rpartition("@")
    return destination.transport.name, destination.name, not at, domain.casefold(), recipient.address
