"""Which Postfix we run inside of: the release of the real master(8) that started us.

Every Postfix program holds its version: as ``mail_version=3.7.11``, and since 3.11 as a plain string for its start-up
check. So the running master's own executable tells, and nothing has to be configured. A release that is younger than
we know is taken for the newest that we know.
"""

import os
import re

OUR_MASTER = "POSTFIXPY_MASTER"
"""Set in the environment of what our own master starts: the release whose internal protocol its services speak."""

_STAMP = re.compile(rb"mail_version=(\d+)\.(\d+)[-.\w]*\0")
_PLAIN = re.compile(rb"\0(\d+)\.(\d+)(?:\.\d+|-\d{8}|-RC\d+)[-.\w]*\0")
_PLAIN_USER = b"check_mail_version"
_MAX_PROGRAM = 50_000_000


def release(directory: str = "") -> str:
    """The release of the real Postfix around us, such as "3.7"; "" when there is none to be seen.

    Looks at the process that started us, if that is a master, then at ``master`` in `directory`, which is where our
    executable is.
    """
    candidates = [f"/proc/{os.getppid()}/exe"] if "GENERATION" in os.environ else []
    if directory:
        candidates.append(f"{directory}/master")
    return next(filter(None, map(stamp_of, candidates)), "")


def stamp_of(path: str) -> str:
    """The release of the executable file `path`, as `stamp`; "" when it cannot be read."""
    try:
        with open(path, "rb") as program:
            return stamp(program.read(_MAX_PROGRAM))
    except OSError:
        return ""


def stamp(program: bytes) -> str:
    """The release, of those that we know, that a Postfix executable is of; "" when it is none."""
    if not program.startswith(b"\x7fELF"):
        return ""
    found = _STAMP.search(program)
    if found is None and _PLAIN_USER in program:
        found = _PLAIN.search(program)
    return known(int(found[1]), int(found[2])) if found is not None else ""


def known(major: int, minor: int) -> str:
    """The newest release that we know and that is not younger than this one; the oldest for what is older still."""
    from postfixpy.config.parameters import RELEASES

    older = [text for text in RELEASES if tuple(map(int, text.split("."))) <= (major, minor)]
    return older[-1] if older else RELEASES[0]
