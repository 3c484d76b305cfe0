"""Everything at random, by seed: whatever happens, no recipient is forgotten or handed out twice, and limits hold."""

import random

import pytest

from postfixpy import log
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.services.queue_manager.feedback import Feedback
from postfixpy.services.queue_manager.model import Message, Transport
from postfixpy.services.queue_manager.settings import Settings, TransportSettings

from .world import World, addresses, route

TRANSPORTS = ("smtp", "lmtp", "slow", "lazy")


def random_settings(chance: random.Random) -> TransportSettings:
    return TransportSettings(
        concurrency_limit=chance.choice([0, 1, 2, 7, 20]),
        initial_concurrency=chance.choice([1, 3, 5]),
        destination_recipient_limit=chance.choice([0, 1, 2, 5]),
        positive=Feedback(chance.choice([0, 0.3, 1.0]), chance.random() < 0.5),
        negative=Feedback(chance.choice([0, 0.3, 1.0]), chance.random() < 0.5),
        cohort_limit=chance.choice([0, 1, 3]),
        slot_cost=chance.choice([0, 1, 2, 5]),
        slot_loan=chance.choice([0, 3]),
        slot_discount=chance.choice([0, 50, 100]),
        minimum_slots=chance.choice([0, 1, 3]),
        recipient_limit=chance.choice([0, 5, 100]),
        extra_recipient_limit=chance.choice([0, 10]),
        refill_limit=chance.choice([1, 10, 100]),
        refill_delay=chance.choice([1, 10]),
        process_limit=chance.choice([0, 1, 5]),
    )


class Chaos:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        known = {name: random_settings(self.chance) for name in TRANSPORTS}
        known["slow"].destination_rate_delay, known["slow"].concurrency_limit = 3, 1
        known["slow"].initial_concurrency = 1
        known["lazy"].transport_rate_delay = 2
        settings = Settings(recipient_minimum=self.chance.choice([1, 4]), recipient_limit=60, helpful_warnings=False)
        self.world = World(settings, **known)
        self.submitted: set[str] = set()
        self.seen: list[str] = []
        self.number = 0

    def read(self, message: Message, limit: int) -> None:
        count = min(max(limit, 1), message.envelope.unread)
        message.envelope.unread -= count
        message.envelope.next_offset = 100 if message.envelope.unread else 0
        routed = []
        for _ in range(count):
            self.number += 1
            recipient = Recipient(f"u{self.number}@d{self.chance.randrange(6)}")
            self.submitted.add(recipient.address)
            routed.append((recipient, route(recipient.address, self.chance.choice(TRANSPORTS))))
        self.world.scheduler.assign(message, routed)
        self.world.run()

    def step(self, submit: bool) -> None:
        world, chance = self.world, self.chance
        what = chance.randrange(100)
        if submit and what < 15:
            message = world.new(f"m{self.number}", later=chance.choice([0, 1, 2, 9, 80]))
            self.read(message, chance.choice([1, 10]))
        elif what < 60 and world.running:
            entry = chance.choice(world.running)
            self.seen += addresses(entry)
            outcome = chance.randrange(10)
            if outcome < 6 or entry.destination.transport.name == "retry":
                world.finish(entry, done=outcome < 5)
            elif outcome < 9:
                world.finish(entry, done=False, hop=DSN("4.4.1", reason="down"))
            else:
                world.finish(entry, crashed=True)
        elif what < 70:
            world.refuse = {name for name in (*TRANSPORTS, "retry") if chance.random() < 0.2}
        elif what < 73:
            world.scheduler.enable_all()
            world.run()
        else:
            world.advance(chance.choice([0.1, 1, 5, 70, 310]))
        for refill in [*world.refills]:
            world.refills.remove(refill)
            self.read(refill.message, refill.limit)
        for deferral in [*world.deferred]:
            world.deferred.remove(deferral)
            self.seen += [recipient.address for recipient in deferral.recipients]
        for message in [*world.finished]:
            world.finished.remove(message)
            if not message.envelope.all_read:
                self.read(message, message.slots - message.in_core)
        for transport in world.scheduler.transports.values():
            check(transport)


def check(transport: Transport) -> None:
    """What must hold after every step."""
    settings = transport.settings
    assert transport.pending >= 0
    if settings.process_limit:
        assert transport.pending + transport.busy <= settings.process_limit
    available = 0
    for destination in transport.destinations.values():
        limit = settings.concurrency_limit
        assert not limit or len(destination.busy) <= limit
        assert (destination.reason is not None) == (destination.concurrency.window == 0)
        if destination.reason is not None:
            assert not destination.todo
        available += max(0, min(destination.concurrency.window - len(destination.busy), len(destination.todo)))
    assert transport.available == available
    assert transport.busy == sum(len(d.busy) for d in transport.destinations.values())
    assert set(transport.jobs) == set(transport.by_age)
    for job in transport.jobs:
        assert job.level >= 0
        assert (job.parent is None) or job in job.parent.children


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_forgotten(seed: int) -> None:
    old = log.set_sink(lambda severity, text: None)
    try:
        chaos = Chaos(seed)
        for n in range(1200):
            chaos.step(submit=n < 600)
        # Peace: everything works again, and what is left is delivered.
        chaos.world.refuse = set()
        for _ in range(5000):
            if not chaos.world.scheduler.messages:
                break
            chaos.step(submit=False)
            chaos.world.refuse = set()
    finally:
        log.set_sink(old)
    scheduler = chaos.world.scheduler
    assert not scheduler.messages
    assert len(chaos.seen) == len(set(chaos.seen))
    assert set(chaos.seen) == chaos.submitted
    assert scheduler.recipients == 0
    for transport in scheduler.transports.values():
        assert not transport.jobs
        assert transport.free_slots == transport.settings.recipient_limit
