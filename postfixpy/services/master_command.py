"""Which program a row of master.cf runs, with which arguments and environment (spec/smtp-client.md 15.1). Pure but for
looking whether files exist.

A program that we have (`postfixpy.services.PROGRAMS`) runs as ours; any other must be an executable of that name in
daemon_directory, a real Postfix daemon, and gets exactly what the real master gives it. A row for which there is
neither is not started: its socket does not exist, so the queue manager defers that mail ("mail transport unavailable").
Nor is a real daemon that cannot do its work without root, when master has none.

A configuration that logs to a file without a ``postlog`` service gets that service: postlogd is ours, and nothing else
has to know. Postfix's start script refuses such a configuration, and has a script that adds the row.
"""

import os
from collections.abc import Mapping, Sequence

from postfixpy.config import MasterEntry, View
from postfixpy.config.parameters import parse_release
from postfixpy.ipc import installed
from postfixpy.ipc.message import ANNOUNCED

from . import PROGRAMS

DEFERRED = "mail for it is deferred"
CONSEQUENCES = {
    "bounce": "undeliverable mail is deferred",
    "cleanup": "no mail can be submitted",
    "trivial-rewrite": "no address can be resolved, and mail stays in the queue",
    "anvil": "client rates are not limited",
    "dnsblog": "postscreen cannot use DNS lists",
    "flush": "ETRN and sendmail -qR find nothing to flush",
    "pickup": "locally submitted mail stays in maildrop",
    "postscreen": "connections to it are refused",
    "proxymap": "proxy: tables are unavailable, and mail that needs them is deferred",
    "qmqpd": "connections to it are refused",
    "qmgr": "mail stays in the queue",
    "showq": "the queue cannot be listed through it",
    "smtpd": "connections to it are refused",
    "spawn": "connections to it are refused",
    "tlsproxy": "TLS connections are not kept between processes",
    "verify": "addresses cannot be verified",
}

AS_ROOT = ("local", "pipe", "postscreen", "spawn", "verify", "virtual")
"""Real daemons that end with "fatal: set_eugid: seteuid(0): Operation not permitted" when they are not started by root.

Of the others anvil, dnsblog, flush, proxymap and tlsproxy work as any user (seen with 3.7.11).
"""

AS_MAIL_OWNER = ("qmqpd", "smtpd")
"""Real daemons that end with "fatal: the Postfix SMTP server must run with $mail_owner privileges"."""

POSTLOG_COLUMNS = "unix-dgram n - n - 1 postlogd"


def is_ours(command: str) -> bool:
    """Whether we have the program that a row names."""
    if command not in PROGRAMS:
        return False
    module = os.path.join(os.path.dirname(__file__), PROGRAMS[command].partition(":")[0])
    return os.path.exists(module + ".py") or os.path.exists(os.path.join(module, "__init__.py"))


def unavailable(entry: MasterEntry, path: str, *, root: bool, mail_owner: str) -> str | None:
    """The line to log for a row whose program does not exist or cannot work, or None.

    `path` is daemon_directory/command; `root` whether master has root's rights; `mail_owner` the parameter.
    """
    if is_ours(entry.command):
        return None
    if not os.access(path, os.X_OK):
        reason = f"is not available (not one of ours, and no {path})"
    elif not root and entry.process_name in AS_ROOT and _is_binary(path):
        reason = f"is not available ({path} needs root)"
    elif not root and entry.process_name in AS_MAIL_OWNER and _is_binary(path) and not _is_user(mail_owner):
        reason = f"is not available ({path} needs root, or mail_owner to be the user that runs it)"
    else:
        return None
    return f"service {entry.name}/{entry.type}: program {entry.command} {reason}: {_effect(entry)}"


def protocol(entries: Sequence[MasterEntry], daemons: str, own: tuple[int, ...]) -> tuple[str, str]:
    """The release whose internal protocol the services speak, and a warning or "".

    It is that of the real Postfix daemons that rows run from `daemons`, else `own`. Before 3.6 services did not say
    first which protocol they speak; our commands, which master does not start, must then know it, too.
    """
    speak = f"{own[0]}.{own[1]}"
    for entry in entries:
        path = f"{daemons}/{entry.command}"
        if is_ours(entry.command) or not (found := installed.stamp_of(path)):
            continue
        if (parse_release(found) >= ANNOUNCED) == (own[:2] >= ANNOUNCED):
            return found, ""
        return speak, f"{path} is of Postfix {found}: set POSTFIXPY_VERSION={found} for postfix start and all commands"
    return speak, ""


