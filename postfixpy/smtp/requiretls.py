"""REQUIRETLS of Postfix 3.11: what a sender's demand for encryption means for a destination (RFC 8689, spec 8.11).

`smtp_requiretls_policy` says how strictly, by the destination: a list of tables and, at its end, an action. Whether a
server then meets the demand is decided in `policy.check_demand` (the level must match certificates), `starttls` (TLS,
the certificate, the keyword in EHLO) and `envelope`, which passes the demand on.
"""

import enum
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import family_of, to_ascii
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.syntax import LIST_SEPARATORS, tokens
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


def parse(view: "View") -> list[str | Table]:
    """The items of smtp_requiretls_policy: tables, and words that are looked at when they are needed."""
    return [
        open_table(token, view, flags=Flags.MAPS) if ":" in token else token
        for token in tokens(view.smtp_requiretls_policy)
    ]


def demand(settings: "Settings", domain: str, sendopts: int) -> Run[Demand]:
    """The demand for the destination `domain`, without brackets and port."""
    if not sendopts & REQUIRETLS or not settings.view.requiretls_enable:
        return Demand.DISABLE
    title = settings.name("smtp_requiretls_policy")
    for item in settings.requiretls_policy:
        if isinstance(item, str):
            return _action(title, item)
        found = yield from _table(title, item, domain)
        if found is not None:
            return found
    return Demand.ENFORCE


def _action(title: str, word: str) -> Demand:
    action = _ACTIONS.get(word.lower())
    if action is None:
        log.warning(f"{title}: unknown policy action: '{word}' -- ignoring the remainder of this policy")
        return Demand.ERROR
    return action


def name_of(table: Table) -> str:
    """The table's name with its flags, as Postfix registers it."""
    return f"{table.name}(0,lock|fold_fix|utf8_request)"


def _table(title: str, table: Table, domain: str) -> Run[Demand | None]:
    """What a table says of the domain, or of its parents where the table has fixed keys."""
    name = domain if domain.isascii() else to_ascii(domain)
    if name is None:
        log.warning(
            f"smtp_requiretls_policy: malformed next-hop destination: '{domain}' -- using default policy 'enforce'"
        )
        return Demand.ENFORCE
    keys = [name]
    if not table.pattern and not family_of(name):
        parts = name.split(".")
        keys += ["." + ".".join(parts[n:]) for n in range(1, len(parts))]
    for key in keys:
        try:
            value = yield from Find(table, key)
        except TableError:
            log.warning(f"{title}: {table.name}: table lookup error -- ignoring the remainder of this policy")
            return Demand.ERROR
        if value is None:
            continue
        kind = "nested" if ":" in value else "composite" if any(char in value for char in LIST_SEPARATORS) else ""
        if kind:
            log.warning(
                f'table {name_of(table)}: {kind} lookup result "{value}" is not allowed -- ignoring remainder of policy'
            )
            return Demand.ERROR
        return _action(name_of(table), value)
    return None
