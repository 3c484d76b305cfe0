"""The parameter database: every main.cf name of Postfix 2.3 to 3.11 with its type, limits and compiled-in default.

The facts are data, in data/*.tsv (tools/import_parameters.py describes the files); this module reads them for one
release and one profile. A profile is what differs between builds of one release: `upstream` is a neutral build with
default paths, `debian` has the paths and tables of Debian's packages.

Policy: a default whose text is not known until run time (host name, process id) is RUNTIME; postfixpy.config.host
computes it. Names that a release does not have are absent, so a lookup in an older release's database answers as that
release would.

Reading is plain string splitting, because every command pays for it at every start.
"""

from __future__ import annotations

import os
from functools import cached_property

from postfixpy.errors import FatalError

DATA = os.path.join(os.path.dirname(__file__), "data")

RUNTIME = "<runtime>"
"""The default of a parameter that is computed on the host."""

RELEASES = (
    *("2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "2.10", "2.11"),
    *("3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11"),
)
"""Releases with a known parameter table, oldest first."""

LATEST = RELEASES[-1]
PROFILES = ("upstream", "debian")

Release = tuple[int, int]
_OLD_HABITS = ("relocated_prefix_enable", "tls_wildcard_matches_multiple_labels")
"""Switches for what earlier releases always did."""

_ORDER = {name: index for index, name in enumerate(RELEASES)}


def parse_release(text: str) -> Release:
    """``"3.7"`` or ``"3.7.11"`` as (3, 7). Raises FatalError for a release that is not in RELEASES."""
    parts = text.split(".")
    if ".".join(parts[:2]) not in _ORDER or not all(part.isdigit() for part in parts):
        raise FatalError(f"unknown Postfix release: {text}; specify {RELEASES[0]} to {LATEST}")
    return int(parts[0]), int(parts[1])


def default_release() -> str:
    """$POSTFIXPY_VERSION, or the newest release known."""
    return os.environ.get("POSTFIXPY_VERSION") or LATEST


def default_profile() -> str:
    """$POSTFIXPY_PROFILE, or `debian` on a machine that looks like Debian, else `upstream`."""
    return os.environ.get("POSTFIXPY_PROFILE") or ("debian" if os.path.exists("/etc/debian_version") else "upstream")


class Parameter:
    """One compiled-in parameter.

    kind is string, raw, int, long, nint, time, bool or nbool; unit is the letter that a time without one gets;
    minimum and maximum are seconds for times, lengths for strings, None where Postfix does not check.
    """

    __slots__ = ("default", "kind", "maximum", "minimum", "name", "unit")

    def __init__(self, name: str, kind: str, unit: str, minimum: str, maximum: str, default: str) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit
        self.minimum = int(minimum) if minimum else None
        self.maximum = int(maximum) if maximum else None
        self.default = default


def read_rows(name: str) -> list[list[str]]:
    """The records of data/NAME, without comments."""
    with open(os.path.join(DATA, name), encoding="utf-8") as file:
        text = file.read()
    return [line.split("\t") for line in text.split("\n") if line and line[0] != "#"]


def _value_at(history: list[str], position: int) -> str | None:
    """The value of the last ``RELEASE=VALUE`` cell at or before release number `position`; None if absent then."""
    found = None
    for cell in history:
        release, equals, value = cell.partition("=")
        if _ORDER[release] > position:
            break
        found = value if equals else None
    return found


def default_since(name: str, parameters: Database) -> str:
    """The release that introduced the default that `name` has in `parameters`; "" if it is not compiled in.

    2.3, the oldest release known here, stands for it and everything older.
    """
    position = _ORDER[parameters.release_name]
    for row in read_rows("parameters.tsv"):
        if row[0] == name:
            known = [cell.partition("=")[0] for cell in row[5:]]
            return [release for release in known if _ORDER[release] <= position][-1]
    return ""


class Database:
    """The parameters of one release and profile.

    `parameters` maps names to Parameter. Family data (service suffixes, table-client suffixes, legacy and deprecated
    names, smtp_/lmtp_ pairs) is read when first asked for.
    """

    def __init__(self, release: str, profile: str) -> None:
        if profile not in PROFILES:
            raise FatalError(f"unknown profile: {profile}; specify one of {', '.join(PROFILES)}")
        self.release = parse_release(release)
        self.release_name = f"{self.release[0]}.{self.release[1]}"
        self.profile = profile
        position = _ORDER[self.release_name]
        overlay = self._profile_defaults(position)
        types = self._older_types(position)
        table: dict[str, Parameter] = {}
        newest = position == len(RELEASES) - 1
        for row in read_rows("parameters.tsv"):
            if len(row) == 6 and row[5].startswith("2.3="):
                default: str | None = row[5][4:]
            elif newest and "=" in row[-1]:
                default = row[-1].partition("=")[2]
            else:
                default = _value_at(row[5:], position)
            name, kind, unit, minimum, maximum = row[:5]
            if name in overlay:
                default = overlay[name]
            if default is None:
                continue
            if name in types:
                kind, unit, minimum, maximum = types[name]
            table[name] = Parameter(name, kind, unit, minimum, maximum, default)
        self.parameters = table
        self._families: dict[str, list[list[str]]] | None = None
        self._foreign: dict[str, Parameter] | None = None

    def _profile_defaults(self, position: int) -> dict[str, str]:
        if self.profile == "upstream":
            return {}
        defaults = {}
        for name, *history in read_rows(f"profile-{self.profile}.tsv"):
            recorded = [cell.partition("=")[0] for cell in history]
            # Between recorded releases only the paths can be trusted: other differences come from patch levels.
            if self.release_name not in recorded and not name.endswith("_directory"):
                continue
            value = _value_at(history, position)
            if value is None and "=" in history[0] and recorded[0] == "3.5":
                value = history[0].partition("=")[2]
            if value is not None:
                defaults[name] = value
        return defaults

    def _older_types(self, position: int) -> dict[str, list[str]]:
        if position == len(RELEASES) - 1:
            return {}
        types: dict[str, list[str]] = {}
        for until, name, *rest in read_rows("types.tsv"):
            if position < _ORDER[until] and name not in types:
                types[name] = rest
        return types

    def foreign(self, name: str) -> Parameter | None:
        """A parameter that only other releases have, as a program under this release should find it.

        Our programs are of one release and can act as any: a switch that is not there (yet, or any more) is off, unless
        it came to turn off what had always been so; and anything else has the default of the release that brought it.
        None if no release has it.
        """
        if self._foreign is None:
            rows = read_rows("parameters.tsv")
            self._foreign = {row[0]: _as_foreign(*row[:6]) for row in rows if row[0] not in self.parameters}
        return self._foreign.get(name)

    @property
    def families(self) -> dict[str, list[list[str]]]:
        """data/families.tsv by its first column: suffix, table, legacy, deprecated, mirror."""
        if self._families is None:
            families: dict[str, list[list[str]]] = {}
            for kind, *rest in read_rows("families.tsv"):
                families.setdefault(kind, []).append(rest)
            self._families = families  # only when it is complete: a reader that fails may be asked again
        return self._families

    def known(self, since: str, until: str = "") -> bool:
        """Whether something introduced in release `since` and gone in `until` exists in this release."""
        position = _ORDER[self.release_name]
        return position >= _ORDER[since] and not (until and position >= _ORDER[until])

    def service_suffixes(self, program: str) -> list[tuple[str, str]]:
        """(suffix, default text) of the parameters that every master.cf service of `program` brings with it."""
        return [
            (suffix, default)
            for suffix, since, default, programs in self.families["suffix"]
            if program in programs.split() and self.known(since)
        ]

    @property
    def build_date(self) -> int:
        """The release date of this build, $mail_release_date, as a number like 20260809."""
        date = self.parameters.get("mail_release_date")
        return int(date.default) if date is not None and date.default.isdigit() else 0

    @cached_property
    def suffix_defaults(self) -> dict[str, str]:
        """Suffix (``_recipient_limit``) to the default text: ``$default_recipient_limit``; where this release has no
        such parameter, that of the release that brought it."""
        found = {}
        for suffix, _, default, _ in self.families["suffix"]:
            foreign = self.foreign(default.removeprefix("$"))
            found[suffix] = default if foreign is None else foreign.default
        return found

    def legacy_names(self) -> list[str]:
        """Old names that are only fallbacks inside other defaults."""
        return [name for name, since in self.families["legacy"] if self.known(since)]

    def mirrors(self) -> dict[str, str]:
        """smtp_ name to the lmtp_ name that has its meaning in LMTP mode."""
        return {smtp: lmtp for smtp, lmtp in self.families["mirror"] if lmtp in self.parameters}


def _as_foreign(name: str, kind: str, unit: str, minimum: str, maximum: str, first: str) -> Parameter:
    switch = kind in ("bool", "nbool") and name not in _OLD_HABITS
    return Parameter(name, kind, unit, minimum, maximum, "no" if switch else first.partition("=")[2])


_databases: dict[tuple[str, str], Database] = {}


def database(release: str = "", profile: str = "") -> Database:
    """The database of `release` (default: default_release()) and `profile` (default: default_profile())."""
    key = (release or default_release(), profile or default_profile())
    known = _databases.get(key)
    if known is None:
        known = _databases[key] = Database(*key)
    return known
