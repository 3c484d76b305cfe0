"""smtp_generic_maps: addresses of the local site as the world should see them (spec 7.6, generic(5)).

The sender, the recipients, and the addresses in the primary headers that hold senders or recipients are mapped, each
once and not recursively. A table that cannot answer is fatal for the process, as in Postfix: mail must not go out with
addresses that nobody outside can answer.
"""

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.addresses import add_extension, mail_addr_map, nothing_mapped
from postfixpy.lookup.table import TableError
from postfixpy.mail.addresses import addresses, header_text, parse_addresses, quote_822_local, unquote_822_local

from .delivery import Delivery
from .effects import Rewrite, Run, ask

_FOLD = 70
"""Rewritten addresses are put on one line up to this many characters."""


def envelope_address(d: Delivery, address: str) -> Run[str]:
    """`address` (internal form) after smtp_generic_maps."""
    if d.settings.generic_maps is None or not address:
        return address
    mapped = yield from _map(d, address)
    return address if mapped is None else mapped


def _map(d: Delivery, address: str) -> Run[str | None]:
    """What the maps make of an address (both internal form), or None. Raises FatalError."""
    settings, maps = d.settings, d.settings.generic_maps
    assert maps is not None
    try:
        search = mail_addr_map(maps, address, settings.addresses, propagate=settings.propagate_generic)
        mapped = yield from ask(search)
        if mapped is None:
            return None
        text = '""' if mapped.text in ("", "<>") else mapped.text
        found = [token.external for token in addresses(parse_addresses(text))]
        if not found:
            raise nothing_mapped(maps, address, mapped)
    except TableError:
        raise FatalError(f"{maps.title} map lookup problem for {address}") from None
    if len(found) > 1:
        log.warning(f"multi-valued {maps.title} result for {address}")
    canonical: list[str] = []
    for external in found:  # all of them, as in Postfix, although only the first is used
        canonical.append((yield from Rewrite(external)))
    result = unquote_822_local(canonical[0])
    return add_extension(result, mapped.extension) if mapped.extension else result


def header_lines(d: Delivery, name_size: int, text: str) -> Run[list[str] | None]:
    """The lines of a header with its addresses mapped, without a line end; None when nothing was mapped.

    `name_size` is the length of the header's name in Postfix's list of headers.
    """
    tokens = parse_addresses(text[name_size + 1 :])
    changed = False
    for token in addresses(tokens):
        internal = unquote_822_local(token.external)
        mapped = yield from _map(d, internal)
        if mapped is not None:
            changed = True
            token.replace(quote_822_local(mapped))
    if not changed:
        return None
    lines: list[str] = []
    for line in f"{text[:name_size]}: {header_text(tokens)}".split("\n"):
        if lines and len(lines[-1]) + 1 + len(line) < _FOLD:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return [line if n == 0 or line[:1] in " \t" else f"\t{line}" for n, line in enumerate(lines)]
