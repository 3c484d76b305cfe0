"""The name spaces of a configuration: which parameter names exist, of which class, and what their values are.

Classes: builtin (compiled in), service (made by master.cf rows of delivery programs), user (set, and referenced as
$name or listed in smtpd_restriction_classes), legacy (old names inside defaults; they become user when set). The
main.cf space is shared; every master.cf row with -o settings has one of its own on top. (spec/postconf.md sections
4, 5 and 8.)

Policy: the order of warnings is that of Postfix with NORANDOMIZE (hash_order). The default of mynetworks is only
computed when it is shown or referred to, or when a setting makes it likely to be refused: Postfix always computes
it.
"""

from __future__ import annotations

import os

from postfixpy import log
from postfixpy.config import host
from postfixpy.config.expand import ExpansionError, expand, parse_level, scan
from postfixpy.config.inspect.hash_order import hash_order
from postfixpy.config.lines import split_list, split_name_value
from postfixpy.config.parameters import RUNTIME
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from postfixpy.config.inspect.rows import Row
    from postfixpy.config.main_cf import Settings
    from postfixpy.config.parameters import Database

BUILTIN, SERVICE, USER, LEGACY = "builtin", "service", "user", "legacy"


class Scope:
    """The name space of a master.cf row: its -o settings, and which of them are known to be used."""

    __slots__ = ("row", "settings", "valid")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.settings: dict[str, str] = {}
        self.valid: set[str] = set()

    def fixed(self, name: str, release: tuple[int, int]) -> str | None:
        """process_name and service_name, which a row cannot set."""
        if release < (3, 3):
            return None
        return {"process_name": self.row.process_name, "service_name": self.row.words[0]}.get(name)


