"""Routes: what overrides the resolver's answer, and the names of destination queues."""

from postfixpy.ipc.rewrite import RESOLVE_CLASS_LOCAL, RESOLVE_FLAG_ERROR, RESOLVE_FLAG_FAIL, Resolved
from postfixpy.mail.delivery import MTA_VERIFY, USER_VERIFY, Recipient
from postfixpy.services.queue_manager.decisions import Route
from postfixpy.services.queue_manager.envelope import Envelope
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.routing import (
    Policy,
    filter_route,
    final_route,
    is_double_bounce,
    sorted_for_resolving,
)


def message(**facts: object) -> Message:
    envelope = Envelope("ID", sender="s@x")
    for name, value in facts.items():
        setattr(envelope, name, value)
    return Message(envelope, queued_at=0)


def final(
    resolved: Resolved, found: Message | None = None, policy: Policy | None = None, limit: int = 50, probes: int = 0
) -> Route:
    return final_route(policy or Policy(), found or message(), resolved, probes, 5000, lambda transport: limit)


def test_queue_is_the_next_hop() -> None:
    assert final(Resolved("smtp", "[Relay]:25", "u@x", 0)) == Route("smtp", "[relay]:25", "[Relay]:25")


def test_queue_for_each_recipient_when_the_agent_takes_one() -> None:
    policy = Policy(split=lambda local: local.partition("+")[0])
    route = final(Resolved("local", "Here", "User+Ext@other", 0), policy=policy, limit=1)
    assert route == Route("local", "user@here", "Here")
    assert final(Resolved("error", "5.1.1 no", "u@x", 0), limit=1) == Route("error", "5.1.1 no", "5.1.1 no")


def test_only_ascii_is_folded() -> None:
    assert final(Resolved("smtp", "ÄÖ.Example", "u@x", 0)).queue == "ÄÖ.example"


def test_resolver_failures() -> None:
    assert final(Resolved("smtp", "x", "u@x", RESOLVE_FLAG_FAIL)).nexthop == "4.3.0 address resolver failure"
    assert final(Resolved("smtp", "x", "u@x", RESOLVE_FLAG_ERROR)).nexthop == "5.1.3 bad address syntax"
    assert final(Resolved("smtp", "x", "", 0)) == Route(
        "error", "5.1.3 null recipient address", "5.1.3 null recipient address"
    )


def test_deferred_transports() -> None:
    policy = Policy(defer_transports=frozenset(["uucp"]))
    assert final(Resolved("uucp", "x", "u@x", 0), policy=policy).nexthop == "4.3.2 deferred transport"
    assert final(Resolved("smtp", "x", "u@x", 0), policy=policy).transport == "smtp"
    flushed = message()
    flushed.run_deferred = True
    assert final(Resolved("uucp", "x", "u@x", 0), flushed, policy).transport == "uucp"


def test_forced_expiry_overrides_bad_addresses() -> None:
    expired = message()
    expired.force_expire = True
    route = final(Resolved("smtp", "x", "u@x", RESOLVE_FLAG_ERROR), expired)
    assert route.nexthop == "4.7.0 message is administratively expired"


def test_too_many_probes() -> None:
    probe = message(trace_flags=MTA_VERIFY)
    assert final(Resolved("smtp", "x", "u@x", 0), probe, probes=5000).transport == "smtp"
    route = final(Resolved("smtp", "x", "u@x", 0), probe, probes=5001)
    assert route.nexthop == "4.3.2 Too many address verification requests"


def test_filter() -> None:
    policy = Policy(myhostname="me.example")

    def filtered(text: str | None, address: str = "u@x.example", **facts: object) -> Resolved | None:
        return filter_route(policy, message(filter=text, **facts), Recipient(address))

    assert filtered(None) is None
    assert filtered("") == Resolved("", "x.example", "u@x.example", 0)
    assert filtered("scan:[::1]:10025") == Resolved("scan", "[::1]:10025", "u@x.example", 0)
    assert filtered("scan:") == Resolved("scan", "x.example", "u@x.example", 0)
    assert filtered("scan") == Resolved("scan", "x.example", "u@x.example", 0)
    assert filtered("scan:", "local") == Resolved("scan", "me.example", "local", 0)
    assert filtered("scan:x", trace_flags=USER_VERIFY) is None
    policy.default_filter_nexthop = "default"
    assert filtered("scan:") == Resolved("scan", "default", "u@x.example", 0)


def test_double_bounces_go_nowhere() -> None:
    policy = Policy()
    local = Resolved("local", "here", "Double-Bounce@here", RESOLVE_CLASS_LOCAL)
    assert is_double_bounce(policy, message(), local)
    assert not is_double_bounce(policy, message(), Resolved("smtp", "here", "double-bounce@here", 0))
    assert not is_double_bounce(policy, message(), Resolved("local", "here", "u@here", RESOLVE_CLASS_LOCAL))
    expired = message()
    expired.force_expire = True
    assert not is_double_bounce(policy, expired, local)


def test_recipients_are_resolved_domain_by_domain() -> None:
    addresses = ["b@y", "a@X", "local", "b@x", "a@y"]
    recipients = sorted_for_resolving([Recipient(address) for address in addresses])
    assert [r.address for r in recipients] == ["a@X", "b@x", "a@y", "b@y", "local"]
