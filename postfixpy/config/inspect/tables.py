"""Names that table clients bring along: ``ldap:vldap`` makes ``vldap_server_host`` and its like valid names.

A value is looked through for TYPE:NAME words; adapters (proxy:, debug:) are skipped and {} groups searched. When
NAME is the path of a client's configuration file, its settings are checked instead. (spec/postconf.md section 4;
ldap_table(5) and its like.)
"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.lines import COMMA_SPACE, decode, encode, extract_braces, read_file, strerror
from postfixpy.config.main_cf import parse_settings
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

    from postfixpy.config.inspect.names import Names, Scope

PATTERN_TABLES = ("regexp", "pcre")


def register(names: Names, value: str, scope: Scope | None) -> None:
    """Mark the settings as used that the tables in `value` use.

    Raises FatalError if `value` cannot be expanded; 2.9 takes it for a value without tables.
    """
    try:
        value = names.expand(value, scope)
    except FatalError:
        if names.release >= (2, 10):
            raise
        return
    _search(names, value, scope, recurse=True)


def _words(names: Names, text: str, scope: Scope | None) -> Iterator[str]:
    """Words outside {}. From 3.8 a word that starts with # ends the list, with a warning."""
    position, size = 0, len(text)
    while True:
        while position < size and text[position] in COMMA_SPACE:
            position += 1
        if position >= size:
            return
        start = position
        level = 0
        while position < size and (level or text[position] not in COMMA_SPACE):
            char = text[position]
            if char == "{" and names.release >= (3, 0):
                level += 1
            elif char == "}" and level > 0:
                level -= 1
            position += 1
        word = text[start:position]
        position += 1
        if word.startswith("#") and names.release >= (3, 8):
            rest = decode(encode(text[position:])[:20])
            log.warning(f"{names.source(scope)}: #comment after other text is not allowed: {word} {rest}...")
            return
        yield word


def _inside(names: Names, word: str, scope: Scope | None) -> str:
    inside, problem = extract_braces(word)
    if problem is not None:
        if names.release >= (3, 8):
            where = names.source(scope) + (f":{scope.row.name_space}" if scope is not None else "")
        else:
            where = f"master.cf:{scope.row.name_space}" if scope is not None else "main.cf"
        log.warning(f"{where}: {problem}")
    return inside


def _search(names: Names, text: str, scope: Scope | None, *, recurse: bool) -> None:
    clients = _clients(names)
    adapters = ("proxy", "debug") if names.release >= (3, 11) else ("proxy",)
    for word in _words(names, text, scope):
        if word.startswith("{") and names.release >= (3, 0):
            inside = _inside(names, word, scope)
            if recurse:
                _search(names, inside, scope, recurse=recurse)
            continue
        kind, colon, name = word.partition(":")
        while colon and kind in adapters:
            kind, colon, name = name.partition(":")
        if not colon:
            continue
        if name.startswith("/"):
            if kind in clients and names.release >= (3, 3):
                _check_file(names, kind, name, clients[kind])
        elif name.startswith("{") and names.release >= (3, 0):
            inside = _inside(names, name, scope)
            _search(names, inside, scope, recurse=recurse and kind not in PATTERN_TABLES)
        elif kind in clients and not name.startswith("."):
            for suffix in clients[kind]:
                names.use(f"{name}_{suffix}", scope, table=True)


def _clients(names: Names) -> dict[str, list[str]]:
    """The suffixes of each client table type in this release."""
    clients: dict[str, list[str]] = {}
    for kind, suffix, since, until in names.database.families["table"]:
        if names.database.known(since, until):
            clients.setdefault(kind, []).append(suffix)
    return clients


def _check_file(names: Names, kind: str, path: str, suffixes: list[str]) -> None:
    """Warn about settings in a client's configuration file that the client does not use; once for each file."""
    if (kind, path) in names.visited_files:
        return
    names.visited_files.add((kind, path))
    import os
    import stat

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            log.warning(f'open "{kind}" configuration "{path}": not a regular file')
            return
        text = read_file(path)
    except PermissionError:
        return  # such files hold passwords and need not be readable for everyone
    except OSError as error:
        log.warning(f'open "{kind}" configuration "{path}": {strerror(error)}')
        return
    settings = parse_settings(text, path, names.release).values
    if names.quiet:
        return
    for name in names.hash_order(list(settings)):
        if name not in suffixes:
            log.warning(f"{kind}:{path}: unused parameter: {name}={settings[name]}")
