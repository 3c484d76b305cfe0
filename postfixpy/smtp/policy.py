"""The TLS policy of a server: how strict TLS is to be there, and with what (spec 8.1 to 8.4).

`evaluate` is a generator of lookups, and a function of its arguments and of what those find. In words:

* The level of main.cf is the start: smtp_tls_security_level, or else the obsolete smtp_enforce_tls,
  smtp_tls_enforce_peername and smtp_use_tls.
* A message with "TLS-Required: no" asks no table, and is content with level may (encrypt in wrapper mode).
* smtp_tls_policy_maps replaces the level, by the destination as it was written and, where that is a mere domain, by its
  parents as ``.example.com``. Without that table the obsolete smtp_tls_per_site does, by the destination and by the
  server's name: MUST and MUST_NOPEERMATCH raise the level, NONE overrides MAY, and MAY yields to main.cf.
* dane and dane-only look at the DNS (`dane`), and may become may, encrypt or halfdane.
* With ``mta-sts:`` in smtp_tls_policy_maps the policies that domains publish may raise the level (`sts`).
* Protocols, ciphers, names and fingerprints come from the table, or from main.cf by the level.

Whatever is not understood, not found, or cannot be looked up makes the policy invalid; the server is then skipped with
a temporary error. Mail never goes out with less protection because of a mistake or an outage.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import to_ascii, valid_hostname
from postfixpy.errors import FatalError
from postfixpy.lookup.syntax import LIST_SEPARATORS, tokens
from postfixpy.lookup.table import TableError
from postfixpy.mail.delivery import REQUIRETLS, TLS_NOT_REQUIRED
from postfixpy.tls.handshake import TLSA
from postfixpy.tls.level import Level, level_name

from . import sts, tls_status
from .effects import Run, find
from .policy_table import Entry, External, InvalidPolicy, parse_entry, parse_level
from .requiretls import Demand

if TYPE_CHECKING:
    from .delivery import Delivery, Server
    from .session import Session
    from .settings import Settings

__all__ = [
    "External",
    "Level",
    "Policy",
    "PolicyError",
    "check_demand",
    "evaluate",
    "global_level",
    "level_name",
    "plaintext_ok",
]


class PolicyError(Exception):
    """No policy for this server: it must be skipped. `status` and str() are the DSN."""

    def __init__(self, status: str = "4.7.5", text: str = "client TLS configuration problem") -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Policy:
    """How to treat one server. The fields from `protocols` to `base` are those of postfixpy.tls.handshake.TLSRequest.

    match    the names to look for in the certificate, and words: "hostname", "nexthop", "dot-nexthop"
    sni      the name to send, or "hostname" or "nexthop"
    reuse    connections may be cached (smtp_tls_connection_reuse)
    match_mx the name of an MX host must match a pattern of `external`
    external what an MTA-STS plugin told, or our own
    sts_testing  the policy in `external` is for testing (sts.watch)
    sts_failure  the result type of why there is no MTA-STS policy, to be told (sts.watch)
    """

    level: Level = Level.NONE
    protocols: str = ""
    grade: str = "medium"
    exclusions: str = ""
    match: list[str] = field(default_factory=list)
    sni: str = ""
    tlsa: tuple[TLSA, ...] | None = None
    base: str = ""
    raw_key: bool = False
    reuse: bool = False
    match_mx: bool = False
    external: External = field(default_factory=External)
    sts_testing: bool = False
    sts_failure: str = ""

    @property
    def must_encrypt(self) -> bool:
        return self.level > Level.MAY

    @property
    def must_match(self) -> bool:
        return self.level > Level.ENCRYPT

    def permits_host(self, name: str) -> bool:
        """Whether an MX host may be used, by the patterns of an MTA-STS policy (spec 8.4)."""
        if not self.match_mx or self.external.permits(name):
            return True
        name = to_ascii(name) or name if not name.isascii() else name
        log.warning(f"MX name '{name}' does not match STS MX pattern for '{self.external.domain}'")
        return False


def global_level(settings: "Settings") -> Level:
    """The level of main.cf, without the tables. Raises FatalError."""
    view = settings.view
    name = view.smtp_tls_security_level
    if name:
        level = parse_level(name, settings.release)
        if level is None:
            raise FatalError(f'Invalid TLS level "{name}"')
        return level
    if view.smtp_enforce_tls:
        return Level.VERIFY if view.smtp_tls_enforce_peername else Level.ENCRYPT
    return Level.MAY if view.smtp_use_tls else Level.NONE


def check_demand(d: "Delivery", level: Level) -> None:
    """Whether the level can satisfy the sender's demand for TLS (spec 8.11 a). Raises PolicyError."""
    demand, host = d.demand, d.server.host
    text = f"Sender requested REQUIRETLS, but my configured TLS security level '{level_name(level)}' disables "
    last = f"The last attempted server was {host}"
    matching = f"{text}certificate matching. {last}"
    if demand == Demand.ERROR:
        raise PolicyError("4.7.10", f"REQUIRETLS policy configuration error. {last}")
    if demand == Demand.ENFORCE and level <= Level.ENCRYPT:
        d.tls.decide_requiretls(tls_status.NO_MATCH, violated=True)
        raise PolicyError("5.7.10", matching)
    if demand == Demand.OPPORTUNISTIC_STARTTLS and level == Level.NONE:
        d.tls.decide_requiretls(tls_status.NO_ENCRYPTION, violated=True)
        raise PolicyError("5.7.10", f"{text}encryption. {last}")
    if demand == Demand.OPPORTUNISTIC_STARTTLS and level <= Level.ENCRYPT:
        log.info(f"{d.request.queue_id}: {matching}")


