"""What smtp_sasl_auth_cache_name stores: a server's refusal of a user and password, so that they are not tried again.

The key is ``host;user``; the value ``time;hash;status;reply``: seconds since the epoch, the SHA-1 of the password in
base64, the enhanced status code and the first line of the reply. An entry that is too old, or of another password, is
of no use (spec 9.5).
"""

import base64
import hashlib
import re

from postfixpy import log
from postfixpy.mail.dsn import valid_status

_ENTRY = re.compile(r"[ \t\n\v\f\r]*\+?([0-9]+);([^;]+);([^;]+);([^\n]+)")


def key(host: str, user: str) -> str:
    """The key of an entry."""
    return f"{host};{user}"


def value(password: str, status: str, text: str, now: float) -> str:
    """The entry for a refusal."""
    return f"{int(now)};{_hash(password)};{status};{text}"


def refusal(entry: str, password: str, now: float, lifetime: int) -> tuple[str, str] | None:
    """Status and text of the refusal in an entry; None when the entry is of no use. `lifetime` is in seconds."""
    match = _ENTRY.match(entry)
    if match is None or not valid_status(match[3]):
        log.warning(f"bad smtp_sasl_auth_cache entry: {entry[:100]}")
        return None
    if int(match[1]) + lifetime < int(now) or match[2] != _hash(password):
        return None
    return match[3], match[4]


def _hash(password: str) -> str:
    digest = hashlib.sha1(password.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
