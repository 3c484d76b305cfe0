"""Properties of the whole client against wild servers: see `tests.smtp.wild`."""

from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.smtp.settings import Settings

from . import wild

T = TypeVar("T")


class Drawn(wild.Chance):
    """Choices that hypothesis makes, and makes simpler when something is wrong."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def number(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def pick(self, items: Sequence[T]) -> T:
        return self.data.draw(st.sampled_from(items))


@pytest.fixture(scope="module")
def clients() -> list[Settings]:
    return wild.clients()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_recipient_has_exactly_one_result(clients: list[Settings], data: st.DataObject) -> None:
    previous = log.set_sink(lambda severity, text: None)
    try:
        wild.check(clients, Drawn(data))
    finally:
        log.set_sink(previous)
