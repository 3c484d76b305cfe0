"""The queue manager's parameters: one set for the whole program, one for each transport (qmgr(8), postconf(5)).

A transport's parameter is ``TRANSPORT_suffix``; without one, the ``default_...`` parameter of the same meaning counts.
They are read when a transport is first used. Not here: `qmgr_fudge_factor`, which only Postfix's old queue manager
(oqmgr) obeys, and which qmgr(8) ignores too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy import log

from .feedback import Feedback, parse_feedback

if TYPE_CHECKING:
    from postfixpy.config import View

_FULL = Feedback(1.0)


@dataclass(slots=True)
class Settings:
    """Parameters of the program. Times in seconds; counts where 0 means no limit say so."""

    active_limit: int = 20000
    recipient_limit: int = 20000
    recipient_minimum: int = 10
    minimal_backoff: int = 300
    maximal_backoff: int = 4000
    maximal_lifetime: int = 432000
    bounce_lifetime: int = 432000
    queue_run_delay: int = 300
    transport_retry_time: int = 60
    clog_warn_time: int = 300
    helpful_warnings: bool = True
    verify_pending_limit: int = 5000
    feedback_debug: bool = False
    delay_cleared: bool = False
    verp_bounce_off: bool = False
    smtputf8: bool = True

    @classmethod
    def read(cls, view: "View") -> "Settings":
        """The settings that `view` has, adjusted (with Postfix's warnings) where they contradict each other."""
        settings = cls(
            active_limit=view.qmgr_message_active_limit,
            recipient_limit=view.qmgr_message_recipient_limit,
            recipient_minimum=view.qmgr_message_recipient_minimum,
            minimal_backoff=view.minimal_backoff_time,
            maximal_backoff=view.maximal_backoff_time,
            maximal_lifetime=view.maximal_queue_lifetime,
            bounce_lifetime=view.bounce_queue_lifetime,
            queue_run_delay=view.queue_run_delay,
            transport_retry_time=view.transport_retry_time,
            clog_warn_time=view.qmgr_clog_warn_time,
            helpful_warnings=view.helpful_warnings,
            verify_pending_limit=view.address_verify_pending_request_limit,
            feedback_debug=view.destination_concurrency_feedback_debug,
            delay_cleared=view.confirm_delay_cleared,
            verp_bounce_off=view.disable_verp_bounces,
            smtputf8=view.smtputf8_enable,
        )
        if settings.recipient_limit < settings.active_limit:
            name = "qmgr_message_recipient_limit"
            log.warning(f"{name} is smaller than qmgr_message_active_limit - adjusting {name}")
            settings.recipient_limit = settings.active_limit
        if settings.bounce_lifetime > settings.maximal_lifetime:
            name = "bounce_queue_lifetime"
            log.warning(f"{name} is larger than maximal_queue_lifetime - adjusting {name}")
            settings.bounce_lifetime = settings.maximal_lifetime
        return settings


@dataclass(slots=True)
class TransportSettings:
    """Parameters of one transport. Times in seconds. 0 is no limit for the concurrency and recipient limits,
    `cohort_limit` and `process_limit`."""

    concurrency_limit: int = 20
    initial_concurrency: int = 5
    destination_recipient_limit: int = 50
    positive: Feedback = _FULL
    negative: Feedback = _FULL
    cohort_limit: int = 1
    destination_rate_delay: int = 0
    transport_rate_delay: int = 0
    slot_cost: int = 5
    slot_loan: int = 3
    slot_discount: int = 50
    minimum_slots: int = 3
    recipient_limit: int = 20000
    extra_recipient_limit: int = 1000
    refill_limit: int = 100
    refill_delay: int = 5
    process_limit: int = 0

    def __post_init__(self) -> None:
        # A rate delay is a slow delivery channel: one delivery at a time.
        if self.destination_rate_delay > 0:
            self.concurrency_limit = 1
        if self.concurrency_limit:
            self.initial_concurrency = min(self.initial_concurrency, self.concurrency_limit)

    @classmethod
    def read(cls, view: "View", name: str, process_limit: int = 0) -> "TransportSettings":
        """The settings of transport `name`; `process_limit` is maxproc of its row in master.cf."""
        number, time = view.service_integer, view.service_time
        settings = cls(
            concurrency_limit=number(name, "destination_concurrency_limit"),
            initial_concurrency=number(name, "initial_destination_concurrency", 1),
            destination_recipient_limit=number(name, "destination_recipient_limit"),
            positive=_feedback(view, name, "destination_concurrency_positive_feedback"),
            negative=_feedback(view, name, "destination_concurrency_negative_feedback"),
            cohort_limit=number(name, "destination_concurrency_failed_cohort_limit"),
            destination_rate_delay=time(name, "destination_rate_delay"),
            transport_rate_delay=time(name, "transport_rate_delay"),
            slot_cost=number(name, "delivery_slot_cost"),
            slot_loan=number(name, "delivery_slot_loan"),
            slot_discount=number(name, "delivery_slot_discount", 0, 100),
            minimum_slots=number(name, "minimum_delivery_slots"),
            recipient_limit=number(name, "recipient_limit"),
            extra_recipient_limit=number(name, "extra_recipient_limit"),
            refill_limit=number(name, "recipient_refill_limit", 1),
            refill_delay=time(name, "recipient_refill_delay", 1),
            process_limit=process_limit,
        )
        if view.destination_concurrency_feedback_debug:
            for suffix, feedback in (("positive", settings.positive), ("negative", settings.negative)):
                start = view.initial_destination_concurrency
                source = _feedback_source(view, name, f"destination_concurrency_{suffix}_feedback")[0]
                kind = 1 if feedback.per_window else 0
                log.info(f"{name}: {source} feedback type {kind} value at {start}: {feedback.at(start):g}")
        return settings


def _feedback_source(view: "View", name: str, suffix: str) -> tuple[str, str]:
    """The parameter that decides, for texts, and its value."""
    value = view.service_text(name, suffix)
    default = "default_" + suffix
    return (default if value == view.expand(view.text(default)) else f"{name}_{suffix}"), value


def _feedback(view: "View", name: str, suffix: str) -> Feedback:
    source, value = _feedback_source(view, name, suffix)
    feedback = parse_feedback(value)
    if feedback is None:
        log.warning(f"{source}: ignoring malformed or unreasonable feedback: {value}")
        return _FULL
    return feedback
