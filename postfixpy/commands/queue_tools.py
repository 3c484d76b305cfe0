"""What the commands that work on the queue share: postcat, postsuper, postqueue."""

import os
import sys
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.options import OptionError, parse

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.mail.queue import Queue


def read_options(argv: list[str], letters: str, usage: str, status: int = 1) -> tuple[list[tuple[str, str]], list[str]]:
    """The options and the words behind them. Raises FatalError(usage, status), after getopt(3)'s own complaint."""
    try:
        return parse(argv[1:], letters)
    except OptionError as error:
        known = error.letter in letters and error.letter != ":"
        what = "option requires an argument" if known else "invalid option"
        sys.stderr.write(f"{argv[0]}: {what} -- '{error.letter}'\n")
        raise FatalError(usage, status) from None


def command_view(directory: str, program: str) -> "View":
    """The configuration as a command sees it; `directory` is the argument of -c, "" is the default. Raises
    FatalError."""
    from postfixpy.config import load
    from postfixpy.ipc.startup import check

    if directory:
        os.environ["MAIL_CONFIG"] = directory
    view = load().view(process_name=program)
    check(view)
    return view


def enter_queue(view: "View", status: int = 1) -> "Queue":
    """Make the queue directory the working directory, and the queue in it. Raises FatalError."""
    from postfixpy.mail.queue import Queue

    directory: str = view.queue_directory
    try:
        os.chdir(directory)
    except OSError as error:
        raise FatalError(f"chdir {directory}: {error.strerror}", status) from None
    return Queue("", view.hash_queue_names, view.hash_queue_depth)


def owns_queue(view: "View") -> bool:
    """Whether this user may do what Postfix keeps for the superuser: root, or the owner of a queue that is run
    without root."""
    uid = os.geteuid()
    if uid == 0:
        return True
    try:
        return os.stat(view.queue_directory).st_uid == uid
    except OSError:
        return False


def group_hint(view: "View") -> str:
    """What helps a user who may not use the queue of somebody else's mail system, "" when a group is not the answer.

    Postfix's postdrop and postqueue have the rights of setgid_group by their set-gid bit; a script cannot have that.
    """
    import grp
    import pwd

    uid = os.geteuid()
    try:
        maildrop = os.stat(f"{view.queue_directory}/maildrop")
        group, user = grp.getgrgid(maildrop.st_gid), pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        return ""
    if uid in (0, maildrop.st_uid) or group.gr_gid in (0, os.getegid(), *os.getgroups()):
        return ""
    return (
        f"only group {group.gr_name} may use {view.queue_directory}. Postfix's commands are set-gid; postfixpy's are "
        f'scripts and cannot be: "usermod -aG {group.gr_name} {user}" lets this user submit mail and see the queue'
    )


def become_owner(view: "View") -> None:
    """Go on as mail_owner, whose the queue is; for root only, others have no choice. Raises FatalError.

    What is found in the queue then has the owner's power at most, and new directories belong to the owner.
    """
    if os.geteuid() != 0:
        return
    from postfixpy.ipc.jail import user_ids

    uid, gid = user_ids(view.mail_owner)
    os.setgid(gid)
    os.initgroups(view.mail_owner, gid)
    os.setuid(uid)


def log_as(program: str, view: "View | None", *, fallback: bool = True) -> None:
    """Log to standard error as `program`, and to the mail log; `view` is None as long as main.cf is not read.

    `fallback`: write to the log file when postlogd does not answer, as only postsuper may. Raises FatalError for a bad
    log parameter.
    """
    from postfixpy.ipc import logging

    mail_log = logging.install(program, view, fallback=fallback)
    terminal = log.stderr_sink(program)

    def both(severity: str, text: str) -> None:
        try:
            mail_log(severity, text)
        except FatalError:  # there is no place to log to; the command ends for that reason or another
            if severity != "fatal":
                raise
        terminal(severity, text)

    log.set_sink(both)


def run_command(argv: list[str], command: "Command") -> int:
    """Run a command's body: a fatal error is written as ``NAME: fatal: text``. Returns the exit status."""
    log.set_sink(log.stderr_sink(argv[0]))
    try:
        return command(argv)
    except FatalError as error:
        log.fatal(str(error))
        return error.status
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error, and nothing more can be said.
        give_up_output()
        return 0


def give_up_output() -> None:
    """Standard output cannot be written: drop what waits there, or the interpreter complains about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[[list[str]], int]
