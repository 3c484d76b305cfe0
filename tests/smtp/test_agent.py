"""The loop over servers, beyond what the scenarios of the real program show."""

import pytest

from postfixpy.errors import FatalError

SCRIPT = [
    "> 220 a ESMTP", "< EHLO", "> 250 a", "< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data",
    "> 250 ok",
]  # fmt: skip


def test_debug_peer(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    world = make_world("debug_peer_list = 127.0.0.0/8\n", servers={"127.0.0.11:25": [SCRIPT]})
    world.deliver()
    assert [line for line in log_lines if line[0] in "<>"][:3] == [
        "< 127.0.0.11[127.0.0.11]:25: 220 a ESMTP",
        "> 127.0.0.11[127.0.0.11]:25: EHLO client.example",
        "< 127.0.0.11[127.0.0.11]:25: 250 a",
    ]


def test_no_debug_peer(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    world = make_world("debug_peer_list = other.example\n", servers={"127.0.0.11:25": [SCRIPT]})
    world.deliver()
    assert log_lines == []


def test_empty_nexthop(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    with pytest.raises(FatalError, match="empty nexthop hostname"):
        world.deliver(world.request(""))
    with pytest.raises(FatalError, match='null destination: ", "'):
        world.deliver(world.request(", "))


def test_times_of_recipients_agree(make_world) -> None:  # type: ignore[no-untyped-def]
    script = [*SCRIPT[:5], "< RCPT", "> 250 ok", "< RCPT", "> 250 ok", *SCRIPT[7:10], "sleep 7", "> 250 ok"]
    world = make_world(servers={"127.0.0.11:25": [script]})
    world.deliver(world.request(count=2))
    done = {outcome.stats.delivery_done for outcome in world.outcomes}
    assert len(done) == 1
    (outcome, _) = world.outcomes
    assert outcome.stats.delivery_done - outcome.stats.connection_done == 7_000_000
