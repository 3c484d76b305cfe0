"""The text of a notification: a multipart/report message, RFC 3464 and 6533, in Postfix's form.

A message has these parts: headers, the template's text and a paragraph for each recipient; the delivery status for
machines; the original message or its headers. `Report.records` gives the whole as queue-file records for cleanup(8),
which adds the other headers and makes the addresses complete. The original is copied as raw records.

Pure: what it says is a function of the arguments of `Report`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.bounce_log import Entry
from postfixpy.mail.dsn import RET_HDRS
from postfixpy.mail.headers import mail_date
from postfixpy.mail.records import Kind

from .original import Original
from .plan import SENDOPT_TLS_NOT_REQUIRED, Notice, reported
from .templates import DELAY, FAILURE, Template, Templates, expand, header_from_format

if TYPE_CHECKING:
    from postfixpy.config import View

UTF8_REQUESTED, UTF8_ANY = 1, 15
"""Bits of sendopts: the message needs SMTPUTF8; it has UTF-8 anywhere in its headers or envelope."""

WIDTH, INDENT = 79, 4
"""Paragraphs about recipients are wrapped like this, in octets."""

_NOT_IN_AN_ATOM = str.maketrans(' \t\r\n()<>@,;:\\".[]', "-" * 17)

Lines = Iterator[str]


@dataclass(frozen=True, slots=True)
class Report:
    """What the notices of one request have in common.

    kind        which of the templates; it is parsed when the first notice needs it
    encoding    of the original, for the MIME headers: "7bit", "8bit", "" (no header)
    entries     the log of the message; None: there is none
    time        now, seconds since the epoch
    original    None: the queue file is gone
    """

    view: "View"
    templates: Templates
    kind: str
    queue_id: str
    encoding: str
    sendopts: int
    envelope_id: str
    entries: Sequence[Entry] | None
    original: Original | None
    time: int

    @property
    def template(self) -> Template:
        """The template of these notices."""
        return self.templates[self.kind]

    def count(self, wanted: int) -> int:
        """The number of recipients that a notice with `wanted` reports: with 0 it is not sent.

        Without a log we tell the sender of a failure anyway.
        """
        if self.entries is None:
            return int(self.kind == FAILURE)
        return sum(reported(entry.recipient, wanted) for entry in self.entries)

    def records(self, notice: Notice) -> Iterator[tuple[str, bytes]]:
        """The content of `notice`, (kind, payload), behind the headers that post_mail sends. Raises FatalError for a
        template with bad references."""
        chosen = None
        if self.entries is not None:
            chosen = [entry for entry in self.entries if reported(entry.recipient, notice.wanted)]
        for line in self._status(notice, chosen):
            yield Kind.NORMAL, line.encode("utf-8", "surrogateescape")
        yield from self._original(notice.ret)

    def _status(self, notice: Notice, chosen: Sequence[Entry] | None) -> Lines:
        yield from self._headers(notice)
        if not notice.postmaster:
            yield from expand(self.template, self.view)
        if chosen is None:
            yield from ("", "\t--- Delivery report unavailable ---")
        for entry in chosen or ():
            yield from recipient_text(entry)
        yield from self._message_status()
        for entry in chosen or ():
            yield from self._recipient_status(entry)

    @property
    def _boundary(self) -> str:
        return f"{self.queue_id}.{self.time}/{self.view.myhostname}"

    @property
    def _content_encoding(self) -> str:
        """The encoding for MIME headers: "8bit" with SMTPUTF8, because addresses and host names may have UTF-8."""
        return "8bit" if self.view.smtputf8_enable else self.encoding

    @property
    def _mail_name(self) -> str:
        return self.view.mail_name.translate(_NOT_IN_AN_ATOM)

    def _headers(self, notice: Notice) -> Lines:
        template, encoding = self.template, self._content_encoding
        postmaster_subject = template.postmaster_subject if notice.postmaster else ""
        yield f"From: {template.sender(header_from_format(self.view))}"
        yield f"Subject: {postmaster_subject or template.subject}"
        yield f"To: {quote_822_local(notice.recipient)}"
        if self.original is not None and self.original.message_id:
            yield f"References: {self.original.message_id}"
            yield f"In-Reply-To: {self.original.message_id}"
        if self.sendopts & SENDOPT_TLS_NOT_REQUIRED and getattr(self.view, "tls_required_enable", False):
            yield "TLS-Required: no"
        yield f"Auto-Submitted: auto-{'generated' if notice.postmaster else 'replied'}"
        yield "MIME-Version: 1.0"
        yield "Content-Type: multipart/report; report-type=delivery-status;"
        yield f'\tboundary="{self._boundary}"'
        if encoding:
            yield f"Content-Transfer-Encoding: {template.encoding if encoding == '7bit' else encoding}"
        yield from ("", "This is a MIME-encapsulated message.", "", f"--{self._boundary}")
        yield "Content-Description: Notification"
        charset = template.charset
        if charset.lower() == "us-ascii":
            charset = "utf-8" if encoding == "8bit" else "us-ascii"
        yield f"Content-Type: text/plain; charset={charset}"
        if encoding == "8bit":
            yield "Content-Transfer-Encoding: 8bit"
        yield ""

    def _message_status(self) -> Lines:
        utf8 = bool(self.sendopts & UTF8_REQUESTED)
        yield from ("", f"--{self._boundary}", "Content-Description: Delivery report")
        yield f"Content-Type: message/{'global-' if utf8 else ''}delivery-status"
        if utf8 and self._content_encoding == "8bit":
            yield "Content-Transfer-Encoding: 8bit"
        yield from ("", f"Reporting-MTA: dns; {self.view.myhostname}")
        if self.envelope_id:
            yield f"Original-Envelope-Id: {self.envelope_id}"
        yield f"X-{self._mail_name}-Queue-ID: {self.queue_id}"
        original = self.original
        if original is not None and original.sender:
            yield f"X-{self._mail_name}-Sender: {self._typed(original.sender)}"
        if original is not None and original.arrival:
            yield f"Arrival-Date: {mail_date(original.arrival)}"

    def _recipient_status(self, entry: Entry) -> Lines:
        recipient, dsn = entry
        yield from ("", f"Final-Recipient: {self._typed(recipient.address)}")
        if recipient.dsn_orcpt:
            yield f"Original-Recipient: {recipient.dsn_orcpt}"
        elif recipient.original:
            yield f"Original-Recipient: {self._typed(recipient.original)}"
        yield f"Action: {'failed' if self.kind == FAILURE else dsn.action}"
        yield f"Status: {dsn.status}"
        if dsn.mta_type and dsn.mta_name:
            yield from wrap(f"Remote-MTA: {dsn.mta_type}; {dsn.mta_name}")
        if dsn.diag_type and dsn.diag_text:
            yield from wrap(f"Diagnostic-Code: {dsn.diag_type}; {dsn.diag_text}")
        else:
            yield from wrap(f"Diagnostic-Code: X-{self._mail_name}; {dsn.reason}")
        if self.kind == DELAY:
            arrival = self.original.arrival if self.original is not None else 0
            yield f"Will-Retry-Until: {mail_date(arrival + self.view.maximal_queue_lifetime)}"

    def _typed(self, address: str) -> str:
        """An address with its type; UTF-8 only in reports about messages that have it."""
        utf8 = (
            self.sendopts & UTF8_ANY and not address.isascii() and not any("\ud800" <= c <= "\udfff" for c in address)
        )
        return f"{'utf-8' if utf8 else 'rfc822'}; {address}"

    def _original(self, ret: int) -> Iterator[tuple[str, bytes]]:
        original, limit = self.original, self.view.bounce_size_limit
        if limit > 0 and original is not None and not 0 < original.size <= limit:
            ret = RET_HDRS  # a part of the body would damage its MIME structure
        for line in self._original_headers(headers_only=ret == RET_HDRS):
            yield Kind.NORMAL, line.encode("utf-8", "surrogateescape")
        if original is None or not original.offset:
            yield Kind.NORMAL, b"\t--- Undelivered message unavailable ---"
            return
        yield Kind.NORMAL, f"Return-Path: <{original.sender}>".encode("utf-8", "surrogateescape")
        yield from original.content(headers_only=ret == RET_HDRS)
        yield Kind.NORMAL, b""
        yield Kind.NORMAL, f"--{self._boundary}--".encode()

    def _original_headers(self, *, headers_only: bool) -> Lines:
        undelivered = "Undelivered " if self.kind in (FAILURE, DELAY) else ""
        yield from ("", f"--{self._boundary}")
        yield f"Content-Description: {undelivered}Message{' Headers' if headers_only else ''}"
        if self.sendopts & UTF8_REQUESTED:
            yield f"Content-Type: message/global{'-headers' if headers_only else ''}"
        else:
            yield f"Content-Type: {'text/rfc822-headers' if headers_only else 'message/rfc822'}"
        if self._content_encoding == "8bit":
            yield "Content-Transfer-Encoding: 8bit"
        yield ""


def recipient_text(entry: Entry) -> Lines:
    """The paragraph about one recipient."""
    recipient, dsn = entry
    expanded = f" (expanded from <{recipient.original}>)" if recipient.original else ""
    yield ""
    yield from wrap(f"<{recipient.address}>{expanded}: {dsn.reason}")


def wrap(text: str) -> Lines:
    """`text` in lines of at most `WIDTH` octets, broken at blanks; lines after the first are indented.

    A longer word makes a longer line.
    """
    rest = text.encode("utf-8", "surrogateescape")
    indent, width = 0, WIDTH
    while True:
        cut = _break(rest, width)
        line = (rest if cut < 0 else rest[:cut]).rstrip(_BLANKS)
        yield " " * indent + line.decode("utf-8", "surrogateescape")
        if cut < 0:
            return
        rest = rest[cut:].lstrip(_BLANKS)
        indent, width = INDENT, WIDTH - INDENT


_BLANKS = b" \t\n\v\f\r"


def _break(text: bytes, width: int) -> int:
    """Where the first word that ends beyond `width` begins, except the first word; -1: nowhere."""
    start = 0
    while True:
        end = next((i for i in range(start, len(text)) if text[i] in b" \t"), len(text))
        if start > 0 and end > width:
            return start
        if end == len(text):
            return -1
        start = end + 1
