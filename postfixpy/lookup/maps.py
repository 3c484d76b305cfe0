"""`Maps`, the value of a ``*_maps`` parameter: tables that are searched in order (maps(3)).

A value may be ``hash:/a, pcre:/b {inline:...}``; a failing table ends the search with TableError, after a warning, and
never counts as "not found". An empty value in a table is an error too.
"""

from collections.abc import Iterable

from postfixpy import log
from postfixpy.lookup import source
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.search import Search, arun, run
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, Settings, Table, TableError


class Maps:
    """The tables of one parameter. `title` is its name ("transport_maps"), for log texts."""

    def __init__(
        self, title: str, text: str, settings: Settings, flags: Flags = Flags.MAPS, *, surrogates: bool = True
    ) -> None:
        self.title = title
        self.text = text
        self.flags = flags
        self.tables: list[Table] = [
            open_table(spec, settings, flags=flags, surrogates=surrogates) for spec in tokens(text)
        ]

    def __bool__(self) -> bool:
        return bool(self.tables)

    def find(self, key: str, *, partial: bool = False) -> str | None:
        """See `maps_find`; waits for each table."""
        return run(maps_find(self, key, partial=partial))

    async def afind(self, key: str, *, partial: bool = False) -> str | None:
        """See `maps_find`; for services."""
        return await arun(maps_find(self, key, partial=partial))

    def changed(self) -> bool:
        """Whether any table's file was changed or replaced since it was opened."""
        return any(table.changed() for table in self.tables)


def maps_find(maps: Maps, key: str, *, partial: bool = False) -> Search[str | None]:
    """The first value that a table has for `key`, or None.

    `partial`: `key` is a part of an address, so tables of patterns are passed over. Raises TableError.
    """
    if not key:
        return None
    for table in maps.tables:
        if partial and table.pattern:
            continue
        try:
            value = yield table, key
        except TableError:
            log.warning(f'{table.kind}:{table.label} lookup error for "{key}"')
            raise
        if value is None:
            continue
        if not value:
            log.warning(f"{maps.title} lookup of {key} returns an empty string result")
            log.warning(f"{maps.title} should return NO RESULT in case of NOT FOUND")
            raise TableError(f"{maps.title}: empty result", config=True)
        if table.flags & Flags.RHS_IS_FILE:
            try:
                return source.decode_file_value(value)
            except ValueError as error:
                log.warning(f"table {table.kind}:{table.label}: key {key}: {error}")
                raise TableError(str(error), config=True) from None
        return value
    return None


def any_changed(groups: Iterable[Maps | Table]) -> bool:
    """Whether a service must start afresh because a table that it uses has changed (dict_changed(3))."""
    return any(group.changed() for group in groups)
