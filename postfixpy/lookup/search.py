"""A search: which tables to ask which keys, in which order, until there is an answer.

It is a generator that yields (table, key), receives the value or None (or has TableError raised at the yield), and
returns the result. `run` drives it with `Table.lookup`, `arun` with ``await Table.find``: one description of each
search for commands, services and tests.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

from postfixpy.lookup.table import Table, TableError

T = TypeVar("T")
Search: TypeAlias = Generator[tuple[Table, str], str | None, T]


def run(search: Search[T]) -> T:
    """The result of `search`, waiting for each table in turn. For commands, and for local tables."""
    try:
        table, key = next(search)
        while True:
            try:
                value = table.lookup(key)
            except TableError as error:
                table, key = search.throw(error)
            else:
                table, key = search.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun(search: Search[T]) -> T:
    """The result of `search`, for services: other tasks run while a table waits for its server."""
    try:
        table, key = next(search)
        while True:
            try:
                value = await table.find(key)
            except TableError as error:
                table, key = search.throw(error)
            else:
                table, key = search.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
