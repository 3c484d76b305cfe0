"""DANE for SMTP: whether a server's TLSA records can be had, and what that makes of its security level (RFC 7672).

TLSA records count only when the resolver has validated them, and are looked up only for servers whose address (or whose
alias) was validated, too. In words (spec 8.5):

* No records: dane becomes may, dane-only fails. Records that none can use: dane becomes encrypt, dane-only fails.
* A lookup that fails is not an absence: the server is skipped, for an attacker could have made it fail.
* A domain whose MX records were not validated: smtp_tls_dane_insecure_mx_policy decides between may, encrypt, and
  halfdane, which is dane without a claim to security.
* A configuration in which DANE cannot be trusted (no DNSSEC, MX errors ignored, search domains) is warned of; dane
  becomes may, and dane-only fails.

Usages 0 and 1, which need a public CA, are not for SMTP (RFC 7672 3.1.3) and are dropped with a warning.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.lookup import RES_DEFNAMES, RES_DNSRCH
from postfixpy.dns.record import CNAME, Record, Status
from postfixpy.dns.record import TLSA as TLSA_TYPE
from postfixpy.tls import loglevel
from postfixpy.tls.handshake import TLSA
from postfixpy.tls.level import Level, level_name

from .effects import Resolve, Run
from .policy import Policy, PolicyError

if TYPE_CHECKING:
    from .delivery import Server
    from .settings import Settings

_MIN_TTL, _MAX_TTL = 1, 100
"""Bounds of the time that answers are remembered, in seconds."""
_CACHE_SIZE = 20


@dataclass(slots=True)
class Found:
    """What a host's TLSA lookup gave: `records` that can be used, None if there are no validated records at all."""

    base: str
    records: tuple[TLSA, ...] | None
    expires: float = 0.0


def initialize(settings: "Settings", server: "Server", policy: Policy, now: float) -> Run[None]:
    """Turn the level dane or dane-only of `policy` into what the DNS makes of it. Raises PolicyError."""
    level = level_name(policy.level)
    site, mx = server.site, server.mx
    if not server.port:
        log.warning(f'{site}: the "dane" security level is invalid for delivery via unix-domain sockets')
        raise PolicyError
    problem = _unfit(settings)
    if problem:
        log.warning(f"{site}: {problem.format(level)}")
        if policy.level != Level.DANE:
            raise PolicyError
        policy.level = Level.MAY
        return
    insecure = mx is not None and not mx.validated
    if insecure and (policy.level == Level.DANE_ONLY or settings.insecure_mx_level <= Level.MAY):
        _lower(policy, Level.MAY, "non DNSSEC destination")
        return
    assert server.record is not None
    found = yield from resolve(settings, server.port, server.record, now)
    if found is None:
        raise PolicyError("4.7.5", f"TLSA lookup error for {server.host}:{server.port}")
    if found.records is None:
        _lower(policy, Level.MAY, "no TLSA records found")
    elif not found.records:
        _lower(policy, Level.ENCRYPT, "TLSA records unusable")
    elif insecure and settings.insecure_mx_level == Level.ENCRYPT:
        _lower(policy, Level.ENCRYPT, "Verification not possible, MX RRset is insecure")
    else:
        if insecure:
            policy.level = Level.HALFDANE
        policy.tlsa, policy.base, policy.match = found.records, found.base, [found.base]
        if mx is not None:
            policy.match += [mx.query] if mx.query == mx.name else [mx.name, mx.query]


def _unfit(settings: "Settings") -> str:
    """Why the configuration is unfit for DANE, as a warning with the level's name to be filled in; "" if it is fit."""
    if not settings.dnssec or not settings.lookup_dns:
        return "{} configured with dnssec lookups disabled"
    if not settings.lmtp and settings.view.ignore_mx_lookup_error:
        return "{} configured with MX lookup errors ignored"
    if settings.resolver_options & (RES_DEFNAMES | RES_DNSRCH):
        return "dns resolver options incompatible with {} TLS"
    return ""


