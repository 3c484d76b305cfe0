"""hash: and btree: tables on systems that gave Berkeley DB up (NON_BERKELEYDB_README, Postfix 3.11).

With ``non_bdb_migration_level`` set, ``hash:`` means $default_database_type and ``btree:`` $default_cache_db_type, or
what ``non_bdb_custom_mapping`` says of the table or of its type. As in Postfix this counts on a system that has
Berkeley DB, too. With the level enable-reindex Postfix asks a service to make an index file that is missing; we need
none: as long as there is only the old file, it is read.
"""

import os
from typing import Any

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.table import Flags, OpenError, Settings, Surrogate, Table, TableError

LEGACY = ("hash", "btree")
LEVELS = ("disable", "enable-redirect", "enable-reindex")


def enabled(settings: Settings) -> bool:
    """Whether hash: and btree: stand for other types. Raises FatalError for a level that there is not."""
    level = getattr(settings, "non_bdb_migration_level", "disable")
    if level not in LEVELS:
        raise FatalError(f"invalid non-Berkeley-DB migration level: '{level}'")
    return bool(level != "disable")


def custom_mapping(settings: Settings, *, surrogates: bool) -> Table | None:
    """The table non_bdb_custom_mapping, None if there is none. Raises FatalError if it cannot be opened, unless
    `surrogates`."""
    from postfixpy.lookup.registry import open_table

    parameters: Any = settings
    spec: str = parameters.non_bdb_custom_mapping
    if not spec:
        return None
    kind, colon, name = spec.partition(":")
    if not colon or kind not in LEGACY:
        return open_table(spec, settings, surrogates=surrogates)
    problem = f"non_bdb_custom_mapping must not use legacy type: '{kind}'"
    if not surrogates:
        raise FatalError(problem)
    return Surrogate(kind, name, settings, Flags.NONE, problem)


def redirected(
    kind: str,
    name: str,
    settings: Settings,
    types: dict[str, tuple[str, str]],
    *,
    surrogates: bool = True,
    making: bool = False,
) -> str:
    """The type to use for ``kind:name``; `types` are those there are. `making`: to make the table, not to look it up.

    Raises OpenError, FatalError.
    """
    if not enabled(settings):
        return kind
    target, problem = _target(kind, name, settings, surrogates)
    if not problem:
        if not (target.isascii() and target.isalnum()):
            problem = f"bad non-legacy database type syntax: '{target}'"
        elif target in LEGACY:
            problem = f"mapping from '{kind}' to legacy type '{target}'"
        elif target not in types:
            problem = f"mapping to unsupported database type: '{target}'"
    if problem and making:
        raise OpenError(f"non_bdb migration mapping lookup error for '{kind}': {problem}")
    if problem:
        log.warning(f"non-Berkeley-DB type mapping lookup error for '{kind}:{name}': {problem}")
        raise OpenError(f"Berkeley DB type mapping lookup error for '{kind}:{name}': {problem}")
    if not making and _only_old(name, target, settings):
        return kind
    if getattr(settings, "non_bdb_migration_log_redirect", False):
        log.info(f"redirecting {kind}:{name} to {target}:{name}")
    return target


def _only_old(name: str, target: str, settings: Settings) -> bool:
    """Whether the table has still to be made anew, and may be read as it is until then."""
    reindex = getattr(settings, "non_bdb_migration_level", "disable") == "enable-reindex"
    return reindex and os.path.exists(f"{name}.db") and not os.path.exists(f"{name}.{target}")


def _target(kind: str, name: str, settings: Settings, surrogates: bool) -> tuple[str, str]:
    """The type that the parameters name, and what is wrong, or ""."""
    parameters: Any = settings
    table = custom_mapping(settings, surrogates=surrogates)
    if table is not None:
        try:
            found = table.lookup(f"{kind}:{name}")
            found = table.lookup(kind) if found is None else found
        except TableError:
            return "", f"{table.kind}:{table.label} lookup error for '{kind}:{name}'"
        if found is not None:
            return found, ""
    return str(parameters.default_database_type if kind == "hash" else parameters.default_cache_db_type), ""
