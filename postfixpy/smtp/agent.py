"""Delivering one request: the loop over destinations, servers and sessions (spec 2.5, 4.3 to 4.5, 1.10).

Sites are tried from left to right, the servers of a site in the order of the route, until no recipient is left, the
limits of addresses or sessions of the site are reached, or this system turns out to be one of the site's servers.
What is then left gets the last failure, as a failure of the whole destination.
"""

from dataclasses import replace

from postfixpy import log
from postfixpy.dns.record import Record
from postfixpy.errors import FatalError
from postfixpy.mail.dsn import DSN
from postfixpy.tls.level import Level

from . import cache, destination, failure, policy, requiretls, tlsrpt
from . import session as feature
from .connection import clean_up, connect, is_debug_peer, new_session
from .delivered_to import is_loop
from .delivery import Delivery, Server
from .destination import Site
from .effects import Connect, ConnectError, PassOn, Run
from .handshake import shake_hands
from .policy import Policy, PolicyError
from .requiretls import Demand
from .route import Route, find_servers
from .transaction import Transaction, quit_session

_MAX_PATH = 107
"""Bytes of a UNIX-domain socket's path."""


def deliver(d: Delivery) -> Run[None]:
    """Deliver the request: afterwards every recipient is disposed of, `d.status` and `d.hop` say how.

    Raises FatalError for a destination that makes no sense.
    """
    if not d.request.nexthop:
        raise FatalError("empty nexthop hostname")
    if d.settings.release >= (3, 6):
        d.verbose = yield from is_debug_peer(d, d.request.nexthop, "noaddr")
    if (yield from _rejected(d)):
        return
    if d.settings.lmtp and d.request.nexthop.startswith("unix:"):
        yield from _local(d, d.request.nexthop[5:])
    else:
        yield from _internet(d)


# Requests that cannot be delivered at all


def _rejected(d: Delivery) -> Run[bool]:
    """What the flags= attribute of master.cf forbids (spec 1.10)."""
    settings = d.settings
    for letter in "DO":
        if letter in settings.flags and len(d.recipients) > 1:
            log.warning(f"flag `{letter}' requires {settings.service}_destination_recipient_limit = 1")
            yield from _reject_all(d, "deferred", DSN("4.3.5", "", "mail system configuration error"))
            return True
    if "D" in settings.flags and d.recipients and (yield from is_loop(d)):
        text = f"mail forwarding loop for {d.recipients[0].address}"
        yield from _reject_all(d, "bounced", DSN("5.4.6", "", text))
        return True
    return False


def _reject_all(d: Delivery, result: str, dsn: DSN) -> Run[None]:
    for index in d.open():
        yield from d.dispose(index, result, dsn, relay=d.settings.service)
    d.next_session()


# Destinations


def _internet(d: Delivery) -> Run[None]:
    settings = d.settings
    if not settings.families:
        d.why = DSN("4.4.4", "", "all network protocols are disabled")
        yield from failure.leftover(d)
        return
    nexthop = d.request.nexthop
    if settings.lmtp and nexthop.startswith("inet:"):
        nexthop = nexthop[5:]
    sites = destination.split_list(nexthop)
    own = len(sites)
    if not own:
        raise FatalError(f'null destination: "{nexthop}"')
    sites += destination.split_list(settings.view.smtp_fallback_relay)
    cached = cache.Policy()
    for position, text in enumerate(sites):
        site = destination.parse_site(text, settings.view.smtp_tcp_port, settings.known_ports, utf8=settings.utf8)
        if d.verbose:
            _tell_site(d, site)
        _wrappermode_hint(d, site)
        d.demand = yield from requiretls.demand(settings, site.host, d.request.sendopts)
        d.loop_detect = not settings.lmtp and site.port == 25
        d.tlsrpt = yield from tlsrpt.find(d, site.host)
        route = yield from find_servers(settings, site, d.loop_detect, verbose=d.verbose)
        d.why = route.why
        d.final_site = position == len(sites) - 1 or route.found_self or route.why.status[1:] == ".4.6"
        d.server = Server(site.text, site.host, "", site.port, site.host, mx=route.mx)
        if position == 0:
            cached = yield from cache.choose_policy(d, site, bool(route.addresses))
        yield from _site(d, site, route, cached)
        if not d.recipients or d.final_site:
            break
    if d.recipients:
        yield from _leftovers(d, sites, position >= own)


