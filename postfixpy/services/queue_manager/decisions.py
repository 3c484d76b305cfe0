"""What the scheduler decides, for the edge to carry out, and the routes that it is given."""

from dataclasses import dataclass
from typing import Any

from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN

from .model import Entry, Message, Transport


@dataclass(frozen=True, slots=True)
class Route:
    """Where a recipient goes: a transport, its destination queue's name, and the next hop for the agent."""

    transport: str
    queue: str
    nexthop: str


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection to an agent of `transport`; answer with `agent_available` or `agent_unavailable`."""

    transport: Transport


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send `entry` to `agent`; answer with `delivered`."""

    agent: Any
    entry: Entry


@dataclass(frozen=True, slots=True)
class Release:
    """Hang up on `agent`: there is nothing for it after all."""

    agent: Any


@dataclass(frozen=True, slots=True)
class Refill:
    """Read up to `limit` more recipients of `message`; answer with `assign`."""

    message: Message
    limit: int


@dataclass(frozen=True, slots=True)
class DeferEntry:
    """Defer `recipients` of `message` directly; answer with `recipients_deferred`."""

    message: Message
    recipients: list[Recipient]
    reason: DSN


@dataclass(frozen=True, slots=True)
class Finish:
    """All recipients of `message` that are in memory have been tried. Answer with `forget`, or `assign` more."""

    message: Message


Decision = Connect | Deliver | Release | Refill | DeferEntry | Finish
