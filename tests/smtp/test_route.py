"""Routes: SRV, balancing, orders. What scenarios of the real program show is not repeated here."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.dns.record import AAAA, SRV, A, Record
from postfixpy.smtp.destination import parse_site
from postfixpy.smtp.route import Route, balance, find_servers, order_srv


def records(types: str) -> list[Record]:
    """ "446": three records, of two families."""
    return [Record("q", "n", A if t == "4" else AAAA, 0, f"{t}-{n}") for n, t in enumerate(types)]


@pytest.mark.parametrize(
    ("types", "limit", "kept"),
    [
        ("4444", 2, "4444"),
        ("446", 5, "446"),
        ("44446666", 4, "4466"),
        ("46666666", 4, "4666"),
        ("44444446", 4, "4446"),
        ("4446666", 5, "44466"),
        ("6664444", 5, "66644"),
        ("4466", 0, "4466"),
    ],
)
def test_balance(types: str, limit: int, kept: str) -> None:
    assert "".join(record.text[0] for record in balance(records(types), limit, True)) == kept


def test_balance_off() -> None:
    assert len(balance(records("44446666"), 4, False)) == 8


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=20), st.integers())
def test_srv_order_is_by_priority_and_loses_none(found: list[tuple[int, int]], seed: int) -> None:
    srv = [Record("q", "n", SRV, 0, str(n), p, w, 25) for n, (p, w) in enumerate(found)]
    ordered = order_srv(srv, random.Random(seed))
    assert sorted(record.text for record in ordered) == sorted(record.text for record in srv)
    assert [record.preference for record in ordered] == sorted(record.preference for record in srv)


def test_srv_weights() -> None:
    srv = [Record("q", "n", SRV, 0, "heavy", 1, 90, 25), Record("q", "n", SRV, 0, "light", 1, 10, 25)]
    rng = random.Random(1)
    first = sum(order_srv(srv, rng)[0].text == "heavy" for _ in range(2000))
    assert 1700 < first < 1950


def route(world, text: str, loop: bool = True) -> Route:  # type: ignore[no-untyped-def]  # a World
    site = parse_site(text, "smtp", world.settings.known_ports)
    found: Route = world.memory.run(find_servers(world.settings, site, loop))
    return found


SRV_ZONE = [
    "_submission._tcp.a.example SRV 1 0 2525 one.example",
    "_submission._tcp.a.example SRV 2 0 2526 two.example",
    "one.example A 127.0.0.11",
    "two.example A 127.0.0.12",
]


def test_srv(make_world) -> None:  # type: ignore[no-untyped-def]  # the fixture's type says it
    world = make_world("use_srv_lookup = submission\n", zone=SRV_ZONE)
    found = route(world, "a.example:submission")
    assert [(r.text, r.port, r.query) for r in found.addresses] == [
        ("127.0.0.11", 2525, "one.example"),
        ("127.0.0.12", 2526, "two.example"),
    ]
    assert route(world, "a.example:587").why.status == "5.4.4"  # the service as written decides


def test_srv_not_found_is_hard_and_may_fall_back(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    zone = ["a.example A 127.0.0.11"]
    found = route(make_world("use_srv_lookup = submission\n", zone=zone), "a.example:submission")
    assert found.why.status == "5.4.4" and not found.addresses
    text = "use_srv_lookup = submission\nallow_srv_lookup_fallback = yes\n"
    found = route(make_world(text, zone=zone), "a.example:submission")
    assert [r.text for r in found.addresses] == ["127.0.0.11"]
    assert log_lines[0].startswith("skipping SRV lookup for _submission._tcp.a.example: Host or domain name not found")


def test_srv_error_may_be_ignored(make_world) -> None:  # type: ignore[no-untyped-def]
    zone = ["_submission._tcp.a.example SRV SERVFAIL", "a.example A 127.0.0.11"]
    text = "use_srv_lookup = submission\n"
    assert route(make_world(text, zone=zone), "a.example:submission").why.status == "4.4.3"
    found = route(make_world(text + "ignore_srv_lookup_error = yes\n", zone=zone), "a.example:submission")
    assert [r.text for r in found.addresses] == ["127.0.0.11"]


def test_randomization_keeps_preferences(make_world) -> None:  # type: ignore[no-untyped-def]
    zone = [f"a.example MX {10 + n % 2} m{n}.example" for n in range(10)]
    zone += [f"m{n}.example A 127.0.1.{n + 1}" for n in range(10)]
    world = make_world("smtp_randomize_addresses = yes\nsmtp_mx_address_limit = 0\n", zone=zone)
    orders = {tuple(r.text for r in route(world, "a.example").addresses) for _ in range(20)}
    assert len(orders) > 1
    for order in orders:
        assert {text.rpartition(".")[2] for text in order[:5]} == {"1", "3", "5", "7", "9"}


def test_native_lookup_failure(make_world) -> None:  # type: ignore[no-untyped-def]
    found = route(make_world("smtp_host_lookup = native\n"), "[nowhere.example]")
    assert (found.why.status, found.why.reason) == (
        "5.4.4",
        "unable to look up host nowhere.example: Name or service not known",
    )