def forbidden(entry: MasterEntry, error: str) -> str:
    """The line to log for a row whose port a user may not bind; `error` is the reason."""
    return f"service {entry.name}/{entry.type}: {error}: {_effect(entry)}"


def _effect(entry: MasterEntry) -> str:
    return CONSEQUENCES.get(entry.process_name, "connections to it are refused" if entry.type == "inet" else DEFERRED)


def _is_binary(path: str) -> bool:
    """Whether a program is a compiled one, as Postfix's are; a script of that name is somebody's own."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return True


def _is_user(name: str) -> bool:
    """Whether `name` is the user that we run as."""
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid == os.geteuid()
    except KeyError:
        return False


def implied_postlog(entries: list[MasterEntry], view: View) -> MasterEntry | None:
    """The row of the log service that a configuration with maillog_file lacks, or None."""
    name = view.postlog_service_name
    if not view.maillog_file or any((entry.name, entry.type) == (name, "unix-dgram") for entry in entries):
        return None
    from postfixpy.config.master_cf import RowDefaults, parse_row

    return parse_row(f"{name} {POSTLOG_COLUMNS}", "master.cf", RowDefaults(1, False))


def postlog_warning(entry: MasterEntry) -> str:
    """The line to log for a row that `implied_postlog` has added."""
    return f"missing 'postlog' service in master.cf - using \"{entry.name} {POSTLOG_COLUMNS}\""


def arguments(
    entry: MasterEntry, *, sockets: int, local: bool, detached: bool, verbose: int, stress: bool, root: bool
) -> list[str]:
    """The words that follow the program's name.

    `sockets` is the number of listening sockets; `local`: only clients on this machine can connect; `stress`: all
    processes of the service are busy. Without `root`, -u and -c are left out, because the process could not obey.
    """
    words = []
    if entry.maxproc == 1:
        words.append("-l")
    if entry.maxproc == 0:
        words.append("-z")
    if entry.process_name != entry.name:
        words += ["-n", entry.name]
    words += ["-t", entry.type]
    if not detached:
        words.append("-d")
    if verbose:
        words.append("-v")
    if entry.unprivileged and root:
        words.append("-u")
    if entry.chroot and root:
        words.append("-c")
    if not local and entry.maxproc > 1:
        words += ["-o", "stress=yes" if stress else "stress="]
    if sockets > 1:
        words += ["-s", str(sockets)]
    return words + entry.args


def environment(names: str, present: Mapping[str, str], directory: str) -> dict[str, str]:
    """The environment that master and its children have: import_environment, and our own POSTFIXPY_ variables.

    `names` is the parameter's value: names, and name=value settings. `directory` is the configuration directory.
    """
    kept = {name: value for name, value in present.items() if name.startswith("POSTFIXPY_")}
    for item in split_list(names):
        name, equals, value = item.partition("=")
        if equals:
            kept[name] = value
        elif name in present:
            kept[name] = present[name]
    kept["MAIL_CONFIG"] = directory
    return kept


def split_list(text: str) -> list[str]:
    """The items of a list, separated by commas and blanks; ``{a = b}`` is one item, ``a=b`` (mail_parm_split(3))."""
    from postfixpy.config.lines import COMMA_SPACE, extract_braces, split_quoted

    items = []
    for word in split_quoted(text, COMMA_SPACE):
        if word.startswith("{"):
            word, _ = extract_braces(word, strip=True)
            name, equals, value = word.partition("=")
            word = name.rstrip() + equals + value.lstrip()
        items.append(word)
    return items


def disabled(entry_name: str, entry_type: str, patterns: str) -> bool:
    """Whether master_service_disable names a service: ``name/type``, a type, "!" inverts; the old ``name.type`` too."""
    for pattern in split_list(patterns):
        if "/" not in pattern and "." in pattern:
            name, _, kind = pattern.rpartition(".")
            pattern = f"{name}/{kind}"
        bare = pattern.lstrip("!")
        subject = f"{entry_name}/{entry_type}" if "/" in bare else entry_type
        if subject.lower() == bare.lower():
            return (len(pattern) - len(bare)) % 2 == 0
    return False
