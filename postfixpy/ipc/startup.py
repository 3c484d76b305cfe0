"""What every program of Postfix does when it has read main.cf (mail_params_init(3)): the parameters that all programs
share are read and checked, used or not, so that a configuration that is wrong stops everything at once.

    view = config.load().view(process_name="postqueue")
    startup.check(view)

The names are in config/data/startup.tsv, in the order in which Postfix reads, which decides what it complains of first;
names that a release does not have are passed over. A default is evaluated only when it refers to other parameters: what
is compiled in is right, and every command pays for this.

Differs from Postfix
- The accounts (mail_owner, setgid_group, default_privs) do not matter to a user who runs a mail system in a queue that
  this user owns. For root, the compiled-in ones may be missing, as on a machine where Postfix was never installed:
  commands then work, and whatever needs the account says so. Names that main.cf sets must exist.
- Without mynetworks and mynetworks_style in main.cf, mynetworks is computed only when somebody asks.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.config import host
from postfixpy.config.hostname import hostname_problem
from postfixpy.config.parameters import read_rows
from postfixpy.errors import FatalError

if TYPE_CHECKING:
    from postfixpy.config import View


def check(view: "View") -> None:
    """Read and check what every program reads. Raises FatalError with Postfix's text; warns before as Postfix does."""
    names: dict[str, list[str]] = {}
    for stage, words in read_rows("startup.tsv"):
        names.setdefault(stage, []).extend(words.split())
    view.compatibility()
    _read(view, names["first"])
    from .logging import FACILITIES

    if view.syslog_facility not in FACILITIES:
        raise _bad(view, "syslog_facility", f"unrecognized value: {view.syslog_facility}")
    if view.is_set("known_tcp_ports") and view.parameter("known_tcp_ports") is not None:
        from postfixpy.config.known_ports import parse_known_ports

        parse_known_ports(view.known_tcp_ports, log.warning)
    _read(view, names["switches"])
    families = host.protocol_families(view.inet_protocols)
    for name in ("myhostname", "mydomain"):
        _check_hostname(view, name)
    _read(view, names["main"])
    _check_accounts(view)
    if view.is_set("mynetworks") or view.is_set("mynetworks_style"):
        _ = view.mynetworks
    host.own_addresses(view.inet_interfaces, families)
    _check_together(view)


def _bad(view: "View", name: str, problem: str) -> FatalError:
    return FatalError(f"file {view.configuration.settings.path}: parameter {name}: {problem}")


def _read(view: "View", names: Iterable[str]) -> None:
    for name in names:
        parameter = view.parameter(name)
        if parameter is not None and (view.is_set(name) or _depends(parameter.default)):
            getattr(view, name)


def _depends(default: str) -> bool:
    """Whether a compiled-in default can be wrong by what it refers to; the compatibility level has been checked."""
    return "$" in default and "$compatibility_level" not in default


def _check_hostname(view: "View", name: str) -> None:
    value = view.text(name)
    problem = hostname_problem(value)
    if problem:
        log.warning(f"valid_hostname: {problem}")
        raise _bad(view, name, f"bad parameter value: {value}")


def _check_together(view: "View") -> None:
    """What two parameters must not be at once."""
    if view.myhostname.lower() == view.relayhost.lower():
        raise FatalError(f"myhostname and relayhost parameter settings must not be identical: {view.myhostname}")
    for name in ("myorigin", "relayhost") if view.release < (3, 5) else ("myorigin",):
        value = view.text(name)
        if set(value) & set(", \t\r\n"):
            raise FatalError(f"{name} parameter setting must not contain multiple values: {value}")
    delimiters, allowed = view.default_verp_delimiters, view.verp_delimiter_filter
    for position, which in enumerate(("first", "second")):
        if delimiters[position] not in allowed:
            raise FatalError(
                f"file {view.configuration.settings.path}: parameters default_verp_delimiters and "
                f"verp_delimiter_filter: bad {which} VERP delimiter character"
            )


# Accounts


def _check_accounts(view: "View") -> None:
    """The users and the group that Postfix runs as: they exist, have no privileges, and share nothing."""
    if os.geteuid() != 0 and _runs_own_queue(view):
        return
    privs = _user(view, "default_privs")
    owner = _user(view, "mail_owner")
    if owner is not None:
        _check_shared(view, "mail_owner", "user", owner[0])
    group = _group(view)
    if privs is not None and owner is not None:
        _check_users_differ(view, privs, owner)
    for name, user in (("default_privs", privs), ("mail_owner", owner)):
        if user is not None and user[1] == group:
            raise _shared(
                view,
                f"parameters {name} and setgid_group: user {view.text(name)} and group {view.setgid_group} have the "
                f"same group ID: {group}",
            )


def _runs_own_queue(view: "View") -> bool:
    """Whether this user's mail system, if there is any, is one that this user runs."""
    try:
        return os.stat(view.queue_directory).st_uid == os.geteuid()
    except OSError:
        return True


def _shared(view: "View", problem: str) -> FatalError:
    return FatalError(f"file {view.configuration.settings.path}: {problem}")


def _user(view: "View", name: str) -> tuple[int, int] | None:
    """The ids of the user that a parameter names; None for a compiled-in one that does not exist."""
    import pwd

    user = view.text(name)
    try:
        found = pwd.getpwnam(user)
    except (KeyError, ValueError):
        if not view.is_set(name):
            return None
        raise _bad(view, name, f"unknown user name value: {user}") from None
    for number, what in ((found.pw_uid, "user"), (found.pw_gid, "group")):
        if number == 0:
            raise _bad(view, name, f"user {user} has privileged {what} ID")
    return found.pw_uid, found.pw_gid


def _group(view: "View") -> int | None:
    """The id of setgid_group; None for a compiled-in one that does not exist."""
    import grp

    group = view.setgid_group
    try:
        number = grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        if not view.is_set("setgid_group"):
            return None
        raise _bad(view, "setgid_group", f"unknown group name: {group}") from None
    if number == 0:
        raise _bad(view, "setgid_group", f"group {group} has privileged group ID")
    _check_shared(view, "setgid_group", "group", number)
    return number


def _check_shared(view: "View", name: str, what: str, number: int) -> None:
    """An id has one name."""
    import grp
    import pwd

    value = view.text(name)
    try:
        first = pwd.getpwuid(number).pw_name if what == "user" else grp.getgrgid(number).gr_name
    except KeyError:
        return
    if first == value:
        return
    if view.release >= (3, 9):
        raise _bad(view, name, f"{what} {value} has the same {what} ID {number} as {what} {first}")
    raise _bad(view, name, f"{what} {value} has same {what} ID as {first}")


def _check_users_differ(view: "View", privs: tuple[int, int], owner: tuple[int, int]) -> None:
    names = "parameters default_privs and mail_owner"
    if view.default_privs == view.mail_owner:
        raise _shared(view, f"{names} specify the same user {view.default_privs}")
    for position, what in enumerate(("user", "group")):
        if privs[position] == owner[position]:
            raise _shared(
                view,
                f"{names}: users {view.default_privs} and {view.mail_owner} have the same {what} ID: {owner[position]}",
            )
