"""Delivery status: the enhanced status code and everything a delivery status notification says about one recipient.

See RFC 3463 (codes), RFC 3464 (notifications), spec/smtp-client.md 1.4, 1.5, 11.1.
"""

import re
from dataclasses import dataclass

_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?![^ \t\r\n])")

NOTIFY_NEVER, NOTIFY_SUCCESS, NOTIFY_FAILURE, NOTIFY_DELAY = 1, 2, 4, 8
"""Bits of a recipient's notify_flags; 0 is unspecified (RFC 3461 NOTIFY=)."""

RET_FULL, RET_HDRS = 1, 2
"""Values of ret_flags; 0 is unspecified (RFC 3461 RET=)."""


@dataclass(frozen=True, slots=True)
class DSN:
    """What happened to a recipient (or to a whole destination, as hop status). All strings are empty in "no status".

    status     enhanced code, "4.4.1"
    action     "failed", "delayed", "delivered", "relayed", "expanded", "deliverable", "undeliverable"; may be empty
    reason     the human text, logged in the final parentheses
    diag_type  "smtp", "unix", "x-postfix" or empty; diag_text its text
    mta_type   "dns" or empty; mta_name the remote host
    """

    status: str = ""
    action: str = ""
    reason: str = ""
    diag_type: str = ""
    diag_text: str = ""
    mta_type: str = ""
    mta_name: str = ""

    @property
    def soft(self) -> bool:
        """Whether the status says that it may work later."""
        return self.status.startswith("4")


def find_status(text: str) -> str:
    """The enhanced status code at the start of `text`, or ""."""
    match = _STATUS.match(text)
    return match.group(0) if match else ""


def valid_status(status: str) -> bool:
    """Whether `status` is a complete, valid enhanced status code."""
    return find_status(status) == status != ""


def split_text(text: str, default_status: str) -> tuple[str, str]:
    """("5.7.1", "go away") from "5.7.1 go away"; `default_status` when the text has no code (dsn_split)."""
    text = text.lstrip(" \t")
    status = find_status(text)
    if not status:
        return default_status, text
    return status, text[len(status) :].lstrip(" \t")
