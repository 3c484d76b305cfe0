"""Queue ids: the names of queue files, which are unique while a message exists (short) or for ever (long).

A short id is five hexadecimal digits of the arrival time's microseconds and the inode number in hexadecimal:
``4C1E0D4B7C``. A long id (enable_long_queue_ids) is the arrival time in seconds (base 52, at least six characters),
its microseconds (base 52, four), "z", and the inode number (base 51, so that it has no "z"). The alphabet has no
vowels, so that an id spells no word.

Source: mail_queue(3), postconf(5) enable_long_queue_ids, spec/smtp-client.md 15.11.
"""

import re

_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_DIGITS = {char: value for value, char in enumerate(_ALPHABET)}
_TIME_BASE, _INODE_BASE = 52, 51
_SECONDS_WIDTH, _MICRO_WIDTH, _TIME_WIDTH = 6, 4, 10
_SHORT_MICRO_WIDTH = 5
_ULONG_MAX = (1 << 64) - 1

MAX_ID = 255
"""Characters that an id may have (a file name in flush/ is made from a domain name)."""

_VALID_ID = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_ID}}}\Z")
_VALID_QUEUE = re.compile(r"[A-Za-z0-9]{1,100}\Z")


def valid(text: str) -> bool:
    """Whether `text` may be a queue id or another queue file's name."""
    return _VALID_ID.match(text) is not None


def valid_queue_name(text: str) -> bool:
    """Whether `text` may be a queue's name."""
    return _VALID_QUEUE.match(text) is not None


def encode(number: int, base: int, width: int = 0) -> str:
    """`number` in the vowel-free alphabet, at least `width` characters. Nothing for zero, unless padded."""
    out = ""
    while number:
        number, digit = divmod(number, base)
        out = _ALPHABET[digit] + out
    return out.rjust(width, "0")


def decode(text: str, base: int) -> int | None:
    """The reverse of `encode`; None when `text` is not such a number, or more than 64 bits."""
    number = 0
    for char in text:
        digit = _DIGITS.get(char, base)
        if digit >= base:
            return None
        number = number * base + digit
        if number > _ULONG_MAX:
            return None
    return number


def make(arrival_us: int, inode: int, long: bool = False) -> str:
    """The id of a message that arrived at `arrival_us` (microseconds since the epoch) in file `inode`."""
    seconds, micro = divmod(arrival_us, 1_000_000)
    if not long:
        return f"{micro:05X}{inode:X}"
    return (
        encode(seconds, _TIME_BASE, _SECONDS_WIDTH)
        + encode(micro, _TIME_BASE, _MICRO_WIDTH)
        + "z"
        + encode(inode, _INODE_BASE)
    )


def _separator(queue_id: str) -> int:
    """Where the "z" of a long id is; -1: a short id."""
    at = queue_id.rfind("z")
    return at if at >= _TIME_WIDTH else -1


def is_long(queue_id: str) -> bool:
    """Whether `queue_id` has the long form."""
    return _separator(queue_id) >= 0


def inode_of(queue_id: str) -> int | None:
    """The inode number that `queue_id` names; None when it names none."""
    at = _separator(queue_id)
    if at >= 0:
        return decode(queue_id[at + 1 :], _INODE_BASE) if queue_id[at + 1 :] else None
    digits = queue_id[_SHORT_MICRO_WIDTH:]
    if not digits or not re.fullmatch(r"[0-9A-Fa-f]{1,16}", digits):
        return None
    return int(digits, 16)


def time_of(queue_id: str) -> int | None:
    """Arrival time in microseconds since the epoch of a long id; None for a short one, which has no seconds."""
    at = _separator(queue_id)
    if at < 0:
        return None
    seconds = decode(queue_id[: at - _MICRO_WIDTH], _TIME_BASE)
    micro = decode(queue_id[at - _MICRO_WIDTH : at], _TIME_BASE)
    return None if seconds is None or micro is None else seconds * 1_000_000 + micro


def hash_key(queue_id: str) -> str:
    """The string whose first characters name the subdirectories of a hashed queue.

    For a long id the microseconds as five hexadecimal digits, which vary fastest; for others the id itself.
    """
    at = _separator(queue_id)
    if at < 0:
        return queue_id
    return f"{decode(queue_id[at - _MICRO_WIDTH : at], _TIME_BASE) or 0:05X}"


def replace_inode(queue_id: str, inode: int) -> str:
    """`queue_id` with another inode number, in the form (short or long) that it has."""
    at = _separator(queue_id)
    if at >= 0:
        return queue_id[: at + 1] + encode(inode, _INODE_BASE)
    return f"{queue_id[:_SHORT_MICRO_WIDTH]}{inode:X}"
