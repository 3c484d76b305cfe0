"""The message content: headers are checked, rewritten and completed, the body is checked and copied.

Every header goes through its checks, then by its role: addresses are made complete and mapped, some headers are not
passed on (message_drop_headers), Received: headers are counted, and the Message-Id is logged. Stray carriage returns
and newlines become spaces, so that nobody downstream takes them for line ends.

The body is moved in blocks of records; single records are looked at only where something needs it: body_checks,
character filters, a MIME boundary, a stray character.
"""

from typing import NamedTuple

from postfixpy import log
from postfixpy.ipc.cleanup import FLAG_FILTER, FLAG_MAP_OK, STAT_BAD, STAT_CONT, STAT_HOPS
from postfixpy.lookup.maps import Maps
from postfixpy.mail.addresses import addresses, header_text, parse_addresses
from postfixpy.mail.delivery import REQUIRETLS, TLS_NOT_REQUIRED
from postfixpy.mail.headers import DROP, MIME, RECIPIENT, RESENT, SENDER, Header
from postfixpy.mail.mime import (
    MULTIPART,
    NESTED,
    PRIMARY,
    BodyEvent,
    EndOfHeaders,
    ErrorEvent,
    Event,
    HeaderEvent,
    MimeMachine,
    Options,
    Problem,
    problem_text,
)
from postfixpy.mail.records import Kind

from .checks import BODY, CONTENT, HEADER, act, check
from .mapping import rewrite_external
from .missing import add_missing_headers
from .output import put_folded, put_header
from .settings import HEADER_RECIPIENT, HEADER_SENDER
from .state import Incoming

_NO_STRAYS = bytes.maketrans(b"\r\n", b"  ")
_EIGHT_BIT = ("8bit", "binary")


class TextRun(NamedTuple):
    """A run of complete text records: `end` offset, how many records, whether the last is an "L", and how many of its
    framing bytes look like CR or LF."""

    end: int
    records: int
    continued: bool
    framing: int


def text_run(buffer: bytes | bytearray, start: int, line_limit: int) -> TextRun:
    """The longest run of complete text records from `start` that have at most `line_limit` bytes each."""
    position = start
    records = framing = 0
    size = len(buffer)
    kind = 0
    while position + 1 < size:
        first = buffer[position]
        if first != 0x4E and first != 0x4C:  # N, L
            break
        last = length = buffer[position + 1]  # the last byte of the length
        head = 2
        if length >= 0x80:
            if position + 2 >= size or (last := buffer[position + 2]) >= 0x80:
                break
            length = (length & 0x7F) | last << 7
            if length > line_limit:
                break
            head = 3
        if position + head + length > size:
            break
        framing += last == 10 or last == 13
        kind = first
        records += 1
        position += head + length
    return TextRun(position, records, kind == 0x4C, framing)


