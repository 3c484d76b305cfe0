"""From the resolver's answer to a route: transport, next hop, and the name of the destination's queue.

What overrides the resolver, strongest first: a redirect (REDIRECT action of access(5) or header_checks(5)) of the
whole message; its content filter (not for probes); then, after the resolver, bad addresses go to error(8), resolver
failures to retry(8), forced expiry, mail to the local double-bounce address is discarded, and defer_transports and too
many address probes go to retry(8).

An agent that takes one recipient a request gets a queue for each recipient, ``user@nexthop``, so that the concurrency
limit holds for each mailbox, and one recipient does not tie up all agents.

Source: qmgr(8), postconf(5) of the parameters in `Policy`, spec/smtp-client.md 15.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy.ipc.rewrite import RESOLVE_CLASS_LOCAL, RESOLVE_FLAG_ERROR, RESOLVE_FLAG_FAIL, Resolved
from postfixpy.lookup.addresses import split_addr
from postfixpy.mail.delivery import MTA_VERIFY, TRACE_ONLY, Recipient
from postfixpy.mail.outcome import ascii_lower

from .decisions import Route
from .model import ERROR, RETRY, Message

if TYPE_CHECKING:
    from postfixpy.config import View


@dataclass(slots=True)
class Policy:
    """The parameters of routing. `split` takes the extension off a local part: "user+x" -> "user"."""

    defer_transports: frozenset[str] = frozenset()
    default_filter_nexthop: str = ""
    myhostname: str = "localhost"
    double_bounce_sender: str = "double-bounce"
    split: Callable[[str], str] = str

    @classmethod
    def read(cls, view: "View") -> "Policy":
        """The policy that `view` has."""
        delimiters = view.recipient_delimiter

        def split(local: str) -> str:
            parts = split_addr(local, delimiters, view) if delimiters else None
            return parts[0] if parts else local

        return cls(
            defer_transports=frozenset(view.defer_transports.replace(",", " ").split()),
            default_filter_nexthop=view.default_filter_nexthop,
            myhostname=view.myhostname,
            double_bounce_sender=view.double_bounce_sender,
            split=split,
        )


def filter_route(policy: Policy, message: Message, recipient: Recipient) -> Resolved | None:
    """The route through the message's content filter, None when it has none or the filter does not apply."""
    if message.envelope.filter is None or message.envelope.trace_flags & TRACE_ONLY:
        return None
    transport, _, nexthop = message.envelope.filter.partition(":")
    nexthop = nexthop or policy.default_filter_nexthop
    if not nexthop:
        nexthop = recipient.address.rpartition("@")[2] if "@" in recipient.address else ""
    return Resolved(transport, nexthop or policy.myhostname, recipient.address, 0)


def sorted_for_resolving(recipients: list[Recipient]) -> list[Recipient]:
    """Recipients by domain and address, those without domain last: neighbours have the same route."""

    def key(recipient: Recipient) -> tuple[bool, str, str]:
        _, at, domain = recipient.address.rpartition("@")
        return not at, domain.casefold(), recipient.address

    return sorted(recipients, key=key)


def is_double_bounce(policy: Policy, message: Message, resolved: Resolved) -> bool:
    """Whether mail goes to the local address that double bounces come from: nobody reads it."""
    flags = resolved.flags
    if not flags & RESOLVE_CLASS_LOCAL or flags & (RESOLVE_FLAG_FAIL | RESOLVE_FLAG_ERROR) or message.force_expire:
        return False
    return _local_part(resolved.recipient).casefold() == policy.double_bounce_sender.casefold()


def final_route(
    policy: Policy,
    message: Message,
    resolved: Resolved,
    pending_probes: int,
    probe_limit: int,
    recipient_limit: Callable[[str], int],
) -> Route:
    """Where a recipient goes that was resolved (or filtered) to `resolved`.

    `pending_probes` address verification probes are in the active queue; more than `probe_limit` are deferred.
    `recipient_limit` answers how many recipients a transport takes in one request.
    """
    transport, nexthop = resolved.transport, resolved.nexthop
    if resolved.flags & RESOLVE_FLAG_FAIL:
        transport, nexthop = RETRY, "4.3.0 address resolver failure"
    elif resolved.flags & RESOLVE_FLAG_ERROR:
        transport, nexthop = ERROR, "5.1.3 bad address syntax"
    if not resolved.recipient:
        transport, nexthop = ERROR, "5.1.3 null recipient address"
    if message.force_expire:
        transport, nexthop = RETRY, "4.7.0 message is administratively expired"
    if transport in policy.defer_transports and not message.run_deferred:
        transport, nexthop = RETRY, "4.3.2 deferred transport"
    if message.envelope.trace_flags & MTA_VERIFY and pending_probes > probe_limit:
        transport, nexthop = RETRY, "4.3.2 Too many address verification requests"
    queue = nexthop
    if transport not in (ERROR, RETRY) and recipient_limit(transport) == 1:
        queue = f"{policy.split(_local_part(resolved.recipient))}@{nexthop}"
    return Route(transport, ascii_lower(queue), nexthop)


def _local_part(address: str) -> str:
    return address.rpartition("@")[0] if "@" in address else address
