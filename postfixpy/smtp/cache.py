"""The connection cache: which sessions are kept, how they are found again (spec 10).

A session that went well may be left in the cache for another request, under a label made of its endpoint (address,
port, and what else makes sessions differ) and, for the first session of a request, also under its destination. Before
it is used again RSET must succeed. Labels and properties are those of Postfix's scache(8), so that both can share one.
"""

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from postfixpy import log
from postfixpy.dns.record import Record
from postfixpy.mail.delivery import CONNECTION_LOAD, CONNECTION_STORE
from postfixpy.tls import loglevel

from . import session as feature
from .delivery import Delivery, Server, requires_smtputf8
from .destination import Site
from .effects import CacheFind, CacheSave, Run, listed
from .policy import Policy as TLSPolicy
from .policy import PolicyError
from .session import Session
from .stream import Stream
from .transaction import Transaction, reset_session

if TYPE_CHECKING:
    from collections.abc import Callable

    Policies = dict[tuple[str, int], TLSPolicy | PolicyError]
    GetPolicy = Callable[[Delivery, Policies], Run[TLSPolicy]]
    CleanUp = Callable[[Delivery, Session, "Policy"], Run[None]]

_DESTINATION_FEATURES = feature.BEST_MX
_TRANSIENT = feature.BEST_MX | feature.RSET_REJECTED | feature.FROM_CACHE


@dataclass(slots=True)
class Policy:
    """What this request may do with the cache.

    nexthop   the site to store the first good session under, and to find one by; ""
    used      addresses of cached sessions that this request has used
    """

    load: bool = False
    store: bool = False
    nexthop: str = ""
    used: set[str] = field(default_factory=set)


def choose_policy(d: Delivery, site: Site | None, found: bool) -> Run[Policy]:
    """The policy of a request, by its first site (None: a UNIX-domain socket) and whether that has servers."""
    settings = d.settings
    if settings.cache_destinations is not None:
        domain = site.host if site is not None else d.server.site
        if (yield from listed(settings.cache_destinations.search(domain))):
            return Policy(True, True, d.server.site if found else "")
    if settings.view.smtp_connection_cache_on_demand:
        load = bool(d.request.flags & CONNECTION_LOAD)
        store = bool(d.request.flags & CONNECTION_STORE)
        return Policy(load, store, d.server.site if found and (load or store) else "")
    return Policy()


# Labels and properties


def _field(value: str | int) -> str:
    text = str(value)
    if "\n" in text or "*" in text:
        text = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
    return f"{text or '*'}\n"


def _requirements(d: Delivery) -> list[str | int]:
    """What newer releases put at the end of labels: REQUIRETLS level (3.11) and whether SMTPUTF8 is needed (3.8.20,
    3.9.11, 3.10.12)."""
    if d.settings.release < (3, 8):
        return []
    smtputf8 = int(requires_smtputf8(d.request.sendopts))
    return [int(d.demand), smtputf8] if d.settings.release >= (3, 11) else [smtputf8]


def destination_label(d: Delivery, cached: Policy, level: int) -> str:
    """The label of the request's destination."""
    fields: list[str | int] = [d.settings.service, *_sender(d), cached.nexthop]
    if d.settings.release >= (3, 8):
        fields += [level, *_requirements(d)]
    return "".join(map(_field, fields))


def endpoint_label(d: Delivery, policy: TLSPolicy) -> str:
    """The label of the current server."""
    server, passwords = d.server, d.settings.password_maps is not None
    fields: list[str | int] = [d.settings.service, *_sender(d)]
    if passwords or policy.must_match:
        fields.append(server.site)
    if passwords:
        fields.append(server.host)
    fields += [server.address, server.port, int(policy.level), *_requirements(d)]
    return "".join(map(_field, fields))


def _sender(d: Delivery) -> list[str | int]:
    settings = d.settings
    dependent = settings.view.smtp_sender_dependent_authentication and settings.password_maps is not None
    return [d.request.sender] if dependent else []


def _swapped(port: int) -> int:
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def destination_properties(d: Delivery, session: Session) -> str:
    """What a destination label leads to."""
    server = d.server
    port = f"host_port={_swapped(server.port)}\n" if d.settings.release >= (3, 8) else ""
    return (
        f"destination={server.site}\nhost_name={server.host}\nhost_addr={server.address}\n{port}"
        f"destination_features={session.features & _DESTINATION_FEATURES}\n\n"
    )


def endpoint_properties(session: Session) -> str:
    """What must be known of a session to go on with it."""
    return (
        f"tls_level={int(session.policy.level)}\nreuse_count={session.reuse_count}\n"
        f"endpoint_features={session.features & ~_TRANSIENT}\nexpire_time={int(session.expires)}\n\n"
    )


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


# Finding


