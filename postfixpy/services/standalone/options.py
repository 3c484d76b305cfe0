"""The ESMTP parameters of MAIL and RCPT: what they mean, and the complaint about one that is wrong.

RFC 1870 (SIZE), 6152 (BODY), 3461 (DSN), 6531 (SMTPUTF8), 4954 (AUTH).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .words import notify_mask, original_recipient, printable_xtext


class Refused(Exception):
    """str() is the reply."""


@dataclass(slots=True)
class MailOptions:
    """Of one MAIL command. `body`: "7bit", "8bit" or ""; `size`: bytes, None when the client does not say."""

    body: str = ""
    size: int | None = None
    auth: bool = False


def mail_options(words: Sequence[str], *, dsn: bool, smtputf8: bool) -> MailOptions:
    """Parse the parameters of MAIL; `dsn`, `smtputf8`: what has been offered. Raises Refused."""
    found = MailOptions()
    seen: set[str] = set()
    for word in words:
        name, equals, value = word.partition("=")
        name = name.upper()
        if name == "BODY" and value.upper() in ("8BITMIME", "7BIT"):
            found.body = value[:4].lower()
        elif name == "SIZE" and equals:
            found.size = _size(value)
        elif word.upper() == "SMTPUTF8" and smtputf8:
            continue
        elif name == "AUTH" and equals:
            if found.auth:
                raise Refused("503 5.5.4 Error: multiple AUTH= options")
            found.auth = value != "<>"
        elif name in ("RET", "ENVID") and equals:
            if not dsn:
                raise Refused("501 5.7.1 DSN support is disabled")
            good = value.upper() in ("FULL", "HDRS") if name == "RET" else printable_xtext(value)
            if name in seen or not good:
                raise Refused(f"501 5.5.4 Bad {name} parameter syntax")
            seen.add(name)
        else:
            raise Refused(f"555 5.5.4 Unsupported option: {word}")
    return found


def _size(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise Refused("501 5.5.4 Bad message size syntax")
    if int(value[:30]) >= 1 << 63:
        raise Refused("552 5.3.4 Message size exceeds file system imposed limit")
    return int(value)


def recipient_options(words: Sequence[str], *, dsn: bool) -> tuple[int, str]:
    """The NOTIFY bits and the original recipient of the parameters of RCPT. Raises Refused."""
    notify, orcpt = 0, ""
    for word in words:
        name, equals, value = word.partition("=")
        if name.upper() not in ("NOTIFY", "ORCPT") or not equals:
            raise Refused(f"555 5.5.4 Unsupported option: {word}")
        if not dsn:
            raise Refused("501 5.7.1 DSN support is disabled")
        if name.upper() == "NOTIFY":
            notify = 0 if notify else notify_mask(value)
            if not notify:
                raise Refused("501 5.5.4 Error: Bad NOTIFY parameter syntax")
        else:
            orcpt = "" if orcpt else original_recipient(value)
            if not orcpt:
                raise Refused("501 5.5.4 Error: Bad ORCPT parameter syntax")
    return notify, orcpt
