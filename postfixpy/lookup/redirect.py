"""hash: and btree: tables on systems that gave Berkeley DB up (NON_BERKELEYDB_README, Postfix 3.11).

With ``non_bdb_migration_level`` set, ``hash:`` means $default_database_type and ``btree:`` $default_cache_db_type, or
what ``non_bdb_custom_mapping`` says of the table or of its type. Unlike Postfix this works although we read and write
Berkeley DB files ourselves: a configuration that says so comes from a system whose files are cdb or lmdb. The service
that makes new index files from old ones (level enable-reindex) is not there; run postmap(1).
"""

from typing import Any

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.table import OpenError, Settings, TableError

LEGACY = ("hash", "btree")
LEVELS = ("disable", "enable-redirect", "enable-reindex")


def redirected(kind: str, name: str, settings: Settings, types: dict[str, tuple[str, str]]) -> str:
    """The type to use for ``kind:name``; `types` are those there are. Raises OpenError, FatalError."""
    parameters: Any = settings
    level = getattr(parameters, "non_bdb_migration_level", "disable")
    if level not in LEVELS:
        raise FatalError(f"invalid non-Berkeley-DB migration level: '{level}'")
    if level == "disable":
        return kind
    problem = ""
    target = _custom(kind, name, parameters)
    if target is None:
        target = str(parameters.default_database_type if kind == "hash" else parameters.default_cache_db_type)
    if not (target.isascii() and target.isalnum()):
        problem = f"bad non-legacy database type syntax: '{target}'"
    elif target in LEGACY:
        problem = f"mapping from '{kind}' to legacy type '{target}'"
    elif target not in types:
        problem = f"mapping to unsupported database type: '{target}'"
    if problem:
        log.warning(f"non-Berkeley-DB type mapping lookup error for '{kind}:{name}': {problem}")
        raise OpenError(f"Berkeley DB type mapping lookup error for '{kind}:{name}': {problem}")
    if parameters.non_bdb_migration_log_redirect:
        log.info(f"redirecting {kind}:{name} to {target}:{name}")
    return target


def _custom(kind: str, name: str, parameters: Any) -> str | None:
    spec = parameters.non_bdb_custom_mapping
    if not spec:
        return None
    from postfixpy.lookup.registry import open_table

    legacy = spec.partition(":")[0]
    if legacy in LEGACY:
        raise OpenError(f"non_bdb_custom_mapping must not use legacy type: '{legacy}'")
    table = open_table(spec, parameters)
    try:
        found = table.lookup(f"{kind}:{name}")
        return table.lookup(kind) if found is None else found
    except TableError:
        problem = f"{table.kind}:{table.label} lookup error for '{kind}:{name}'"
        raise OpenError(f"Berkeley DB type mapping lookup error for '{kind}:{name}': {problem}") from None
