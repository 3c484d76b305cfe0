"""The scheduler under a virtual clock: dead destinations, throttled transports, rate delays, limits, refills."""

import random

from postfixpy import log
from postfixpy.mail.delivery import CONNECTION_LOAD, CONNECTION_STORE, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.settings import Settings, TransportSettings

from .world import World, addresses, route


def test_one_message_is_delivered_and_finished() -> None:
    world = World()
    message = world.message("A", "u@x", "v@x", "w@y")
    assert [(e.destination.nexthop, addresses(e)) for e in world.started] == [("x", ["u@x", "v@x"]), ("y", ["w@y"])]
    world.finish()
    assert world.finished == []
    world.finish()
    assert world.finished == [message]
    assert not message.deferred
    assert world.scheduler.transports["smtp"].destinations == {}, "empty destinations are forgotten"
    assert not world.scheduler.messages


def test_recipients_are_split_by_the_recipient_limit() -> None:
    world = World(smtp=TransportSettings(destination_recipient_limit=2))
    world.message("A", *(f"u{n}@x" for n in range(5)))
    assert [len(e.recipients) for e in world.started] == [2, 2, 1]
    world = World(smtp=TransportSettings(destination_recipient_limit=0))
    world.message("A", *(f"u{n}@x" for n in range(500)))
    assert [len(e.recipients) for e in world.started] == [500]


def test_verp_sends_to_one_recipient_at_a_time() -> None:
    world = World()
    message = world.new("A")
    message.envelope.verp_delimiters = "+="
    world.assign(message, "u@x", "v@x")
    assert [addresses(e) for e in world.started] == [["u@x"], ["v@x"]]


def test_a_failed_destination_is_dead_for_minimal_backoff_time() -> None:
    world = World(Settings(minimal_backoff=300), smtp=TransportSettings(initial_concurrency=1, concurrency_limit=1))
    first = world.message("A", "u@x")
    second = world.message("B", "u@x")
    assert world.order == "A"
    world.fail()
    assert first.deferred
    # B goes to the retry service with the reason.
    assert world.order == "AB"
    retry = world.started[1].destination
    assert retry.transport.name == "retry"
    assert retry.nexthop == "4.4.1 delivery temporarily suspended: connect to there: Connection refused"
    world.finish(done=False)
    assert second.deferred
    # So does mail that comes later, without an attempt,
    world.advance(299)
    world.message("C", "u@x")
    assert world.started[-1].destination.transport.name == "retry"
    world.finish(done=False)
    # until the time is over.
    world.advance(2)
    world.message("D", "u@x")
    assert world.started[-1].destination.transport.name == "smtp"


def test_failures_narrow_the_window_before_the_destination_is_dead() -> None:
    # The first one counts at once (the cycle of negative feedback is reversed), so it takes two.
    world = World()
    world.message("A", *(f"u{n}@x" for n in range(500)))
    assert len(world.running) == 5
    windows = []
    for _ in range(3):
        world.fail()
        windows.append(world.destination("x").concurrency.window)
    assert windows == [3, 2, 0], "dead: 1/5 + 1/3 + 1/2 is a whole cohort"
    assert world.destination("x").reason is not None


def test_a_status_without_hop_does_not_hurt_the_destination() -> None:
    world = World()
    message = world.message("A", "u@x")
    world.message("B", "u@x")
    window = world.destination("x").concurrency.window
    world.finish(done=False)
    assert message.deferred
    assert world.destination("x").concurrency.window == window + 1, "it is up: positive feedback"


def test_bad_hop_status_is_repaired() -> None:
    world = World(smtp=TransportSettings(initial_concurrency=1))
    world.message("A", "u@x")
    world.finish(done=False, hop=DSN("9.9", reason=""))
    assert world.destination("x").reason == DSN("4.0.0", reason="delivery temporarily suspended: unknown error")


def test_flush_gives_dead_destinations_another_chance() -> None:
    world = World(smtp=TransportSettings(initial_concurrency=1))
    world.message("A", "u@x")
    world.fail()
    assert world.destination("x").reason is not None
    world.scheduler.enable_all()
    assert world.scheduler.transports["smtp"].destinations == {}
    world.message("B", "u@x")
    assert world.order == "AB"
    world.fail()
    world.message("C", "u@x", flush=True)  # a flush of this message only
    assert world.started[-1].destination.transport.name == "smtp"


def test_without_agents_the_transport_is_throttled() -> None:
    world = World(Settings(transport_retry_time=60))
    world.refuse = {"smtp"}
    message = world.message("A", "u@x", "u@y")
    assert {e.destination.nexthop for e in world.started} == {"4.3.0 mail transport unavailable"}
    while world.running:
        world.finish(done=False)
    assert world.finished == [message]
    world.refuse = set()
    world.message("B", "u@z")
    assert world.started[-1].destination.transport.name == "retry"
    world.advance(61)
    world.message("C", "u@z")
    assert world.started[-1].destination.transport.name == "smtp"