def _tell_site(d: Delivery, site: Site) -> None:
    log.info(f"smtp_parse_destination: {site.text} {d.settings.view.smtp_tcp_port}")
    where = f"service {site.service}" if d.settings.release >= (3, 8) else f"port {site.port}"
    log.info(f"connecting to {site.host} {where}")


def _wrappermode_hint(d: Delivery, site: Site) -> None:
    view, name = d.settings.view, d.settings.name
    if site.port == 465 and view.helpful_warnings and not view.smtp_tls_wrappermode:
        log.info(
            f'SMTPS wrappermode (TCP port 465) requires setting "{name("smtp_tls_wrappermode")} = yes", and '
            f'"{name("smtp_tls_security_level")} = encrypt" (or stronger)'
        )


def _leftovers(d: Delivery, sites: list[str], fallback: bool) -> Run[None]:
    """Dispose of the recipients for whom no server is left."""
    settings, view = d.settings, d.settings.view
    if not d.why.status:
        d.why = DSN("4.3.0", "", "server unavailable or unable to receive mail")
    if not d.why.soft:
        relayhost = not settings.lmtp and sites[0] == view.relayhost
        if fallback:
            log.warning("smtp_fallback_relay configuration problem")
            d.why = replace(d.why, status="4.3.5")
        elif relayhost:
            log.warning("relayhost configuration problem")
            d.why = replace(d.why, status="4.3.5")
    if d.why.status[1:] == ".4.6" and not settings.lmtp and view.best_mx_transport:
        transport, _, nexthop = view.best_mx_transport.partition(":")
        for recipient in d.recipients:
            log.info(f"{d.request.queue_id}: passing <{recipient.address}> to transport={transport}")
            d.status |= yield from PassOn(transport, nexthop or d.request.nexthop, recipient)
        d.recipients = []
        d.marks = []
        return
    yield from failure.leftover(d)


# The servers of one site


class _Counts:
    """How many addresses and sessions of a site have been used, against smtp_mx_address_limit and _session_limit."""

    def __init__(self, d: Delivery) -> None:
        self.address_limit: int = d.settings.view.smtp_mx_address_limit
        self.session_limit: int = d.settings.view.smtp_mx_session_limit
        self.addresses = 0
        self.sessions = 0


def _site(d: Delivery, site: Site, route: Route, cached: cache.Policy) -> Run[None]:
    addresses = list(route.addresses)
    if not addresses:
        return
    best = addresses[0].preference
    counts = _Counts(d)
    policies: dict[tuple[str, int], Policy | PolicyError] = {}
    if cached.load:
        counts.addresses = counts.sessions = yield from cache.reuse(
            d, site, addresses, best, cached, policies, get_policy, clean_up
        )
    while addresses and d.recipients:
        record = addresses.pop(0)
        counts.addresses += 1
        if counts.addresses == counts.address_limit:
            addresses.clear()
        name, port = _server_name(d, record), record.port or site.port
        d.server = Server(site.text, name, record.text, port, site.host, record, route.mx)
        while d.recipients:
            yield from _server(d, record, best, cached, counts, addresses, policies)
            if not d.retry_plain:
                break


def _server_name(d: Delivery, record: Record) -> str:
    return record.name if d.settings.view.smtp_cname_overrides_servername else record.query


def get_policy(d: Delivery, policies: dict[tuple[str, int], Policy | PolicyError]) -> Run[Policy]:
    """The TLS policy of the current server, worked out once a request; begins the ``tls=`` field.

    Raises PolicyError, with `d.why` set.
    """
    key = (d.server.host, d.server.port)
    d.tls.start(d.demand > Demand.DISABLE)
    found = policies.get(key)
    if found is None:
        try:
            found = yield from policy.evaluate(d.settings, d.server, d.request.sendopts, d.clock())
        except PolicyError as error:
            found = error
        policies[key] = found
    if isinstance(found, PolicyError):
        d.tls.expect(None)
        d.why = DSN(found.status, "", str(found))
        raise found
    d.tls.expect(found.level)
    try:
        policy.check_demand(d, found.level)
    except PolicyError as error:
        d.why = DSN(error.status, "", str(error))
        raise
    return found


