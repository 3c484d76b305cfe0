"""A configuration as one service sees it: typed, expanded parameters with their origin.

A value comes, in this order, from the overrides of the view (-o), main.cf, and the compiled-in default. Attributes
are typed by the parameter database: ``view.smtp_helo_timeout`` is a number of seconds, ``view.soft_bounce`` a bool,
``view.relayhost`` expanded text, and a raw string (``view.default_rbl_reply``) is as written. A bad value raises
FatalError in Postfix's words at the moment it is read, and a value is computed once.

In LMTP mode the name ``smtp_x`` means ``lmtp_x`` for every read by name, but not inside "$" references, as in lmtp(8).

Differs from Postfix: "$name" also sees the compiled-in default of parameters that the running program does not itself
use, as ``postconf -x`` shows it; a Postfix program knows only its own and expands the others to nothing. On Debian,
myorigin may be the name of a file whose first line is the value, as Debian builds it.
"""

from __future__ import annotations

from postfixpy.config import host, values
from postfixpy.config.expand import ExpansionError, expand, parse_level, scan
from postfixpy.config.lines import SPACE
from postfixpy.config.parameters import RUNTIME, Database, Parameter, Release
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from postfixpy.config.configuration import Configuration
    from postfixpy.config.master_cf import MasterEntry
    from postfixpy.config.names import ParameterNames
    from postfixpy.config.parameters import Database, Parameter, Release

if not TYPE_CHECKING:
    ParameterNames = object


class Origin:
    """Where the value of a name comes from.

    kind    "main.cf", "-o", "default", "compatibility" (a default that depends on compatibility_level), "built-in" (a
            value that Postfix sets itself) or "undefined"
    file    path of the file, "" if none; line is its line number, 0 if none
    value   the unexpanded text, None if undefined
    chain   the origins of the names that the value refers to, each with its own chain; a name is followed once
    """

    __slots__ = ("chain", "file", "kind", "line", "name", "value")

    def __init__(self, name: str, kind: str, value: str | None, file: str = "", line: int = 0) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        self.file = file
        self.line = line
        self.chain: list[Origin] = []

    def __repr__(self) -> str:
        where = f" {self.file}:{self.line}" if self.file else ""
        return f"<Origin {self.name}: {self.kind}{where}>"