def plaintext_ok(d: "Delivery", s: "Session") -> Run[bool]:
    """Whether the server may be tried again without TLS, after trouble with it (spec 8.8).

    Only where TLS is not asked for, for mail that has waited before; and never where there is a password, which the
    server may want to see only in TLS.
    """
    if s.policy.level != Level.MAY or d.demand >= Demand.OPPORTUNISTIC_STARTTLS:
        return False
    waited = d.stats.active_arrival // 1_000_000 - d.stats.incoming_arrival // 1_000_000
    if not d.probe and waited < d.settings.view.minimal_backoff_time:
        return False
    from .sasl import has_credentials

    return not (yield from has_credentials(d, s))


def evaluate(settings: "Settings", server: "Server", sendopts: int, now: float) -> Run[Policy]:
    """The policy for `server`, but for REQUIRETLS; `now` is the time in seconds. Raises PolicyError."""
    from . import dane

    view = settings.view
    policy = Policy(settings.tls_level, reuse=view.smtp_tls_connection_reuse, raw_key=view.smtp_tls_enable_rpk)
    entry = None
    if _tls_not_required(settings, sendopts):
        policy.level = min(policy.level, Level.ENCRYPT if view.smtp_tls_wrappermode else Level.MAY)
    elif settings.tls_policy is not None:
        entry = yield from _table_entry(settings, server.site)
    elif settings.tls_per_site is not None:
        policy.level = yield from _per_site_level(settings, server.site, server.host, policy.level)
    if entry is not None:
        policy.level, policy.external = entry.level, entry.external
        _enforce_sts(settings, policy, entry)
        policy.raw_key = policy.raw_key if entry.raw_key is None else entry.raw_key
        policy.reuse = policy.reuse if entry.reuse is None else entry.reuse
    if policy.level.dane_based:
        yield from dane.initialize(settings, server, policy, now)
    if entry is None and settings.sts and not _tls_not_required(settings, sendopts):
        entry = yield from _sts_entry(settings, server, policy, now)
    if policy.level > Level.NONE:
        _fill(settings, server, policy, entry or Entry(policy.level))
    return policy


def _tls_not_required(settings: "Settings", sendopts: int) -> bool:
    """Whether the message's header ``TLS-Required: no`` is in effect; a REQUIRETLS of the sender overrides it."""
    view = settings.view
    required = view.requiretls_enable and sendopts & REQUIRETLS
    return bool(sendopts & TLS_NOT_REQUIRED and view.tls_required_enable and not required)


# Tables


def _table_entry(settings: "Settings", site: str) -> Run[Entry | None]:
    """The entry that smtp_tls_policy_maps has for `site`, or for its parent domains. Raises PolicyError."""
    table = settings.tls_policy
    assert table is not None
    keys = [site]
    if valid_hostname(site, utf8=settings.utf8):
        parts = site.split(".")
        keys += ["." + ".".join(parts[n:]) for n in range(1, len(parts))]
    for key in keys:
        where = f'{settings.name("smtp_tls_policy_maps")}, next-hop destination "{key}"'
        try:
            value = yield from find(table, key)
        except TableError:
            log.warning(f"{where}: policy table lookup error")
            raise PolicyError from None
        if value is not None:
            try:
                return parse_entry(value, where, settings.release, settings.tls_log)
            except InvalidPolicy:
                raise PolicyError from None
    return None


def _enforce_sts(settings: "Settings", policy: Policy, entry: Entry) -> None:
    """With smtp_tls_enforce_sts_mx_patterns an MTA-STS policy is about the names of MX hosts (spec 8.4)."""
    external = entry.external
    sts = settings.view.smtp_tls_enforce_sts_mx_patterns and external.kind.lower() == "sts"
    if sts and entry.match is not None and external.patterns:
        policy.match_mx, entry.match = True, ["hostname"]


def _sts_entry(settings: "Settings", server: "Server", policy: Policy, now: float) -> Run[Entry | None]:
    """The entry that MTA-STS has for the server's domain, taken over into `policy` where it raises the level (sts)."""
    if policy.level > Level.ENCRYPT and policy.level != Level.HALFDANE:
        return None
    entry = yield from sts.find(settings, server, policy, now)
    if entry is None:
        return None
    if policy.level == Level.HALFDANE:
        if entry.level == Level.SECURE:
            policy.external, policy.match_mx = entry.external, True
        policy.sts_testing = False
        return None
    policy.level, policy.external = max(policy.level, entry.level), entry.external
    _enforce_sts(settings, policy, entry)
    return entry


