"""MTA-STS inside: policies that domains publish for their MX hosts (RFC 8461), without a second daemon.

Postfix asks an external resolver through smtp_tls_policy_maps; here that table may be called ``mta-sts:``:

    smtp_tls_policy_maps = hash:/etc/postfix/tls_policy, mta-sts:
    smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt

It is off unless it is there. What it answers takes the way of a resolver's answer, ``secure match=...
servername=hostname policy_type=sts ...`` (`policy_table`, spec 8.3, 8.4). In words:

* An entry of another table of smtp_tls_policy_maps wins, wherever it stands; so does ``TLS-Required: no``.
* A policy only raises the level of main.cf, and nothing is asked where that matches certificates already (verify,
  secure, fingerprint, dane-only). DANE comes first: at level dane, a server with usable TLSA records is treated by
  these, and a failed TLSA look-up stays a failure. Where the MX records were not validated (halfdane), an enforced
  policy must have the MX host's name, too.
* ``mode: enforce`` is level secure; MX hosts whose names the policy does not have are skipped, and without another the
  mail is deferred. ``mode: testing`` is level may; what would have failed is logged and told to TLSRPT. ``mode: none``
  is no policy.
* A policy that cannot be had, and is not kept from before, is no policy; that is told to TLSRPT, too.
* Only destinations with MX look-ups: not ``[host]``, not addresses, not SRV records, not LMTP.

The policies themselves: `sts_policy` (texts), `sts_store` (fetching, keeping). With
smtp_tls_enforce_sts_mx_patterns = no certificates are matched with the policy's patterns, and hosts are not; as in
Postfix.
"""

from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import family_of, hostname_problem, to_ascii
from postfixpy.dns.record import TXT, Status
from postfixpy.tls.handshake import Report
from postfixpy.tls.level import Level

from . import tlsrpt
from .effects import FetchPolicy, Resolve, Run
from .policy_table import Entry, parse_entry
from .sts_policy import Found, STSPolicy, parse_records

if TYPE_CHECKING:
    from .delivery import Delivery, Server
    from .policy import Policy
    from .session import Session
    from .settings import Settings

TABLE = "mta-sts:"
"""The word in smtp_tls_policy_maps."""
_SYNTAX = (3, 10)
"""The release whose entries have the attributes of MTA-STS."""


def available(settings: "Settings") -> bool:
    """Whether policies can be looked up, with a warning if they are wanted but cannot."""
    view, name = settings.view, settings.name("smtp_tls_policy_maps")
    if settings.lmtp:
        log.warning(f"{name}: MTA-STS is not for LMTP: ignoring {TABLE}")
        return False
    if not settings.dns:
        log.warning(f"{name}: DNS is disabled: ignoring {TABLE}")
        return False
    if not (view.smtp_tls_CAfile or view.smtp_tls_CApath or view.tls_append_default_CA):
        log.warning(f"{name}: without smtp_tls_CAfile or smtp_tls_CApath no server will satisfy {TABLE}")
    return True


def find(settings: "Settings", server: "Server", policy: "Policy", now: float) -> Run[Entry | None]:
    """The entry for the domain of `server`, if it has a policy; notes in `policy` what is to be told besides."""
    domain = to_ascii(server.domain) or ""
    srv = server.record is not None and server.record.port
    if server.site.startswith("[") or srv or not server.port or hostname_problem(domain) or family_of(domain):
        return None
    answer = yield from Resolve(f"_mta-sts.{domain}", TXT, dnssec=settings.dnssec)
    if answer.status not in (Status.OK, Status.NOTFOUND, Status.POLICY):
        log.warning(f"MTA-STS: TXT record lookup failed for {domain}: {answer.text}")
    ident = parse_records(record.text for record in answer.records)
    found: Found = yield from FetchPolicy(domain, ident)
    if found.failure:
        policy.external.kind, policy.external.domain = "sts", domain
        policy.sts_failure = found.failure
        return None
    if found.policy is None or found.policy.mode == "none":
        return None
    text = entry_text(domain, found.policy, int(found.expires - now))
    entry = parse_entry(text, f'{TABLE}, next-hop destination "{domain}"', max(settings.release, _SYNTAX))
    policy.sts_testing = found.policy.mode == "testing"
    return entry


def entry_text(domain: str, policy: STSPolicy, ttl: int) -> str:
    """The policy as an entry of smtp_tls_policy_maps."""
    words = ["may"]
    if policy.mode == "enforce":
        names = ":".join(pattern.removeprefix("*") for pattern in policy.mx)
        words = ["secure", f"match={names}", "servername=hostname"]
    words += ["policy_type=sts", f"policy_domain={domain}", f"policy_ttl={max(ttl, 0)}"]
    words += [f"{{ policy_string = {line} }}" for line in policy.lines]
    words += [f"mx_host_pattern={pattern}" for pattern in policy.mx]
    return " ".join(words)


def watch(d: "Delivery", s: "Session") -> Run[None]:
    """After a handshake that need not match: log and tell what an enforced policy would have made of the server."""
    policy, tls = s.policy, s.tls
    assert tls is not None
    if policy.sts_failure:
        yield from tlsrpt.failure(d, Report(policy.sts_failure))
    if not policy.sts_testing or tls.level.must_match:
        return
    external = policy.external
    if not external.permits(s.host):
        found = Report("validation-failure")
        why = "its name is not in the policy"
    elif not tls.trusted:
        found, why = Report("certificate-not-trusted"), "its certificate is not trusted"
    elif not tls.named:
        found, why = Report("certificate-host-mismatch"), "its certificate is for another name"
    else:
        return
    log.info(f"{s.queue_id}: MTA-STS policy of {external.domain} (testing): {s.namaddrport} would be refused: {why}")
    yield from tlsrpt.failure(d, found)


def without_tls(d: "Delivery", s: "Session") -> Run[None]:
    """Where there is no TLS, and none is needed: tell why there is no policy, or log and tell what a policy under test
    would have made of that, which Postfix does where TLS is a must."""
    if s.policy.level != Level.MAY:
        return
    if s.policy.sts_failure:
        yield from tlsrpt.failure(d, Report(s.policy.sts_failure))
    elif s.policy.sts_testing:
        domain = s.policy.external.domain
        log.info(f"{s.queue_id}: MTA-STS policy of {domain} (testing): {s.namaddrport} would be refused: no TLS")
        yield from tlsrpt.failure(d, Report("starttls-not-supported"))