def _lower(policy: Policy, level: Level, why: str) -> None:
    """The server is at fault: dane is lowered, dane-only fails. Raises PolicyError."""
    if policy.level != Level.DANE:
        raise PolicyError("4.7.5", why)
    policy.level = level


def resolve(settings: "Settings", port: int, host: Record, now: float) -> Run[Found | None]:
    """The TLSA records of the host with this address record; None when a lookup failed.

    The address's own name, where a CNAME led to, comes first; the name that was asked for is the second choice.
    """
    alias = host.name.lower() != host.query.lower()
    secure = host.validated or settings.view.smtp_tls_force_insecure_host_tlsa_lookup
    if not secure and alias:
        validated = yield from _alias_validated(host.query)
        if validated is None:
            return None
        secure = validated
    if not secure:
        return Found(host.query, None)
    if host.validated:
        found = yield from _lookup(settings, port, host.name, now)
        if found is None or found.records is not None or not alias:
            return found
    return (yield from _lookup(settings, port, host.query, now))


def _alias_validated(name: str) -> Run[bool | None]:
    """Whether the CNAME record of `name` was validated; None, with a warning, when it cannot be had."""
    answer = yield from Resolve(name, CNAME, dnssec=True)
    if answer.status == Status.OK:
        return answer.records[0].validated
    why = "no longer a CNAME" if answer.status == Status.NOTFOUND else answer.text
    log.warning(f"DNSSEC status lookup error for {name}: {why}")
    return None


def _lookup(settings: "Settings", port: int, host: str, now: float) -> Run[Found | None]:
    """What is known of a host's TLSA records, or can be found out now; None for a failure, after a second try."""
    query = f"_{port}._tcp.{host}"
    cache = settings.tlsa_cache
    found = cache.pop(query, None)
    if found is None or now > found.expires:
        found = yield from _ask(settings, query, host, now)
        if found is None:
            found = yield from _ask(settings, query, host, now)
        if found is None:
            return None
    cache[query] = found  # the latest used is the last
    if len(cache) > _CACHE_SIZE:
        del cache[next(iter(cache))]
    return found


def _ask(settings: "Settings", query: str, host: str, now: float) -> Run[Found | None]:
    answer = yield from Resolve(query, TLSA_TYPE, dnssec=True)
    if answer.status == Status.NOTFOUND:
        return Found(host, None, now + _MIN_TTL + 1)
    if answer.status != Status.OK:
        log.warning(f"DANE TLSA lookup problem: {answer.text}")
        return None
    records = None
    if answer.records[0].validated:
        usable = [_usable(record, settings.tls_log) for record in answer.records]
        records = tuple(record for record in reversed(usable) if record is not None)
    return Found(host, records, now + min(max(answer.records[0].ttl, _MIN_TTL), _MAX_TTL) + 1)


def _usable(record: Record, log_bits: int) -> TLSA | None:
    """The record, or None, with a warning, if it is not one for SMTP."""
    from postfixpy.tls.dane import shown  # loads ctypes, which not every process needs

    alias = record.query if record.name.lower() != record.query.lower() else ""
    where = f"{alias} -> {record.name}" if alias else record.name
    numbers, _, hexadecimal = record.text.rpartition(" ")
    data = bytes.fromhex(hexadecimal)
    generic = record.text.startswith("\\#")
    if generic or not data:
        log.warning(f"{where}: truncated TLSA RR length == {len(data) if generic else 3}")
        return None
    usage, selector, mtype = (int(number) for number in numbers.split())
    text = f"{usage} {selector} {mtype} {shown(data)}"
    if usage not in (2, 3):
        log.warning(f"{where} unsupported TLSA certificate usage: {text}")
        return None
    if mtype == 255:
        log.warning(f"{where} reserved private-use matching type: {text}")
        return None
    if log_bits & (loglevel.VERBOSE | loglevel.DANE):
        log.info(f"DNSSEC-signed TLSA record: {record.name}: {text}")
    return TLSA(usage, selector, mtype, data)
