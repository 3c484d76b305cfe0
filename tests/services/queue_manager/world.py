"""A scheduler with a virtual clock and pretended agents, for tests that read like transcripts."""

from typing import Any

from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.services.queue_manager.decisions import (
    Connect,
    Decision,
    DeferEntry,
    Deliver,
    Finish,
    Refill,
    Release,
    Route,
)
from postfixpy.services.queue_manager.envelope import Envelope
from postfixpy.services.queue_manager.model import Destination, Entry, Message
from postfixpy.services.queue_manager.scheduler import Scheduler
from postfixpy.services.queue_manager.settings import Settings, TransportSettings

START = 1_000_000.0


class World:
    """Agents connect at once; each entry they get is noted in `started` and stays in `running` until it is finished."""

    def __init__(self, settings: Settings | None = None, **transports: TransportSettings) -> None:
        self.now = START
        self.known = transports
        self.scheduler = Scheduler(
            settings or Settings(), lambda name: self.known.get(name, TransportSettings()), START
        )
        self.started: list[Entry] = []
        self.running: list[Entry] = []
        self.finished: list[Message] = []
        self.refills: list[Refill] = []
        self.deferred: list[DeferEntry] = []
        self.released = 0
        self.refuse: set[str] = set()
        """Transports without agents."""
        self.manual_refill = False

    def message(
        self, queue_id: str, *recipients: str, transport: str = "smtp", later: int = 0, **facts: Any
    ) -> Message:
        """A message to user@domain..., each routed to its domain; `later` recipients are unread. Runs the scheduler."""
        message = self.new(queue_id, later=later, **facts)
        self.assign(message, *recipients, transport=transport)
        return message

    def new(self, queue_id: str, later: int = 0, **facts: Any) -> Message:
        envelope = Envelope(queue_id, sender="s@example.com", unread=later, next_offset=100 if later else 0)
        message = Message(envelope, queued_at=int(self.now), **facts)
        self.scheduler.admit(message)
        return message

    def assign(self, message: Message, *recipients: str, transport: str = "smtp") -> None:
        self.scheduler.assign(message, [(Recipient(r), route(r, transport)) for r in recipients])
        self.run()

    def run(self) -> None:
        """Carry out decisions until there are none."""
        while decisions := self.scheduler.decide():
            for decision in decisions:
                self._carry_out(decision)

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Connect(transport):
                if transport.name in self.refuse:
                    self.scheduler.agent_unavailable(transport)
                else:
                    self.scheduler.agent_available(transport, object())
            case Deliver(_, entry):
                self.started.append(entry)
                self.running.append(entry)
            case Release():
                self.released += 1
            case Refill():
                self.refills.append(decision)
            case DeferEntry(message):
                self.deferred.append(decision)
                self.scheduler.recipients_deferred(message)
            case Finish(message):
                self.finished.append(message)
                if message.envelope.all_read:
                    self.scheduler.forget(message)

    def finish(
        self, entry: Entry | None = None, *, done: bool = True, hop: DSN | None = None, crashed: bool = False
    ) -> Entry:
        """The agent of `entry` (the one that runs longest) answers."""
        entry = entry or self.running[0]
        self.running.remove(entry)
        self.scheduler.delivered(entry, done=done, hop=hop, crashed=crashed)
        self.run()
        return entry

    def fail(self, entry: Entry | None = None, reason: str = "connect to there: Connection refused") -> Entry:
        """The agent could not reach the destination."""
        return self.finish(entry, done=False, hop=DSN("4.4.1", reason=reason))

    def advance(self, seconds: float) -> None:
        """Time passes, and what is due happens at its time."""
        end = self.now + seconds
        while (due := self.scheduler.next_due()) is not None and due <= end:
            self.now = due
            self.scheduler.advance(due)
            self.run()
        self.now = end
        self.scheduler.advance(end)
        self.run()

    def destination(self, name: str, transport: str = "smtp") -> Destination:
        return self.scheduler.transports[transport].destinations[name]

    @property
    def order(self) -> str:
        """The queue ids in the order of delivery."""
        return "".join(entry.message.queue_id for entry in self.started)


def route(recipient: str, transport: str = "smtp") -> Route:
    """A recipient's domain is its destination."""
    domain = recipient.rpartition("@")[2]
    return Route(transport, domain, domain)


def addresses(entry: Entry) -> list[str]:
    return [recipient.address for recipient in entry.recipients]