class Content:
    """The content of one message. `record` every record, or `block` runs of them, then `finish`."""

    def __init__(self, mail: Incoming) -> None:
        view = mail.settings.view
        self.mail = mail
        self._machine = MimeMachine(
            _options(mail),
            table=mail.settings.headers,
            header_limit=view.header_size_limit,
            boundary_limit=view.mime_boundary_length_limit,
            nesting_limit=view.mime_nesting_limit,
        )
        mail.put(Kind.MESSAGE)
        mail.data_offset = mail.writer.offset

    # Records

    @property
    def in_body(self) -> bool:
        """Whether runs of body records may come."""
        return self._machine.in_body

    def block(self, block: bytes, run: TextRun) -> bool:
        """Copy a run of body records at once. False when they must be looked at one by one."""
        mail, settings = self.mail, self.mail.settings
        if not self._machine.plain(block):
            return False
        if mail.flags & FLAG_FILTER:
            if settings.body_checks is not None and self._body_checked(self._machine.offset):
                return False
            if settings.reject_characters or settings.strip_characters:
                return False
        if settings.mask_stray and block.count(b"\r") + block.count(b"\n") != run.framing:
            return False
        mail.put_raw(block)
        self._machine.skip(len(block) - run.records, continued=run.continued)
        return True

    async def record(self, kind: str, payload: bytes) -> None:
        """Process one record. Others than text are errors."""
        mail, settings = self.mail, self.mail.settings
        if kind not in (Kind.NORMAL, Kind.CONTINUED):
            log.warning(
                f"cleanup_message_headerbody: message rejected: unexpected record type {ord(kind)} in message content"
            )
            mail.errors |= STAT_BAD
            return
        if settings.mask_stray:
            payload = payload.translate(_NO_STRAYS)
        if mail.flags & FLAG_FILTER:
            if settings.reject_characters and len(payload.translate(None, settings.reject_characters)) < len(payload):
                act(mail, CONTENT, _text(payload), "REJECT disallowed character", "character reject")
                return
            if settings.strip_characters:
                payload = payload.translate(None, settings.strip_characters)
        for event in self._machine.feed(kind, payload):
            await self._event(event)

    async def finish(self) -> None:
        """The content has ended."""
        mail = self.mail
        for event in self._machine.finish():
            await self._event(event)
        problems = self._machine.problems & ~Problem.TRUNC_HEADER
        if mail.settings.non_empty_eoh != "reject":
            problems &= ~Problem.NON_EMPTY_EOH
        if problems and not mail.reason:
            mail.errors |= STAT_CONT
            mail.reason = f"5.6.0 {problem_text(problems)}"
        mail.extracted_offset = mail.writer.offset
        mail.put(Kind.EXTRACTED)

    async def _event(self, event: Event) -> None:
        if isinstance(event, BodyEvent):
            await self._body(event)
        elif isinstance(event, HeaderEvent):
            await self._header(event)
        elif isinstance(event, EndOfHeaders):
            self._end_of_headers()
        elif isinstance(event, ErrorEvent):
            self._problem(event)

    def _problem(self, event: ErrorEvent) -> None:
        mail = self.mail
        if event.problem == Problem.TRUNC_HEADER:
            return
        if event.problem == Problem.NON_EMPTY_EOH and mail.settings.non_empty_eoh != "reject":
            return
        origin = mail.attributes.get("log_message_origin", "unknown")
        recipient = "unknown" if mail.recipient is None else mail.recipient
        log.info(
            f"{mail.queue_id}: reject: mime-error {problem_text(event.problem)}: {_text(event.text[:100])}"
            f" from {origin}; from=<{mail.loggable(mail.sender or '')}> to=<{mail.loggable(recipient)}>"
        )

    # Body

    def _body_checked(self, offset: int) -> bool:
        limit = self.mail.settings.view.body_checks_size_limit
        return limit == 0 or offset < limit

    async def _body(self, event: BodyEvent) -> None:
        mail = self.mail
        if not mail.going:
            return
        payload = event.text
        checks = mail.settings.body_checks
        if checks is not None and mail.flags & FLAG_FILTER and self._body_checked(event.offset):
            text = _text(payload)
            result = await check(mail, checks, BODY, text)
            if result is None:
                return
            if result is not text:
                payload = result.encode("utf-8", "surrogateescape")
        mail.put(event.kind, payload)

    # Headers

    async def _header(self, event: HeaderEvent) -> None:
        mail = self.mail
        known, header = event.known, event.text
        block = MULTIPART if known is not None and known.roles & MIME else event.block
        if known is not None and known.name == "Received":
            mail.hops += 1
        checks = self._checks(block) if mail.flags & FLAG_FILTER else None
        if checks is not None:
            text = _text(header)
            result = await check(mail, checks, HEADER, text)
            if result is None:
                return
            if result is not text:
                header = result.encode("utf-8", "surrogateescape")
                known = mail.settings.headers.find(header)
        if known is None:
            put_header(mail, header)
            return
        value = _text(header[len(known.name) + 1 :]).lstrip(" \t\n\v\f\r")
        detect = mail.settings.view.detect_8bit_encoding_header
        if detect and known.name == "Content-Transfer-Encoding" and value.lower() in _EIGHT_BIT:
            mail.attributes["encoding"] = "8bit"
        if block != PRIMARY:
            put_header(mail, header)
            return
        self._note(known, value, header)
        if mail.going:
            await self._pass_on(known, header)

    def _checks(self, block: int) -> Maps | None:
        settings = self.mail.settings
        return {
            PRIMARY: settings.header_checks,
            MULTIPART: settings.mime_header_checks,
            NESTED: settings.nested_header_checks,
        }[block]

    def _note(self, known: Header, value: str, header: bytes) -> None:
        """Remember what a primary header says."""
        mail, view = self.mail, self.mail.settings.view
        mail.seen.add(known.key)
        if known.name == "Message-Id":
            log.info(f"{mail.queue_id}: message-id={value}")
            if mail.message_id is None and (identity := _bracketed(value)):
                mail.message_id = _printable(identity)
        elif known.name == "Resent-Message-Id":
            log.info(f"{mail.queue_id}: resent-message-id={value}")
        elif known.name == "Received":
            if mail.hops >= view.hopcount_limit:
                log.warning(f"{mail.queue_id}: message rejected: hopcount exceeded")
                mail.errors |= STAT_HOPS
        elif known.name == "TLS-Required" and view.tls_required_enable:
            if value.lower() == "no":
                mail.sendopts |= TLS_NOT_REQUIRED
            else:
                log.warning(f"ignoring malformed header: '{_text(header[:100])}'")
        elif known.name == "Require-TLS-ESMTP":
            wanted = view.requiretls_esmtp_header and view.requiretls_enable
            if wanted and value.lower() == "yes":
                mail.sendopts |= REQUIRETLS
                mail.requiretls_seen = True

    async def _pass_on(self, known: Header, header: bytes) -> None:
        mail = self.mail
        if known.roles & RESENT:
            mail.resent = "Resent-"
        rewritten = None
        if mail.hdr_context and known.roles & (SENDER | RECIPIENT):
            where = HEADER_SENDER if known.roles & SENDER else HEADER_RECIPIENT
            rewritten = await self._rewrite(known, _text(header), where)
        if known.roles & DROP:
            return
        if rewritten is None:
            put_header(mail, header)
        else:
            put_folded(mail, rewritten)

    async def _rewrite(self, known: Header, header: str, where: int) -> str | None:
        """`header` with its addresses rewritten and mapped, one on a line; None when that changes nothing."""
        mail = self.mail
        name, value = header[: len(known.name)], header[len(known.name) + 1 :]
        tokens = parse_addresses(value, mail.settings.view.header_address_token_limit)
        changed = False
        for token in addresses(tokens):
            external = token.external
            result = await mail.rewriter.rewrite(mail.hdr_context, external)
            if mail.flags & FLAG_MAP_OK:
                result = await rewrite_external(mail, result, where)
            if result != external:
                token.replace(result)
                changed = True
        return f"{name}: {header_text(tokens)}" if changed else None

    def _end_of_headers(self) -> None:
        mail = self.mail
        if not mail.going:
            return
        if mail.hops < 1:
            log.warning(f"{mail.queue_id}: message rejected: no Received: header")
            mail.errors |= STAT_BAD
            return
        add_missing_headers(mail)
        if self._machine.problems & Problem.NON_EMPTY_EOH and mail.settings.non_empty_eoh == "add_header":
            mail.put(Kind.NORMAL, "MIME-Error: message header was not terminated by empty line")


