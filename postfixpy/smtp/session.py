"""One connection to one server: what it is, what the server can do, what has been said (spec 4.2, 5.5, 10.3)."""

from typing import TYPE_CHECKING

from postfixpy import log

from . import states
from .effects import Run
from .reply import Reply, read_reply
from .states import State
from .stream import Stream
from .trace import MAX_EVENTS, Event

if TYPE_CHECKING:
    from postfixpy.tls.handshake import TLSState

    from .policy import Policy
    from .settings import Settings

# What the server offers, and what we know about it. The bits are those in the connection cache (spec 10.3).
ESMTP, EIGHTBITMIME, PIPELINING, SIZE, STARTTLS, AUTH = (1 << n for n in range(6))
XFORWARD_NAME, XFORWARD_ADDR, XFORWARD_PROTO, XFORWARD_HELO, XFORWARD_SOURCE = (1 << n for n in range(7, 12))
BEST_MX, RSET_REJECTED, FROM_CACHE, DSN = (1 << n for n in range(12, 16))
PIX_NO_ESMTP, PIX_DELAY_DOTCRLF, XFORWARD_PORT, EARLY_MAIL_REPLY, XFORWARD_IDENT = (1 << n for n in range(16, 21))
SMTPUTF8, FROM_PROXY, REQUIRETLS = (1 << n for n in range(21, 24))

NOT_CACHED, THROTTLED = 0.0, -1.0
"""Values of `Session.expires`."""


class Session:
    """A connection and its state.

    expires     when the session may no longer be kept for others (seconds); NOT_CACHED; or THROTTLED: the destination
                has failed as a whole
    transcript  what was said, for postmaster notices; empty when notify_classes wants none from this program
    errors      classes of trouble met: "protocol", "data"
    forbidden   nothing more may be said: not even QUIT
    verbose     log what is said (debug_peer_list)
    phase       where the handshake is, for texts
    events      the trace (postfixpy.smtp.trace), or None
    tls         what the TLS handshake came to, None in plaintext
    tls_session where the TLS session is to be kept: cache and key; None when there is nothing to do
    mechanisms  what the server's AUTH lines offer, a text each
    """

    def __init__(
        self,
        settings: "Settings",
        stream: Stream,
        queue_id: str,
        host: str,
        address: str,
        port: int,
        policy: "Policy",
        expires: float = NOT_CACHED,
    ) -> None:
        self.settings = settings
        self.stream = stream
        self.queue_id = queue_id
        self.host = host
        self.address = address
        self.port = port
        self.policy = policy
        self.expires = expires
        self.namaddr = f"{host}[{address}]"
        self.namaddrport = f"{self.namaddr}:{port}" if port else self.namaddr
        self.features = 0
        self.size_limit = 0
        self.server_name = ""
        self.reuse_count = 0
        self.phase = states.GREETING
        self.tls: TLSState | None = None
        self.tls_session: tuple[str, str] | None = None
        self.forbidden = False
        self.verbose = False
        self.transcript: list[str] = []
        self._keep_transcript = bool(settings.notice_classes)
        self.started = stream.clock()
        self.events: list[Event] | None = [] if settings.trace_directory else None
        self.errors: set[str] = set()
        self.mechanisms: list[str] = []

    @property
    def in_tls(self) -> bool:
        """Whether the conversation is encrypted."""
        return self.tls is not None

    def has(self, feature: int) -> bool:
        return bool(self.features & feature)

    @property
    def pipelining(self) -> bool:
        return bool(self.features & PIPELINING)

    @property
    def kept(self) -> bool:
        """Whether the session goes to the cache when the transaction is over, and so must not QUIT."""
        return self.expires > 0 and not self.forbidden

    def forbid_cache(self) -> None:
        """Do not keep this session (a throttled one stays throttled)."""
        if self.expires > 0:
            self.expires = NOT_CACHED

    def check_expired(self, now: float) -> bool:
        """Whether the session has served its time or its number of uses."""
        limit = self.settings.view.smtp_connection_reuse_count_limit
        return self.expires > 0 and (self.expires < now or (limit > 0 and self.reuse_count >= limit))

    def set_limit(self, state: State, *, rate: int = 0) -> None:
        """Start the time limit of a state."""
        view = self.settings.view
        limit, deadline = getattr(view, state.limit), view.smtp_per_request_deadline
        if self.verbose:
            log.info(f"smtp_stream_setup: maxtime={limit} enable_deadline={int(deadline)} min_data_rate={rate}")
        self.stream.set_limit(limit, deadline=deadline, rate=rate)

    def note(self, kind: str, text: str = "") -> None:
        """Add an event to the session's trace, if one is kept."""
        if self.events is not None and len(self.events) < MAX_EVENTS:
            self.events.append((round(self.stream.clock() - self.started, 6), kind, text))

    def record(self, prefix: str, kind: str, text: str) -> None:
        """Add a line to the transcript, and an event to the trace, of those that are kept."""
        if self._keep_transcript:
            self.transcript.append(prefix + text)
        if self.events is not None:
            self.note(kind, text)

    def command(self, text: str, shown: str | None = None) -> None:
        """Put a command into the output. `shown` is what transcripts and logs have for one that holds secrets."""
        shown = text if shown is None else shown
        self.record("Out: ", ">", shown)
        if self.verbose:
            log.info(f"> {self.namaddrport}: {shown}")
        self.stream.put(text.encode("utf-8", "surrogateescape") + b"\r\n")

    def reply(self) -> Run[Reply]:
        """The next reply. Raises StreamError, LocalDataError."""
        return (yield from read_reply(self))
