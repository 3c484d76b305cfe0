"""Parameters from main.cf, and Postfix's complaints about them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import config, log
from postfixpy.services.queue_manager.feedback import Feedback
from postfixpy.services.queue_manager.routing import Policy
from postfixpy.services.queue_manager.settings import Settings, TransportSettings


@pytest.fixture
def texts() -> Iterator[list[str]]:
    out: list[str] = []
    old = log.set_sink(lambda severity, text: out.append(f"{severity}: {text}"))
    yield out
    log.set_sink(old)


def view(directory: Path, text: str) -> config.View:
    (directory / "main.cf").write_text(text)
    (directory / "master.cf").write_text("")
    return config.load(str(directory)).view()


def test_defaults_are_postfix_defaults(tmp_path: Path) -> None:
    found = view(tmp_path, "compatibility_level = 3.6\n")
    assert Settings.read(found) == Settings()
    assert TransportSettings.read(found, "smtp") == TransportSettings()
    local = TransportSettings.read(found, "local", 7)
    assert (local.concurrency_limit, local.initial_concurrency, local.destination_recipient_limit) == (2, 2, 1)
    assert local.process_limit == 7


def test_transport_parameters(tmp_path: Path) -> None:
    found = view(
        tmp_path,
        """
        default_destination_recipient_limit = 9
        slow_destination_concurrency_limit = 3
        slow_initial_destination_concurrency = 2
        slow_destination_concurrency_positive_feedback = 1/8
        slow_destination_concurrency_negative_feedback = 1/concurrency
        slow_destination_concurrency_failed_cohort_limit = 10
        slow_transport_rate_delay = 2m
        slow_delivery_slot_cost = 2
        slow_delivery_slot_loan = 1
        slow_delivery_slot_discount = 25
        slow_minimum_delivery_slots = 4
        slow_recipient_limit = 11
        slow_extra_recipient_limit = 12
        slow_recipient_refill_limit = 13
        slow_recipient_refill_delay = 14
        """.replace("\n        ", "\n"),
    )
    settings = TransportSettings.read(found, "slow")
    assert settings == TransportSettings(
        concurrency_limit=3,
        initial_concurrency=2,
        destination_recipient_limit=9,
        positive=Feedback(0.125),
        negative=Feedback(1.0, True),
        cohort_limit=10,
        transport_rate_delay=120,
        slot_cost=2,
        slot_loan=1,
        slot_discount=25,
        minimum_slots=4,
        recipient_limit=11,
        extra_recipient_limit=12,
        refill_limit=13,
        refill_delay=14,
    )


def test_rate_delay_means_one_at_a_time(tmp_path: Path) -> None:
    settings = TransportSettings.read(view(tmp_path, "slow_destination_rate_delay = 1s\n"), "slow")
    assert (settings.concurrency_limit, settings.initial_concurrency) == (1, 1)


def test_contradictions_are_adjusted(tmp_path: Path, texts: list[str]) -> None:
    settings = Settings.read(
        view(tmp_path, "qmgr_message_recipient_limit = 10\nbounce_queue_lifetime = 5d\nmaximal_queue_lifetime = 1d\n")
    )
    assert (settings.recipient_limit, settings.bounce_lifetime) == (20000, 86400)
    assert texts == [
        "warning: qmgr_message_recipient_limit is smaller than qmgr_message_active_limit"
        " - adjusting qmgr_message_recipient_limit",
        "warning: bounce_queue_lifetime is larger than maximal_queue_lifetime - adjusting bounce_queue_lifetime",
    ]


def test_bad_feedback_is_ignored(tmp_path: Path, texts: list[str]) -> None:
    text = "default_destination_concurrency_negative_feedback = 7\nx_destination_concurrency_positive_feedback = no\n"
    settings = TransportSettings.read(view(tmp_path, text), "x")
    assert settings.positive == settings.negative == Feedback(1.0)
    ignored = "ignoring malformed or unreasonable feedback"
    assert texts == [
        f"warning: x_destination_concurrency_positive_feedback: {ignored}: no",
        f"warning: default_destination_concurrency_negative_feedback: {ignored}: 7",
    ]


def test_feedback_debug(tmp_path: Path, texts: list[str]) -> None:
    text = "destination_concurrency_feedback_debug = yes\nx_destination_concurrency_positive_feedback = 1/concurrency\n"
    TransportSettings.read(view(tmp_path, text), "x")
    assert texts == [
        "info: x: x_destination_concurrency_positive_feedback feedback type 1 value at 5: 0.2",
        "info: x: default_destination_concurrency_negative_feedback feedback type 0 value at 5: 1",
    ]


def test_routing_policy(tmp_path: Path) -> None:
    policy = Policy.read(
        view(tmp_path, "defer_transports = uucp, slow\nrecipient_delimiter = +-\nmyhostname = me.example\n")
    )
    assert policy.defer_transports == {"uucp", "slow"}
    assert [policy.split(x) for x in ("user+x", "user-y", "owner-list", "plain", "postmaster")] == [
        "user",
        "user",
        "owner-list",
        "plain",
        "postmaster",
    ]
    assert Policy.read(view(tmp_path, "recipient_delimiter =\n")).split("user+x") == "user+x"
