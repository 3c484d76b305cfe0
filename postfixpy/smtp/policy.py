"""The TLS policy of a server: the seam for issue 7 (spec 8.1, 8.2, 8.7, 8.8).

There is no TLS engine yet, as in a Postfix whose TLS library cannot start. So level ``may`` sends in plaintext and
every stronger level refuses, with the texts that Postfix has for that: mail whose sender or administrator asked for
encryption never goes out without it. For the same reason anything in a policy table that is not understood here is
taken as a level that demands TLS.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import valid_hostname
from postfixpy.errors import FatalError
from postfixpy.lookup.table import TableError
from postfixpy.tls.level import LEVELS, Level, level_name

from .effects import Run, find
from .requiretls import Demand

if TYPE_CHECKING:
    from .delivery import Delivery
    from .settings import Settings


class PolicyError(Exception):
    """No policy for this server: it must be skipped. `status` and str() are the DSN."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Policy:
    """How to treat one server."""

    level: Level = Level.NONE
    demand: Demand = Demand.DISABLE

    @property
    def must_encrypt(self) -> bool:
        return self.level > Level.MAY

    @property
    def must_match(self) -> bool:
        return self.level > Level.ENCRYPT

    def plaintext_ok(self, d: "Delivery") -> bool:
        """Whether the server may be tried again without TLS (spec 8.8)."""
        waited = d.stats.active_arrival // 1_000_000 - d.stats.incoming_arrival // 1_000_000
        return self.level == Level.MAY and (d.probe or waited >= d.settings.view.minimal_backoff_time)


def global_level(settings: "Settings") -> Level:
    """The level of main.cf, without the tables. Raises FatalError."""
    view = settings.view
    name = view.smtp_tls_security_level
    if name:
        level = LEVELS.get(name.lower())
        if level is None:
            raise FatalError(f'Invalid TLS level "{name}"')
        return level
    if view.smtp_enforce_tls:
        return Level.VERIFY if view.smtp_tls_enforce_peername else Level.ENCRYPT
    return Level.MAY if view.smtp_use_tls else Level.NONE


def check_demand(demand: Demand, level: Level, queue_id: str, host: str) -> None:
    """Whether the level can satisfy the sender's demand for TLS (spec 8.11 a). Raises PolicyError."""
    text = f"Sender requested REQUIRETLS, but my configured TLS security level '{level_name(level)}' disables "
    last = f"The last attempted server was {host}"
    matching = f"{text}certificate matching. {last}"
    if demand == Demand.ERROR:
        raise PolicyError("4.7.10", f"REQUIRETLS policy configuration error. {last}")
    if demand == Demand.ENFORCE and level <= Level.ENCRYPT:
        raise PolicyError("5.7.10", matching)
    if demand == Demand.OPPORTUNISTIC_STARTTLS and level == Level.NONE:
        raise PolicyError("5.7.10", f"{text}encryption. {last}")
    if demand != Demand.DISABLE and level <= Level.ENCRYPT:
        log.info(f"{queue_id}: {matching}")


def evaluate(settings: "Settings", site: str, host: str, sendopts: int) -> Run[Policy]:
    """The policy for the server `host` of destination `site`, but for REQUIRETLS. Raises PolicyError."""
    from postfixpy.mail.delivery import REQUIRETLS, TLS_NOT_REQUIRED

    view = settings.view
    level = settings.tls_level
    required = view.requiretls_enable and sendopts & REQUIRETLS
    if sendopts & TLS_NOT_REQUIRED and view.tls_required_enable and not required:
        return Policy(min(level, Level.ENCRYPT if view.smtp_tls_wrappermode else Level.MAY))
    if settings.tls_policy is not None:
        level = yield from _table_level(settings, site, level)
    elif settings.tls_per_site is not None:
        level = yield from _per_site_level(settings, site, host, level)
    if level == Level.INVALID:
        raise PolicyError("4.7.5", "client TLS configuration problem")
    if level == Level.DANE:
        if not settings.dnssec:
            log.warning(f"{site}: dane configured with dnssec lookups disabled")
            level = Level.MAY
    elif level == Level.DANE_ONLY and not settings.dnssec:
        log.warning(f"{site}: dane-only configured with dnssec lookups disabled")
        raise PolicyError("4.7.5", "client TLS configuration problem")
    return Policy(level)


def _table_level(settings: "Settings", site: str, default: Level) -> Run[Level]:
    """The level that smtp_tls_policy_maps has for `site`, or for its parent domains."""
    table = settings.tls_policy
    assert table is not None
    keys = [site]
    if valid_hostname(site):
        parts = site.split(".")
        keys += ["." + ".".join(parts[n:]) for n in range(1, len(parts))]
    title = settings.name("smtp_tls_policy_maps")
    for key in keys:
        try:
            value = yield from find(table, key)
        except TableError:
            log.warning(f'{title}, next-hop destination "{key}": policy table lookup error')
            return Level.INVALID
        if value is None:
            continue
        words = value.replace(",", " ").split()
        if not words:
            log.warning(f'{title}, next-hop destination "{key}": invalid empty policy')
            return Level.INVALID
        level = LEVELS.get(words[0].lower())
        if level is None:
            log.warning(f'{title}, next-hop destination "{key}": invalid security level "{words[0]}"')
            return Level.INVALID
        return level
    return default


def _per_site_level(settings: "Settings", site: str, host: str, default: Level) -> Run[Level]:
    """The level of the obsolete smtp_tls_per_site table, by destination and by server (spec 8.2)."""
    table = settings.tls_per_site
    assert table is not None
    found: Level | None = None
    for key, kind in ((site, "next-hop destination"), (host, "server hostname")):
        if kind == "server hostname" and key.lower() == site.lower():
            continue
        try:
            value = yield from find(table, key)
        except TableError:
            raise PolicyError("4.3.0", "Temporary lookup error") from None
        if value is None:
            continue
        names = {"NONE": Level.NONE, "MAY": Level.MAY, "MUST_NOPEERMATCH": Level.ENCRYPT, "MUST": Level.VERIFY}
        level = names.get(value.upper())
        if level is None:
            log.warning(f"smtp_tls_per_site: unknown TLS policy '{value}' for {kind} {key}")
            return Level.INVALID
        if level == Level.NONE:
            found = Level.NONE if found in (None, Level.MAY) else found
        elif level == Level.MAY:
            found = Level.MAY if found is None else found
        else:
            found = max(found or Level.NONE, level)
    if found is None:
        return default
    return max(found, default) if found == Level.MAY else found
