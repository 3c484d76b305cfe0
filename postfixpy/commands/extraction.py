"""``sendmail -t``: recipients from the message headers, while the message goes to the queue unchanged.

Recipients are the addresses in To:, Cc: and Bcc:, or, if there is any Resent- header of that kind, in those alone.
"""

import os
from typing import TYPE_CHECKING

from postfixpy.errors import FatalError
from postfixpy.mail.addresses import addresses, parse_addresses
from postfixpy.mail.headers import EXTRACT, RECIPIENT, RESENT
from postfixpy.mail.mime import PRIMARY, BodyEvent, Event, HeaderEvent, MimeMachine, Options, problem_text
from postfixpy.mail.records import encode_record

if TYPE_CHECKING:
    from postfixpy.config import View

    from .submission import Drop

EX_DATAERR = 65


class Extraction:
    """Feed it the `record`s of the message as long as it is not `in_body`, then `finish`."""

    def __init__(self, view: "View", drop: "Drop", who: str) -> None:
        self._limit = view.line_length_limit
        self._drop = drop
        self._who = who
        self._machine = MimeMachine(
            Options.DISABLE_MIME | Options.REPORT_TRUNC_HEADER,
            header_limit=view.header_size_limit,
            boundary_limit=view.mime_boundary_length_limit,
            nesting_limit=view.mime_nesting_limit,
        )
        self._recipients: list[str] = []
        self._resent_recipients: list[str] = []
        self._resent = False

    @property
    def in_body(self) -> bool:
        """Whether the headers are over: what follows can go to the queue directly."""
        return self._machine.in_body

    def record(self, kind: str, text: bytes) -> None:
        """Process one text record. Raises FatalError."""
        for event in self._machine.feed(kind, text):
            self._event(event)
        self._check()

    def finish(self, *, continued: bool) -> list[str]:
        """The recipients, internal form. `continued`: the last record was a part of a line. Raises FatalError."""
        if self._machine.in_body:
            self._machine.skip(0, continued=continued)
        for event in self._machine.finish():
            self._event(event)
        self._check()
        return self._resent_recipients if self._resent else self._recipients

    def _check(self) -> None:
        if self._machine.problems:
            text = problem_text(self._machine.problems)
            raise FatalError(f"{self._who}: unable to extract recipients: {text}", EX_DATAERR)

    def _event(self, event: Event) -> None:
        if isinstance(event, BodyEvent):
            self._drop.add_content(encode_record(event.kind, event.text))
        elif isinstance(event, HeaderEvent):
            self._header(event)

    def _header(self, event: HeaderEvent) -> None:
        known = event.known
        if event.block == PRIMARY and known is not None and known.roles & RECIPIENT and known.roles & EXTRACT:
            resent = bool(known.roles & RESENT)
            if resent or not self._resent:
                self._resent |= resent
                found = addresses(parse_addresses(os.fsdecode(event.text[len(known.name) + 1 :])))
                target = self._resent_recipients if resent else self._recipients
                target += [token.internal for token in found]
        for line in event.text.split(b"\n"):
            while len(line) > self._limit:
                self._drop.add_content(encode_record("L", line[: self._limit]))
                line = line[self._limit :]
            self._drop.add_content(encode_record("N", line))
