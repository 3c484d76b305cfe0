"""The delivery request: what the queue manager asks a delivery agent to do (spec/smtp-client.md 1.2, 1.3, 15.5, 15.7).

Plain data, shared by the queue manager, the delivery agents and the library interface. The wire form is in
postfixpy.ipc.delivery.
"""

import struct
from dataclasses import dataclass, field

# Bits of DeliveryRequest.flags.
SUCCESS = 0x1  # mark delivered recipients done in the queue file
BOUNCE = 0x2  # set by every queue manager; no effect
MTA_VERIFY = 0x100  # address probe by verify(8)
USER_VERIFY = 0x200  # address probe by sendmail -bv
RECORD = 0x400  # sendmail -v: deliver, and report to trace
CONNECTION_LOAD = 0x800  # may reuse cached connections
CONNECTION_STORE = 0x1000  # may leave connections in the cache
RECORD_DELAYED_SENT = 0x2000  # report success of previously delayed mail
TRACE_ONLY = MTA_VERIFY | USER_VERIFY  # nothing is delivered
TRACE_FLAGS = MTA_VERIFY | USER_VERIFY | RECORD | RECORD_DELAYED_SENT  # forwarded to bounce, defer and trace

# Bits of sendopts.
SMTPUTF8_REQUESTED, SMTPUTF8_HEADER, SMTPUTF8_SENDER, SMTPUTF8_RECIPIENT = 1, 2, 4, 8
TLS_NOT_REQUIRED, REQUIRETLS = 16, 32

_MSG_STATS = struct.Struct("=10qi4x")


@dataclass(slots=True)
class MessageStats:
    """When the message passed each stage, in microseconds since the epoch; 0 is "not yet" (MSG_STATS)."""

    incoming_arrival: int = 0
    active_arrival: int = 0
    agent_handoff: int = 0
    connection_done: int = 0
    delivery_done: int = 0
    reuse_count: int = 0

    def pack(self) -> bytes:
        """The native structure of 88 bytes that travels (64-bit Linux)."""
        times = (
            self.incoming_arrival,
            self.active_arrival,
            self.agent_handoff,
            self.connection_done,
            self.delivery_done,
        )
        return _MSG_STATS.pack(*(part for t in times for part in divmod(t, 1_000_000)), self.reuse_count)

    @classmethod
    def unpack(cls, data: bytes) -> "MessageStats":
        """The reverse of `pack`. Raises ValueError when the size is wrong."""
        if len(data) != _MSG_STATS.size:
            raise ValueError(f"message statistics of {len(data)} bytes, expected {_MSG_STATS.size}")
        *times, reuse = _MSG_STATS.unpack(data)
        incoming, active, handoff, connected, done = (times[i] * 1_000_000 + times[i + 1] for i in range(0, 10, 2))
        return cls(incoming, active, handoff, connected, done, reuse)


@dataclass(slots=True)
class Recipient:
    """One envelope recipient.

    address          internal (unquoted) form
    original         address before aliasing, internal form; may be empty
    offset           offset of its R record in the queue file; -1: no record to mark
    dsn_orcpt        "type;address" of RFC 3461, or empty
    notify           NOTIFY_* bits of postfixpy.mail.dsn
    """

    address: str
    original: str = ""
    offset: int = -1
    dsn_orcpt: str = ""
    notify: int = 0


@dataclass(slots=True)
class DeliveryRequest:
    """A message, a destination, and the recipients to deliver there. Fields as in spec/smtp-client.md 1.2."""

    flags: int
    queue_name: str
    queue_id: str
    offset: int
    size: int
    nexthop: str
    encoding: str
    sendopts: int
    sender: str
    envelope_id: str = ""
    ret_flags: int = 0
    stats: MessageStats = field(default_factory=MessageStats)
    client_name: str = ""
    client_address: str = ""
    client_port: str = ""
    client_protocol: str = ""
    client_helo: str = ""
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    log_ident: str = ""
    rewrite_context: str = "local"
    recipients: list[Recipient] = field(default_factory=list)