def _options(mail: Incoming) -> int:
    """What the MIME machine does for this message. Mail that we send or forward ourselves is not refused."""
    view = mail.settings.view
    if view.disable_mime_input_processing:
        return Options.DISABLE_MIME
    options = Options.NONE
    if mail.flags & FLAG_FILTER:
        strict = view.strict_8bitmime
        if strict or view.strict_7bit_headers:
            options |= Options.REPORT_8BIT_IN_HEADER
        if strict or view.strict_8bitmime_body:
            options |= Options.REPORT_8BIT_IN_7BIT_BODY
        if view.strict_mime_encoding_domain:
            options |= Options.REPORT_ENCODING_DOMAIN
        if mail.settings.non_empty_eoh != "fix_quietly":
            options |= Options.REPORT_NON_EMPTY_EOH
        checks = view.header_checks or view.mime_header_checks or view.nested_header_checks
        if (
            strict
            or view.strict_7bit_headers
            or view.strict_8bitmime_body
            or view.strict_mime_encoding_domain
            or checks
        ):
            options |= Options.REPORT_NESTING
    if view.force_mime_input_conversion:
        options |= Options.DOWNGRADE
    return options


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _bracketed(text: str) -> str:
    """``<...>`` at the start of `text`, with its brackets balanced, or ""."""
    depth = 0
    for position, char in enumerate(text):
        if char == "<":
            depth += 1
        elif char == ">":
            depth -= 1
        if depth <= 0:
            return text[: position + 1] if position else ""
    return ""


def _printable(text: str) -> str:
    """`text` with everything but printable ASCII (and UTF-8) as spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
