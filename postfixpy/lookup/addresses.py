"""Searches by address: which keys stand for an address, and what a result that is a list of addresses means.

`mail_addr_find` tries an address from the whole to its parts (canonical(5), virtual(5), transport(5), access(5)
describe the orders, `Strategy` selects them); `mail_addr_map` adds what canonical and virtual tables do with a result;
`domain_find` and `address_find` are the orders of smtpd's access tables.
"""

import enum
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from postfixpy import log
from postfixpy.lookup.maps import Maps, maps_find
from postfixpy.lookup.matching import StringList
from postfixpy.lookup.quoting import quote, unquote
from postfixpy.lookup.search import Search
from postfixpy.lookup.table import Settings, TableError, casefold


class Strategy(enum.IntFlag):
    """The keys to try; they are tried in this order."""

    FULL = 1 << 0
    """``user+extension@domain``"""
    NO_EXTENSION = 1 << 1
    """``user@domain``, and the shorter forms below also without the extension"""
    LOCALPART_IF_LOCAL = 1 << 2
    """``user``, if the domain is $myorigin, in $mydestination, or an own address"""
    LOCALPART_AT_IF_LOCAL = 1 << 3
    """``user@``, likewise"""
    AT_DOMAIN = 1 << 4
    """``@domain``"""
    DOMAIN = 1 << 5
    """``domain``"""
    PARENT = 1 << 6
    """with DOMAIN: then each parent domain"""
    DOT_PARENT = 1 << 7
    """with DOMAIN: then each parent domain with a dot before it"""
    LOCALPART_AT = 1 << 8
    """``user@``, whatever the domain"""

    DEFAULT = FULL | NO_EXTENSION | LOCALPART_IF_LOCAL | AT_DOMAIN


class Query(enum.Enum):
    """The form of address that tables are asked for."""

    INTERNAL = "internal"
    EXTERNAL = "external"
    INTERNAL_FIRST = "internal-first"
    EXTERNAL_FIRST = "external-first"


class AddressSettings(Settings, Protocol):
    """The parameters that searches by address read."""

    @property
    def recipient_delimiter(self) -> str: ...
    @property
    def owner_request_special(self) -> bool: ...
    @property
    def double_bounce_sender(self) -> str: ...
    @property
    def myorigin(self) -> str: ...
    @property
    def mydestination(self) -> str: ...


class Found(NamedTuple):
    """A result, and the extension (with its delimiter) that was dropped to find it, or ""."""

    value: str
    extension: str


class Mapped(NamedTuple):
    """The addresses, in external form and as one text, that replace an address; `extension` goes into each of them."""

    text: str
    extension: str


def split_addr(local: str, delimiters: str, settings: AddressSettings) -> tuple[str, str] | None:
    """The local part before the first delimiter, and the extension after it; None when it is not to be split.

    postmaster, mailer-daemon and the double-bounce sender are whole; so, if "-" delimits and
    `owner_request_special`, are owner-NAME and NAME-request (split_addr(3)).
    """
    lower = local.lower()
    if lower in ("postmaster", "mailer-daemon"):
        return None
    if casefold(local, settings.smtputf8_enable) == casefold(settings.double_bounce_sender, settings.smtputf8_enable):
        return None
    if (
        "-" in delimiters
        and settings.owner_request_special
        and (lower.startswith("owner-") or (lower.endswith("-request") and len(lower) > 8))
    ):
        return None
    position = next((i for i, char in enumerate(local) if char in delimiters), 0)
    return (local[:position], local[position + 1 :]) if position else None


def strip_addr(address: str, delimiters: str, settings: AddressSettings) -> tuple[str, str] | None:
    """`address` without its extension, and the extension with its delimiter; None if there is none (strip_addr(3))."""
    if not delimiters:
        return None
    local, at, domain = address.rpartition("@") if "@" in address else (address, "", "")
    split = split_addr(local, delimiters, settings)
    if split is None:
        return None
    return split[0] + at + domain, local[len(split[0]) :]