class Names:
    """All name spaces of one configuration.

    `classes` maps every name of the main.cf space to its class; `scopes` has one Scope for each row, in order.
    """

    def __init__(self, database: Database, directory: str, settings: Settings, program: str) -> None:
        self.database = database
        self.release = database.release
        self.directory = directory
        self.settings = settings
        self.program = program
        self.scopes: list[Scope] = []
        self.quiet = False
        self.verbose = 0
        self.defaults_only = False
        self.classes: dict[str, str] = dict.fromkeys(database.parameters, BUILTIN)
        self._service_defaults: dict[str, str] = {}
        self._run_time: dict[str, str] = {}
        self._restriction_classes: set[str] = set()
        self._raw = {name for name, parameter in database.parameters.items() if parameter.kind == "raw"}
        self.visited_files: set[tuple[str, str]] = set()
        if self.release >= (2, 9):
            for name in database.legacy_names():
                self.classes.setdefault(name, LEGACY)

    # Values

    def default(self, name: str) -> str | None:
        """The default of a name in the main.cf space, None if the name is not in it."""
        parameter = self.database.parameters.get(name)
        if parameter is None:
            if name not in self.classes:
                return None
            return self._service_defaults.get(name, "")
        if parameter.default == RUNTIME:
            if name not in self._run_time:
                self._run_time[name] = self._compute(name)
            return self._run_time[name]
        return parameter.default

    def _compute(self, name: str) -> str:
        if name == "process_name":
            return os.path.basename(self.program)
        if name == "process_id":
            return str(os.getpid())
        if name == "myhostname":
            own = host.host_name()
            if "." in own:
                return own
            domain = self.evaluate_setting("mydomain")
            return f"{own}.{host.DEFAULT_DOMAIN if domain is None else domain}"
        if name == "mydomain":
            full = self.evaluate_setting("myhostname")
            if full is None:
                full = self.default("myhostname") or ""
            return full.partition(".")[2] if "." in full else host.DEFAULT_DOMAIN
        interfaces, style, protocols = (
            self._network_setting(each) for each in ("inet_interfaces", "mynetworks_style", "inet_protocols")
        )
        trace = self._trace if self.verbose else None
        return host.networks(interfaces, protocols, style, trace)

    def _trace(self, text: str) -> None:
        if text.endswith(" "):
            text = f"{'mynetworks_core' if self.release >= (3, 0) else 'mynetworks'}: {text}"
        log.info(text)

    def _network_setting(self, name: str) -> str:
        value = None if self.defaults_only else self.evaluate_setting(name)
        return self.expand(self.default(name) or "") if value is None else value

    def evaluate_setting(self, name: str) -> str | None:
        """The value of a main.cf setting expanded with main.cf settings alone; None if it is not set."""
        value = self.settings.values.get(name)
        return None if value is None else self._evaluate(value, self.settings.values.get, "mail_dict")

    def _evaluate(self, text: str, lookup: Callable[[str], str | None], dictionary: str) -> str:
        try:
            return expand(text, lookup, release=self.release)
        except ExpansionError:
            raise FatalError(f"dictionary {dictionary}: macro processing error") from None

    def lookup(self, name: str, scope: Scope | None = None, *, only_set: bool = False) -> str | None:
        """The unexpanded value of `name`, as seen from a row if `scope` is given. None if there is none.

        With `only_set`, defaults do not count.
        """
        if not self.defaults_only:
            if scope is not None:
                value = scope.fixed(name, self.release)
                if value is None:
                    value = scope.settings.get(name)
                if value is not None:
                    return value
            value = self.settings.values.get(name)
            if value is not None or only_set:
                return value
        return self.default(name)

    def expand(self, text: str, scope: Scope | None = None) -> str:
        """`text` with its references expanded, as for -x. Raises FatalError."""
        if "$" not in text:
            return text
        is_raw = self._raw.__contains__ if self.release >= (3, 11) else None
        try:
            return expand(text, lambda name: self.lookup(name, scope), is_raw, release=self.release)
        except ExpansionError:
            raise FatalError("macro processing error") from None

    def is_raw(self, name: str) -> bool:
        """Whether the value of `name` is never expanded."""
        return name in self._raw

    def override(self, texts: list[str]) -> None:
        """Apply ``-o name=value`` settings from the command line. Raises FatalError."""
        for text in texts:
            try:
                name, value = split_name_value(text)
            except ValueError as error:
                raise FatalError(f"invalid parameter override: {text}: {error}") from None
            self.settings.values[name] = value
            self.settings.lines[name] = 0

    # Registration

    def add_rows(self, rows: list[Row]) -> None:
        """Add the rows' name spaces and the service parameters that they bring."""
        for row in rows:
            self.scopes.append(Scope(row))
            for suffix, default in self.database.service_suffixes(row.words[7]):
                name = row.words[0] + suffix
                self.classes[name] = SERVICE
                if name not in self.database.parameters:
                    self._service_defaults.setdefault(name, default)

    def find_used_names(self) -> None:
        """Find the user-defined names that are in use, and warn about undefined, read-only and table-related ones."""
        spaces: dict[str, dict[str, str]] = {}
        for scope in self.scopes:
            own = scope.row.settings()
            if own or scope.row.name_space in spaces:
                # Rows of one name share their settings, from the first one that has any.
                scope.settings = spaces.setdefault(scope.row.name_space, {})
                scope.settings.update(own)
        for scope in self.scopes:
            if scope.settings:
                self._scan_space(scope.settings, scope)
        self._scan_defaults()
        self._scan_space(self.settings.values, None)

    def hash_order(self, keys: list[str]) -> list[str]:
        """`keys` in the order of a Postfix dictionary of this release."""
        return hash_order(keys, fnv=self.release >= (3, 7))

    def source(self, scope: Scope | None) -> str:
        """The file that a name space stands for, as the warnings have it."""
        return f"{self.directory}/{'main.cf' if scope is None else 'master.cf'}"

    def _scan_space(self, settings: dict[str, str], scope: Scope | None) -> None:
        listed = settings.get("smtpd_restriction_classes")
        if listed is not None:
            dictionary = "mail_dict" if scope is None else scope.row.name_space
            for name in split_list(self._evaluate(listed, settings.get, dictionary)):
                if scope is None:
                    self._restriction_classes.add(name)
                self.use(name, scope)
        for name in self.hash_order(list(settings)):
            value = settings[name]
            if scope is not None and name in self._restriction_classes:
                scope.valid.add(name)
            kind = self.classes.get(name)
            if kind is not None:
                if self._is_read_only(name):
                    log.warning(f"{self.source(scope)}: read-only parameter assignment: {name}={value}")
                    del settings[name]
                    continue
                if kind == LEGACY:
                    self.classes[name] = USER
                if name in self._raw:
                    continue
            if "$" in value:
                scan(value, lambda reference: self.use(reference, scope), release=self.release)
            if kind in (BUILTIN, SERVICE):
                self._scan_tables(value, scope)

    def _scan_tables(self, value: str, scope: Scope | None) -> None:
        if "$" in value or ":" in value or "#" in value or "{" in value:
            from postfixpy.config.inspect import tables

            tables.register(self, value, scope)

    def _is_read_only(self, name: str) -> bool:
        if name in ("process_name", "process_id"):
            return self.release >= (2, 10)
        return name == "service_name" and (3, 3) <= self.release < (3, 11)

    def _scan_defaults(self) -> None:
        """References in defaults make settings of old names used.

        Computing a default can fail, as it does in Postfix, and what was computed is looked through like the others.
        """
        values = self.settings.values
        for name, parameter in self.database.parameters.items():
            if "$" in parameter.default and name not in self._raw and name not in values:
                scan(parameter.default, lambda reference: self.use(reference, None), release=self.release)
        for name, default in self._service_defaults.items():
            if name not in values:
                self.use(default[1:], None)
        for name, used in (("mydomain", "myhostname"), ("myhostname", "mydomain")):
            if name not in values and "$" in values.get(used, ""):
                scan(self.default(name) or "", lambda reference: self.use(reference, None), release=self.release)
        if "mynetworks" not in values and self._networks_may_fail():
            self.default("mynetworks")

    def _networks_may_fail(self) -> bool:
        values = self.settings.values
        try:
            parse_level(values.get("compatibility_level", "0"))
        except ValueError:
            return True
        return bool(self.verbose) or (
            values.get("inet_interfaces", "all") not in ("all", "loopback-only")
            or values.get("inet_protocols", "all") not in ("all", "ipv4")
            or values.get("mynetworks_style", "subnet") not in ("subnet", "host")
        )

    def use(self, name: str, scope: Scope | None, *, table: bool = False) -> None:
        """A reference to `name` was seen in the space of `scope` (None: main.cf): settings of that name are used.

        Warns if the name has neither a setting nor a default, except for the optional names of table clients.
        """
        supplied = False
        if scope is not None and name in scope.settings:
            supplied = True
            self._validate(name, scope, scope)
        elif name in self.settings.values:
            supplied = True
            self._validate(name, scope, None)
        if scope is None:
            for other in self.scopes:
                if name in other.settings:
                    supplied = True
                    self._validate(name, None, other)
        if not supplied and not table and name not in self.classes and self.release >= (2, 10):
            log.warning(f"{self.source(scope)}: undefined parameter: {name}")

    def _validate(self, name: str, where: Scope | None, target: Scope | None) -> None:
        """A reference in the space `where` makes the setting of `name` in the space `target` a used one."""
        if target is not None:
            new = name not in target.valid
            target.valid.add(name)
        else:
            new = name not in self.classes
            self.classes.setdefault(name, USER)
        if new and self.verbose and self.release >= (2, 10):
            log.info(f"${name} in {_place(where)} validates {name}=value in {_place(target)}")


def _place(scope: Scope | None) -> str:
    return "main.cf" if scope is None else f"master.cf:{scope.row.name_space}"
