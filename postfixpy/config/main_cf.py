"""main.cf as text with positions: what is set, to which text, on which line.

Nothing is evaluated here. The last of several settings of one name wins; from 2.11 an earlier one that differs is
mentioned in a warning. (postconf(5); spec/postconf.md section 3.)
"""

from __future__ import annotations

import os

from postfixpy import log
from postfixpy.config.lines import logical_lines, open_or_fatal, split_name_value
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from postfixpy.config.parameters import Release


DEFAULT_DIRECTORY = "/etc/postfix"


def configuration_directory(directory: str | None = None) -> str:
    """`directory`, else $MAIL_CONFIG, else /etc/postfix. An empty one is the root directory, as in Postfix."""
    return os.environ.get("MAIL_CONFIG", DEFAULT_DIRECTORY) if directory is None else directory


class Settings:
    """Explicit settings: `values` maps a name to its unexpanded text, `lines` to the line number of the setting."""

    __slots__ = ("lines", "path", "values")

    def __init__(self, path: str) -> None:
        self.path = path
        self.values: dict[str, str] = {}
        self.lines: dict[str, int] = {}


def read_settings(path: str, release: Release, preset: dict[str, str] | None = None) -> Settings:
    """The settings in the file `path`. `preset` are settings made before the file is read (config_directory).

    Raises FatalError with Postfix's text if the file cannot be read or a line is not ``name = value``.
    """
    return parse_settings(open_or_fatal(path), path, release, preset)


def parse_settings(text: str, path: str, release: Release, preset: dict[str, str] | None = None) -> Settings:
    """The settings in `text`, which was read from `path`."""
    settings = Settings(path)
    values, lines = settings.values, settings.lines
    if preset:
        values.update(preset)
        lines.update(dict.fromkeys(preset, 0))
    warn_null = release >= (3, 9)
    for first, last, line in logical_lines(text, path, log.warning, warn_null=warn_null):
        try:
            name, value = split_name_value(line, empty_name=release < (3, 4))
        except ValueError as error:
            raise FatalError(f'{path}, line {first}: {error}: "{line}"') from None
        if name in values and values[name] != value and release >= (2, 11):
            # 2.11 counts to the last line of the new setting.
            number = first if release >= (3, 0) else last
            log.warning(f"{path}, line {number}: overriding earlier entry: {name}={values[name]}")
        values[name] = value
        lines[name] = first
    return settings
