"""Client of cleanup(8): handing a message to the queue.

The service announces `PROTOCOL` and the queue id it has chosen; the client sends its flags, then queue-file records
(envelope, "M", content, "X", extracted, "E"), and reads a status and a reason. Status 0 means that the message is on
stable storage: from then on the mail system answers for it.

`post_mail` begins a message of our own: bounces, notices to the postmaster (post_mail(3)).
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.headers import mail_date
from postfixpy.mail.records import Kind, encode_record, encode_time

from .attributes import ProtocolError, encode_text
from .channel import Channel, connect
from .message import Message

if TYPE_CHECKING:
    from postfixpy.config import View

PROTOCOL = "cleanup_protocol"

# What the client asks for.
FLAG_BOUNCE = 1 << 0  # return bad messages to the sender, and say that all is well
FLAG_FILTER = 1 << 1  # header_checks and body_checks
FLAG_HOLD = 1 << 2
FLAG_DISCARD = 1 << 3
FLAG_BCC_OK = 1 << 4  # add recipients from always_bcc and the bcc maps
FLAG_MAP_OK = 1 << 5  # canonical, masquerading, virtual aliases
FLAG_MILTER = 1 << 6
FLAG_SMTP_REPLY = 1 << 7
FLAG_SMTPUTF8 = 1 << 8
FLAG_AUTOUTF8 = 1 << 9
FLAG_REQUIRETLS = 1 << 10

FLAGS_FILTER_ALL = FLAG_FILTER | FLAG_MILTER
FLAGS_EXTERNAL = FLAGS_FILTER_ALL | FLAG_BCC_OK | FLAG_MAP_OK
"""For mail from outside."""
FLAGS_INTERNAL = FLAG_MAP_OK
"""For notices, and for mail that is forwarded."""
FLAGS_EXTRA = FLAG_HOLD | FLAG_DISCARD
"""May also come in a record of the envelope."""

# What went wrong; 0 is success.
STAT_BAD = 1 << 0  # internal protocol error
STAT_WRITE = 1 << 1  # the queue file, or a table that cannot be read now
STAT_SIZE = 1 << 2
STAT_CONT = 1 << 3  # content refused
STAT_HOPS = 1 << 4
STAT_RCPT = 1 << 6  # no recipients
STAT_PROXY = 1 << 7
STAT_DEFER = 1 << 8
STAT_NOPERM = 1 << 9
STAT_BARE_LF = 1 << 16

STATS_CANNOT_BOUNCE = STAT_BAD | STAT_WRITE | STAT_DEFER | STAT_RCPT
STATS_INCOMPLETE = STAT_BAD | STAT_WRITE | STAT_SIZE | STAT_DEFER


class Detail(NamedTuple):
    """A status for people: SMTP reply code, enhanced status, text."""

    smtp: int
    dsn: str
    text: str


_SUCCESS = Detail(250, "2.0.0", "Success")
_DETAILS = (
    (STAT_DEFER, Detail(451, "4.7.1", "service unavailable")),
    (STAT_PROXY, Detail(451, "4.3.0", "queue file write error")),
    (STAT_BAD, Detail(451, "4.3.0", "internal protocol error")),
    (STAT_RCPT, Detail(550, "5.1.0", "no recipients specified")),
    (STAT_HOPS, Detail(554, "5.4.0", "too many hops")),
    (STAT_SIZE, Detail(552, "5.3.4", "message file too big")),
    (STAT_CONT, Detail(550, "5.7.1", "message content rejected")),
    (STAT_WRITE, Detail(451, "4.3.0", "queue file write error")),
    (STAT_NOPERM, Detail(550, "5.7.1", "service denied")),
    (STAT_BARE_LF, Detail(521, "5.5.2", "bare <LF> received")),
)


def detail(status: int) -> Detail:
    """The words for the gravest bit of `status`."""
    for bit, words in _DETAILS:
        if status & bit:
            return words
    return _SUCCESS


@dataclass(slots=True)
class Flags(Message):
    """The client's wishes, FLAG_* bits."""

    flags: int


@dataclass(slots=True)
class CleanupResult(Message):
    """The verdict: STAT_* bits, and a reason ("5.7.1 text") if there is more to say than `detail(status)`."""

    status: int
    reason: str

    @property
    def ok(self) -> bool:
        """The message is in the queue, or was disposed of as configured."""
        return self.status == 0


_BLOCK = 32768