def test_without_retry_service_recipients_are_deferred_directly() -> None:
    world = World()
    world.refuse = {"smtp", "retry"}
    message = world.message("A", "u@x")
    assert [(d.message.queue_id, d.reason.reason) for d in world.deferred] == [("A", "mail transport unavailable")]
    assert world.finished == [message]
    assert message.deferred
    late = world.message("B", "u@x", "v@x")
    assert [len(d.recipients) for d in world.deferred] == [1, 2]
    assert world.finished == [message, late]


def test_a_crashed_agent_throttles_its_destination_only() -> None:
    world = World(smtp=TransportSettings(initial_concurrency=1))
    message = world.message("A", "u@x")
    world.finish(crashed=True)
    assert message.deferred
    reason = world.destination("x").reason
    assert reason == DSN("4.3.0", reason="delivery temporarily suspended: unknown mail transport error")
    world.message("B", "u@y")
    assert world.started[-1].destination.transport.name == "smtp"


def test_process_limit_bounds_deliveries_and_connections() -> None:
    world = World(smtp=TransportSettings(process_limit=3))
    for n in range(10):
        world.message(f"{n}", f"u@d{n}")
    assert len(world.running) == 3
    most = 0
    while world.running:
        transport = world.scheduler.transports["smtp"]
        most = max(most, transport.pending + transport.busy)
        world.finish()
    assert most == 3
    assert world.order == "0123456789"


def test_concurrency_limit_holds() -> None:
    world = World(smtp=TransportSettings(concurrency_limit=7, destination_recipient_limit=1))
    world.message("A", *(f"u{n}@x" for n in range(100)))
    most = 0
    while world.running:
        most = max(most, len(world.running))
        world.finish()
    assert most == 7


def test_window_grows_with_success_and_not_beyond_use() -> None:
    world = World(smtp=TransportSettings(destination_recipient_limit=1))
    world.message("A", *(f"u{n}@x" for n in range(200)))
    sizes = [len(world.running)]
    while world.running:
        world.finish()
        sizes.append(len(world.running))
    assert sizes[:3] == [5, 6, 7]
    assert max(sizes) == 20


def test_destination_rate_delay() -> None:
    world = World(smtp=TransportSettings(destination_rate_delay=10))
    world.message("A", "u@x")
    world.message("B", "u@x")
    world.message("C", "u@y")
    assert world.order == "AC", "one delivery at a time to each destination"
    world.finish(world.running[0])
    world.advance(9)
    assert world.order == "AC"
    world.advance(1)
    assert world.order == "ACB"


def test_destination_rate_delay_after_failure() -> None:
    world = World(smtp=TransportSettings(destination_rate_delay=10))
    world.message("A", "u@x")
    world.message("B", "u@x")
    world.fail()
    assert world.destination("x").reason is None, "a rate-limited destination rests, but is not dead"
    # What waited is deferred by the retry service; later mail waits for its turn.
    assert world.order == "AB"
    world.message("C", "u@x")
    assert world.order == "AB"
    world.advance(10)
    assert world.order == "ABC"


def test_transport_rate_delay() -> None:
    world = World(smtp=TransportSettings(transport_rate_delay=5))
    world.message("A", "u@x")
    world.message("B", "u@y")
    assert world.order == ""
    world.advance(5)
    assert world.order == "A"
    world.advance(20)
    assert world.order == "A", "not before the first delivery has ended"
    world.finish()
    world.advance(5)
    assert world.order == "AB"
    world.finish(crashed=True)
    world.message("C", "u@z")
    world.advance(5)
    assert world.order == "ABC"


def test_connection_cache_is_asked_for_when_deliveries_are_back_to_back() -> None:
    both = CONNECTION_LOAD | CONNECTION_STORE
    world = World(smtp=TransportSettings(destination_recipient_limit=1, concurrency_limit=1))
    world.message("A", *(f"u{n}@x" for n in range(4)))
    destination = world.destination("x")
    assert destination.connection_flags == 0
    world.finish()
    assert destination.connection_flags == both
    world.finish()
    world.now += 10
    world.scheduler.advance(world.now)
    assert destination.connection_flags == both
    destination.last_done = int(world.now) - 5  # nothing ended lately
    world.message("B", "z@x")
    world.running.clear()
    destination.busy.clear()
    destination.recount()
    destination.transport.busy = 0
    world.run()
    assert destination.connection_flags == CONNECTION_LOAD, "what is in the cache is used up, nothing is added"


