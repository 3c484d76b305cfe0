"""One delivery request in progress: who is still to be delivered to, and what is known so far.

The recipients of the request are tried on one server after the other. During a session each of them gets a mark:
`KEEP` (try another server) or `DROP` (finished). After the session the kept ones are the recipients of the next.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from postfixpy.dns.record import Record
from postfixpy.mail.delivery import (
    SMTPUTF8_HEADER,
    SMTPUTF8_RECIPIENT,
    SMTPUTF8_REQUESTED,
    SMTPUTF8_SENDER,
    TRACE_ONLY,
    DeliveryRequest,
    MessageStats,
    Recipient,
)
from postfixpy.mail.dsn import DSN, NOTIFY_SUCCESS

from . import session as feature
from .effects import Report, Run
from .requiretls import Demand
from .tls_status import TLSStatus

if TYPE_CHECKING:
    from .content import Source
    from .reply import Reply
    from .session import Session
    from .settings import Settings
    from .tlsrpt import TLSReport


def requires_smtputf8(sendopts: int) -> bool:
    """Whether the message cannot go to a server without SMTPUTF8."""
    return bool(sendopts & SMTPUTF8_REQUESTED and sendopts & (SMTPUTF8_HEADER | SMTPUTF8_SENDER | SMTPUTF8_RECIPIENT))


def copy_stats(stats: MessageStats) -> MessageStats:
    """A copy. (dataclasses.replace takes ten times as long, and there is one for each recipient.)"""
    return MessageStats(
        stats.incoming_arrival,
        stats.active_arrival,
        stats.agent_handoff,
        stats.connection_done,
        stats.delivery_done,
        stats.reuse_count,
    )


class Mark(enum.Enum):
    OPEN = 0
    KEEP = 1
    DROP = 2


@dataclass(slots=True)
class Server:
    """The server being tried: the site as written, its host name, address and port.

    domain   the site's host; for a UNIX-domain socket, $myhostname
    record   the address record that led here; mx: the first MX record of the site, if there are any
    """

    site: str = ""
    host: str = ""
    address: str = ""
    port: int = 0
    domain: str = ""
    record: Record | None = None
    mx: Record | None = None


@dataclass(slots=True)
class Delivery:
    """The state of one request.

    clock           gives the time in seconds since the epoch
    status          0, or -1 when a recipient is not finally disposed of
    hop             the failure of the whole destination for the queue manager, or None
    why             the latest failure to reach a server; applied to who is left at the end
    final_site      no further destination will be tried after this one
    final_server    no further server will be tried after this one
    completed       a session of this request has come to its normal end
    loop_detect     look for signs that we talk to ourselves
    retry_plain     try the same server again without TLS
    demand          how much of the sender's REQUIRETLS counts for the current site
    tls             what the log says of TLS
    tlsrpt          what would be told of the current server, None if nobody wants to know
    verbose         log what is done (debug_peer_list has the nexthop)
    """

    settings: "Settings"
    request: DeliveryRequest
    source: "Source"
    clock: Callable[[], float]
    recipients: list[Recipient] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    session: "Session | None" = None
    server: Server = field(default_factory=Server)
    status: int = 0
    hop: DSN | None = None
    why: DSN = field(default_factory=DSN)
    stats: MessageStats = field(default_factory=MessageStats)
    final_site: bool = False
    final_server: bool = False
    completed: bool = False
    loop_detect: bool = False
    retry_plain: bool = False
    line_broken: bool = False
    demand: Demand = Demand.DISABLE
    tls: TLSStatus = field(default_factory=TLSStatus)
    tlsrpt: "TLSReport | None" = None
    verbose: bool = False

    def __post_init__(self) -> None:
        self.recipients = list(self.request.recipients)
        self.marks = [Mark.OPEN] * len(self.recipients)
        self.stats = copy_stats(self.request.stats)
        self.tls.enabled = self.settings.log_tls

    @property
    def probe(self) -> bool:
        """An address probe: nothing is delivered."""
        return bool(self.request.flags & TRACE_ONLY)

    @property
    def relay(self) -> str:
        """The server for the log."""
        return self.session.namaddrport if self.session else "none"

    def now(self) -> int:
        """The time in microseconds."""
        return int(self.clock() * 1_000_000)

    def open(self) -> list[int]:
        """Indexes of the recipients without a mark."""
        return [i for i, mark in enumerate(self.marks) if mark is Mark.OPEN]

    def next_session(self) -> None:
        """Go on with the kept recipients (spec 1.5), and forget the times of the session."""
        self.recipients = [r for r, mark in zip(self.recipients, self.marks, strict=True) if mark is not Mark.DROP]
        self.marks = [Mark.OPEN] * len(self.recipients)
        self.stats.connection_done = self.stats.delivery_done = self.stats.reuse_count = 0

    def dispose(
        self,
        index: int,
        result: str,
        dsn: DSN,
        *,
        command: str = "",
        scope: str = "recipient",
        maybe: bool = False,
        relay: str = "",
    ) -> Run[int]:
        """Report the end of one recipient, and mark it finished. The result is 0 or -1."""
        self.marks[index] = Mark.DROP
        if self.session is not None:
            self.session.note("result", f"{self.recipients[index].address} {result} {dsn.status}")
        status = yield from Report(
            result,
            self.recipients[index],
            dsn,
            relay or self.relay,
            copy_stats(self.stats),
            str(self.tls),
            scope,
            command,
            self.session.namaddr if self.session else "",
            maybe,
        )
        self.status |= status
        return status

    def sent(self, index: int, reply: "Reply") -> Run[None]:
        """The server took the message for this recipient (or, for a probe, the recipient)."""
        session, settings = self.session, self.settings
        assert session is not None
        action = "relayed"
        if settings.lmtp and not session.has(feature.DSN) and settings.final_delivery:
            action = "delivered"
        if session.has(feature.DSN):  # the next hop reports
            self.recipients[index].notify &= ~NOTIFY_SUCCESS
        dsn = DSN(reply.status, action, reply.line, "smtp", reply.line, "dns", session.host)
        yield from self.dispose(index, "sent", dsn, command=".")
