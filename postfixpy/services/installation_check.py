"""What ``postfix check`` finds wrong with the files of a mail system (conf/postfix-script, check-fatal and check-warn).

Without root, what should belong to root or to the mail owner should belong to the user instead, and groups do not
matter. Programs and shared files of an installed Postfix are its package's business, and are not looked at.
"""

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .queue_directories import OWNED_BY_MAIL_OWNER, WITH_SETGID_GROUP

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View

JAIL_DIRECTORIES = ("bin", "etc", "lib", "sbin", "usr")


def fatal_problem(config: "Configuration") -> str | None:
    """Why the mail system cannot start, or None. Without root, master adds a missing log service."""
    if not os.path.isfile(config.master_path):
        return f"no {config.master_path} file found"
    view = config.view()
    if os.geteuid() == 0 and view.maillog_file and config.entry("postlog", "unix-dgram") is None:
        return "missing 'postlog' service in master.cf - run 'postfix upgrade-configuration'"
    return None


def warnings(config: "Configuration", view: "View") -> Iterator[str]:
    """Everything that looks wrong, a line each."""
    queue = str(view.queue_directory)
    me = os.geteuid()
    owner, owner_name = me, _user_name(me)
    if me == 0:
        owner_name = view.mail_owner
        owner = _user_id(owner_name)
    top_name = _user_name(me)
    top = [f"{queue}/.", f"{queue}/pid"]
    yield from _not_owned(top, me, top_name)
    yield from _writable(top)
    apart = (queue, str(view.data_directory))  # which may be below: they have rules of their own
    configuration = [f"{config.directory}/.", *_tree(config.directory, without=apart)]
    yield from _not_owned(configuration, me, top_name)
    yield from _writable(configuration)
    data = [f"{view.data_directory}/.", *_tree(view.data_directory)]
    yield from _not_owned(data, owner, owner_name)
    yield from _writable(data)
    for name in sorted(set(OWNED_BY_MAIL_OWNER) - {"maildrop"}):
        directory = f"{queue}/{name}"
        yield from _not_owned([directory, *_tree(directory, sockets=False)], owner, owner_name)
    yield from _not_owned([f"{queue}/maildrop"], owner, owner_name)
    if me == 0:
        yield from _wrong_group([f"{queue}/{name}" for name in WITH_SETGID_GROUP], view.setgid_group)
    yield from _jail(queue, me, top_name)
    for path in _tree(f"{queue}/corrupt"):
        if os.path.isfile(path):
            yield f"damaged message: corrupt/{os.path.relpath(path, f'{queue}/corrupt')}"


def _tree(top: str, *, sockets: bool = True, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Everything below a directory, but for some directories and what is in them."""
    skipped = {os.path.realpath(path) for path in without}
    for directory, subdirectories, files in os.walk(top):
        if skipped:
            subdirectories[:] = [n for n in subdirectories if os.path.realpath(f"{directory}/{n}") not in skipped]
        for name in (*subdirectories, *files):
            path = f"{directory}/{name}"
            if sockets or not _is_endpoint(path):
                yield path


def _is_endpoint(path: str) -> bool:
    status = _status(path)
    return status is not None and (stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _not_owned(paths: list[str], uid: int, name: str) -> Iterator[str]:
    for path in paths:
        status = _status(path)
        if status is not None and status.st_uid != uid:
            yield f"not owned by {name}: {path}"


def _writable(paths: list[str]) -> Iterator[str]:
    for path in paths:
        status = _status(path)
        if status is not None and not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022:
            yield f"group or other writable: {path}"


def _wrong_group(paths: list[str], group: str) -> Iterator[str]:
    import grp

    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        gid = -1
    for path in paths:
        status = _status(path)
        if status is not None and status.st_gid != gid:
            yield f"not owned by group {group}: {path}"


def _jail(queue: str, uid: int, name: str) -> Iterator[str]:
    """Files that a chroot needs, and that differ from the system's."""
    for top in JAIL_DIRECTORIES:
        for path in _tree(f"{queue}/{top}"):
            status = _status(path)
            relative = os.path.relpath(path, queue)
            if status is not None and status.st_uid != uid:
                yield f"not owned by {name}: {queue}/{relative}"
            if os.path.isfile(path) and os.path.isfile(f"/{relative}") and not _same(path, f"/{relative}"):
                yield f"{queue}/{relative} and /{relative} differ"


def _same(first: str, second: str) -> bool:
    import filecmp

    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return True


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _user_id(name: str) -> int:
    from postfixpy.ipc.jail import user_ids

    return user_ids(name)[0]
