"""Server replies: reading them from a stream, and what their codes mean (RFC 5321 4.2, RFC 2034, spec 5.1).

A reply of any shape gives a `Reply`. Lines that are not SMTP are kept as text, counted as a protocol error, and
reading goes on until a line with a proper final code. The code and the enhanced status code are those of the last
line; other lines are text only.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.lookup.table import TableError
from postfixpy.mail.dsn import find_status

from .effects import Find, LocalDataError, Run

if TYPE_CHECKING:
    from .session import Session

_CODED = re.compile(r"([0-9]{3})([ -]?)", re.ASCII)


@dataclass(slots=True)
class Reply:
    """`text` has its lines joined by newlines; `status` is an enhanced status code, never empty."""

    code: int
    text: str
    status: str

    @property
    def kind(self) -> int:
        """The first digit of the code."""
        return self.code // 100

    @property
    def line(self) -> str:
        """The text on one line, for reasons and diagnostics."""
        return self.text.replace("\n", " ")


def printable(data: bytes, utf8: bool) -> str:
    """`data` as text in which every byte that is not printable ASCII (or, with `utf8`, valid UTF-8) is a "?"."""
    if data.isascii():
        text = data.decode("ascii")
    elif utf8:
        text = data.decode("utf-8", "surrogateescape")
    else:
        text = data.decode("ascii", "surrogateescape")
    if text.isprintable() and text.isascii():
        return text
    return "".join(c if " " <= c <= "~" or (c > "\x7f" and not "\udc80" <= c <= "\udcff") else "?" for c in text)


def parse_code(line: str) -> tuple[int, bool] | None:
    """The code of a reply line and whether the reply ends with it; None when the line is not a reply."""
    match = _CODED.match(line)
    if match is None or (not match[2] and len(line) > 3):
        return None
    return int(match[1]), match[2] != "-"


def status_of(code: int, last_line: str) -> str:
    """The enhanced status code of a reply: from its text if it has a fitting one, else one made from `code`."""
    digit = str(code)[:1] if code >= 100 else ""
    if digit not in ("2", "4", "5"):
        return "5.5.0"
    status = find_status(last_line[4:].lstrip(" ")) if len(last_line) > 4 else ""
    return status if status[:1] == digit else f"{digit}.0.0"


def read_reply(session: "Session") -> Run[Reply]:
    """The next reply. Raises StreamError, LocalDataError."""
    settings, stream = session.settings, session.stream
    limit: int = settings.line_length_limit
    lines: list[str] = []
    size = 0
    told = False
    while True:
        data, cut = yield from stream.read_line(limit)
        data = data.partition(b"\0")[0]  # there Postfix's strings end
        if cut:
            if not (yield from stream.skip_line(limit)):
                log.warning("disabling input from unknown_stream")  # as Postfix calls it
                stream.input.clear()
                stream.ended = True
            shown = printable(data[:30], settings.utf8)
            log.warning(f"{session.namaddrport}: response longer than {limit}: {shown}...")
        line = printable(data, settings.utf8)
        if session.verbose:
            log.info(f"< {session.namaddrport}: {line[:100]}")
        stored = size < limit
        if stored:
            session.record("In:  ", "<", line)
        elif not told:
            told = True
            shown = "\n".join(lines)[:30]
            log.warning(f"{session.namaddrport}: multi-line response longer than {limit} {shown}...")
        if settings.reply_filter is not None:
            line = yield from _filtered(session, line, stored)
        if stored and (line or lines):  # a reply does not begin with an empty line
            lines.append(line)
            size += len(line) + (1 if len(lines) > 1 else 0)
        coded = parse_code(line)
        if coded is None:
            _garbage(session, line)
        elif coded[1]:
            return Reply(coded[0], "\n".join(lines), status_of(coded[0], line))


def _filtered(session: "Session", line: str, stored: bool) -> Run[str]:
    table = session.settings.reply_filter
    assert table is not None
    try:
        new = yield from Find(table, line)
    except TableError:
        log.warning(f"{session.queue_id}: table {table.name} lookup error for {line}")
        raise LocalDataError from None
    if new is None:
        return line
    log.info(f'{session.namaddrport}: replacing server reply "{line}" with "{new}"')
    if stored:
        session.record("Replaced-by: ", "replaced-by", "")
        session.record("     ", "<", new)
    return new


def _garbage(session: "Session", line: str) -> None:
    session.errors.add("protocol")
    session.forbid_cache()
    if session.pipelining:
        settings = session.settings
        kind = "LMTP" if settings.lmtp else "ESMTP"
        log.warning(f"{session.queue_id}: non-{kind} response from {session.namaddrport}: {line[:100]}")
        if settings.view.helpful_warnings:
            parameter = settings.name("smtp_discard_ehlo_keyword_address_maps")
            log.warning(
                "to prevent loss of mail, turn off command pipelining for "
                f"{session.address} with the {parameter} parameter"
            )
