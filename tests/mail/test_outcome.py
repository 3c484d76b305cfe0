import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.delivery import MessageStats, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome, delays, format_delay, log_line, same_address

S = 1_000_000
T = 1_700_000_000 * S


@pytest.mark.parametrize(
    ("seconds", "resolution", "text"),
    [
        # Two significant digits, as far as the resolution goes.
        (1110, 6, "1110"),
        (111, 6, "111"),
        (11.1, 6, "11"),
        (1.11, 6, "1.1"),
        (0.111, 6, "0.11"),
        (0.0111, 6, "0.011"),
        (0.000111, 6, "0.00011"),
        (0.00001, 6, "0.00001"),
        # Rounding up, also into another digit.
        (99.6, 6, "100"),
        (9.96, 6, "10"),
        (0.996, 6, "1"),
        (0.0996, 6, "0.1"),
        # The default resolution.
        (0.23, 2, "0.23"),
        (0.004, 2, "0"),
        (0.005, 2, "0.01"),
        (0.5, 2, "0.5"),
        (1.5, 2, "1.5"),
        (12.4, 2, "12"),
        (12.5, 2, "13"),
        # No decimals.
        (0.5, 0, "1"),
        (0.4, 0, "0"),
        (1.5, 1, "1.5"),
        (0.04, 1, "0"),
        (-3, 2, "0"),
        (0, 2, "0"),
    ],
)
def test_format_delay(seconds, resolution, text):
    assert format_delay(round(seconds * S), resolution) == text


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_format_delay_is_a_number_near_the_delay(microseconds, resolution):
    text = format_delay(microseconds, resolution)
    assert not text.endswith(".")
    assert abs(float(text) - max(microseconds, 0) / S) <= 0.5


def test_delays_of_a_complete_delivery():
    stats = MessageStats(T, T + 1 * S, T + 3 * S, T + 6 * S, T + 10 * S)
    assert delays(stats, T + 99 * S) == (10 * S, 1 * S, 2 * S, 3 * S, 4 * S)


def test_delays_without_connection():
    assert delays(MessageStats(T, T + 1 * S, T + 3 * S), T + 10 * S) == (10 * S, 1 * S, 2 * S, 0, 7 * S)


def test_delays_without_agent():
    assert delays(MessageStats(T, T + 1 * S), T + 10 * S) == (10 * S, 1 * S, 9 * S, 0, 0)


def test_delays_without_queue_manager():
    assert delays(MessageStats(T), T + 10 * S) == (10 * S, 10 * S, 0, 0, 0)


def test_log_line():
    stats = MessageStats(T, T + S // 100, T + S // 50, T + S // 4, T + S)
    outcome = Outcome(
        Recipient("user@example.com", "User@Example.COM"),
        "sent",
        DSN("2.0.0", "relayed", "250 2.0.0 Ok: queued as X"),
        "mx[192.0.2.1]:25",
        stats,
    )
    assert log_line("4C1E0D4B7C", outcome, "sent", 0) == (
        "4C1E0D4B7C: to=<user@example.com>, relay=mx[192.0.2.1]:25, delay=1, delays=0.01/0.01/0.23/0.75, "
        "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as X)"
    )


def test_log_line_with_everything():
    stats = MessageStats(T, T, T, 0, 0, reuse_count=4)
    outcome = Outcome(
        Recipient("a b@example.com", "alias"), "deferred", DSN("4.4.1", "", "no"), "h[::1]:25", stats, "may:none"
    )
    assert log_line("Q", outcome, "deferred", T + 2 * S) == (
        'Q: to=<"a b"@example.com>, orig_to=<alias>, relay=h[::1]:25, conn_use=5, delay=2, delays=0/0/0/2, '
        "tls=may:none, dsn=4.4.1, status=deferred (no)"
    )
    internal = log_line("Q", outcome, "deferred", T, external=False, resolution=0)
    assert internal.startswith("Q: to=<a b@example.com>, orig_to=<alias>")


def test_null_address_is_not_quoted():
    outcome = Outcome(Recipient(""), "bounced", DSN("5.0.0", "", "x"))
    assert log_line("Q", outcome, "bounced", 0).startswith("Q: to=<>, relay=none, ")


def test_same_address():
    assert same_address("A@B", "a@b")
    assert same_address("É@x", "é@x")
    assert not same_address("É@x", "é@x", smtputf8=False)
    assert same_address("Aé@x", "aé@X", smtputf8=False)
    assert not same_address("a", "b")
