"""The directories of a mail system: their owners and modes, and creating those that are missing (conf/postfix-files).

Without root everything belongs to the user who runs the system. There is no set-gid group then, so maildrop and public
are created as the user's alone.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from postfixpy.errors import FatalError

if TYPE_CHECKING:
    from postfixpy.config import View

OWNED_BY_MAIL_OWNER = {
    **dict.fromkeys(
        ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"),
        0o700,
    ),
    "maildrop": 0o730,
    "public": 0o710,
}
OWNED_BY_ROOT = {"pid": 0o755}
WITH_SETGID_GROUP = ("maildrop", "public")


def create_missing(view: "View") -> None:
    """Create the queue subdirectories and the data directory where they are missing. Raises FatalError."""
    root = os.geteuid() == 0
    owner, group = _ids(view) if root else (-1, -1)
    for path, mode, mail_owned, grouped in _wanted(view):
        if os.path.isdir(path):
            continue
        try:
            os.mkdir(path, 0o700)
            if root:
                os.chown(path, owner if mail_owned else 0, group if grouped else 0)
            os.chmod(path, mode if root or not grouped else 0o700)
        except FileExistsError:
            raise FatalError(f"{path}: is not a directory") from None
        except OSError as error:
            raise FatalError(f"mkdir {path}: {os.strerror(error.errno or 0)}") from None


def _wanted(view: "View") -> Iterator[tuple[str, int, bool, bool]]:
    """(path, mode, owned by the mail owner, has the set-gid group)."""
    for name, mode in OWNED_BY_ROOT.items():
        yield f"{view.queue_directory}/{name}", mode, False, False
    for name, mode in OWNED_BY_MAIL_OWNER.items():
        yield f"{view.queue_directory}/{name}", mode, True, name in WITH_SETGID_GROUP
    yield view.data_directory, 0o700, True, False


def _ids(view: "View") -> tuple[int, int]:
    """The mail owner's user id and the set-gid group's id; the group may be missing where nothing was installed."""
    import grp

    from postfixpy.ipc.jail import user_ids

    owner, _ = user_ids(view.mail_owner)
    try:
        return owner, grp.getgrnam(view.setgid_group).gr_gid
    except KeyError:
        return owner, 0
