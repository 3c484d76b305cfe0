"""DNS messages on the wire (RFC 1035 section 4): queries out, replies in.

The few record types that a delivery agent asks for are decoded here: a general library takes ten times as long, and
refuses whole replies for what Postfix only warns about. A reply is foreign input: everything that does not fit raises
`Malformed`, and nothing else. The tests compare with dnspython.
"""

import socket
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from .record import AAAA, CNAME, MX, NS, PTR, SRV, TLSA, TXT, A

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")
_OPT = 41
_CLASS_IN = 1
_RD, _AD, _TC, _QR = 0x0100, 0x0020, 0x0200, 0x8000
_EDNS_SIZE = 1232
"""UDP payload size to announce: fits every path without fragments (DNS flag day 2020)."""

_MAX_TEXT = 2048
"""Bytes of a TXT record that are kept."""
_SPECIAL = b'".;\\@$()'


class Malformed(ValueError):
    """A reply that is not a well-formed DNS message."""


class Raw(NamedTuple):
    """One record of the answer section. `data` is the name or address text, or the raw rdata of other types."""

    name: str
    rtype: int
    rclass: int
    ttl: int
    text: str
    numbers: tuple[int, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Reply:
    """A decoded reply: response code, flags, answer records in their order."""

    id: int
    rcode: int
    truncated: bool
    authentic: bool
    question: tuple[str, int]
    answers: list[Raw] = field(default_factory=list)


def encode_name(name: str) -> bytes:
    """A domain name in wire form. Raises ValueError for what cannot be one."""
    name = name.removesuffix(".")
    if not name:
        return b"\0"
    out = bytearray()
    for label in name.split("."):
        data = label.encode("utf-8", "surrogateescape")
        if not 0 < len(data) <= 63:
            raise ValueError(name)
        out.append(len(data))
        out += data
    if len(out) > 254:
        raise ValueError(name)
    return bytes(out) + b"\0"


def encode_query(ident: int, name: str, rtype: int, *, dnssec: bool = False, edns: bool = False) -> bytes:
    """A recursive query; `dnssec` asks for validation (EDNS0, DO and AD)."""
    edns = edns or dnssec
    flags = _RD | (_AD if dnssec else 0)
    out = _HEADER.pack(ident, flags, 1, 0, 0, 1 if edns else 0) + encode_name(name)
    out += struct.pack("!HH", rtype, _CLASS_IN)
    if edns:
        out += struct.pack("!BHHIH", 0, _OPT, _EDNS_SIZE, 0x8000 if dnssec else 0, 0)
    return out


def _escape(label: bytes) -> str:
    if label.isalnum():
        return label.decode("ascii")
    out = []
    for code in label:
        if code in _SPECIAL:
            out.append("\\" + chr(code))
        elif 0x21 <= code <= 0x7E:
            out.append(chr(code))
        else:
            out.append(f"\\{code:03d}")
    return "".join(out)


def read_name(wire: bytes, position: int) -> tuple[str, int]:
    """The name at `position` in presentation form without final dot ("" is the root), and the offset behind it."""
    labels: list[str] = []
    end = -1
    size = 0
    lowest = position
    while True:
        if position >= len(wire):
            raise Malformed("name runs past the end")
        length = wire[position]
        if length < 64:
            position += 1
            if length == 0:
                break
            size += length + 1
            if size > 254 or position + length > len(wire):
                raise Malformed("name too long")
            labels.append(_escape(wire[position : position + length]))
            position += length
        elif length >= 192:
            if position + 1 >= len(wire):
                raise Malformed("truncated pointer")
            target = (length & 63) << 8 | wire[position + 1]
            if end < 0:
                end = position + 2
            if target >= lowest:  # pointers must go back, so this ends
                raise Malformed("forward pointer")
            position = lowest = target
        else:
            raise Malformed("bad label type")
    return ".".join(labels), end if end >= 0 else position


def decode(wire: bytes) -> Reply:
    """A reply. Raises Malformed."""
    if len(wire) < 12:
        raise Malformed("short header")
    ident, flags, questions, answers, _, _ = _HEADER.unpack_from(wire)
    if not flags & _QR or questions != 1:
        raise Malformed("not a reply to one question")
    name, position = read_name(wire, 12)
    if position + 4 > len(wire):
        raise Malformed("short question")
    (qtype,) = struct.unpack_from("!H", wire, position)
    position += 4
    reply = Reply(ident, flags & 15, bool(flags & _TC), bool(flags & _AD), (name, qtype))
    for _ in range(answers):
        raw, position = _read_record(wire, position)
        reply.answers.append(raw)
    return reply


def _read_record(wire: bytes, position: int) -> tuple[Raw, int]:
    name, position = read_name(wire, position)
    if position + 10 > len(wire):
        raise Malformed("short record")
    rtype, rclass, ttl, length = _FIXED.unpack_from(wire, position)
    position += 10
    end = position + length
    if end > len(wire):
        raise Malformed("short record data")
    if ttl > 0x7FFFFFFF:  # RFC 2181 section 8
        ttl = 0
    text, problem = "", ""
    numbers: tuple[int, ...] = ()
    if rtype in (A, AAAA):
        if length == (4 if rtype == A else 16):
            text = socket.inet_ntop(socket.AF_INET if rtype == A else socket.AF_INET6, wire[position:end])
        else:
            problem = f"extract_answer: bad address length: {length}"
    elif rtype in (CNAME, NS, PTR):
        text, after = read_name(wire, position)
        _same(after, end)
    elif rtype == MX:
        if length < 3:
            raise Malformed("short MX")
        numbers = struct.unpack_from("!H", wire, position)
        text, after = read_name(wire, position + 2)
        _same(after, end)
    elif rtype == SRV:
        if length < 7:
            raise Malformed("short SRV")
        numbers = struct.unpack_from("!HHH", wire, position)
        text, after = read_name(wire, position + 6)
        _same(after, end)
    elif rtype == TLSA:
        text = tlsa_text(wire[position:end])
    elif rtype == TXT:
        text = _text(wire[position:end])
    return Raw(name, rtype, rclass, ttl, text, numbers, problem), end


def _same(after: int, end: int) -> None:
    if after != end:
        raise Malformed("record data length does not match")


def _text(data: bytes) -> str:
    """The strings of a TXT record in one, with what is not printable as blanks, as Postfix keeps it."""
    out = bytearray()
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            raise Malformed("short TXT string")
        out += data[position + 1 : end]
        position = end
    return "".join(chr(c) if 32 <= c < 127 else " " for c in out[:_MAX_TEXT])


def tlsa_text(data: bytes) -> str:
    r"""A TLSA record as ``usage selector matching-type hex``; one that is too short as ``\# length hex`` (RFC 3597)."""
    if len(data) < 3:
        return f"\\# {len(data)} {data.hex()}"
    return f"{data[0]} {data[1]} {data[2]} {data[3:].hex()}"
