"""A configuration directory: main.cf read now, master.cf when first asked for, nothing evaluated until a view asks.

Differs from Postfix: there is no process-wide dictionary. A view never changes the configuration, so any number of
services can look at one of it under their own overrides.
"""

from __future__ import annotations

import os

from postfixpy.config.main_cf import configuration_directory, read_settings
from postfixpy.config.master_cf import RowDefaults, read_master
from postfixpy.config.parameters import database
from postfixpy.config.view import View

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence

    from postfixpy.config.main_cf import Settings
    from postfixpy.config.master_cf import MasterEntry
    from postfixpy.config.parameters import Database


class Configuration:
    """A configuration directory under one release and profile. Use `load` to make one from files."""

    def __init__(self, directory: str, settings: Settings, parameters: Database) -> None:
        self.directory = directory
        self.settings = settings
        self.database = parameters
        self._raw_names: frozenset[str] | None = None
        self._master: list[MasterEntry] | None = None

    @property
    def master_path(self) -> str:
        """The path of master.cf."""
        return f"{self.directory}/master.cf"

    @property
    def master(self) -> list[MasterEntry]:
        """The services of master.cf. Raises FatalError if it cannot be read or is malformed."""
        if self._master is None:
            base = self.view()
            chroot = self.database.release < (3, 0) or base.compatibility() < (1, 0, 0)
            defaults = RowDefaults(base.integer("default_process_limit"), chroot)
            self._master = read_master(self.master_path, defaults)
        return self._master

    def entry(self, name: str, type: str = "") -> MasterEntry | None:
        """The last service with this name, and type unless that is empty; None if there is none."""
        for entry in reversed(self.master):
            if entry.name == name and type in ("", entry.type):
                return entry
        return None

    def is_raw_reference(self, name: str) -> bool:
        """Whether a reference to `name` inserts its text without expanding it (raw strings, from 3.11)."""
        if self._raw_names is None:
            parameters = self.database.parameters
            new = self.database.release >= (3, 11)
            self._raw_names = frozenset(n for n, p in parameters.items() if p.kind == "raw") if new else frozenset()
        return name in self._raw_names

    def view(
        self,
        entry: MasterEntry | None = None,
        *,
        overrides: Sequence[tuple[str, str]] = (),
        process_name: str = "",
        service_name: str = "",
        lmtp: bool = False,
    ) -> View:
        """The configuration as a service sees it.

        `entry` brings its -o settings, process name and service name; `overrides` come after those and win. LMTP mode
        is asked for with `lmtp` or by the process name lmtp.
        """
        process = process_name or (entry.process_name if entry is not None else "")
        service = service_name or (entry.name if entry is not None else "")
        built_in = {}
        if process_name:
            built_in["process_id"] = str(os.getpid())  # main.cf cannot set it, nor the service's name
        if process and "process_name" not in self.settings.values:
            built_in["process_name"] = process
        if service and self.database.release >= (3, 3):
            built_in["service_name"] = service
        settings = [*(entry.overrides if entry is not None else ()), *overrides]
        return View(self, settings, entry=entry, built_in=built_in, lmtp=lmtp or process == "lmtp")


def load(
    directory: str | None = None, *, release: str | None = None, profile: str | None = None, process_name: str = ""
) -> Configuration:
    """Read the configuration in `directory` ($MAIL_CONFIG, /etc/postfix), for a program whose process_name is known
    before (main.cf can set another, with a warning).

    `release` is a Postfix release such as "3.7" ($POSTFIXPY_VERSION, 3.11); `profile` is "upstream" or "debian"
    (that of the machine). Raises FatalError with Postfix's text if main.cf cannot be read or is malformed, or for
    an unknown release or profile.
    """
    path = configuration_directory(directory)
    parameters = database(release or "", profile or "")
    preset = {"config_directory": path} | ({"process_name": process_name} if process_name else {})
    settings = read_settings(f"{path}/main.cf", parameters.release, preset)
    return Configuration(path, settings, parameters)
