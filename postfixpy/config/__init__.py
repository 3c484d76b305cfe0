"""main.cf and master.cf: text to typed, expanded parameters with their origin.

    configuration = load("/etc/postfix")
    for entry in configuration.master:
        view = configuration.view(entry)
        print(entry.name, view.smtp_helo_timeout, view.origin("smtp_helo_timeout"))

lines          the line syntax
parameters     the database of names, types, limits and defaults by release (data/)
main_cf        explicit settings with positions
master_cf      the services
expand         "$" expansion; macro reads the text, conditional and conditional.lark its conditional forms
values         numbers, times, booleans
host           defaults that are computed on the machine
view           what a service sees
configuration  a directory
inspect        what postconf shows, warns of and edits

Importing this package loads nothing of it: every name below is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from postfixpy.config.configuration import Configuration, load
    from postfixpy.config.lines import decode, encode, logical_lines, split_name_value
    from postfixpy.config.main_cf import configuration_directory
    from postfixpy.config.master_cf import MasterEntry
    from postfixpy.config.parameters import Database, Parameter, database
    from postfixpy.config.view import Origin, View

__all__ = [
    "Configuration",
    "Database",
    "MasterEntry",
    "Origin",
    "Parameter",
    "View",
    "configuration_directory",
    "database",
    "decode",
    "encode",
    "load",
    "logical_lines",
    "split_name_value",
]

_HOMES = {
    **dict.fromkeys(("Configuration", "load"), "configuration"),
    **dict.fromkeys(("decode", "encode", "logical_lines", "split_name_value"), "lines"),
    "configuration_directory": "main_cf",
    "MasterEntry": "master_cf",
    **dict.fromkeys(("Database", "Parameter", "database"), "parameters"),
    **dict.fromkeys(("Origin", "View"), "view"),
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
