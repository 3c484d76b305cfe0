"""The preemptive scheduler: the examples of SCHEDULER_README, and what blocked and half-read jobs do to it."""

from postfixpy.services.queue_manager.settings import Settings, TransportSettings

from .world import World


def slots(cost: int = 2, loan: int = 0, discount: int = 0, minimum: int = 1, **other: int) -> TransportSettings:
    """One delivery at a time, each entry one recipient."""
    return TransportSettings(
        slot_cost=cost,
        slot_loan=loan,
        slot_discount=discount,
        minimum_slots=minimum,
        destination_recipient_limit=1,
        process_limit=1,
        **other,
    )


def people(count: int, name: str = "u") -> list[str]:
    """Recipients in domains of their own."""
    return [f"{name}@{name}{n}.example" for n in range(count)]


def sequence(world: World, *messages: tuple[str, int]) -> str:
    """Queue messages (id, recipients) while nothing is being delivered yet, then deliver all, one entry at a time."""
    world.known["smtp"].process_limit = -1  # nothing starts
    for queue_id, count in messages:
        world.message(queue_id, *people(count, f"m{queue_id}"))
        world.advance(1)
    world.known["smtp"].process_limit = 1
    world.run()
    while world.running:
        world.finish()
    assert len(world.finished) == len(messages)
    return world.order


def test_first_come_first_served_without_preemption() -> None:
    assert sequence(World(smtp=slots(cost=0)), ("1", 3), ("2", 1), ("3", 2)) == "111233"
    assert sequence(World(smtp=slots(cost=1)), ("1", 3), ("2", 1), ("3", 2)) == "111233"


def test_readme_slots_are_accumulated_first() -> None:
    # "ten-recipient mail followed by two two-recipient mails ... slot cost 2"
    assert sequence(World(smtp=slots()), ("1", 10), ("2", 2), ("3", 2)) == "11112211113311"


def test_readme_slot_discount() -> None:
    # "wait only for 50% of the necessary slots ... and wait for the remaining 50% later"
    assert sequence(World(smtp=slots(discount=50)), ("1", 10), ("2", 2), ("3", 2)) == "11221111331111"


def test_slot_loan_counts_slots_in_advance() -> None:
    assert sequence(World(smtp=slots(loan=1)), ("1", 10), ("2", 2), ("3", 2)) == "11221111331111"


def test_defaults_let_small_mail_past_a_list() -> None:
    world = World(smtp=slots(cost=5, loan=3, discount=50, minimum=3))
    order = sequence(world, ("L", 100), ("a", 1), ("b", 1), ("c", 1))
    assert order.index("a") == 1, "one slot is lent at once"
    assert [order.index(x) for x in "abc"] == [1, 7, 13], "then each needs five entries of the list"
    assert order.count("L") == 100


def test_short_lists_are_not_preempted() -> None:
    # fewer than minimum_slots * slot_cost entries: it could never earn the slots
    assert sequence(World(smtp=slots(cost=5, loan=3, minimum=3)), ("1", 14), ("2", 1)) == "1" * 14 + "2"
    assert sequence(World(smtp=slots(cost=5, loan=3, minimum=3)), ("1", 15), ("2", 1)).index("2") == 1


def test_preempting_job_can_be_preempted() -> None:
    order = sequence(World(smtp=slots()), ("1", 100), ("2", 20), ("3", 2))
    # 3 is chosen before 2 has been: it waited nearly as long, for a tenth of the entries.
    assert order.index("3") < order.index("2") < 100
    order = sequence(World(smtp=slots()), ("1", 100), ("2", 20))
    assert order[: 40 + 20] == "1" * 40 + "2" * 20


def test_inflation_is_bounded() -> None:
    """With slot cost k, a list takes at most k/(k-1) times as long, however much small mail comes after it."""
    world = World(smtp=slots(cost=5, loan=3, discount=50, minimum=3))
    order = sequence(world, ("L", 400), *((chr(0x100 + n), 1) for n in range(300)))
    last = order.rindex("L") + 1
    assert last <= 400 * 5 / 4 + 5
    assert last >= 400 + 75, "and small mail makes use of it"


def test_blocked_jobs_are_skipped() -> None:
    settings = TransportSettings(concurrency_limit=1, slot_cost=0)
    world = World(smtp=settings)
    world.message("A", "u@slow")
    world.message("B", "u@slow")
    world.message("C", "u@fast")
    assert world.order == "AC"
    world.finish(world.running[1])
    assert world.order == "AC"
    world.message("D", "u@fast")
    assert world.order == "ACD"
    world.finish(world.running[0])
    assert world.order == "ACDB", "B is looked at again as soon as its destination has room"


def test_destinations_of_one_job_take_turns() -> None:
    world = World(smtp=slots(cost=0))
    world.message("A", "a@x", "b@x", "c@x", "a@y", "b@y")
    while world.running:
        world.finish()
    assert [e.destination.name for e in world.started] == ["x", "y", "x", "y", "x"]


def test_transports_do_not_wait_for_each_other() -> None:
    world = World(smtp=slots(cost=0), lmtp=slots(cost=0))
    world.message("A", *people(5))
    world.message("B", *people(2), transport="lmtp")
    assert world.order == "AB"


def test_job_comes_back_with_more_recipients() -> None:
    world = World(Settings(recipient_minimum=1), smtp=slots(cost=0, recipient_limit=1, refill_delay=60))
    message = world.message("A", "a@x", later=2)
    world.advance(1)
    world.message("B", "b@x", "c@x", "d@x")
    world.finish()
    # A's only recipient in memory is done, so B goes on, until A has more: it is the older one.
    assert world.order == "AB"
    assert world.finished == [message]
    message.envelope.unread = message.envelope.next_offset = 0
    world.assign(message, "e@x", "f@x")
    while world.running:
        world.finish()
    assert world.order == "ABAABB"


def test_oldest_unread_job_gets_the_free_recipient_slots() -> None:
    settings = slots(cost=0, recipient_limit=100, refill_limit=1000, refill_delay=1000)
    world = World(Settings(recipient_minimum=10), smtp=settings)
    first = world.message("A", "a@x", later=500)
    second = world.message("B", "b@x", later=500)
    assert (first.slots, second.slots) == (110, 10)
    assert world.scheduler.transports["smtp"].free_slots == 0
    # When A has been read, B inherits what A does not need: all but one slot for its recipient.
    first.envelope.unread = first.envelope.next_offset = 0
    world.assign(first)
    assert (first.slots, second.slots) == (10 + 1, 10 + 99)


def test_preempting_unread_job_gets_extra_slots() -> None:
    settings = slots(cost=2, loan=100, recipient_limit=0, extra_recipient_limit=100, refill_limit=1000)
    settings.refill_delay = 1000
    world = World(Settings(recipient_minimum=5), smtp=settings)
    settings.process_limit = -1
    world.message("A", *people(50))
    world.advance(5)
    small = world.message("B", "b@b", later=3)
    settings.process_limit = 1
    world.run()
    world.finish()
    assert world.order.startswith("AB")
    assert small.jobs[world.scheduler.transports["smtp"]].slots == 50
    assert world.scheduler.transports["smtp"].free_slots == -50
