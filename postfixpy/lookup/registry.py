"""Opening tables by ``type:name``, and the list of the types there are.

A table that is open already under the same name and flags, and whose file has not changed, is shared. A type's module
is imported when the first such table is opened: a command that reads a hash: table loads nothing else.

A table that cannot be opened ends a command with Postfix's text; a service logs the text and goes on with a surrogate
whose every use fails (`surrogates`), as dict_surrogate(3) does for daemons.
"""

import weakref
from importlib import import_module

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.redirect import LEGACY, redirected
from postfixpy.lookup.table import Flags, OpenError, Settings, Surrogate, Table, release

TYPES: dict[str, tuple[str, str]] = {
    "btree": ("indexed", "Btree"),
    "cdb": ("cdb", "Cdb"),
    "cidr": ("cidr", "Cidr"),
    "debug": ("composite", "Debug"),
    "environ": ("memory", "Environ"),
    "fail": ("memory", "Fail"),
    "hash": ("indexed", "Hash"),
    "inline": ("memory", "Inline"),
    "internal": ("memory", "Internal"),
    "ldap": ("ldap", "Ldap"),
    "lmdb": ("lmdbtable", "Lmdb"),
    "memcache": ("memcache", "Memcache"),
    "mongodb": ("mongodb", "Mongodb"),
    "mysql": ("mysql", "Mysql"),
    "pcre": ("rules", "Pcre"),
    "pgsql": ("pgsql", "Pgsql"),
    "pipemap": ("composite", "PipeMap"),
    "proxy": ("proxy", "open_proxy"),
    "randmap": ("composite", "RandMap"),
    "regexp": ("rules", "Regexp"),
    "socketmap": ("socketmap", "Socketmap"),
    "sqlite": ("sqlite", "Sqlite"),
    "static": ("memory", "Static"),
    "tcp": ("tcp", "Tcp"),
    "texthash": ("memory", "TextHash"),
    "unionmap": ("composite", "UnionMap"),
    "unix": ("memory", "Unix"),
}
"""Type -> (module of this package, class)."""

SINCE = {"debug": (3, 11), "mongodb": (3, 9)}
"""The releases that brought the youngest types."""

_NESTING = {"debug", "memcache", "pipemap", "proxy", "unionmap"}
_open_tables: "weakref.WeakValueDictionary[tuple[str, Flags, bool, int], Table]" = weakref.WeakValueDictionary()


def type_names() -> list[str]:
    """The names of all types, sorted (postconf -m)."""
    return sorted(TYPES)


def is_type(kind: str, settings: Settings) -> bool:
    """Whether there is a type `kind` in the release that `settings` are for."""
    return kind in TYPES and release(settings) >= SINCE.get(kind, (0, 0))


def open_table(
    spec: str, settings: Settings, *, flags: Flags = Flags.MAPS, surrogates: bool = True, writable: bool = False
) -> Table:
    """Open the table `spec`, ``type:name``.

    `surrogates`: a table that cannot be opened is logged as an error and replaced by one whose every use raises
    TableError; otherwise FatalError is raised. `writable`: for `Table.update` and `Table.remove`.
    """
    kind, colon, name = spec.partition(":")
    try:
        if not colon or not kind or not name:
            kind, name = spec, ""
            raise OpenError(f'open dictionary: expecting "type:name" form instead of "{spec}"')
        registered = (spec, flags, writable, id(settings))
        table = _open_tables.get(registered)
        if table is None or table.settings is not settings or table.changed():
            table = _open_new(kind, name, settings, flags, surrogates, writable)
            _open_tables[registered] = table
        return table
    except OpenError as error:
        if not surrogates:
            raise FatalError(str(error)) from None
        log.error(str(error))
        return Surrogate(kind, name, settings, flags, str(error))


def _open_new(kind: str, name: str, settings: Settings, flags: Flags, surrogates: bool, writable: bool) -> Table:
    if not is_type(kind, settings):
        raise OpenError(f"unsupported dictionary type: {kind}")
    if kind in LEGACY:
        kind = redirected(kind, name, settings, TYPES, surrogates=surrogates)
    module, class_name = TYPES[kind]
    opener = getattr(import_module(f"postfixpy.lookup.{module}"), class_name)
    arguments = {"surrogates": surrogates} if kind in _NESTING else {}
    if kind in ("memcache", "proxy"):
        arguments["writable"] = writable
    if writable and kind not in _WRITABLE:
        raise OpenError(f"{kind}:{name} map requires O_RDONLY access mode")
    table: Table = opener(name, settings, flags, **arguments)
    return table


_WRITABLE = {"debug", "environ", "fail", "internal", "memcache", "proxy", "static"}