def test_clogged_destination_is_reported() -> None:
    texts: list[str] = []
    old = log.set_sink(lambda severity, text: texts.append(f"{severity}: {text}"))
    try:
        world = World(Settings(active_limit=50), smtp=TransportSettings(concurrency_limit=2))
        for n in range(14):
            world.message(f"{n}", "u@slow")
        world.advance(301)
        world.message("again", "u@slow")
    finally:
        log.set_sink(old)
    assert texts[:5] == [
        "warning: mail for slow is using up 11 of 11 active queue entries",
        "warning: you may need to increase the main.cf smtp_destination_concurrency_limit from 2",
        "warning: please avoid flushing the whole queue when you have",
        "warning: lots of deferred mail, that is bad for performance",
        "warning: to turn off these warnings specify: qmgr_clog_warn_time = 0",
    ]
    assert texts[5] == "warning: mail for slow is using up 15 of 15 active queue entries"


def test_more_recipients_are_read_in_good_time() -> None:
    settings = TransportSettings(refill_limit=3, recipient_limit=5, destination_recipient_limit=1, concurrency_limit=1)
    world = World(Settings(recipient_minimum=2), smtp=settings)
    message = world.message("A", "a@x", "b@x", "c@x", later=100)
    assert message.slots == 7
    assert [r.limit for r in world.refills] == [4]
    # Only one refill at a time,
    world.finish()
    assert len(world.refills) == 1
    # and the job survives until it comes, though its entries are used up.
    world.finish()
    world.finish()
    assert world.running == [] and world.finished == []
    message.envelope.unread, message.envelope.next_offset = 0, 0
    world.assign(message, "d@x")
    assert addresses(world.running[0]) == ["d@x"]
    world.finish()
    assert world.finished == [message]


def test_refill_that_finds_nothing_ends_the_message() -> None:
    settings = TransportSettings(refill_limit=1, recipient_limit=5, destination_recipient_limit=1)
    world = World(Settings(recipient_minimum=2), smtp=settings)
    message = world.message("A", "a@x", later=10)
    assert len(world.refills) == 1
    world.finish()
    message.envelope.unread, message.envelope.next_offset = 0, 0
    world.assign(message)
    assert world.finished == [message]
    assert world.scheduler.transports["smtp"].free_slots == 5, "all slots came back"


def test_unread_message_finishes_to_read_more() -> None:
    settings = TransportSettings(recipient_limit=0, refill_delay=1000)
    world = World(Settings(recipient_minimum=1), smtp=settings)
    message = world.message("A", "a@x", later=1)
    world.finish()
    assert world.finished == [message]
    message.envelope.unread, message.envelope.next_offset = 0, 0
    world.assign(message, "b@x")
    world.finish()
    assert world.finished == [message, message]
    assert not world.scheduler.messages


def test_recipient_slots_never_leak() -> None:
    """Sixty messages to two transports with far too few recipient slots, answers at random: all slots come back."""
    chance = random.Random(7)
    settings = TransportSettings(
        recipient_limit=40, extra_recipient_limit=20, refill_limit=5, refill_delay=1, destination_recipient_limit=2
    )
    world = World(Settings(recipient_minimum=3), smtp=settings, lmtp=settings)
    delivered: list[str] = []

    def read(message: Message, limit: int) -> None:
        """Resolve up to `limit` of the recipients that are still in the file."""
        count = min(limit, message.envelope.unread)
        message.envelope.unread -= count
        message.envelope.next_offset = 100 if message.envelope.unread else 0
        names = [f"{message.queue_id}.{chance.random()}@d{chance.randrange(12)}" for _ in range(count)]
        routed = [(Recipient(name), route(name, chance.choice(["smtp", "lmtp"]))) for name in names]
        world.scheduler.assign(message, routed)
        world.run()

    total = 0
    for n in range(60):
        size = chance.choice([1, 2, 30, 200])
        total += size
        read(world.new(f"m{n}", later=size), 10)
    for _ in range(20000):
        while world.refills:
            refill = world.refills.pop()
            read(refill.message, refill.limit)
        while world.finished:
            message = world.finished.pop()
            if not message.envelope.all_read:
                read(message, max(1, message.slots - message.in_core))
        if world.running:
            entry = world.finish(chance.choice(world.running), done=chance.random() < 0.9)
            delivered += addresses(entry)
        world.advance(0.1)
        if not world.scheduler.messages:
            break
    assert len(delivered) == len(set(delivered)) == total
    for transport in world.scheduler.transports.values():
        assert transport.free_slots == 40
        assert not transport.jobs and not transport.by_age and not transport.destinations
        assert transport.available == transport.pending == transport.busy == 0
    assert world.scheduler.recipients == world.scheduler.destinations == 0
