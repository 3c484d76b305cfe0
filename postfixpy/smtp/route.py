"""From a destination to the addresses of its servers, in the order to try them (spec 3.1, 3.3 to 3.7).

`find_servers` is a generator of lookups. It returns a `Route`: the addresses, or the reason why there are none as a
DSN. Policy in words:

* a domain's MX hosts are all looked up before anything is connected to; without MX records the domain itself is the
  host; a null MX, or a domain that does not exist, is a hard failure; a lookup that should be repeated is a soft one;
* when this system is itself among the MX hosts, only better ones are tried; when it is the best, mail loops;
* equal preferences are shuffled, families ordered by smtp_address_preference, and both kept in the first
  smtp_mx_address_limit.

`random` is given by the caller, so that a test can fix the order.
"""

import random as random_module
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import family_of, to_ascii
from postfixpy.dns.record import AAAA, MX, SRV, A, Answer, Record, Status, type_name
from postfixpy.mail.dsn import DSN
from postfixpy.tls.level import Level

from .destination import Site
from .effects import Native, NativeError, Resolve, Run

if TYPE_CHECKING:
    from .settings import Settings

_HARD_LIMIT = 100


@dataclass(slots=True)
class Route:
    """Servers to try. `found_self`: this system is one of the site's servers, so nothing else is to be tried.

    why     when `addresses` is empty: status and reason
    mx      the first MX record of the site, if it has any
    verbose log what is looked up (debug_peer_list)
    """

    addresses: list[Record] = field(default_factory=list)
    why: DSN = field(default_factory=DSN)
    found_self: bool = False
    mx: Record | None = None
    verbose: bool = False

    def fail(self, status: str, text: str) -> None:
        self.why = DSN(status, "", text)


def find_servers(settings: "Settings", site: Site, loop_detect: bool, *, verbose: bool = False) -> Run[Route]:
    """The servers of `site`. The route's `why` may hold a partial failure even when there are addresses."""
    route = Route(verbose=verbose)
    literal = site.literal or not settings.dns
    if not literal and (yield from settings.wants_srv(site.service)):
        go_on = yield from _srv_servers(settings, route, site, loop_detect)
        if not go_on:
            return route
    if not settings.lmtp and not literal:
        yield from _mx_servers(settings, route, site.host, loop_detect)
    else:
        yield from _host_servers(settings, route, site.host, loop_detect)
    return route


# MX


def _mx_servers(settings: "Settings", route: Route, domain: str, loop_detect: bool) -> Run[None]:
    view = settings.view
    query = domain if domain.isascii() else to_ascii(domain) or domain
    answer: Answer = yield from Resolve(query, MX, dnssec=settings.dnssec)
    status = answer.status
    if status == Status.OK:
        yield from _mx_hosts(settings, route, domain, answer, loop_detect)
        return
    if status == Status.NOTFOUND:
        yield from _host_servers(settings, route, query, loop_detect)
        return
    codes = {Status.INVAL: "5.4.4", Status.FAIL: "5.4.3", Status.NULLMX: "5.1.0", Status.POLICY: "4.7.0"}
    route.fail(codes.get(status, "4.4.3"), answer.text)
    if view.ignore_mx_lookup_error and status not in (Status.NULLMX, Status.POLICY):
        yield from _host_servers(settings, route, query, loop_detect)


def _mx_hosts(settings: "Settings", route: Route, domain: str, answer: Answer, loop_detect: bool) -> Run[None]:
    view = settings.view
    records = sorted(answer.records, key=lambda record: record.preference)
    route.mx = records[0]
    for record in records:
        if len(route.addresses) >= _HARD_LIMIT:
            break
        dnssec = record.validated or settings.insecure_mx_level > Level.MAY
        yield from _add_host(settings, route, record.text, record.preference, record.port, dnssec=dnssec)
    if not route.addresses:
        if view.smtp_defer_if_no_mx_address_found and route.why.status.startswith("5"):
            route.why = replace(route.why, status="4" + route.why.status[1:])
        log.warning(f"no MX host for {domain} has a valid address record")
        return
    _tell_addresses(route, domain)
    if loop_detect and not _truncate_at_self(settings, route, domain, records[0].preference):
        return
    addresses = route.addresses
    if len(addresses) > 1:
        if view.smtp_randomize_addresses:
            settings.random.shuffle(addresses)
        addresses.sort(key=lambda record: (record.preference, settings.family_rank(record.rtype)))
        route.addresses = balance(addresses, view.smtp_mx_address_limit, view.smtp_balance_inet_protocols)


