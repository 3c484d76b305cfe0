"""The transport table: what an entry means, and when the wildcard is asked for."""

from types import SimpleNamespace

import pytest

from postfixpy.lookup import Maps, TableError, run
from postfixpy.lookup.addresses import AddressContext
from postfixpy.services.rewriting.transport import TransportTable, override, split

SETTINGS = SimpleNamespace(
    smtputf8_enable=True,
    recipient_delimiter="+",
    owner_request_special=True,
    double_bounce_sender="double-bounce",
    myorigin="h.test",
    mydestination="h.test",
)


@pytest.mark.parametrize(
    ("entry", "route"),
    [
        (":", ("smtp", "hop")),
        (":next", ("smtp", "next")),
        (":[next]:25", ("smtp", "[next]:25")),
        ("lmtp", ("lmtp", "domain")),
        ("lmtp:", ("lmtp", "domain")),
        ("smtp:", ("smtp", "domain")),
        ("lmtp:unix:/x", ("lmtp", "unix:/x")),
        ("error:", ("error", "Address is undeliverable")),
        ("retry:", ("retry", "Address is undeliverable")),
        ("error:5.1.1 gone: away", ("error", "5.1.1 gone: away")),
    ],
)
def test_override(entry: str, route: tuple[str, str]) -> None:
    assert override(split(entry), "domain", ("smtp", "hop")) == route


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def table(text: str, *, parents: bool = False, clock: Clock | None = None) -> TransportTable:
    maps = Maps("transport_maps", text, SETTINGS)
    made = TransportTable(maps, AddressContext(SETTINGS), parents=parents, clock=clock or Clock())
    run(made.start())
    return made


def look_up(made: TransportTable, address: str) -> str:
    return ":".join(run(made.lookup(address, address.rpartition("@")[2], ("smtp", "hop"))))


def test_keys_in_order() -> None:
    made = table("inline:{joe@a.test=one:, jim@a.test=two:, a.test=three:, .a.test=four:, *=five:}")
    assert look_up(made, "joe@a.test") == "one:a.test"
    assert look_up(made, "jim+x@a.test") == "two:a.test"
    assert look_up(made, "x@a.test") == "three:a.test"
    assert look_up(made, "x@b.a.test") == "four:b.a.test"
    assert look_up(made, "x@c.b.a.test") == "four:c.b.a.test"
    assert look_up(made, "x@other.test") == "five:other.test"


def test_parents() -> None:
    assert look_up(table("inline:{a.test=three:}"), "x@b.a.test") == "smtp:hop"
    assert look_up(table("inline:{a.test=three:}", parents=True), "x@b.a.test") == "three:b.a.test"


def test_wildcard_is_asked_again_after_thirty_seconds() -> None:
    clock = Clock()
    made = table("inline:{*=slow:}", clock=clock)
    assert look_up(made, "x@a.test") == "slow:a.test"
    made.maps = Maps("transport_maps", "inline:{*=fast:}", SETTINGS)
    clock.now = 30
    assert look_up(made, "x@a.test") == "slow:a.test"
    clock.now = 30.5
    assert look_up(made, "x@a.test") == "fast:a.test"


def test_wildcard_that_fails_is_an_error_until_it_answers() -> None:
    made = table("inline:{joe@a.test=one:} fail:no")
    assert look_up(made, "joe@a.test") == "one:a.test"
    with pytest.raises(TableError):
        look_up(made, "x@b.test")
    made.maps = Maps("transport_maps", "inline:{*=five:}", SETTINGS)
    assert look_up(made, "x@b.test") == "five:b.test"


def test_wildcard_reset_fills_in_the_domain_or_the_error_text() -> None:
    assert look_up(table("inline:{*=error:}"), "x@a.test") == "error:Address is undeliverable"
    assert look_up(table("inline:{*=:}"), "x@a.test") == "smtp:hop"
