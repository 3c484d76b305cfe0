"""What a build supports: table types (-m), SASL plug-in types (-a, -A), mailbox lock methods (-l), TLS (-T).

The recorded answers of neutral builds and of Debian's packages (data/builds.tsv); a build that was not recorded answers
like the nearest older recorded one of its profile, else like the neutral build of its release.

Debian's table types that have libraries of their own are plug-ins: packages that may be installed or not. The builtin
ones are recorded; the plug-ins are, as for the real program, those in dynamicmaps.cf and dynamicmaps.cf.d of
meta_directory. Where no Postfix is installed there is no such file, and the plug-ins are those that our own programs
have. So "-m" is what the real postconf would print on this machine, and without one, what works here.
"""

from __future__ import annotations

import os
import stat

from postfixpy import log
from postfixpy.config.lines import read_file, strerror
from postfixpy.config.parameters import RELEASES, Database, read_rows
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable


def listing(database: Database, option: str) -> list[str]:
    """The lines that ``postconf -OPTION`` prints, without plug-ins; option is m, a, A, l or T:MODE."""
    return _recorded(database, option)[1]


def _recorded(database: Database, option: str) -> tuple[str, list[str]]:
    """The profile that answers, and its answer."""
    position = RELEASES.index(database.release_name)
    answers: dict[str, list[str]] = {}
    for profile, release, recorded, *lines in read_rows("builds.tsv"):
        if recorded == option and RELEASES.index(release) <= position:
            answers[profile] = lines
    profile = database.profile if database.profile in answers else "upstream"
    return profile, answers.get(profile, [])


def table_types(database: Database, meta_directory: str, ours: Iterable[str]) -> list[str]:
    """The lines of ``postconf -m``. `ours` are the types of our own programs. Raises FatalError for a bad file."""
    profile, builtin = _recorded(database, "m")
    if profile == "upstream":
        return builtin
    path = f"{meta_directory}/dynamicmaps.cf"
    if not os.path.exists(path):
        return sorted({*builtin, *ours})
    plugins = dict.fromkeys(_plugins(path, set()))
    for name in _names_in(f"{path}.d"):
        plugins.update(dict.fromkeys(_plugins(f"{path}.d/{name}", set(plugins))))
    return sorted({*builtin, *plugins})


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning(f"{directory}: directory open failed: {strerror(error)}")
        return []


def _plugins(path: str, known: set[str]) -> list[str]:
    """The types in one dynamicmaps.cf file. Raises FatalError."""
    try:
        status = os.stat(path)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            log.warning(f"{path}: file is owned or writable by other users -- skipping this file")
            return []
        text = read_file(path)
    except OSError as error:
        raise FatalError(f"{path}: file open failed: {strerror(error)}") from None
    found: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if not line or line.startswith("#"):
            continue
        if len(words) not in (3, 4):
            expected = 'Expected "dict-type .so-name dict-function [mkmap-function]"'
            raise FatalError(f"{path}, line {number}: {expected}")
        if not (words[0][0].isascii() and words[0][0].isalnum()):
            raise FatalError(f'{path}, line {number}: unsupported syntax "{words[0]}"')
        if words[0] in known:
            log.warning(f'{path}: ignoring duplicate entry for "{words[0]}"')
        else:
            known.add(words[0])
            found.append(words[0])
    return found