class View(ParameterNames):
    """The configuration under the overrides of one service. See the module for what its attributes are."""

    configuration: Configuration
    lmtp: bool

    def __init__(
        self,
        configuration: Configuration,
        overrides: Sequence[tuple[str, str]] = (),
        *,
        entry: MasterEntry | None = None,
        built_in: dict[str, str] | None = None,
        lmtp: bool = False,
    ) -> None:
        self.configuration = configuration
        self.lmtp = lmtp
        self._database: Database = configuration.database
        self._entry = entry
        self._overrides = dict(overrides)
        self._built_in = built_in or {}
        self._mirrors = self._database.mirrors() if lmtp else {}

    @property
    def release(self) -> Release:
        """The Postfix release whose parameters and defaults these are."""
        return self._database.release

    def compatibility(self) -> tuple[int, int, int]:
        """$compatibility_level as numbers. Raises FatalError if it is malformed."""
        try:
            return parse_level(self.text("compatibility_level") or "0")
        except ValueError as error:
            raise FatalError(str(error)) from None

    if not TYPE_CHECKING:  # the attributes are those of ParameterNames: a misspelt one is an error for mypy

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            value = self._typed(name)
            self.__dict__[name] = value
            return value

    def _typed(self, name: str) -> Any:
        parameter = self._database.parameters.get(self._mirrors.get(name, name))
        if parameter is None:
            if name in self._database.legacy_names():
                return self.text(name)
            return self._foreign(name)
        kind = parameter.kind
        if kind in ("string", "raw"):
            return self.text(name)
        if kind == "time":
            return self.time(name)
        if kind in ("bool", "nbool"):
            return self.boolean(name)
        return self.integer(name)

    def _foreign(self, name: str) -> Any:
        """The value of a parameter that this release lacks (Database.foreign): what main.cf says is not for it."""
        parameter = self._database.foreign(name)
        if parameter is None:
            raise AttributeError(f"no such Postfix parameter: {name}")
        if parameter.kind == "raw":
            return parameter.default
        # Its default may be written in a syntax that this release lacks, too.
        text = expand(parameter.default, self._lookup, self.configuration.is_raw_reference)
        if parameter.kind == "time":
            return values.to_time(name, text, parameter.unit)
        if parameter.kind in ("bool", "nbool"):
            return values.to_boolean(name, text)
        return text if parameter.kind == "string" else values.to_integer(name, text, values.LONG_MAX)

    def parameter(self, name: str) -> Parameter | None:
        """The compiled-in parameter that `name` means in this view."""
        return self._database.parameters.get(self._mirrors.get(name, name))

    def check(self, prefix: str) -> None:
        """Raises FatalError when a number, time or switch that was set, and whose name begins so, makes no sense.

        Postfix's programs look at all their parameters when they start; ours when they need one.
        """
        for name in [*self._overrides, *self.configuration.settings.values]:
            if name.startswith(prefix):
                parameter = self._database.parameters.get(name)
                if parameter is not None and parameter.kind not in ("string", "raw"):
                    getattr(self, name)

    def is_set(self, name: str) -> bool:
        """Whether main.cf or an override gives `name` a value."""
        return self._explicit(self._mirrors.get(name, name)) is not None

    def raw(self, name: str) -> str | None:
        """The unexpanded text of any name, None if it has none."""
        return self._lookup(self._mirrors.get(name, name))

    def _explicit(self, name: str) -> str | None:
        for settings in (self._built_in, self._overrides, self.configuration.settings.values):
            value = settings.get(name)
            if value is not None:
                return value
        return None

    def _lookup(self, name: str) -> str | None:
        value = self._explicit(name)
        return self._default(name) if value is None else value

    def _default(self, name: str) -> str | None:
        parameter = self._database.parameters.get(name)
        if parameter is None:
            return "" if name in self._database.legacy_names() else None
        if parameter.default == RUNTIME:
            cached: str | None = self.__dict__.get("_run_time_" + name)
            if cached is None:
                cached = self.__dict__["_run_time_" + name] = self._run_time_default(name)
            return cached
        return parameter.default

    def _run_time_default(self, name: str) -> str:
        if name == "myhostname":
            own = host.host_name()
            return own if "." in own else f"{own}.{self._explicit_text('mydomain', host.DEFAULT_DOMAIN)}"
        if name == "mydomain":
            full = self._explicit_text("myhostname", None)
            if full is None:
                full = self._lookup("myhostname") or ""
            return full.partition(".")[2] if "." in full else host.DEFAULT_DOMAIN
        if name == "mynetworks":
            interfaces, protocols, style = ("inet_interfaces", "inet_protocols", "mynetworks_style")
            return host.networks(self.text(interfaces), self.text(protocols), self.text(style))
        if name == "process_id":
            import os

            return str(os.getpid())
        return ""

    def _explicit_text(self, name: str, default: str | None) -> str | None:
        """The value of `name` if it is set, expanded with what is set, before any default is known."""
        value = self._explicit(name)
        return default if value is None else self._expand(value, self._explicit)

    def _expand(self, text: str, lookup: Any) -> str:
        try:
            return expand(text, lookup, self.configuration.is_raw_reference, release=self._database.release)
        except ExpansionError:
            raise FatalError("dictionary mail_dict: macro processing error") from None

    def expand(self, text: str) -> str:
        """`text` with its "$" references expanded under this view. Raises FatalError if it cannot be."""
        return self._expand(text, self._lookup)

    def text(self, name: str) -> str:
        """The expanded text of any name, "" if it has none. Raises FatalError if it is too short or too long."""
        name = self._mirrors.get(name, name)
        value = self._lookup(name)
        if value is None:
            return ""
        parameter = self._database.parameters.get(name)
        if parameter is None:
            return self.expand(value)
        if parameter.kind == "raw":
            return values.check_length(name, value, parameter.minimum, parameter.maximum, raw=True)
        value = self.expand(value)
        if parameter.kind == "string":
            values.check_length(name, value, parameter.minimum, parameter.maximum)
            if name == "myorigin" and value.startswith("/") and self._database.profile == "debian":
                return _origin_from_file(value)
        return value

    def integer(self, name: str) -> int:
        """The value of any name as a whole number. Raises FatalError."""
        name = self._mirrors.get(name, name)
        parameter = self._database.parameters.get(name)
        limit = values.LONG_MAX if parameter is not None and parameter.kind == "long" else values.INT_MAX
        number = values.to_integer(name, self.expand(self._lookup(name) or ""), limit)
        if parameter is None or parameter.kind not in ("int", "nint", "long"):
            return number
        return values.check_integer(name, number, parameter.minimum, parameter.maximum)

    def time(self, name: str, unit: str = "s") -> int:
        """The value of any name as seconds. `unit` is for names without one of their own. Raises FatalError."""
        name = self._mirrors.get(name, name)
        parameter = self._database.parameters.get(name)
        text = self.expand(self._lookup(name) or "")
        if parameter is None or parameter.kind != "time":
            return values.to_time(name, text, unit)
        seconds = values.to_time(name, text, parameter.unit or unit)
        return values.check_time(name, seconds, parameter.minimum, parameter.maximum)

    def boolean(self, name: str) -> bool:
        """The value of any name as a bool. Raises FatalError."""
        name = self._mirrors.get(name, name)
        return values.to_boolean(name, self.expand(self._lookup(name) or ""))

    def _service_name(self, transport: str, suffix: str) -> tuple[str, str]:
        """The full parameter name for a transport and suffix, and its unexpanded text."""
        suffix = "_" + suffix.lstrip("_")
        name = transport + suffix
        value = self._explicit(name)
        if value is None:
            parameter = self._database.parameters.get(name)
            if parameter is not None:
                value = parameter.default
            else:
                value = self._database.suffix_defaults.get(suffix, "")
        return name, value

    def service_text(self, transport: str, suffix: str) -> str:
        """The value of TRANSPORT_SUFFIX (``smtp``, ``destination_concurrency_limit``), else of its ``$default_``."""
        return self.expand(self._service_name(transport, suffix)[1])

    def service_integer(self, transport: str, suffix: str, minimum: int = 0, maximum: int = 0) -> int:
        """service_text as a number within limits (0: none). Raises FatalError."""
        name, value = self._service_name(transport, suffix)
        return values.check_integer(name, values.to_integer(name, self.expand(value)), minimum, maximum)

    def service_time(self, transport: str, suffix: str, minimum: int = 0, maximum: int = 0) -> int:
        """service_text as seconds within limits (0: none). Raises FatalError."""
        name, value = self._service_name(transport, suffix)
        return values.check_time(name, values.to_time(name, self.expand(value), "s"), minimum, maximum)

    def origin(self, name: str) -> Origin:
        """Where the value of `name` comes from, and through which names."""
        return self._origin(self._mirrors.get(name, name), set())

    def _origin(self, name: str, seen: set[str]) -> Origin:
        configuration = self.configuration
        if name in self._built_in:
            origin = Origin(name, "built-in", self._built_in[name])
        elif name in self._overrides:
            file = configuration.master_path if self._entry is not None else ""
            origin = Origin(name, "-o", self._overrides[name], file, self._entry.line if self._entry else 0)
        elif name in configuration.settings.values:
            line = configuration.settings.lines[name]
            kind = "main.cf" if line else "built-in"
            file = configuration.settings.path if line else ""
            origin = Origin(name, kind, configuration.settings.values[name], file, line)
        else:
            value = self._default(name)
            parameter = self._database.parameters.get(name)
            if value is None:
                kind = "undefined"
            elif parameter is not None and parameter.default == RUNTIME:
                kind = "built-in"
            else:
                kind = "compatibility" if "$compatibility_level" in value else "default"
            origin = Origin(name, kind, value)
        seen.add(name)
        if origin.value and not configuration.is_raw_reference(name):
            found: list[str] = []
            scan(origin.value, found.append, release=self._database.release)
            for reference in found:
                if reference not in seen:
                    origin.chain.append(self._origin(reference, seen))
        return origin


def _origin_from_file(path: str) -> str:
    """The first line of the file that Debian's myorigin names, without blanks around it."""
    from postfixpy.config.lines import open_or_fatal

    text = open_or_fatal(path).partition("\n")[0].strip(SPACE)
    if not text:
        raise FatalError(f"myorigin file {path} is empty")
    return text
