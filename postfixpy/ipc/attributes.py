"""The attribute protocol: how Postfix programs talk to each other (spec/smtp-client.md 15.4, attr_print0).

An attribute is ``name NUL value NUL``; a list of attributes ends with one more NUL. Integers travel as unsigned decimal
of 32 bits (-1 is 4294967295), longs of 64 bits, binary data as base64. Text is UTF-8 with surrogateescape, so that any
byte survives.

This module is pure: bytes in, values out. It differs from Postfix in one thing: a list has a length limit (`MAX_LIST`),
because a peer that sends without end must not fill our memory.
"""

import base64
import binascii
from collections.abc import Iterable

from postfixpy.errors import PostfixError

MAX_LIST = 4 * 1024 * 1024
"""Bytes that one attribute list may have. Postfix has no limit; its largest lists are a few kilobytes."""

Pair = tuple[str, str]
Value = str | int | bytes


class ProtocolError(PostfixError):
    """The peer broke the protocol, hung up or was too slow. str() is Postfix's warning text."""

    @property
    def reason(self) -> str:
        """The same, as the reason in a sentence about a service."""
        return str(self)


class TooSlow(ProtocolError):
    """The time limit passed. `announced`: the peer had said which protocol it speaks, or need not."""

    announced = True

    @property
    def reason(self) -> str:
        return "Connection timed out" if self.announced else "Application error"


def encode_text(text: str) -> bytes:
    """`text` as it travels: UTF-8, with undecodable bytes restored."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """The reverse of `encode_text`."""
    return data.decode("utf-8", "surrogateescape")


def encode_int(value: int) -> str:
    """A C int as the protocol prints it: unsigned, 32 bits."""
    return str(value & 0xFFFFFFFF)


def encode_long(value: int) -> str:
    """A C long as the protocol prints it: unsigned, 64 bits."""
    return str(value & 0xFFFFFFFFFFFFFFFF)


def encode_data(value: bytes) -> str:
    """Binary data as the protocol prints it: base64 without line breaks."""
    return base64.b64encode(value).decode("ascii")


def decode_int(text: str) -> int:
    """A signed int from its unsigned decimal form. Raises ValueError."""
    return _signed(text, 32)


def decode_long(text: str) -> int:
    """A signed long from its unsigned decimal form. Raises ValueError."""
    return _signed(text, 64)


def _signed(text: str, bits: int) -> int:
    if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 20:
        raise ValueError(text)
    value = int(text)
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise ValueError(text)
    return value - (1 << bits) if value >= 1 << (bits - 1) else value


def decode_data(text: str) -> bytes:
    """Binary data from base64. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


def encode(pairs: Iterable[tuple[str, Value]]) -> bytes:
    """One attribute list. `int` values become unsigned 32-bit decimals, `bytes` base64; a NUL ends a value, as in C."""
    out: list[str] = []
    for name, value in pairs:
        if isinstance(value, int):
            value = encode_int(value)
        elif isinstance(value, bytes):
            value = encode_data(value)
        out += (name, value.partition("\0")[0])
    out.append("\0" if out else "")
    return encode_text("\0".join(out)) if len(out) > 1 else b"\0"


def parse(buffer: bytes | bytearray, start: int = 0) -> tuple[list[Pair], int] | None:
    """The attribute list that begins at `start`, and the offset behind it; None when more bytes are needed.

    Raises ProtocolError when the list is longer than `MAX_LIST`.
    """
    pairs: list[Pair] = []
    position = start
    while True:
        end = buffer.find(b"\0", position)
        if end < 0:
            break
        if end == position:
            return pairs, end + 1
        value_end = buffer.find(b"\0", end + 1)
        if value_end < 0:
            break
        pairs.append((decode_text(bytes(buffer[position:end])), decode_text(bytes(buffer[end + 1 : value_end]))))
        position = value_end + 1
    if len(buffer) - start > MAX_LIST:
        raise ProtocolError(f"attribute list longer than {MAX_LIST} bytes")
    return None
