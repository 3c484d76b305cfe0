"""sqlite: tables (sqlite_table(5)), with the SQLite that comes with Python. The file is opened for reading only."""

import sqlite3

from postfixpy import log
from postfixpy.lookup.search import Search, arun, run
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.table import LATEST, Flags, OpenError, Settings, Table, TableError, is_utf8, release
from postfixpy.lookup.template import Results, Templates, sql_query


class Sqlite(Table):
    """``sqlite:/path/of/settings``."""

    kind = "sqlite"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        config = SourceConfig(name, settings)
        self.config = config
        path = config.text("dbpath", minimum=1)
        self.query = sql_query(config)
        if release(settings) >= LATEST:
            warn_about_quotes(self.query, name)
        self.result_format = config.text("result_format", "%s", 1)
        self.limit = config.integer("expansion_limit", 0)
        self.templates = Templates(self.kind, name)
        self.templates.parse(self.query, query=True)
        self.templates.parse(self.result_format, query=False)
        self.templates.parse_domain(config, settings)
        try:
            # A service may run several event loops, but no two threads use one table at the same time.
            self.database = sqlite3.connect(f"file:{_uri(path)}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise OpenError(f"sqlite:{name}: open database {path}: {error}: No such file or directory") from None
        self.database.text_factory = lambda data: data.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        database = getattr(self, "database", None)
        if database is not None:
            database.close()

    def get(self, key: str) -> str | None:
        return self._answer(key) if run(self._wanted(key)) else None

    async def aget(self, key: str) -> str | None:
        return self._answer(key) if await arun(self._wanted(key)) else None

    def _wanted(self, key: str) -> Search[bool]:
        return is_utf8(key) and (yield from self.templates.wants(key))

    def _answer(self, key: str) -> str | None:
        query = self.templates.query(self.query, key, _quote)
        if query is None:
            return None
        results = Results(self.templates, self.result_format, self.limit, key)
        name = self.config.name
        try:
            cursor = self.database.execute(query)
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
            # Postfix dies here. A query that cannot be prepared is as temporary as its fix.
            raise TableError(f"dict_sqlite_lookup: {name}: SQL prepare failed: {error}?", fatal=True) from None
        try:
            for row in cursor:
                value = None if row[0] is None else str(row[0])
                if not results.add(value):
                    log.warning(f"dict_sqlite_lookup: {name}: Expansion limit exceeded for key '{key}'")
                    raise TableError(f"{name}: expansion limit exceeded")
        except sqlite3.Error as error:
            log.warning(f"dict_sqlite_lookup: {name}: SQL step failed for query '{query}': {error}\n")
            raise TableError(f"{name}: {error}") from None
        finally:
            cursor.close()
        return results.text()


def _uri(path: str) -> str:
    """`path` for a file: URI."""
    safe = b"/._-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in path.encode("utf-8", "surrogateescape"))


def _quote(text: str) -> str:
    """For a place inside single quotes."""
    return text.replace("'", "''")


def warn_about_quotes(query: str, name: str) -> None:
    """Warn of every ``%x`` outside single quotes: only inside them is a key safely quoted."""
    quote, position = "", 0
    while position < len(query):
        char = query[position]
        if not quote and char in "'\"":
            quote = char
        elif char == quote:
            quote = ""
        if quote != "'" and char == "%":
            letter = query[position + 1 : position + 2]
            if letter.isascii() and letter.isalnum():
                log.warning(f"sqlite:{name}: query >{query}< contains >%{letter}< without the recommended '' quotes")
            if letter:
                position += 1
        position += 1
