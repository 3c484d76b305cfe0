"""main.cf and master.cf: text to typed, expanded parameters with their origin.

    configuration = load("/etc/postfix")
    for entry in configuration.master:
        view = configuration.view(entry)
        print(entry.name, view.smtp_helo_timeout, view.origin("smtp_helo_timeout"))

lines          the line syntax
parameters     the database of names, types, limits and defaults by release (data/)
main_cf        explicit settings with positions
master_cf      the services
expand         "$" expansion; conditional and conditional.lark its conditional forms
values         numbers, times, booleans
host           defaults that are computed on the machine
view           what a service sees
configuration  a directory

Importing this package loads neither asyncio nor dataclasses nor the grammar.
"""

from postfixpy.config.configuration import Configuration, configuration_directory, load
from postfixpy.config.lines import decode, encode, logical_lines, split_name_value
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
