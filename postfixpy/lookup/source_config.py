"""Where a table of a database gets its settings: a file of ``name = value`` lines, or main.cf (``tablename_name``).

The name of such a table is a path (it starts with "/" or "."), or else a prefix of main.cf parameters, as before
Postfix 2.1. Texts are those of cfg_parser(3).
"""

from typing import Any

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.syntax import SPACE, logical_lines
from postfixpy.lookup.table import OpenError, Settings, error_text, release

_MAX_INT = 2**31 - 1


class SourceConfig:
    """The settings of one table. Raises OpenError if its file cannot be opened, FatalError if it is malformed."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings: Any = settings
        self.values: dict[str, str] | None = None
        if name[:1] in ("/", "."):
            try:
                with open(name, "rb") as file:
                    data = file.read()
            except OSError as error:
                doing = "read" if isinstance(error, IsADirectoryError) else "open"
                raise OpenError(f"{doing} {name}: {error_text(error)}") from None
            self.values = parse(data, name, warn_of_null=release(settings) >= (3, 9))

    def _raw(self, name: str) -> str | None:
        if self.values is not None:
            return self.values.get(name)
        return self.settings.text(f"{self.name}_{name}") or None

    def _full(self, name: str) -> tuple[str, str]:
        """How a fatal text begins, and how it names the parameter."""
        return (f"{self.name}: ", name) if self.values is not None else ("", f"{self.name}_{name}")

    def text(self, name: str, default: str = "", minimum: int = 0) -> str:
        """The value of `name`, at least `minimum` bytes long."""
        value = self._raw(name)
        if value is None:
            value = default
        if len(value) < minimum:
            start, full = self._full(name)
            raise FatalError(f"{start}bad string length {len(value)} < {minimum}: {full} = {value}")
        return value

    def integer(self, name: str, default: int, minimum: int = 0, maximum: int = 0) -> int:
        """The value of `name` as a number; limits of 0 are none."""
        text = self._raw(name)
        start, full = self._full(name)
        value = default
        if text is not None:
            digits = text.strip(SPACE).removeprefix("+").removeprefix("-")
            if not (digits.isascii() and digits.isdigit()) or len(digits) > 12 or abs(int(text)) > _MAX_INT:
                raise FatalError(f"{start}bad numerical configuration: {full} = {text}")
            value = int(text)
        if minimum and value < minimum:
            raise FatalError(f"{start}invalid {full} parameter value {value} < {minimum}")
        if maximum and value > maximum:
            raise FatalError(f"{start}invalid {full} parameter value {value} > {maximum}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """The value of `name`, yes or no."""
        text = self._raw(name)
        if text is None:
            return default
        if text.lower() not in ("yes", "no"):
            start, full = self._full(name)
            raise FatalError(f"{start}bad boolean configuration: {full} = {text}")
        return text.lower() == "yes"

    def given(self, name: str) -> bool:
        """Whether `name` is set to something."""
        return bool(self._raw(name))


def parse(data: bytes, path: str, *, warn_of_null: bool = True) -> dict[str, str]:
    """The settings in a file. The last of two counts. Raises FatalError with file and line."""
    values: dict[str, str] = {}
    for number, line in logical_lines(data, path, warn_of_null=warn_of_null):
        text = line.decode("utf-8", "surrogateescape")
        name, equals, value = text.partition("=")
        stripped = name.strip(SPACE)
        error = ""
        if not stripped:
            error = "missing attribute name"
        elif not equals or any(char in SPACE for char in stripped):
            error = "missing '=' after attribute name"
        if error:
            raise FatalError(f'{path}, line {number}: {error}: "{text}"')
        value = value.strip(SPACE)
        if values.get(stripped, value) != value:
            log.warning(f"{path}, line {number}: overriding earlier entry: {stripped}={values[stripped]}")
        values[stripped] = value
    return values
