"""What one TLS handshake of a client needs, and what comes of it: the contract between policy and engine.

The policy (`postfixpy.smtp`) makes a `TLSRequest` of a server's policy and yields
``StartTLS(link, request, limit)`` (postfixpy.smtp.effects). The driver has the engine shake hands and answers with a
`TLSState`, or throws `HandshakeError`. From then on Write, Read, Peek and Hangup on the same link go through TLS.

The engine logs what Postfix's TLS library logs (spec 8.12): what it cannot use of the request, the certificate's
problems, the line "... TLS connection established to ...", the errors of a failed handshake. It never fails a handshake
because of the certificate: it tells what it saw, and the caller decides by `TLSState.matched` and the final
`TLSState.level`.

Sessions for resumption are the caller's to keep: `TLSRequest.session` is one from an earlier connection, and
`TLSState.session` the one to keep. With TLS 1.3 that arrives behind the handshake, with the server's first data: look
again after the first reply and at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .level import Level

if TYPE_CHECKING:
    from .context import ClientContext


class TLSA(NamedTuple):
    """A TLSA record, or a fingerprint or trust anchor in its form (RFC 6698; Postfix's matching type 255 is
    `TLSRequest.digest`)."""

    usage: int
    selector: int
    mtype: int
    data: bytes


class LibraryError(Exception):
    """The library cannot go on; its error stack is not printed yet. `status` is what the function returned."""

    def __init__(self, status: int) -> None:
        super().__init__(f"TLS library error {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class TLSRequest:
    """One handshake.

    context     the process's certificates, CAs and options
    namaddr     the server as the log names it, ``name[address]:port``; texts have it in lower case
    level       the security level asked for
    protocols   as in smtp_tls_protocols: ``!SSLv2``, ``>=TLSv1.2``; "" is everything
    grade       cipher grade: high, medium, null (low, export)
    exclusions  ciphers to leave out, as in smtp_tls_exclude_ciphers, with eNULL and aNULL where the level wants them
    names       names of which the certificate must have one at a level that matches names: ``example.com`` is that
                name, ``.example.com`` any name below it; U-labels may be there. ("nexthop" and its kin are expanded.)
    sni         the name to send, "" for none ("hostname" and "nexthop" are expanded). U-labels may be there.
    digest      algorithm of fingerprints: "sha256"
    tlsa        at DANE levels the records from the DNS with usage 2 and 3; at level fingerprint those that
                `fingerprint_records` (postfixpy.tls.dane) makes of the fingerprints; at verify and secure those that
                `trust_anchors` there makes of the files, which then replace the CAs. None where the level uses none or,
                at verify and secure, there are no files. An empty tuple is a list without a usable record.
    base        the TLSA base domain at DANE levels: it is the name sent as SNI
    raw_key     ask for a raw public key where the level and the library allow it (smtp_tls_enable_rpk)
    failure     the type of an MTA-STS failure (``policy_failure=``): the certificate must not match; "" if none
    watch       a name to compare the certificate with, for `TLSState.named`, where none must match; "" for none
    session_id  the key of the session cache, for the log; "" when sessions are not kept
    cache       name of the session cache for the log, "smtp" or "lmtp"
    session     a session of an earlier connection (`TLSState.session`), b"" if none
    log         bits of postfixpy.tls.loglevel
    tell        called at once when the records or fingerprints that a certificate must match are of no use
    """

    context: "ClientContext"
    namaddr: str
    level: Level
    protocols: str = ""
    grade: str = "medium"
    exclusions: str = ""
    names: tuple[str, ...] = ()
    sni: str = ""
    digest: str = "sha256"
    tlsa: tuple[TLSA, ...] | None = None
    base: str = ""
    raw_key: bool = False
    failure: str = ""
    watch: str = ""
    session_id: str = ""
    cache: str = "smtp"
    session: bytes = b""
    log: int = 0
    tell: "Callable[[Report], None] | None" = field(default=None, compare=False)


class Report(NamedTuple):
    """A failure for a TLSRPT report (RFC 8460 4.3): its result type, and the ``failure-reason-code`` or ""."""

    kind: str
    code: str = ""


class HandshakeError(Exception):
    """No TLS: whatever it was has been logged, also for a time limit or a lost connection. str() is the reason.

    Nothing more can be said on the connection. `report` is None for what is no fault of the server (RFC 8460).
    """

    def __init__(self, text: str, report: Report | None = None) -> None:
        super().__init__(text)
        self.report = report


class KeyInfo(NamedTuple):
    """A key or an algorithm: its name, and its curve or its size in bits. str() is the log's form."""

    name: str = ""
    curve: str = ""
    bits: int = 0

    def __str__(self) -> str:
        if self.curve:
            return f"{self.name} ({self.curve})"
        return f"{self.name} ({self.bits} bits)" if self.bits else self.name


NO_KEY = KeyInfo()


@dataclass(slots=True)
class TLSState:
    """What a handshake came to.

    level       the final level: DANE without a usable record became ENCRYPT
    protocol    "TLSv1.3"; cipher its name; bits and algorithm_bits as in the log line
    key_exchange, signature, digest, client_signature, client_digest   TLS 1.3 only; signature_raw: by a bare key
    summary     the last part of the log line, ``TLSv1.3 with cipher ... server-digest SHA256``
    line        the whole line as logged: ``Untrusted TLS connection established to ...: TLSv1.3 with ...``
    certificate whether the server sent one; raw_key: whether it sent a bare key instead
    trusted     the chain was verified (or the name was all that was wrong)
    matched     trusted, at a level that matches. secured: likewise, but not HALFDANE
    named       the certificate has the name `TLSRequest.watch`
    subject     common name of the certificate, "" if none; issuer: common name or organization of its issuer
    fingerprint hexadecimal with colons, of the certificate; key_fingerprint of its public key
    sni         what was sent
    reused      whether an earlier session was resumed
    error       number of the verification error, 0 if none; error_text: what the library calls it
    report      the certificate's failure for TLSRPT, if any
    bindings    channel bindings for SASL by type: "tls-unique" (below TLS 1.3), "tls-exporter", "tls-server-end-point"
    chain       certificates that the server sent, DER, its own first
    session     the session to keep, b"" as long as there is none
    """

    level: Level
    protocol: str = ""
    cipher: str = ""
    bits: int = 0
    algorithm_bits: int = 0
    key_exchange: KeyInfo = NO_KEY
    signature: KeyInfo = NO_KEY
    signature_raw: bool = False
    digest: str = ""
    client_signature: KeyInfo = NO_KEY
    client_signature_raw: bool = False
    client_digest: str = ""
    summary: str = ""
    line: str = ""
    certificate: bool = False
    raw_key: bool = False
    trusted: bool = False
    matched: bool = False
    secured: bool = False
    named: bool = False
    subject: str = ""
    issuer: str = ""
    fingerprint: str = ""
    key_fingerprint: str = ""
    sni: str = ""
    reused: bool = False
    error: int = 0
    error_text: str = ""
    report: Report | None = None
    bindings: dict[str, bytes] = field(default_factory=dict)
    chain: list[bytes] = field(default_factory=list)
    session: bytes = b""