def _activate(d: Delivery, found: tuple[Any, str, str], policy: TLSPolicy) -> Session | None:
    """A session from the cache; None when its properties make no sense."""
    link, properties, _ = found
    values, server = _values(properties), d.server
    try:
        reuse_count = int(values["reuse_count"])
        features, expires = int(values["endpoint_features"]), float(values["expire_time"])
    except (KeyError, ValueError):
        log.warning("smtp_session_activate: bad cached endp properties")
        return None
    stream = Stream(link, d.clock)
    session = Session(d.settings, stream, d.request.queue_id, server.host, server.address, server.port, policy, expires)
    session.features = features | feature.FROM_CACHE
    session.reuse_count = reuse_count + 1
    session.tls = tls = link.tls
    if tls is not None and d.settings.tls_log & loglevel.SUMMARY:
        log.info(tls.line.replace(" connection established to ", " connection reused to ", 1))
    return session


def _usable(d: Delivery, session: Session | None, cached: Policy) -> Run[Session | None]:
    if session is None:
        return None
    if not (yield from reset_session(session)):
        session.stream.purge_output()
        yield from session.stream.close()
        return None
    cached.used.add(session.address)
    return session


def find_destination(d: Delivery, policy: TLSPolicy, cached: Policy) -> Run[Session | None]:
    """A cached session to the request's destination, ready for MAIL; the current server becomes that session's."""
    found = yield from CacheFind(destination_label(d, cached, policy.level), True)
    if found is None:
        return None
    values, port = _values(found[2]), d.server.port
    if "host_port" in values:
        port = _swapped(int(values["host_port"]))
    d.server = Server(values["destination"], values["host_name"], values["host_addr"], port, d.server.domain)
    session = _activate(d, found, policy)
    if session is not None:
        session.features |= int(values.get("destination_features", "0"))
    return (yield from _usable(d, session, cached))


def find_endpoint(d: Delivery, policy: TLSPolicy, cached: Policy) -> Run[Session | None]:
    """A cached session to the current server, ready for MAIL."""
    found = yield from CacheFind(endpoint_label(d, policy), False)
    if found is None:
        return None
    return (yield from _usable(d, _activate(d, found, policy), cached))


def reuse(
    d: Delivery,
    site: Site,
    addresses: list[Record],
    best: int,
    cached: Policy,
    policies: "Policies",
    get_policy: "GetPolicy",
    clean_up: "CleanUp",
) -> Run[int]:
    """Deliver over cached sessions of the site; returns how many, and removes their addresses from the list."""
    addresses[:] = [record for record in addresses if record.text not in cached.used]
    count = 0
    if addresses and cached.nexthop:
        saved = d.server
        # Postfix looks for a plaintext session here, whatever the policy is (spec 10.2).
        session = yield from find_destination(d, TLSPolicy(), cached)
        if session is not None:
            count += 1
            _forget(d, addresses, count)
            d.final_server = d.final_site and not addresses
            yield from _transaction(d, session, cached, clean_up)
        d.server = saved
    candidates = list(addresses)
    for position, record in enumerate(candidates):
        if not d.recipients or record.preference != best or record not in addresses:
            break
        port = record.port or site.port
        d.server = Server(site.text, record.query, record.text, port, site.host, record, d.server.mx)
        try:
            policy = yield from get_policy(d, policies)
        except PolicyError as error:
            log.warning(f"TLS policy lookup error for {d.server.site}/{d.server.host}: {error}")
            continue
        session = yield from find_endpoint(d, policy, cached)
        if session is not None:
            session.features |= feature.BEST_MX
            count += 1
            _forget(d, addresses, count)
            # The last of the list counts as the last server, even when others before it were not in the cache.
            d.final_server = d.final_site and (not addresses or position == len(candidates) - 1)
            yield from _transaction(d, session, cached, clean_up)
    return count


def _forget(d: Delivery, addresses: list[Record], count: int) -> None:
    """Take the current server from the list, or all of them when the site has had its share."""
    view = d.settings.view
    if count in (view.smtp_mx_session_limit, view.smtp_mx_address_limit):
        addresses.clear()
    else:
        found = next((record for record in addresses if record.text == d.server.address), None)
        if found is not None:
            addresses.remove(found)


def _transaction(d: Delivery, session: Session, cached: Policy, clean_up: "CleanUp") -> Run[None]:
    d.session = session
    yield from Transaction(d, session).run()
    yield from clean_up(d, session, cached)


def save(d: Delivery, session: Session, cached: Policy) -> Run[None]:
    """Leave a session in the cache."""
    ttl = d.settings.view.smtp_connection_cache_time_limit
    label = endpoint_label(d, session.policy)
    by_destination = properties = ""
    if cached.nexthop:
        by_destination = destination_label(d, cached, session.policy.level)
        properties = destination_properties(d, session)
    yield from CacheSave(ttl, label, endpoint_properties(session), by_destination, properties, session.stream.link)