def _truncate_at_self(settings: "Settings", route: Route, domain: str, best: int) -> bool:
    """Drop this system and everything that is no better; False when nothing is left."""
    own = _find_self(settings, route)
    if own is None:
        return True
    route.found_self = True
    first = route.addresses[0].preference
    cut = next(i for i, record in enumerate(route.addresses) if record.preference == own.preference)
    route.addresses = route.addresses[:cut]
    if route.addresses:
        return True
    if best != first:
        route.fail("4.4.4", f"unable to find primary relay for {domain}")
    else:
        route.fail("5.4.6", f"mail for {domain} loops back to myself")
    return False


def _find_self(settings: "Settings", route: Route) -> Record | None:
    own = next((record for record in route.addresses if settings.is_own(record.text)), None)
    if route.verbose:
        log.info(f"smtp_find_self: found self at pref {own.preference}" if own else "smtp_find_self: not found")
    return own


def _tell_addresses(route: Route, name: str) -> None:
    if route.verbose:
        log.info(f"begin {name} address list")
        for record in route.addresses:
            log.info(f"pref {record.preference:4} host {record.query}/{record.text}")
        log.info(f"end {name} address list")


def balance(addresses: list[Record], limit: int, enabled: bool) -> list[Record]:
    """Give both address families their share of the first `limit` places (smtp_balance_inet_protocols)."""
    limit = min(limit, _HARD_LIMIT)
    v6 = sum(record.rtype == AAAA for record in addresses)
    v4 = len(addresses) - v6
    if not enabled or limit <= 0 or not v4 or not v6 or v4 + v6 <= limit:
        return addresses
    half = limit // 2
    if v6 <= half:
        v4 = limit - v6
    elif v4 <= half:
        v6 = limit - v4
    else:
        v4 = (limit + (1 if addresses[0].rtype == A else 0)) // 2
        v6 = limit - v4
    left = {A: v4, AAAA: v6}
    kept = []
    for record in addresses:
        if left[record.rtype] > 0:
            left[record.rtype] -= 1
            kept.append(record)
    return kept


# SRV


def _srv_servers(settings: "Settings", route: Route, site: Site, loop_detect: bool) -> Run[bool]:
    """The servers by SRV records; returns whether to go on as if there were none."""
    view = settings.view
    domain = site.host if site.host.isascii() else to_ascii(site.host) or site.host
    name = f"_{site.service}._tcp.{domain}"
    answer: Answer = yield from Resolve(name, SRV, dnssec=settings.dnssec)
    failed = False
    if answer.status == Status.OK:
        records = order_srv(answer.records, settings.random)
        route.mx, best = records[0], records[0].preference
        for record in records:
            if len(route.addresses) >= _HARD_LIMIT:
                break
            dnssec = record.validated or settings.insecure_mx_level > Level.MAY
            yield from _add_host(settings, route, record.text, record.preference, record.port, dnssec=dnssec)
        if not route.addresses:
            log.warning(f"no SRV host for {name} has a valid address record")
        elif not loop_detect or _truncate_at_self(settings, route, name, best):
            route.addresses = balance(route.addresses, view.smtp_mx_address_limit, view.smtp_balance_inet_protocols)
            return False
    else:
        codes = {
            Status.INVAL: "5.4.4",
            Status.FAIL: "5.4.3",
            Status.POLICY: "4.7.0",
            Status.NULLSRV: "5.1.0",
            Status.NOTFOUND: "5.4.4",
        }
        route.fail(codes.get(answer.status, "4.4.3"), answer.text)
        failed = answer.status in (Status.RETRY, Status.INVAL, Status.FAIL)
    if view.allow_srv_lookup_fallback or (failed and view.ignore_srv_lookup_error):
        log.info(f"skipping SRV lookup for {name}: {route.why.reason}")
        route.found_self = False
        return True
    return False


def order_srv(records: Sequence[Record], random: random_module.Random) -> list[Record]:
    """RFC 2782: by priority, and within one by chance in proportion to the weights."""
    left = list(records)
    random.shuffle(left)
    left.sort(key=lambda record: record.preference)
    out: list[Record] = []
    while left:
        group = [record for record in left if record.preference == left[0].preference]
        left = left[len(group) :]
        while group:
            threshold = random.randint(0, sum(record.weight for record in group))
            sums = accumulate(record.weight for record in group)
            chosen = next(index for index, running in enumerate(sums) if running >= threshold)
            group[0], group[chosen] = group[chosen], group[0]
            out.append(group.pop(0))
    return out


