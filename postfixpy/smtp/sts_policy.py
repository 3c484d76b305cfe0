"""The texts of MTA-STS: the TXT record that announces a policy, and the policy (RFC 8461 3.1, 3.2).

Both come from others and are read strictly: what is not understood as the RFC has it is no record, or no policy.
Fields with unknown names are passed over, as the RFC wants; of a field that may be there once, the first counts.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from postfixpy.dns.names import hostname_problem

MAX_SIZE = 65536
"""Bytes of a policy."""
_MAX_AGE = 31557600
_MODES = ("enforce", "testing", "none")
_RECORD = re.compile(r"v=STSv1[ \t]*;")
_FIELD = re.compile(r"[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([\x21-\x3a\x3c\x3e-\x7e]+)[ \t]*")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*([^\x00-\x1f\x7f]*)")
_NUMBER = re.compile(r"[0-9]{1,10}")


class PolicyTextError(Exception):
    """It is not a policy. str() says why, in words without control characters."""


@dataclass(frozen=True, slots=True)
class STSPolicy:
    """A policy: `mode` is "enforce", "testing" or "none"; `max_age` in seconds; `mx` the patterns of MX host names."""

    mode: str
    max_age: int
    mx: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The policy as its lines are (for reports)."""
        fields = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {pattern}" for pattern in self.mx)]
        return [*fields, f"max_age: {self.max_age}"]


class Found(NamedTuple):
    """A policy with the time (seconds since the epoch) when it ends; or None, and the result type of what failed."""

    policy: STSPolicy | None = None
    expires: float = 0.0
    failure: str = ""


def parse_records(texts: Iterable[str]) -> str:
    """The id that the TXT records of ``_mta-sts.DOMAIN`` announce; "" if they announce none."""
    found = [text for text in texts if _RECORD.match(text)]
    if len(found) != 1:
        return ""
    fields: dict[str, str] = {}
    for part in found[0].split(";")[1:]:
        if not part.strip(" \t"):
            continue
        match = _FIELD.fullmatch(part)
        if match is None:
            return ""
        fields.setdefault(match[1], match[2])
    name = fields.get("id", "")
    return name if _ID.fullmatch(name) else ""


def parse_policy(data: bytes) -> STSPolicy:
    """The policy in `data`. Raises PolicyTextError."""
    if len(data) > MAX_SIZE:
        raise PolicyTextError(f"more than {MAX_SIZE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyTextError("not UTF-8") from None
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").rstrip("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise PolicyTextError(f"line {number} is not a field")
        name, value = match[1], match[2].rstrip(" \t")
        if name == "mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(name, value)
    if fields.get("version") != "STSv1":
        raise PolicyTextError("no version: STSv1")
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if mode not in _MODES:
        raise PolicyTextError("no mode: enforce, testing or none")
    if not _NUMBER.fullmatch(age) or int(age) > _MAX_AGE:
        raise PolicyTextError(f"no max_age of 0 to {_MAX_AGE}")
    if not patterns and mode != "none":
        raise PolicyTextError("no mx")
    return STSPolicy(mode, int(age), tuple(dict.fromkeys(patterns)))


def _pattern(value: str) -> str:
    """A host name, or ``*.`` and one, in lower case. Raises PolicyTextError."""
    name = value.removeprefix("*.")
    if not name.isascii() or hostname_problem(name):
        raise PolicyTextError("an mx that is not a host name")
    return value.lower()
