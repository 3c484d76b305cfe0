"""Who is told about a message that was not delivered, is late, or was delivered: the rules of bounce(8).

A message's sender gets a notice with the null sender. What is about such a notice goes to a postmaster, from the
double-bounce address. What is about that is discarded: nobody else could be told. notify_classes asks for copies to
postmasters; a copy that fails is logged, and changes nothing.

Recipients with NOTIFY options are in a sender's notice only if they asked for that kind; a postmaster's has them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from postfixpy.errors import FatalError
from postfixpy.lookup.table import casefold
from postfixpy.mail.delivery import RECORD, USER_VERIFY, Recipient
from postfixpy.mail.dsn import NOTIFY_DELAY, NOTIFY_FAILURE, RET_FULL, RET_HDRS

from .templates import DELAY, FAILURE, SUCCESS, VERIFY

OVERRIDE = 0xF
"""A `wanted` that takes every recipient."""

ERROR_CLASSES = ("bounce", "2bounce", "data", "delay", "policy", "protocol", "resource", "software")
"""What notify_classes may hold."""

SENDOPT_TLS_NOT_REQUIRED, SENDOPT_REQUIRETLS = 16, 32


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification to send.

    sender, recipient   envelope addresses, internal form
    label               what the log calls it
    wanted              NOTIFY bits: which recipients it reports; see `reported`
    ret                 RET_FULL or RET_HDRS: what comes back of the message
    postmaster          it is for a postmaster: another subject, no polite text
    failure             the log text when it cannot be sent
    critical            it must be sent, or the request fails
    """

    sender: str
    recipient: str
    label: str
    wanted: int
    ret: int
    postmaster: bool
    failure: str
    critical: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The notices of one request, and what to log beside: a warning when all is `discarded`, or an `info`."""

    template: str
    notices: tuple[Notice, ...] = ()
    discarded: bool = False
    info: str = ""
    remove_log: bool = False
    """With no notices: remove the log all the same."""


def notify_classes(text: str) -> frozenset[str]:
    """The value of notify_classes. Raises FatalError for a class that does not exist."""
    classes = text.replace(",", " ").split()
    for name in classes:
        if name.lower() not in ERROR_CLASSES:
            raise FatalError(f'unknown notify_classes value "{name}" in "{text}"')
    return frozenset(name.lower() for name in classes)


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters that decide. `double_bounce` is the full address."""

    double_bounce: str
    classes: frozenset[str]
    bounce_notice_recipient: str
    second_bounce_notice_recipient: str
    delay_notice_recipient: str
    smtputf8_enable: bool = True

    def is_double_bounce(self, address: str) -> bool:
        """Whether mail from `address` is a double bounce."""
        utf8 = self.smtputf8_enable
        return casefold(address, utf8) == casefold(self.double_bounce, utf8)

    def failure(self, sender: str, ret: int) -> Plan:
        """Mail from `sender` has failed for good."""
        label = "postmaster non-delivery notification"
        if self.is_double_bounce(sender):
            return Plan(FAILURE, discarded=True)
        if not sender:
            if not self.classes & {"bounce", "2bounce"}:
                return Plan(FAILURE)
            return Plan(FAILURE, (self._postmaster(self.second_bounce_notice_recipient, label, RET_FULL),))
        notices = [self._sender(sender, "sender non-delivery notification", NOTIFY_FAILURE, ret or RET_FULL)]
        if "bounce" in self.classes:
            failure = f"postmaster notice failed while bouncing to {sender}"
            notices.append(self._postmaster(self.bounce_notice_recipient, label, RET_HDRS, failure))
        return Plan(FAILURE, tuple(notices))

    def delay(self, sender: str) -> Plan:
        """Mail from `sender` is late."""
        label = "postmaster delay notification"
        if self.is_double_bounce(sender):
            return Plan(DELAY, discarded=True)
        if not sender:
            if "delay" not in self.classes:
                return Plan(DELAY)
            return Plan(DELAY, (self._postmaster(self.delay_notice_recipient, label, RET_FULL),))
        notices = [self._sender(sender, "sender delay notification", NOTIFY_DELAY, RET_HDRS)]
        if "delay" in self.classes:
            failure = f"postmaster notice failed while warning {sender}"
            notices.append(self._postmaster(self.delay_notice_recipient, label, RET_HDRS, failure))
        return Plan(DELAY, tuple(notices))

    def trace(self, sender: str, flags: int) -> Plan:
        """The report that `sender` asked for: of a probe, of a verbose delivery, or of success (NOTIFY=SUCCESS)."""
        template = VERIFY if flags & (USER_VERIFY | RECORD) else SUCCESS
        if self.is_double_bounce(sender):
            return Plan(template, info="not sending trace/success notification for double-bounce message")
        label, origin = "sender delivery status notification", ""
        if not sender:
            if "2bounce" not in self.classes:
                text = "not sending trace/success notification for single-bounce message"
                return Plan(template, info=text, remove_log=True)
            sender, origin = self.second_bounce_notice_recipient, self.double_bounce
        failure = f"sender notification failed to {sender}"
        return Plan(template, (Notice(origin, sender, label, OVERRIDE, RET_HDRS, False, failure, True),))

    def _sender(self, sender: str, label: str, wanted: int, ret: int) -> Notice:
        return Notice("", sender, label, wanted, ret, False, f"sender notification failed to {sender}", True)

    def _postmaster(self, recipient: str, label: str, ret: int, failure: str = "") -> Notice:
        text = failure or "postmaster notification failed"
        return Notice(self.double_bounce, recipient, label, OVERRIDE, ret, True, text, not failure)


def reported(recipient: Recipient, wanted: int) -> bool:
    """Whether a notice that wants these NOTIFY bits reports `recipient`."""
    return recipient.notify == 0 or bool(recipient.notify & wanted)


def redact(sendopts: int, ret: int, *, enable: bool, redact_dsn: bool) -> tuple[int, int]:
    """`sendopts` and `ret` of notices about a message with REQUIRETLS (requiretls_enable, requiretls_redact_dsn).

    "TLS-Required: no" does not go with REQUIRETLS. With `redact_dsn` the notice has headers only, and is sent without
    REQUIRETLS, so that it arrives.
    """
    if enable and sendopts & SENDOPT_REQUIRETLS:
        sendopts &= ~SENDOPT_TLS_NOT_REQUIRED
        if redact_dsn:
            return sendopts & ~SENDOPT_REQUIRETLS, RET_HDRS
    return sendopts, ret


def verp_sender(sender: str, recipient: Recipient, delimiters: Sequence[str]) -> str:
    """``prefix+user=domain@origin`` for sender ``prefix@origin`` and recipient ``user@domain`` (VERP_README)."""
    address = recipient.original or recipient.address
    local, _, origin = sender.rpartition("@") if "@" in sender else (sender, "", "")
    user, _, domain = address.rpartition("@") if "@" in address else (address, "", "")
    out = local + delimiters[0] + user
    if domain:
        out += delimiters[1] + domain
    return f"{out}@{origin}" if origin else out
