"""Five thousand messages through a real Postfix with its own smtp and with ours, and some through our whole system: the
logs of the client are equal. tools/side_by_side.py says what is compared."""

import pytest
from real_postfix import INSTALLED, releases
from side_by_side import Result, differences, run

pytestmark = [pytest.mark.load, pytest.mark.timeout(900)]

NEWEST = releases()[-1]


def same(real: Result, ours: Result, messages: int) -> None:
    assert differences(real, ours) == []
    assert ours.troubles == []
    assert sum(real.lines.values()) > messages and set(real.statuses) == {"sent", "bounced", "deferred"}


@pytest.mark.parametrize("release", dict.fromkeys([INSTALLED, NEWEST]))
def test_our_client_inside_the_real_system(release: str) -> None:
    same(run(release, 5000), run(release, 5000, ["smtp"]), 5000)


def test_our_whole_system() -> None:
    same(run(NEWEST, 500), run(NEWEST, 500, whole=True), 500)


def test_a_difference_is_seen() -> None:
    """The comparison itself: a line more, a line less, another text, another number of messages left."""
    real, ours = Result("real"), Result("ours")
    for line in ("a", "a", "b"):
        real.lines[line] += 1
    for line in ("a", "b", "c"):
        ours.lines[line] += 1
    ours.left = 1
    assert differences(real, ours) == ["- 1 x a", "+ 1 x c", "left in the queue: 0 and 1"]
