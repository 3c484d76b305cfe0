"""Messages of proxymap(8) and proxywrite: lookups and changes of tables on behalf of other processes.

A request names the table, the flags that the client opened it with (``instance_flags``, since Postfix 3.11) and those
of this request. The client is `postfixpy.lookup.proxy`; here is what the service reads and writes.
"""

from dataclasses import dataclass

from .attributes import Pair, Value
from .message import CURRENT, Message, Release

PROTOCOL = "proxymap_protocol"
OK, NO_KEY, RETRY, BAD, DENY, CONFIG = range(6)
"""Values of `status`: done, not there, try later, malformed, table not approved, error of configuration."""
FIRST, NEXT = 0, 1
"""Values of `function`: begin to list a table, go on."""
INSTANCES: Release = (3, 11)
"""Since when requests have `instance_flags`, and replies `flags`."""


@dataclass(slots=True)
class Open(Message):
    request: str
    table: str
    instance_flags: int


@dataclass(slots=True)
class Lookup(Message):
    request: str
    table: str
    instance_flags: int
    flags: int
    key: str


@dataclass(slots=True)
class Update(Message):
    request: str
    table: str
    instance_flags: int
    flags: int
    key: str
    value: str


@dataclass(slots=True)
class Delete(Message):
    request: str
    table: str
    instance_flags: int
    flags: int
    key: str


@dataclass(slots=True)
class Sequence(Message):
    request: str
    table: str
    instance_flags: int
    flags: int
    function: int


KINDS: dict[str, type[Open] | type[Lookup] | type[Update] | type[Delete] | type[Sequence]] = {
    "open": Open,
    "lookup": Lookup,
    "update": Update,
    "delete": Delete,
    "sequence": Sequence,
}
RESULTS = {"open": (), "lookup": ("value",), "update": (), "delete": (), "sequence": ("key", "value")}
"""Request -> the texts in its reply, after `status` and `flags`."""


def modern(pairs: list[Pair], release: Release = CURRENT) -> list[Pair]:
    """The attributes of a request as 3.11 has them: before, one `flags` stood for both."""
    if release >= INSTANCES or len(pairs) < 3 or pairs[2][0] != "flags":
        return pairs
    flags = pairs[2][1]
    rest = [] if pairs[0][1] == "open" else pairs[2:]
    return [*pairs[:2], ("instance_flags", flags), *rest]


def reply(
    request: str, status: int, flags: int, texts: tuple[str, ...] = (), release: Release = CURRENT
) -> list[tuple[str, Value]]:
    """The reply to a request; missing `texts` are empty."""
    names = RESULTS[request]
    out: list[tuple[str, Value]] = [("status", status)]
    if release >= INSTANCES or request == "open":
        out.append(("flags", flags))
    return out + list(zip(names, texts or ("",) * len(names), strict=True))
