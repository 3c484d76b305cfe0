"""REQUIRETLS of Postfix 3.11: what a sender's demand for encryption means for a destination (RFC 8689, spec 8.11).

`smtp_requiretls_policy` says how strictly. Without a TLS engine (issue 7) no destination can meet a demand, so
such mail is refused as Postfix refuses it where its security level disables certificate matching.
"""

import enum
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import family_of, to_ascii
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, Table, TableError
from postfixpy.mail.delivery import REQUIRETLS

from .effects import Find, Run

if TYPE_CHECKING:
    from postfixpy.config import View

    from .settings import Settings


class Demand(enum.IntEnum):
    """How much of the sender's demand is enforced."""

    ERROR = -1
    DISABLE = 0
    OPPORTUNISTIC = 1
    OPPORTUNISTIC_STARTTLS = 2
    ENFORCE = 3


_ACTIONS = {
    "disable": Demand.DISABLE,
    "opportunistic": Demand.OPPORTUNISTIC,
    "opportunistic+starttls": Demand.OPPORTUNISTIC_STARTTLS,
    "enforce": Demand.ENFORCE,
    "error": Demand.ERROR,
}


def parse(view: "View", title: str) -> list[Demand | Table]:
    """The items of smtp_requiretls_policy."""
    items: list[Demand | Table] = []
    for token in tokens(view.smtp_requiretls_policy):
        if ":" in token:
            items.append(open_table(token, view, flags=Flags.MAPS))
        elif token.lower() in _ACTIONS:
            items.append(_ACTIONS[token.lower()])
        else:
            log.warning(f"{title}: unknown policy action: '{token}' -- ignoring the remainder of this policy")
            items.append(Demand.ERROR)
            break
    return items


def demand(settings: "Settings", domain: str, sendopts: int) -> Run[Demand]:
    """The demand for the destination `domain`, without brackets and port."""
    if not sendopts & REQUIRETLS or not settings.view.requiretls_enable:
        return Demand.DISABLE
    ascii_domain = domain if domain.isascii() else to_ascii(domain)
    if ascii_domain is None:
        log.warning(
            f"smtp_requiretls_policy: malformed next-hop destination: '{domain}' -- using default policy 'enforce'"
        )
        return Demand.ENFORCE
    for item in settings.requiretls_policy:
        if isinstance(item, Demand):
            return item
        found = yield from _table(settings, item, ascii_domain.lower())
        if found is not None:
            return found
    return Demand.ENFORCE


def _table(settings: "Settings", table: Table, domain: str) -> Run[Demand | None]:
    keys = [domain]
    if not table.pattern and not family_of(domain):
        parts = domain.split(".")
        keys += ["." + ".".join(parts[n:]) for n in range(1, len(parts))]
    title = settings.name("smtp_requiretls_policy")
    for key in keys:
        try:
            value = yield from Find(table, key)
        except TableError:
            log.warning(f"{title}: {table.name}: table lookup error -- ignoring the remainder of this policy")
            return Demand.ERROR
        if value is None:
            continue
        action = _ACTIONS.get(value.strip().lower())
        if action is None:
            log.warning(f"{title}: unknown policy action: '{value}' -- ignoring the remainder of this policy")
            return Demand.ERROR
        return action
    return None
