"""Lookup tables: one small interface over every type that a Postfix configuration can name.

`open_table` opens ``type:name``; `Table.lookup` answers or raises TableError. `Maps` is a list of tables; the
searches in `maps`, `addresses` and `matching` say which keys are asked in which order; `run` and `arun` carry them out.
"""

from postfixpy.lookup.maps import Maps, maps_find
from postfixpy.lookup.registry import open_table, type_names
from postfixpy.lookup.search import Search, arun, run
from postfixpy.lookup.table import Flags, Settings, Table, TableError

__all__ = [
    "Flags",
    "Maps",
    "Search",
    "Settings",
    "Table",
    "TableError",
    "arun",
    "maps_find",
    "open_table",
    "run",
    "type_names",
]