class LocalDomains:
    """Whether a domain is this system's: in $mydestination, or ``[address]`` with an own address (resolve_local(3)).

    `is_own_address` tells whether an address (in the text form of inet_ntop) is in inet_interfaces or proxy_interfaces.
    """

    def __init__(
        self, settings: AddressSettings, is_own_address: Callable[[str], bool] = lambda address: False
    ) -> None:
        self.list = StringList("mydestination", settings.mydestination, settings)
        self.is_own_address = is_own_address

    def search(self, domain: str) -> Search[bool]:
        """The lookups that tell whether `domain` is local. Raises TableError."""
        if domain.endswith("."):
            domain = domain[:-1]
        if not domain or domain.endswith("."):
            return False
        if (yield from self.list.search(domain)):
            return True
        if domain.startswith("[") and domain.endswith("]"):
            literal = domain[1:-1]
            if literal[:5].lower() == "ipv6:":
                literal = literal[5:]
            return _normal_address(literal, self.is_own_address)
        return False


def _normal_address(literal: str, is_own_address: Callable[[str], bool]) -> bool:
    from postfixpy.lookup.cidr import dotted, parse_address

    address = parse_address(literal)
    return address is not None and is_own_address(dotted(*address))


class AddressContext:
    """What searches by address need to know besides the tables."""

    def __init__(self, settings: AddressSettings, local: LocalDomains | None = None) -> None:
        self.settings = settings
        self.local = local or LocalDomains(settings)

    def is_local(self, domain: str) -> Search[bool]:
        """Whether `domain` is $myorigin or one of the system's own."""
        utf8 = self.settings.smtputf8_enable
        if casefold(domain, utf8) == casefold(self.settings.myorigin, utf8):
            return True
        return (yield from self.local.search(domain))


def _find_addr(maps: Maps, key: str, query: Query, *, partial: bool, with_domain: bool = True) -> Search[str | None]:
    external = quote(key, bare_local=not with_domain)
    first, second = (key, external) if query in (Query.INTERNAL, Query.INTERNAL_FIRST) else (external, key)
    value = yield from maps_find(maps, first, partial=partial)
    if value is None and first != second and query in (Query.INTERNAL_FIRST, Query.EXTERNAL_FIRST):
        value = yield from maps_find(maps, second, partial=partial)
    return value


def mail_addr_find(
    maps: Maps,
    address: str,
    context: AddressContext,
    *,
    strategy: Strategy = Strategy.DEFAULT,
    query: Query = Query.EXTERNAL_FIRST,
    internal_result: bool = False,
) -> Search[Found | None]:
    """The value for `address` (internal form) or for the first of its parts, by `strategy`, that has one; or None.

    `query` is the form of the keys, `internal_result` asks for the value, one address, in internal form. Raises
    TableError; nothing is looked up after an error (mail_addr_find(3)).
    """
    stripped = None
    if strategy & Strategy.NO_EXTENSION:
        stripped = strip_addr(address, context.settings.recipient_delimiter, context.settings)
    found = yield from _find_parts(maps, address, stripped, context, strategy, query)
    if found is not None and internal_result:
        return Found(unquote(found.value), found.extension)
    return found


def _find_parts(
    maps: Maps,
    address: str,
    stripped: tuple[str, str] | None,
    context: AddressContext,
    strategy: Strategy,
    query: Query,
) -> Search[Found | None]:
    if strategy & Strategy.FULL:
        value = yield from _find_addr(maps, address, query, partial=False)
        if value is not None:
            return Found(value, "")
    if stripped:
        value = yield from _find_addr(maps, stripped[0], query, partial=True)
        if value is not None:
            return Found(value, stripped[1])
    local, at, domain = address.rpartition("@")
    if not at:
        return None
    if strategy & (Strategy.LOCALPART_IF_LOCAL | Strategy.LOCALPART_AT_IF_LOCAL) and (
        yield from context.is_local(domain)
    ):
        for flag, suffix in ((Strategy.LOCALPART_IF_LOCAL, ""), (Strategy.LOCALPART_AT_IF_LOCAL, "@")):
            if strategy & flag:
                found = yield from _find_local(maps, local, stripped, suffix, query)
                if found is not None:
                    return found
    if strategy & Strategy.AT_DOMAIN:
        value = yield from maps_find(maps, "@" + domain, partial=True)
        if value is not None:
            return Found(value, "")
    if strategy & Strategy.DOMAIN:
        value = yield from _find_domain(maps, domain, strategy)
        if value is not None:
            return Found(value, "")
    if strategy & Strategy.LOCALPART_AT:
        return (yield from _find_local(maps, local, stripped, "@", query))
    return None


