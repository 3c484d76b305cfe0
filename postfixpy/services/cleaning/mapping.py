"""Address mapping: canonical tables (one to one), masquerading, virtual aliases (one to many).

A table that cannot answer never loses mail: the message is refused with STAT_WRITE or STAT_DEFER, and processing goes
on with the address as it is, so that all errors are reported in one place.

Sources: canonical(5), virtual(5), ADDRESS_REWRITING_README; postconf(5) masquerade_domains, virtual_alias_*_limit.
"""

from collections.abc import Awaitable

from postfixpy import log
from postfixpy.ipc.cleanup import STAT_DEFER, STAT_WRITE
from postfixpy.lookup.addresses import acrunch, mail_addr_map, nothing_mapped
from postfixpy.lookup.maps import Maps
from postfixpy.lookup.search import arun
from postfixpy.lookup.table import TableError, casefold
from postfixpy.mail.addresses import addresses, parse_addresses, quote_822_local, unquote_822_local

from .settings import ENVELOPE_RECIPIENT, ENVELOPE_SENDER, HEADER_RECIPIENT, HEADER_SENDER
from .state import Incoming

_MAX_NESTING = 10
_EXPANSION_ERROR = "4.6.0 Alias expansion error"
_TRY_LATER = "message not accepted, try again later"


async def rewrite_external(mail: Incoming, address: str, where: int) -> str:
    """`address` (external form) after all canonical mapping and masquerading for its class `where`, one of the
    ENVELOPE_* and HEADER_* bits."""
    settings = mail.settings
    sender = where in (ENVELOPE_SENDER, HEADER_SENDER)
    own, own_classes = (
        (settings.sender_canonical, settings.sender_canonical_classes)
        if sender
        else (settings.recipient_canonical, settings.recipient_canonical_classes)
    )
    for maps, classes in ((own, own_classes), (settings.canonical, settings.canonical_classes)):
        if maps is not None and classes & where:
            address = await canonical(mail, address, maps)
    if settings.masquerade_domains and settings.masquerade_classes & where:
        address = await masquerade(mail, address)
    return address


async def rewrite_internal(mail: Incoming, address: str, where: int) -> str:
    """The same for an address in internal form."""
    assert where in (ENVELOPE_SENDER, ENVELOPE_RECIPIENT, HEADER_SENDER, HEADER_RECIPIENT)
    settings = mail.settings
    tables = settings.canonical or settings.sender_canonical or settings.recipient_canonical
    if not tables and not settings.masquerade_domains:
        return address
    external = quote_822_local(address)
    mapped = await rewrite_external(mail, external, where)
    return address if mapped == external else unquote_822_local(mapped)


async def canonical(mail: Incoming, address: str, maps: Maps) -> str:
    """`address` (external form) looked up in `maps` until it no longer changes."""
    settings = mail.settings
    for _ in range(_MAX_NESTING):
        try:
            found = await _mapped(mail, maps, unquote_822_local(address), settings.propagate_canonical, internal=False)
        except TableError:
            log.warning(f"{mail.queue_id}: {maps.title} map lookup problem for {address} -- {_TRY_LATER}")
            mail.errors |= STAT_WRITE
            return address
        if not found:
            return address
        if len(found) > 1:
            log.warning(f"{mail.queue_id}: multi-valued {maps.title} entry for {address}")
        same = casefold(found[0], settings.utf8) == casefold(address, settings.utf8)
        address = found[0]
        if same:
            return address
    log.warning(f"{mail.queue_id}: unreasonable {maps.title} map nesting for {address} -- {_TRY_LATER}")
    return address


async def _mapped(mail: Incoming, maps: Maps, address: str, propagate: bool, *, internal: bool) -> list[str]:
    """What one search in `maps` makes of `address` (internal form); empty when it is not there. Raises TableError."""
    mapped = await arun(mail_addr_map(maps, address, mail.settings.addresses, propagate=propagate))
    if mapped is None:
        return []

    def canonical_form(external: str) -> Awaitable[str]:
        return mail.rewriter.rewrite("local", external)

    found = await acrunch(mapped, _split_list, canonical_form, internal=internal)
    if not found:
        raise nothing_mapped(maps, address, mapped)
    return found


def _split_list(text: str) -> list[str]:
    """The addresses in `text`, external form."""
    return [token.external for token in addresses(parse_addresses(text))]


async def masquerade(mail: Incoming, address: str) -> str:
    """`address` with a host below one of masquerade_domains replaced by that domain. The first match decides; "!"
    before a domain says to leave it alone."""
    settings = mail.settings
    local, at, domain = address.rpartition("@")
    if not at:
        return address
    domain = casefold(domain, settings.utf8)
    if settings.masquerade_exceptions is not None:
        try:
            if await settings.masquerade_exceptions.amatch(local):
                return address
        except TableError:
            log.info(f"{mail.queue_id}: masquerade_exceptions map lookup problem -- {_TRY_LATER}")
            mail.errors |= STAT_WRITE
    for entry in settings.masquerade_domains:
        parent = entry.lstrip("!")
        keep = (len(entry) - len(parent)) % 2 == 1
        parent = casefold(parent, settings.utf8)
        if not parent:
            continue
        if parent == domain:
            break
        if domain.endswith("." + parent):
            return address if keep else f"{local}@{parent}"
    return address


async def expand(mail: Incoming, address: str, maps: Maps) -> list[str]:
    """The addresses that `address` is an alias for, itself if for none; all internal form."""
    settings = mail.settings
    view = settings.view
    found = [address]
    finished: set[str] = set()  # addresses that expanded into themselves

    def give_up(text: str, status: int) -> list[str]:
        log.warning(f"{mail.queue_id}: {text} -- {_TRY_LATER}")
        mail.errors |= status
        mail.reason = _EXPANSION_ERROR
        return [address]

    index = 0
    while index < len(found):
        if len(found) > view.virtual_alias_expansion_limit:
            return give_up(f"unreasonable {maps.title} map expansion size for {address}", STAT_DEFER)
        nesting = 0
        while casefold(found[index], settings.utf8) not in finished:
            if nesting >= view.virtual_alias_recursion_limit:
                return give_up(f"unreasonable {maps.title} map nesting for {address}", STAT_DEFER)
            name = found[index]
            try:
                result = await _mapped(mail, maps, name, settings.propagate_virtual, internal=True)
            except TableError:
                return give_up(f"{maps.title} map lookup problem for {address}", STAT_WRITE)
            if not result:
                break
            for position, target in enumerate(result):
                if len(target.encode("utf-8", "surrogateescape")) > view.virtual_alias_address_length_limit:
                    return give_up(f"unreasonable {maps.title} result {target:.300}...", STAT_DEFER)
                if position == 0:
                    found[index] = target
                else:
                    found.append(target)
                if casefold(name, settings.utf8) == casefold(target, settings.utf8):
                    finished.add(casefold(name, settings.utf8))
            nesting += 1
        index += 1
    return found