# Hosts


def _host_servers(settings: "Settings", route: Route, host: str, loop_detect: bool) -> Run[None]:
    """A host by its address records: what is in brackets, LMTP hosts, domains without MX."""
    view = settings.view
    route.why = DSN()
    yield from _add_host(settings, route, host, 0, 0, dnssec=True)
    addresses = route.addresses
    if not addresses:
        return
    if loop_detect and _find_self(settings, route) is not None:
        route.addresses = []
        route.fail("5.4.6", f"mail for {host} loops back to myself")
        return
    if len(addresses) > 1:
        if view.smtp_randomize_addresses:
            settings.random.shuffle(addresses)
        if len(settings.families) > 1:
            addresses.sort(key=lambda record: (record.preference, settings.family_rank(record.rtype)))
        route.addresses = balance(addresses, view.smtp_mx_address_limit, view.smtp_balance_inet_protocols)
    _tell_addresses(route, host)


def _add_host(settings: "Settings", route: Route, host: str, preference: int, port: int, *, dnssec: bool) -> Run[None]:
    """Append the addresses of `host`; on failure set the reason. A soft reason stays soft (spec 3.4).

    `dnssec`: ask for validated ones, if DNSSEC is used at all.
    """
    if route.verbose:
        log.info(f"smtp_addr_one: host {host}")
    family = family_of(host)
    if family and family in settings.families:
        rtype = A if family == 4 else AAAA
        route.addresses.append(Record(host, host, rtype, 0, host, preference, 0, port))
        return
    if not family and not host.isascii():
        host = to_ascii(host) or host
    soft = route.why.soft
    if settings.lookup_dns:
        answer = yield from _query_families(settings, host, settings.dnssec and dnssec)
        if answer.status == Status.OK:
            found = [record._replace(preference=preference, port=port) for record in answer.records]
            route.addresses = join(route.addresses, found)
            return
        if answer.status == Status.POLICY:
            code = "4.7.0"
        elif answer.status == Status.FAIL:
            code = "4.4.3" if soft else "5.4.3"
        elif answer.status in (Status.INVAL, Status.NOTFOUND):
            code = "4.4.4" if soft else "5.4.4"
        else:
            code = "4.4.3"
        route.fail(code, answer.text)
        if answer.status != Status.NOTFOUND:
            return
    if settings.lookup_native:
        yield from _native(settings, route, host, preference, port)


def _query_families(settings: "Settings", host: str, dnssec: bool) -> Run[Answer]:
    """A and AAAA; of two failures the higher class counts, of equal ones the later."""
    result: Answer | None = None
    records: list[Record] = []
    for family in settings.families:
        rtype = A if family == 4 else AAAA
        answer: Answer = yield from Resolve(host, rtype, settings.resolver_options, dnssec)
        records = join(records, answer.records)
        if result is None or answer.status >= result.status:
            result = answer
    assert result is not None  # `agent` looks that there is a family
    if records:
        return Answer(Status.OK, "", records)
    return result


def join(records: list[Record], more: list[Record]) -> list[Record]:
    """`records` and `more`, up to a limit; a warning when some of them are dropped."""
    joined = records + more
    if len(joined) <= _HARD_LIMIT or not records:
        return joined
    last = joined[_HARD_LIMIT - 1]
    log.warning(
        f"DNS record count limit ({_HARD_LIMIT}) exceeded -- dropping excess record(s) "
        f"after qname={last.query} qtype={type_name(last.rtype)}"
    )
    return joined[:_HARD_LIMIT]


def _native(settings: "Settings", route: Route, host: str, preference: int, port: int) -> Run[None]:
    soft = route.why.soft
    try:
        only = settings.families[0] if len(settings.families) == 1 else 0
        found = yield from Native(host, only)
    except NativeError as error:
        digit = "4" if soft or error.soft else "5"
        detail = "4.4" if error.known else "3.0"
        route.fail(f"{digit}.{detail}", f"unable to look up host {host}: {error}")
        return
    usable = []
    for address in found:
        family = family_of(address)
        if family in settings.families:
            usable.append(Record(host, host, A if family == 4 else AAAA, 0, address, preference, 0, port))
        else:
            log.info(f"skipping address family {2 if family == 4 else 10} for host {host}")
    if usable:
        route.addresses += usable
    else:
        route.fail("4.4.4" if soft else "5.4.4", f"{host}: host not found")
