"""Typed messages: a dataclass is one attribute list, in the order of its fields.

A field's name is the attribute's name unless `attribute(wire=...)` says otherwise; its kind is int, str or bytes
(base64), or long with `attribute(long=True)`. A wire name may have an `old` form: both are read, and the old one is
written to releases before `since`. Reading is strict, as in Postfix: every attribute, in order, nothing else.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from .attributes import (
    Pair,
    ProtocolError,
    Value,
    decode_data,
    decode_int,
    decode_long,
    encode,
    encode_int,
    encode_long,
)
from .installed import OUR_MASTER

Release = tuple[int, int]
CURRENT: Release = (3, 11)
ANNOUNCED: Release = (3, 6)
"""Since when services say first which protocol they speak. Before, only delivery agents and cleanup said something."""


def system_release() -> Release:
    """The release whose protocol this mail system speaks: our master's, $POSTFIXPY_VERSION, or the newest."""
    text = os.environ.get(OUR_MASTER) or os.environ.get("POSTFIXPY_VERSION")
    if not text:
        return CURRENT
    from postfixpy.config.parameters import parse_release

    return parse_release(text)


def announcement(protocol: str, release: Release, *more: tuple[str, Value]) -> bytes:
    """What a service of `release` says first: the name of its protocol, and `more` in the same list."""
    if release >= ANNOUNCED:
        return encode([("protocol", protocol), *more])
    if protocol == "delivery_request_protocol":
        return encode([("status", 0)])
    return encode(more) if more else b""


def check_announcement(pairs: Sequence[Pair], protocol: str, release: Release, peer: str) -> list[Pair]:
    """What follows the name of the protocol in the list that a service says first. Raises ProtocolError."""
    expected = "protocol" if release >= ANNOUNCED else "status"
    if release < ANNOUNCED and protocol != "delivery_request_protocol":
        return list(pairs)
    if not pairs or pairs[0][0] != expected:
        found = pairs[0][0] if pairs else "(list terminator)"
        raise ProtocolError(f"unexpected attribute {found} from {peer} (expecting: {expected})")
    if expected == "protocol" and pairs[0][1] != protocol:
        raise ProtocolError(f"unexpected protocol {pairs[0][1]} from {peer} (expected: {protocol})")
    return list(pairs[1:])


def is_silent(protocol: str, release: Release) -> bool:
    """Whether a service of `release` waits for its client to speak first."""
    return release < ANNOUNCED and protocol not in ("delivery_request_protocol", "cleanup_protocol")


def attribute(
    wire: str = "", *, long: bool = False, old: str = "", since: Release = CURRENT, default: Any = ...
) -> Any:
    """A message field whose wire name differs, that is a long, or that releases before `since` call `old`."""
    metadata = {"wire": wire, "long": long, "old": old, "since": since}
    if default is ...:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class _Codec:
    __slots__ = ("decode", "field", "kind", "old", "since", "wire")

    def __init__(self, field: "dataclasses.Field[Any]") -> None:
        self.field = field.name
        self.wire = field.metadata.get("wire") or field.name
        self.old = field.metadata.get("old", "")
        self.since = field.metadata.get("since", CURRENT)
        if field.type is int:
            self.kind = "long" if field.metadata.get("long") else "int"
            self.decode: Any = decode_long if self.kind == "long" else decode_int
        elif field.type is bytes:
            self.kind, self.decode = "data", decode_data
        elif field.type is str:
            self.kind, self.decode = "str", str
        else:
            raise TypeError(f"message field {field.name}: {field.type}")


class Message:
    """Base of the message dataclasses. Subclasses are decorated with ``@dataclass(slots=True)`` (or frozen)."""

    __slots__ = ()
    _codecs_: ClassVar[dict[type, list[_Codec]]] = {}

    @classmethod
    def _codecs(cls) -> list[_Codec]:
        codecs = Message._codecs_.get(cls)
        if codecs is None:
            fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cls)  # type: ignore[arg-type]  # subclasses are
            codecs = Message._codecs_[cls] = [_Codec(field) for field in fields]
        return codecs

    def pairs(self, release: Release = CURRENT) -> list[tuple[str, Value]]:
        """The attributes as a program of `release` expects them."""
        out: list[tuple[str, Value]] = []
        for codec in self._codecs():
            value = getattr(self, codec.field)
            if codec.kind == "long":
                value = encode_long(value)
            elif codec.kind == "int":
                value = encode_int(value)
            out.append((codec.old if codec.old and release < codec.since else codec.wire, value))
        return out

    def encode(self, release: Release = CURRENT) -> bytes:
        """The attribute list in bytes."""
        return encode(self.pairs(release))

    @classmethod
    def parse(cls, pairs: Sequence[Pair], peer: str = "peer") -> Self:
        """The message from an attribute list. Raises ProtocolError with Postfix's text that names `peer` (a path)."""
        values = []
        codecs = cls._codecs()
        for position, codec in enumerate(codecs):
            if position >= len(pairs):
                raise ProtocolError(f"missing attribute {codec.wire} in input from {peer}")
            name, text = pairs[position]
            if name != codec.wire and (not codec.old or name != codec.old):
                raise ProtocolError(f"unexpected attribute {name} from {peer} (expecting: {codec.wire})")
            try:
                values.append(codec.decode(text))
            except ValueError:
                raise ProtocolError(f"malformed numerical data from {peer}: {text[:100]}") from None
        if len(pairs) > len(codecs):
            raise ProtocolError(
                f"unexpected attribute {pairs[len(codecs)][0]} from {peer} (expecting: (list terminator))"
            )
        return cls(*values)
