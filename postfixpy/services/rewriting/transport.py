"""The transport table (transport(5)): overrides the delivery service and destination that an address class has.

Keys, in this order: the whole address (external form, then internal form if it differs), the address without extension,
the domain, and its parents: as ``.parent`` keys, or bare when parent_domain_matches_subdomains lists transport_maps.
Last comes ``*``. That one is asked once and kept for `WILDCARD_TIME` seconds, as in Postfix.

Values are ``transport:nexthop`` with either side empty. An empty transport keeps what was there; an empty nexthop with
a transport resets to the recipient's domain, because nexthop text means something to its own transport only.
"""

from collections.abc import Callable

from postfixpy.lookup import Maps, Search, TableError, maps_find
from postfixpy.lookup.addresses import AddressContext, Strategy, mail_addr_find

WILDCARD_TIME = 30.0
ERROR_TRANSPORTS = ("error", "retry")
"""Their nexthop is text for people, which a domain is not."""


def split(value: str) -> tuple[str, str]:
    """("transport", "nexthop") from a table value or a ``*_transport`` parameter."""
    transport, _, nexthop = value.partition(":")
    return transport, nexthop


def override(entry: tuple[str, str], domain: str, route: tuple[str, str]) -> tuple[str, str]:
    """`route` (transport, nexthop) as the table entry changes it for a recipient in `domain`."""
    transport, nexthop = entry
    if not transport:
        return route[0], nexthop or route[1]
    if nexthop:
        return transport, nexthop
    return transport, "Address is undeliverable" if transport in ERROR_TRANSPORTS else domain


class TransportTable:
    """The tables of transport_maps (or address_verify_transport_maps), with the remembered wildcard.

    `parents` says whether a bare parent domain matches too; `clock` gives seconds.
    """

    def __init__(self, maps: Maps, context: AddressContext, *, parents: bool, clock: Callable[[], float]) -> None:
        self.maps = maps
        self._context = context
        self._strategy = Strategy.FULL | Strategy.NO_EXTENSION | Strategy.DOMAIN
        self._strategy |= Strategy.PARENT if parents else Strategy.DOT_PARENT
        self._clock = clock
        self._wildcard: tuple[str, str] | None = None
        self._wildcard_error: TableError | None = None
        self._wildcard_expires = float("-inf")

    def start(self) -> Search[None]:
        """Ask for the wildcard once, so that a table that cannot answer shows at start. Never raises."""
        try:
            yield from self._ask_wildcard()
        except TableError:
            pass

    def lookup(self, address: str, domain: str, route: tuple[str, str]) -> Search[tuple[str, str]]:
        """`route` as the table overrides it for `address` (internal form, never empty). Raises TableError."""
        found = yield from mail_addr_find(self.maps, address, self._context, strategy=self._strategy)
        if found is not None:
            return override(split(found.value), domain, route)
        if self._wildcard_error is not None or self._clock() > self._wildcard_expires:
            yield from self._ask_wildcard()
        return route if self._wildcard is None else override(self._wildcard, domain, route)

    def _ask_wildcard(self) -> Search[None]:
        self._wildcard_expires = self._clock() + WILDCARD_TIME
        try:
            value = yield from maps_find(self.maps, "*")
        except TableError as error:
            self._wildcard, self._wildcard_error = None, error
            raise
        # The domain is filled in at use. An entry "error:" has its text already, by `override` with an empty domain.
        self._wildcard_error = None
        self._wildcard = None if value is None else override(split(value), "", ("", ""))
