"""The warning that one destination takes up much of the active queue (helpful_warnings, qmgr_clog_warn_time)."""

from postfixpy import log

from .model import Destination
from .settings import Settings


def warn_if_clogged(destination: Destination, messages: int, settings: Settings, now: float) -> None:
    """Log advice when `destination` has a fifth of qmgr_message_active_limit, now and then. `messages` are active."""
    length = len(destination.todo) + len(destination.busy)
    if not settings.helpful_warnings or settings.clog_warn_time <= 0 or length <= settings.active_limit // 5:
        return
    if now < destination.clog_warn_at:
        return
    destination.clog_warn_at = now + settings.clog_warn_time
    for text in clog_warnings(destination, length, messages, settings.active_limit):
        log.warning(text)


def clog_warnings(destination: Destination, length: int, messages: int, active_limit: int) -> list[str]:
    """The advice about a destination that holds `length` of `messages` active messages, in Postfix's words."""
    transport = destination.transport
    share = length / max(messages, 1)
    limit = transport.settings.concurrency_limit
    out = [f"mail for {destination.nexthop} is using up {length} of {messages} active queue entries"]
    if share < 0.9:
        out.append("this may slow down other mail deliveries")
    if 0 < limit <= len(destination.busy) + 1:
        suffix = "_destination_concurrency_limit"
        out.append(f"you may need to increase the main.cf {transport.name}{suffix} from {limit}")
    elif destination.concurrency.window > active_limit * share:
        out.append(f"you may need to increase the main.cf qmgr_message_active_limit from {active_limit}")
    elif len(transport.destinations) > 1:
        out.append(f"you may need a separate master.cf transport for {destination.nexthop}")
    else:
        out += [
            f"you may need to reduce {transport.name} connect and helo timeouts",
            "so that Postfix quickly skips unavailable hosts",
            "you may need to increase the main.cf minimal_backoff_time and maximal_backoff_time",
            "so that Postfix wastes less time on undeliverable mail",
            f"you may need to increase the master.cf {transport.name} process limit",
        ]
    return [
        *out,
        "please avoid flushing the whole queue when you have",
        "lots of deferred mail, that is bad for performance",
        "to turn off these warnings specify: qmgr_clog_warn_time = 0",
    ]
