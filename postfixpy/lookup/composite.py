"""Tables made of tables: pipemap, unionmap, randmap, debug (DATABASE_README, "Pipelined", "Unionized", "Randomized").

They work over `Search`, so that one description of the order of lookups serves callers that wait and services.
"""

import random
from collections.abc import Iterator

from postfixpy import log
from postfixpy.lookup import source
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.search import Search, arun, run
from postfixpy.lookup.syntax import balanced, tokens
from postfixpy.lookup.table import Flags, OpenError, Settings, Table, TableError


class Composite(Table):
    """``type:{ table, table }``. The first table decides whether keys are patterns."""

    def __init__(self, name: str, settings: Settings, flags: Flags, surrogates: bool) -> None:
        super().__init__(name, settings, flags)
        error = OpenError(f'bad syntax: "{self.kind}:{name}"; need "{self.kind}:{{type:name...}}"')
        if balanced(name) != len(name) or not name:
            raise error
        specs = list(tokens(name[1:-1]))
        if not specs or any(":" not in spec for spec in specs):
            raise error
        self.tables = [open_table(spec, settings, flags=flags, surrogates=surrogates) for spec in specs]
        self._set_pattern(self.tables[0].pattern)

    def changed(self) -> bool:
        return any(table.changed() for table in self.tables)

    def search(self, key: str) -> Search[str | None]:
        """The lookups that answer `key`."""
        raise NotImplementedError

    def get(self, key: str) -> str | None:
        return run(self.search(key))

    async def aget(self, key: str) -> str | None:
        return await arun(self.search(key))


class PipeMap(Composite):
    """The result of each table is the key for the next; one "not found" ends the search."""

    kind = "pipemap"

    def search(self, key: str) -> Search[str | None]:
        for table in self.tables:
            result = yield table, key
            if result is None:
                return None
            key = result
        return key


class UnionMap(Composite):
    """The results of all tables, joined with commas."""

    kind = "unionmap"

    def search(self, key: str) -> Search[str | None]:
        union = ""
        for table in self.tables:
            result = yield table, key
            if result is not None:
                union = f"{union},{result}" if union else result
        return union or None


class RandMap(Table):
    """``randmap:{ value, value }``: one of the values, at random, whatever the key."""

    kind = "randmap"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, pattern=True)
        self.values: list[str] = []
        if name and balanced(name) == len(name):
            self.values = list(tokens(name[1:-1]))
        if not self.values:
            raise OpenError(f'bad syntax: "randmap:{name}"; need "randmap:{{value...}}"')
        if flags & Flags.RHS_IS_FILE:
            try:
                self.values = [source.file_value(value) for value in self.values]
            except ValueError as error:
                raise OpenError(str(error)) from None

    def get(self, key: str) -> str | None:
        return random.choice(self.values)


class Debug(Table):
    """``debug:type:name``: logs each use of another table."""

    kind = "debug"

    def __init__(self, name: str, settings: Settings, flags: Flags, surrogates: bool) -> None:
        super().__init__(name, settings, flags & ~(Flags.UTF8_REQUEST | Flags.FOLD_FIX | Flags.FOLD_MUL))
        self.table = open_table(name, settings, flags=flags, surrogates=surrogates)
        self._set_pattern(self.table.pattern)

    def changed(self) -> bool:
        return self.table.changed()

    def _search(self, key: str) -> Search[str | None]:
        try:
            result = yield self.table, key
        except TableError:
            log.info(f'{self.label} lookup: "{key}" = "error"')
            raise
        log.info(f'{self.label} lookup: "{key}" = "{"not_found" if result is None else result}"')
        return result

    def get(self, key: str) -> str | None:
        return run(self._search(key))

    async def aget(self, key: str) -> str | None:
        return await arun(self._search(key))

    def items(self) -> Iterator[tuple[str, str]]:
        for key, value in self.table.items():
            log.info(f'{self.label} sequence: "{key}" = "{value}"')
            yield key, value
        log.info(f"{self.label} sequence: found EOF")

    def put(self, key: str, value: str) -> bool:
        stored = self.table.update(key, value)
        log.info(f'{self.label} update: "{key}" = "{value}": {"success" if stored else "failed"}')
        return stored

    def delete(self, key: str) -> bool:
        removed = self.table.remove(key)
        log.info(f'{self.label} delete: "{key}": {"success" if removed else "failed"}')
        return removed