def _per_site_level(settings: "Settings", site: str, host: str, default: Level) -> Run[Level]:
    """The level of the obsolete smtp_tls_per_site table, by destination and by server. Raises PolicyError."""
    table = settings.tls_per_site
    assert table is not None
    title = settings.name("smtp_tls_per_site")
    names = {"NONE": Level.NONE, "MAY": Level.MAY, "MUST_NOPEERMATCH": Level.ENCRYPT, "MUST": Level.VERIFY}
    found: Level | None = None
    for key, kind in ((site, "next-hop destination"), (host, "server hostname")):
        if kind == "server hostname" and key.casefold() == site.casefold():
            continue
        try:
            value = yield from find(table, key)
        except TableError:
            log.warning(f'{title}: {kind} "{key}": per-site table lookup error')
            raise PolicyError("4.3.0", "Temporary lookup error") from None
        if value is None:
            continue
        level = names.get(value.upper())
        if level is None:
            log.warning(f"{title}: unknown TLS policy '{value}' for {kind} {key}")
            raise PolicyError
        if level == Level.NONE:
            found = Level.NONE if found in (None, Level.NONE, Level.MAY) else found
        elif level == Level.MAY:
            found = Level.MAY if found is None else found
        else:
            found = level if found is None else max(found, level)
    if found is None:
        return default
    return max(found, default) if found == Level.MAY else found


# What goes with the level


def _fill(settings: "Settings", server: "Server", policy: Policy, entry: Entry) -> None:
    """Protocols, ciphers, names, fingerprints and trust anchors, from the table or else from main.cf."""
    view, may = settings.view, policy.level == Level.MAY
    if entry.protocols is not None:
        policy.protocols = entry.protocols
    else:
        policy.protocols = view.smtp_tls_protocols if may else view.smtp_tls_mandatory_protocols
    if entry.servername is not None:
        policy.sni = entry.servername
    else:
        policy.sni = view.smtp_tls_servername
        if policy.sni and not valid_hostname(policy.sni):
            log.warning(f'"{settings.name("smtp_tls_servername")} = {policy.sni}" specifies an invalid hostname')
            raise PolicyError
    policy.grade = entry.grade or (view.smtp_tls_ciphers if may else view.smtp_tls_mandatory_ciphers)
    policy.exclusions = _exclusions(settings, policy.level, entry.exclude)
    if policy.level == Level.FINGERPRINT:
        _fingerprints(settings, server, policy, entry)
    elif policy.level >= Level.VERIFY:
        _names(settings, policy, entry)


def _exclusions(settings: "Settings", level: Level, exclude: str | None) -> str:
    view = settings.view
    parts = [exclude]
    if exclude is None:
        parts = [view.smtp_tls_exclude_ciphers, view.smtp_tls_mandatory_exclude_ciphers if level > Level.MAY else ""]
    if level > Level.MAY:
        parts.append("eNULL" if level == Level.ENCRYPT else "aNULL")
    return " ".join(part for part in parts if part)


def _fingerprints(settings: "Settings", server: "Server", policy: Policy, entry: Entry) -> None:
    """Raises PolicyError when there are none."""
    from postfixpy.tls.dane import fingerprint_records  # loads ctypes, which not every process needs

    settings.note_digest_default()
    main_cf = list(tokens(settings.view.smtp_tls_fingerprint_cert_match, braces=False))
    records: tuple[TLSA, ...] = ()
    if entry.match is not None:
        records = fingerprint_records(entry.match, False, settings.tls_log)
    if entry.match is None or (not records and settings.release < (3, 9)):
        records = fingerprint_records(main_cf, False, settings.tls_log)
    if not records:
        log.warning(
            f"nexthop domain {server.site}: configured at fingerprint security level, "
            "but with no fingerprints to match."
        )
        raise PolicyError
    policy.tlsa = records


def _names(settings: "Settings", policy: Policy, entry: Entry) -> None:
    """The names to match, and trust anchors in place of the CAs. Raises PolicyError."""
    from postfixpy.tls.dane import TrustAnchorError, trust_anchors

    view = settings.view
    if entry.match is not None:
        policy.match = entry.match
    else:
        verify = policy.level == Level.VERIFY
        text = view.smtp_tls_verify_cert_match if verify else view.smtp_tls_secure_cert_match
        policy.match = list(tokens(text, LIST_SEPARATORS + ":", braces=False))
    policy.tlsa = entry.anchors
    if policy.tlsa is None and view.smtp_tls_trust_anchor_file:
        records: tuple[TLSA, ...] = ()
        try:
            for path in tokens(view.smtp_tls_trust_anchor_file, braces=False):
                records += trust_anchors(path, settings.tls_log)
        except TrustAnchorError:
            raise PolicyError from None
        policy.tlsa = records
