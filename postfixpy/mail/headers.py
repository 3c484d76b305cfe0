"""Message headers: which line is one, which names Postfix knows, and what each of them is for.

A header is a line that begins with one or more printable US-ASCII characters other than space and colon, optional
blanks, and a colon (RFC 5322 2.2 and the obsolete form of 4.5.8). Lines that begin with a blank continue the header
before them; a folded header is one `bytes` value with a newline between its lines.

The roles say what the mail system does with a header: rewrite the addresses in it as senders or as recipients, take
recipients from it (``sendmail -t``), count it as part of a Resent- block, or see it as MIME. `HeaderTable` adds the
names of message_drop_headers (postconf(5)), which are read but not passed on.
"""

import re
import time
from collections.abc import Iterable
from typing import NamedTuple

NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
"""Matches at the start of a header; group 1 is its name."""

DROP, SENDER, RECIPIENT, RESENT, EXTRACT, MIME = 1, 2, 4, 8, 16, 32
"""Roles: delete it, sender address, recipient address, of a Resent- block, source of recipients for -t, MIME header."""

_DESTINATION = RECIPIENT | EXTRACT


class Header(NamedTuple):
    """A header name that means something. `key` is the name in lower case."""

    name: str
    roles: int = 0

    @property
    def key(self) -> str:
        return self.name.lower()


KNOWN: dict[str, Header] = {
    header.key: header
    for header in (
        Header("Apparently-To", RECIPIENT),
        Header("Bcc", _DESTINATION),
        Header("Cc", _DESTINATION),
        Header("Content-Description", MIME),
        Header("Content-Disposition", MIME),
        Header("Content-ID", MIME),
        Header("Content-Length"),
        Header("Content-Transfer-Encoding", MIME),
        Header("Content-Type", MIME),
        Header("Date"),
        Header("Delivered-To"),
        Header("Disposition-Notification-To", SENDER),
        Header("Errors-To", SENDER),
        Header("From", SENDER),
        Header("Mail-Followup-To", SENDER),
        Header("Message-Id"),
        Header("MIME-Version", MIME),
        Header("Received"),
        Header("Reply-To", SENDER),
        Header("Require-TLS-ESMTP"),
        Header("Resent-Bcc", _DESTINATION | RESENT),
        Header("Resent-Cc", _DESTINATION | RESENT),
        Header("Resent-Date", RESENT),
        Header("Resent-From", SENDER | RESENT),
        Header("Resent-Message-Id", RESENT),
        Header("Resent-Reply-To", RECIPIENT | RESENT),
        Header("Resent-Sender", SENDER | RESENT),
        Header("Resent-To", _DESTINATION | RESENT),
        Header("Return-Path", SENDER),
        Header("Return-Receipt-To", SENDER),
        Header("Sender", SENDER),
        Header("TLS-Required"),
        Header("To", _DESTINATION),
    )
}
"""The names that Postfix treats specially, by lower-case name."""


def name_length(line: bytes) -> int:
    """The length of the header name that `line` begins with; 0 when it does not begin a header."""
    match = NAME.match(line)
    return match.end(1) if match else 0


def is_header(text: str) -> bool:
    """Whether `text` looks like ``headername: headervalue``, for texts of the configuration."""
    return name_length(text.encode("utf-8", "surrogateescape")) > 0


class HeaderTable:
    """The known headers, with the names of message_drop_headers (`drop`) marked DROP."""

    def __init__(self, drop: Iterable[str] = ()) -> None:
        self._headers = dict(KNOWN)
        for name in drop:
            known = KNOWN.get(name.lower()) or Header(name.lower())
            self._headers[name.lower()] = known._replace(roles=known.roles | DROP)

    def find(self, header: bytes) -> Header | None:
        """What is known about `header`, a header with its name; None for a name without meaning to Postfix."""
        name = header.partition(b":")[0].rstrip(b" \t")
        return self._headers.get(name.decode("ascii", "replace").lower())


def mail_date(when: float) -> str:
    """`when` (seconds since the epoch) as in Date: and Received: headers, local time (mail_date(3)).

    >>> # Mon, 23 Nov 2026 14:22:31 +0000 (UTC)
    """
    local = time.localtime(when)
    minutes = (local.tm_gmtoff or 0) // 60
    sign = "-" if minutes < 0 else "+"
    hours, minutes = divmod(abs(minutes), 60)
    day = _DAYS[local.tm_wday]
    month = _MONTHS[local.tm_mon - 1]
    clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    zone = f"{sign}{hours:02d}{minutes:02d} ({local.tm_zone})"
    return f"{day}, {local.tm_mday:02d} {month} {local.tm_year} {clock} {zone}"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
