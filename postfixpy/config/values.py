"""Parameter values as numbers, times and booleans, read and refused as Postfix's mail_conf_*(3) do.

Every function takes the expanded text and raises FatalError with Postfix's text for a bad one.
"""

from postfixpy.config.lines import SPACE, encode
from postfixpy.errors import FatalError

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
"""Seconds in each time unit."""


def strtol(text: str) -> tuple[int, str]:
    """C's strtol(text, &rest, 10): the number at the start (0 if there is none) and the rest of the text."""
    start = text.lstrip(SPACE)
    sign = start[:1] if start[:1] in ("+", "-") else ""
    digits = len(sign)
    while digits < len(start) and start[digits] in "0123456789":
        digits += 1
    if digits == len(sign):
        return 0, text
    return int(start[:digits]), start[digits:]


def to_integer(name: str, text: str, limit: int = INT_MAX) -> int:
    """`text` as a whole number of at most `limit` (INT_MAX or LONG_MAX)."""
    number, rest = strtol(text)
    if not text or rest or not -limit - 1 <= number <= limit:
        raise FatalError(f"bad numerical configuration: {name} = {text}")
    return number


def check_integer(name: str, number: int, minimum: int | None, maximum: int | None) -> int:
    """`number` if it is within the limits; a limit of 0 or None is not checked, as in Postfix."""
    if minimum and number < minimum:
        raise FatalError(f"invalid {name} parameter value {number} < {minimum}")
    if maximum and number > maximum:
        raise FatalError(f"invalid {name} parameter value {number} > {maximum}")
    return number


def parse_time(text: str, unit: str) -> int | None:
    """`text` as seconds, `unit` for a number without unit; None if it is no time. What follows the unit is ignored."""
    number, rest = strtol(text)
    if not text or not 0 <= number <= INT_MAX:
        return None
    factor = SECONDS.get(rest[:1] or unit)
    if factor is None or (factor > 1 and number >= INT_MAX // factor):
        return None
    return number * factor


def to_time(name: str, text: str, unit: str) -> int:
    """`text` as seconds."""
    seconds = parse_time(text, unit)
    if seconds is None:
        raise FatalError(f"parameter {name}: bad time value or unit: {text}")
    return seconds


def check_time(name: str, seconds: int, minimum: int | None, maximum: int | None) -> int:
    """`seconds` if within the limits."""
    if minimum and seconds < minimum:
        raise FatalError(f"invalid {name}: {seconds} (min {minimum})")
    if maximum and seconds > maximum:
        raise FatalError(f"invalid {name}: {seconds} (max {maximum})")
    return seconds


def to_boolean(name: str, text: str) -> bool:
    """``yes`` or ``no``, in any case."""
    folded = text.lower()
    if folded not in ("yes", "no"):
        raise FatalError(f"bad boolean configuration: {name} = {text}")
    return folded == "yes"


def check_length(name: str, text: str, minimum: int | None, maximum: int | None, *, raw: bool = False) -> str:
    """`text` if its length in bytes is within the limits."""
    if not minimum and not maximum:
        return text
    length = len(encode(text))
    problem = ""
    if minimum and length < minimum:
        problem = f"{length} < {minimum}"
    elif maximum and length > maximum:
        problem = f"{length} > {maximum}"
    if problem:
        raise FatalError(f"bad string length {f'({problem})' if raw else problem}: {name} = {text}")
    return text