def _find_local(
    maps: Maps, local: str, stripped: tuple[str, str] | None, suffix: str, query: Query
) -> Search[Found | None]:
    with_domain = bool(suffix)
    value = yield from _find_addr(maps, local + suffix, query, partial=True, with_domain=with_domain)
    if value is not None:
        return Found(value, "")
    if stripped:
        bare = stripped[0].rpartition("@")[0]
        value = yield from _find_addr(maps, bare + suffix, query, partial=True, with_domain=with_domain)
        if value is not None:
            return Found(value, stripped[1])
    return None


def _find_domain(maps: Maps, domain: str, strategy: Strategy) -> Search[str | None]:
    while domain:
        value = yield from maps_find(maps, domain, partial=True)
        dot = domain.find(".", 1)
        if value is not None or not strategy & (Strategy.PARENT | Strategy.DOT_PARENT) or dot < 0:
            return value
        domain = domain[dot:] if strategy & Strategy.DOT_PARENT else domain[dot + 1 :]
    return None


def mail_addr_map(
    maps: Maps, address: str, context: AddressContext, *, propagate: bool, query: Query = Query.EXTERNAL
) -> Search[Mapped | None]:
    """What canonical, virtual and generic tables put in the place of `address` (internal form), or None.

    ``@other.domain`` as the value keeps the user without the extension. `propagate`: an extension that had to be
    dropped goes to each new address. Parse and canonicalize the result with `crunch` or `acrunch` (mail_addr_map(3)).
    """
    found = yield from mail_addr_find(maps, address, context, query=query)
    if found is None:
        return None
    text = found.value
    if text.startswith("@"):
        user = address.rpartition("@")[0] if "@" in address else address
        if found.extension:
            user = user[: len(user) - len(found.extension)]
        text = quote(user + text)
    return Mapped(text, found.extension if propagate else "")


def add_extension(address: str, extension: str) -> str:
    """`address` (internal form) with `extension` at the end of its local part."""
    local, at, domain = address.rpartition("@")
    return f"{local}{extension}@{domain}" if at else address + extension


def crunch(
    mapped: Mapped, split: Callable[[str], list[str]], canonical: Callable[[str], str], *, internal: bool = True
) -> list[str]:
    """The addresses of `mapped` (mail_addr_crunch(3)).

    `split` gives the addresses, in external form, in a header-like text; `canonical` the canonical form of one,
    external too. The result is internal, or external if `internal` is False. May be empty: see `nothing_mapped`.
    """
    return [_crunched(canonical(one), mapped.extension, internal) for one in split(_not_empty(mapped.text))]


async def acrunch(
    mapped: Mapped,
    split: Callable[[str], list[str]],
    canonical: Callable[[str], Awaitable[str]],
    *,
    internal: bool = True,
) -> list[str]:
    """`crunch` with a canonical form that must be waited for, as cleanup's from trivial-rewrite."""
    return [_crunched(await canonical(one), mapped.extension, internal) for one in split(_not_empty(mapped.text))]


def _not_empty(text: str) -> str:
    return '""' if text in ("", "<>") else text


def _crunched(canonical: str, extension: str, internal: bool) -> str:
    address = unquote(canonical)
    if extension:
        address = add_extension(address, extension)
    return address if internal else quote(address)


def nothing_mapped(maps: Maps, address: str, mapped: Mapped) -> TableError:
    """The error, logged, for a result that has no address in it."""
    text = f'{maps.title} lookup of {address} returns non-address result "{mapped.text}"'
    log.warning(text)
    return TableError(text)


def domain_find(maps: Maps, domain: str, *, parent: bool, partial: bool = False) -> Search[str | None]:
    """The value of `domain` or of its nearest parent: ``.parent`` or, with `parent`, ``parent`` (access(5)).

    An IP address has no parents here. `partial`: `domain` itself is a part already, not for tables of patterns.
    """
    from postfixpy.lookup.cidr import parse_address

    key = domain
    while key:
        value = yield from maps_find(maps, key, partial=partial)
        if value is not None:
            return value
        dot = key.find(".", 1)
        if dot < 0 or (key == domain and parse_address(domain) is not None):
            return None
        key = key[dot + 1 :] if parent else key[dot:]
        partial = True
    return None


def address_find(maps: Maps, address: str, *, partial: bool = False) -> Search[str | None]:
    """The value of an IP address or of the smallest network, ``1.2.3`` or ``2001:db8``, that it is in (access(5))."""
    delimiter = ":" if ":" in address else "."
    key = address
    while True:
        value = yield from maps_find(maps, key, partial=partial)
        if value is not None or delimiter not in key:
            return value
        key = key.rpartition(delimiter)[0]
        partial = True