class Submission:
    """One message on its way into the queue. `record` the parts, `await drain()` now and then, then `finish`."""

    def __init__(self, channel: Channel, queue_id: str) -> None:
        self.queue_id = queue_id
        self._channel = channel
        self._buffer = bytearray()

    @classmethod
    async def open(
        cls, path: str = "public/cleanup", flags: int = 0, *, wait: bool = True, timeout: float = 3600.0
    ) -> "Submission":
        """Connect to the service at `path`.

        With `wait`, a service that is not there is waited for, 10 seconds at a time, up to ten times. Raises FatalError
        after that, without `wait` OSError at once; ProtocolError when the service does not greet as it should.
        """
        channel = await _connect(path, wait, timeout)
        try:
            announcement = await channel.read_announcement(PROTOCOL)
            if not announcement or announcement[0][0] != "queue_id":
                raise ProtocolError(f"missing attribute queue_id in input from {path}")
        except BaseException:
            channel.close()
            raise
        channel.send_message(Flags(flags))
        return cls(channel, announcement[0][1])

    def record(self, kind: str, payload: bytes | str = b"") -> None:
        """Send one record."""
        if isinstance(payload, str):
            payload = encode_text(payload)
        self._buffer += encode_record(kind, payload)
        if len(self._buffer) >= _BLOCK:
            self._flush()

    def raw(self, records: bytes | bytearray) -> None:
        """Send records that are encoded already."""
        self._buffer += records
        if len(self._buffer) >= _BLOCK:
            self._flush()

    def line(self, text: bytes | str = b"") -> None:
        """Send one line of content."""
        self.record(Kind.NORMAL, text)

    def _flush(self) -> None:
        self._channel.write(bytes(self._buffer))
        self._buffer.clear()

    async def drain(self) -> None:
        """Wait until the service takes what was sent. Raises ProtocolError when it has gone."""
        self._flush()
        await self._channel.drain()

    async def verdict(self) -> CleanupResult:
        """Read the result, after the "E" record was sent, and hang up. A service that fails is STAT_WRITE."""
        self._flush()
        try:
            return await self._channel.read(CleanupResult)
        except ProtocolError as error:
            log.warning(str(error))
            return CleanupResult(STAT_WRITE, "")
        finally:
            self.close()

    async def finish(self) -> CleanupResult:
        """End content and message, and read the result."""
        self.record(Kind.EXTRACTED)
        self.record(Kind.END)
        return await self.verdict()

    def close(self) -> None:
        """Hang up. Before `finish` that cancels the message."""
        self._channel.close()


async def _connect(path: str, wait: bool, timeout: float) -> Channel:
    for count in range(1, 12):
        try:
            return await connect(path, timeout=timeout)
        except OSError as error:
            if not wait:
                raise
            text = f"connect #{count} to subsystem {path}: {error.strerror or 'Connection timed out'}"
            if count > 10:
                raise FatalError(text) from None
            log.warning(text)
        await asyncio.sleep(10)
    raise AssertionError


def autodetect_flag(view: "View", source: str) -> int:
    """FLAG_AUTOUTF8 if smtputf8_autodetect_classes names `source` ("sendmail", "bounce", "notify"...)."""
    classes = view.smtputf8_autodetect_classes.replace(",", " ").split()
    return FLAG_AUTOUTF8 if source in classes or "all" in classes else 0


def filter_flag(view: "View", source: str) -> int:
    """The filter flags if internal_mail_filter_classes names `source` ("bounce" or "notify")."""
    classes = view.internal_mail_filter_classes.replace(",", " ").split()
    return FLAGS_FILTER_ALL if source in ("bounce", "notify") and source in classes else 0


def flags_of(view: "View", source: str, sendopts: int = 0) -> int:
    """What cleanup is asked to do with a message of our own; see `post_mail`."""
    flags = FLAGS_INTERNAL | filter_flag(view, source) | autodetect_flag(view, source)
    if sendopts & 1:
        flags |= FLAG_SMTPUTF8
    if sendopts & 32:
        flags |= FLAG_REQUIRETLS
    return flags


async def post_mail(
    view: "View",
    sender: str,
    recipient: str,
    *,
    source: str,
    now: float,
    trace_flags: int = 0,
    sendopts: int = 0,
    wait: bool = False,
) -> Submission:
    """Begin a message of our own: envelope, Received: and Date: are sent; the caller sends other headers, an empty
    line, the body, and calls `finish`.

    `source` is the kind of mail: "bounce", "notify", "verify". Addresses in internal form. `now`: seconds. Raises
    OSError or ProtocolError (FatalError with `wait`) when there is no cleanup service to talk to.
    """
    flags = flags_of(view, source, sendopts)
    path = f"public/{view.cleanup_service_name}"
    submission = await Submission.open(path, flags, wait=wait, timeout=view.ipc_timeout)
    date = mail_date(now)
    submission.record(Kind.TIME, encode_time(int(now * 1_000_000)))
    submission.record(Kind.ATTRIBUTE, "log_message_origin=local")
    submission.record(Kind.ATTRIBUTE, f"trace_flags={trace_flags}")
    submission.record(Kind.FROM, sender)
    submission.record(Kind.RECIPIENT, recipient)
    submission.record(Kind.MESSAGE)
    submission.line(f"Received: by {view.myhostname} ({view.mail_name})")
    submission.line(f"\tid {submission.queue_id}; {date}")
    submission.line(f"Date: {date}")
    return submission