def _server(
    d: Delivery,
    record: Record,
    best: int,
    cached: cache.Policy,
    counts: _Counts,
    rest: list[Record],
    policies: dict[tuple[str, int], Policy | PolicyError],
) -> Run[None]:
    """Try one address: connect, greet, deliver."""
    plain, d.retry_plain = d.retry_plain, False
    server, view = d.server, d.settings.view
    try:
        level = yield from get_policy(d, policies)
    except PolicyError as error:
        log.warning(f"TLS policy lookup for {server.site}/{server.host}: {error}")
        return
    if view.smtp_tls_wrappermode and not level.must_encrypt:
        mode, parameter = d.settings.name("smtp_tls_wrappermode"), d.settings.name("smtp_tls_security_level")
        log.warning(f'{mode} requires "{parameter} = encrypt" (or stronger)')
        return
    if not level.permits_host(record.query):
        return
    if plain:
        level = Policy()
    session = None
    if cached.load and record.preference > best:
        session = yield from cache.find_endpoint(d, level, cached)
    d.final_server = d.final_site and not rest
    if session is None:
        session = yield from connect(d, record, level, cached)
        if session is None:
            return
        tlsrpt.begin(d, level, session.stream.link)
        if record.preference == best:
            session.features |= feature.BEST_MX
        d.session = session
        ready = yield from shake_hands(d, session)
        if not ready:
            if d.retry_plain:
                counts.addresses -= 1
            elif session.stream.healthy and not session.forbidden:
                yield from quit_session(session)
            yield from clean_up(d, session, cached)
            return
    d.session = session
    counts.sessions += 1
    if counts.sessions == counts.session_limit:
        rest.clear()
    d.final_server = d.final_site and not rest
    yield from Transaction(d, session).run()
    if d.retry_plain:
        counts.addresses -= 1
        counts.sessions -= 1
    yield from clean_up(d, session, cached)


# LMTP over UNIX-domain sockets


def _local(d: Delivery, path: str) -> Run[None]:
    settings, view = d.settings, d.settings.view
    if view.smtp_fallback_relay:
        value = view.smtp_fallback_relay
        log.warning(f'ignoring "lmtp_fallback_relay = {value}" setting for non-TCP connections')
    d.server = Server(path, view.myhostname, path, 0, view.myhostname)
    d.demand = yield from requiretls.demand(settings, view.myhostname, d.request.sendopts)
    d.final_site = d.final_server = True
    cached = yield from cache.choose_policy(d, None, True)
    try:
        level = yield from get_policy(d, {})
    except PolicyError as error:
        log.warning(f"TLS policy lookup error for {view.myhostname}/{path}: {error}")
    else:
        session = (yield from cache.find_destination(d, level, cached)) if cached.load else None
        if session is not None:
            d.session = session
            yield from Transaction(d, session).run()
            yield from clean_up(d, session, cached)
        else:
            yield from _local_session(d, path, level, cached)
    if d.recipients:
        yield from _leftovers(d, [path], False)


def _local_session(d: Delivery, path: str, level: Policy, cached: cache.Policy) -> Run[None]:
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH:
        log.warning(f"unix-domain name too long: {path}")
        d.why = DSN("4.3.5", "", "Server configuration error")
        return
    if d.verbose:
        log.info(f"smtp_connect_unix: trying: {path}...")
    try:
        link = yield from Connect(0, path, 0, d.settings.view.smtp_connect_timeout)
    except ConnectError as error:
        d.why = DSN("4.4.1", "", f"connect to {d.server.host}[{path}]: {error}")
        return
    if level.level == Level.MAY:
        log.warning("smtp_connect_local: opportunistic TLS encryption is not appropriate for unix-domain destinations.")
        level = Policy()
    session = d.session = new_session(d, link, level, cached)
    session.verbose = d.verbose or (yield from is_debug_peer(d, session.host, session.address))
    ready = yield from shake_hands(d, session)
    if ready:
        yield from Transaction(d, session).run()
    elif session.stream.healthy and not session.forbidden:
        yield from quit_session(session)
    yield from clean_up(d, session, cached)
