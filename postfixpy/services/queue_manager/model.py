"""What the scheduler keeps in memory (SCHEDULER_README, "The structures used by nqmgr").

A `Message` is delivered by one `Job` for each `Transport` that it needs. A job's recipients are grouped into entries,
one delivery request each; those for one destination are the job's `Peer` of that `Destination` (a transport's queue
for one next hop), which also lists the entries that other messages have for it. These classes hold state; what moves
it is in `jobs` and `scheduler`.
"""

from dataclasses import dataclass, field
from typing import Any

from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN

from .envelope import Envelope
from .feedback import Concurrency, Limits
from .links import Links
from .settings import TransportSettings

ERROR, RETRY = "error", "retry"
"""The transports that bounce and defer their recipients with the text that is their next hop."""


@dataclass(eq=False, slots=True)
class Message:
    """One message in the active queue.

    queued_at      when it became active, in whole seconds, as its age counts for the scheduler
    deferred       some recipient must be tried again (a delivery agent, or a notification, failed)
    entries        delivery requests in memory; at 0 all recipients in memory have been tried
    in_core, slots recipients in memory, and how many may be
    flush          a "sendmail -q" of this message: throttled transports and destinations get another chance
    run_deferred   defer_transports does not hold for it
    force_expire   "postsuper -e": return it to the sender now
    reader         reads (more of) the envelope; set by the edge
    """

    envelope: Envelope
    queued_at: int
    active_arrival: int = 0  # microseconds
    deferred: bool = False
    flush: bool = False
    run_deferred: bool = False
    force_expire: bool = False
    entries: int = 0
    in_core: int = 0
    slots: int = 0
    jobs: "dict[Transport, Job]" = field(default_factory=dict)
    refilling: bool = False
    refilled_at: float = 0.0
    reader: Any = None

    @property
    def queue_id(self) -> str:
        """The message's queue id."""
        return self.envelope.queue_id


@dataclass(eq=False, slots=True)
class Entry:
    """Recipients of one message for one destination: one delivery request, waiting or under way."""

    message: Message
    peer: "Peer"
    destination: "Destination"
    recipients: list[Recipient] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Peer:
    """The entries of one job for one destination: `waiting` ones in order, `entries` counts those under way too."""

    job: "Job"
    destination: "Destination"
    waiting: Links[Entry] = field(default_factory=Links)
    entries: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """One message within one transport.

    read, selected   entries made, and entries chosen for delivery, so far
    parent, children whom this job has preempted, and who have preempted it; `level` is the depth of that, -1: not
    listed slots_available  delivery slots that may be given to preempting jobs, times slot_cost; `slots_used` by this
    job itself in_core, slots   recipients in memory, and how many may be blocked          the transport's epoch when
    none of its peers could take another delivery
    """

    message: Message
    transport: "Transport"
    peers: "dict[Destination, Peer]" = field(default_factory=dict)
    turns: Links[Peer] = field(default_factory=Links)
    read: int = 0
    selected: int = 0
    level: int = -1
    parent: "Job | None" = None
    children: "Links[Job]" = field(default_factory=Links)
    slots_available: int = 0
    slots_used: int = 0
    in_core: int = 0
    slots: int = 0
    blocked: int = -1

    @property
    def has_entries(self) -> bool:
        """Whether entries wait to be chosen."""
        return self.selected < self.read

    @property
    def most_entries(self) -> int:
        """Entries that the job has or will have, at most: recipients that are still unread may all be its own."""
        return self.read + self.message.envelope.unread


class Destination:
    """A transport's queue for one next hop, or one recipient there: waiting and busy entries, concurrency.

    `connection_flags` are the CONNECTION_* bits for requests; `reason` says why a dead destination is dead; `blocked`
    is the transport's epoch when it kept some job from being chosen. `available` deliveries could start now.
    """

    __slots__ = (
        "available",
        "blocked",
        "busy",
        "clog_warn_at",
        "concurrency",
        "connection_flags",
        "last_done",
        "name",
        "nexthop",
        "reason",
        "timer",
        "todo",
        "transport",
    )

    def __init__(self, transport: "Transport", name: str, nexthop: str, concurrency: Concurrency) -> None:
        self.transport = transport
        self.name = name
        self.nexthop = nexthop
        self.concurrency = concurrency
        self.todo: dict[Entry, None] = {}
        self.busy: dict[Entry, None] = {}
        self.available = 0
        self.connection_flags = 0
        self.last_done = 0
        self.reason: DSN | None = None
        self.blocked = -1
        self.clog_warn_at = 0.0
        self.timer: Any = None

    @property
    def empty(self) -> bool:
        """Whether it has no entries."""
        return not self.todo and not self.busy

    @property
    def has_room(self) -> bool:
        """Whether its window allows another delivery."""
        return self.concurrency.window > len(self.busy)

    def recount(self) -> None:
        """Bring `available`, here and in the transport, up to date after any change."""
        available = max(0, min(self.concurrency.window - len(self.busy), len(self.todo)))
        self.transport.available += available - self.available
        self.available = available


class Transport:
    """A delivery service of master.cf: its destinations and jobs.

    jobs           in the order of delivery, which preemption changes; `by_age`: in the order of arrival
    current        where choosing starts; None: at no job
    next_unread    first job by age whose message has unread recipients: it gets the free recipient slots
    free_slots     recipient slots of nobody; negative when preempting jobs have used extra ones
    epoch          changes when blocked jobs deserve another look
    pending, busy  connections that wait for an agent; deliveries under way
    reason         why the transport is throttled, None when it is not
    """

    __slots__ = (
        "available",
        "busy",
        "by_age",
        "candidate",
        "candidate_at",
        "candidate_for",
        "current",
        "destinations",
        "epoch",
        "free_slots",
        "jobs",
        "limits",
        "name",
        "next_unread",
        "pending",
        "rate_locked",
        "reason",
        "settings",
        "timer",
    )

    def __init__(self, name: str, settings: TransportSettings) -> None:
        self.name = name
        self.settings = settings
        self.limits = Limits(
            settings.concurrency_limit,
            settings.initial_concurrency,
            settings.positive,
            settings.negative,
            settings.cohort_limit,
        )
        self.destinations: dict[str, Destination] = {}
        self.jobs: Links[Job] = Links()
        self.by_age: Links[Job] = Links()
        self.current: Job | None = None
        self.next_unread: Job | None = None
        self.free_slots = settings.recipient_limit
        self.candidate: Job | None = None
        self.candidate_for: Job | None = None
        self.candidate_at = 0.0
        self.epoch = 0
        self.available = 0
        self.pending = 0
        self.busy = 0
        self.rate_locked = False
        self.reason: DSN | None = None
        self.timer: Any = None
