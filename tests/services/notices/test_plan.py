"""Who is told what: the rules of bounce(8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.errors import FatalError
from postfixpy.mail.delivery import RECORD, RECORD_DELAYED_SENT, USER_VERIFY, Recipient
from postfixpy.mail.dsn import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS, RET_FULL, RET_HDRS
from postfixpy.services.notices.plan import (
    OVERRIDE,
    Plan,
    Rules,
    notify_classes,
    redact,
    reported,
    verp_sender,
)


def rules(classes: str = "") -> Rules:
    return Rules("double-bounce@h.test", notify_classes(classes), "bounces", "bounces2", "delays")


def told(plan: Plan) -> list[tuple[str, str, str, int]]:
    return [(n.sender, n.recipient, n.label.split()[0], n.ret) for n in plan.notices]


def test_failure_of_mail() -> None:
    plan = rules().failure("me@x", 0)
    assert told(plan) == [("", "me@x", "sender", RET_FULL)]
    assert plan.notices[0].wanted == NOTIFY_FAILURE
    assert not plan.notices[0].postmaster
    assert told(rules().failure("me@x", RET_HDRS)) == [("", "me@x", "sender", RET_HDRS)]


def test_failure_with_a_copy() -> None:
    plan = rules("bounce").failure("me@x", 0)
    assert told(plan)[1] == ("double-bounce@h.test", "bounces", "postmaster", RET_HDRS)
    copy = plan.notices[1]
    assert (copy.critical, copy.postmaster, copy.wanted) == (False, True, OVERRIDE)
    assert copy.failure == "postmaster notice failed while bouncing to me@x"


@pytest.mark.parametrize("classes", ["bounce", "2bounce"])
def test_failure_of_a_notice_goes_to_a_postmaster(classes: str) -> None:
    plan = rules(classes).failure("", RET_HDRS)
    assert told(plan) == [("double-bounce@h.test", "bounces2", "postmaster", RET_FULL)]
    assert plan.notices[0].critical


def test_failure_of_a_notice_that_nobody_wants_to_know() -> None:
    assert rules("delay, resource").failure("", 0).notices == ()


@pytest.mark.parametrize("sender", ["double-bounce@h.test", "Double-Bounce@H.test"])
def test_double_bounce_is_the_end(sender: str) -> None:
    for plan in (rules("bounce 2bounce delay").failure(sender, 0), rules("delay").delay(sender)):
        assert plan.discarded
        assert plan.notices == ()


def test_delay() -> None:
    assert told(rules().delay("me@x")) == [("", "me@x", "sender", RET_HDRS)]
    assert rules().delay("me@x").notices[0].wanted == NOTIFY_DELAY
    copy = rules("delay").delay("me@x").notices[1]
    assert (copy.recipient, copy.ret, copy.failure) == (
        "delays",
        RET_HDRS,
        "postmaster notice failed while warning me@x",
    )
    assert rules("bounce").delay("").notices == ()
    assert told(rules("delay").delay("")) == [("double-bounce@h.test", "delays", "postmaster", RET_FULL)]


@pytest.mark.parametrize(
    ("flags", "template"),
    [(USER_VERIFY, "verify"), (RECORD, "verify"), (0, "success"), (RECORD_DELAYED_SENT, "success")],
)
def test_trace(flags: int, template: str) -> None:
    plan = rules().trace("me@x", flags)
    assert plan.template == template
    assert told(plan) == [("", "me@x", "sender", RET_HDRS)]
    assert (plan.notices[0].wanted, plan.notices[0].postmaster) == (OVERRIDE, False)


def test_trace_of_a_notice() -> None:
    plan = rules().trace("", 0)
    assert (plan.notices, plan.remove_log) == ((), True)
    assert plan.info == "not sending trace/success notification for single-bounce message"
    assert told(rules("2bounce").trace("", 0)) == [("double-bounce@h.test", "bounces2", "sender", RET_HDRS)]
    plan = rules("2bounce").trace("double-bounce@h.test", 0)
    assert (plan.notices, plan.remove_log) == ((), False)
    assert plan.info == "not sending trace/success notification for double-bounce message"


def test_notify_classes() -> None:
    assert notify_classes("Bounce, 2bounce,delay") == {"bounce", "2bounce", "delay"}
    with pytest.raises(FatalError) as caught:
        notify_classes("bounce, bonuce")
    assert str(caught.value) == 'unknown notify_classes value "bonuce" in "bounce, bonuce"'


@pytest.mark.parametrize(
    ("notify", "wanted", "yes"),
    [
        (0, NOTIFY_FAILURE, True),
        (NOTIFY_NEVER, NOTIFY_FAILURE, False),
        (NOTIFY_NEVER, OVERRIDE, True),
        (NOTIFY_SUCCESS | NOTIFY_DELAY, NOTIFY_FAILURE, False),
        (NOTIFY_SUCCESS | NOTIFY_DELAY, NOTIFY_DELAY, True),
    ],
)
def test_reported(notify: int, wanted: int, yes: bool) -> None:
    assert reported(Recipient("a@b", notify=notify), wanted) is yes


@pytest.mark.parametrize(
    ("sendopts", "enable", "redact_dsn", "result"),
    [
        (48, True, True, (0, RET_HDRS)),
        (48, True, False, (32, RET_FULL)),
        (48, False, True, (48, RET_FULL)),
        (16, True, True, (16, RET_FULL)),
        (33, True, True, (1, RET_HDRS)),
    ],
)
def test_requiretls(sendopts: int, enable: bool, redact_dsn: bool, result: tuple[int, int]) -> None:
    assert redact(sendopts, RET_FULL, enable=enable, redact_dsn=redact_dsn) == result


@pytest.mark.parametrize(
    ("sender", "recipient", "verp"),
    [
        ("list-return@x.y", Recipient("joe@a.b"), "list-return+joe=a.b@x.y"),
        ("list-return@x.y", Recipient("joe@a.b", "al@c.d"), "list-return+al=c.d@x.y"),
        ("list", Recipient("joe"), "list+joe"),
        ("list@", Recipient("joe@"), "list+joe"),
        ("a@b@c", Recipient("d@e@f"), "a@b+d@e=f@c"),
    ],
)
def test_verp_sender(sender: str, recipient: Recipient, verp: str) -> None:
    assert verp_sender(sender, recipient, "+=") == verp


@given(st.text("a@.", max_size=8), st.text("b@.", max_size=8))
def test_verp_sender_of_anything(sender: str, recipient: str) -> None:
    assert "+" in verp_sender(sender, Recipient(recipient), "+=")
