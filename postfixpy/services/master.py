"""master(8): starts the services of master.cf when somebody needs them, and supervises them.

    master [-c config_dir] [-D] [-d] [-e exit_time] [-i] [-s] [-t] [-v] [-w]

-D run debugger_command on it; -d stay in the terminal; -e end after so many seconds; -i process 1 of a container; -s
keep standard output for the log; -t test: exit 0 when no master runs on this queue, 1 when one does; -w return when the
mail system has started.

Differs from Postfix
- Without root it runs everything as the current user, on a queue directory that this user owns: no chroot, no setuid.
- A row runs our program of that name, else the executable in daemon_directory; see master_command for neither.
- In the foreground, a log that would go nowhere goes to standard output: maillog_file is /dev/stdout and there is no
  postlog service or no root, or there is neither maillog_file nor a syslog. $POSTFIXPY_LOG_FORMAT=json makes it JSON.
- A reload with a broken configuration is refused with an error; Postfix's master exits.
"""

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import logging, startup
from postfixpy.options import OptionError, parse

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View

START_TIME = 100
"""Seconds that -w waits for the mail system to start: names in main.cf and master.cf may take long to resolve."""

USAGE = (
    "usage: {} [-c config_dir] [-D (debug)] [-d (don't detach from terminal)] [-e exit_time] "
    "[-t (test)] [-v] [-w (wait for initialization)]"
)


def main(argv: list[str]) -> int:
    """Run master; argv[0] is its name. Returns the exit status; a fatal signal ends the process by that signal."""
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        return _main(argv)
    except FatalError as error:
        log.fatal(str(error))
        time.sleep(1)
        return error.status


def _main(argv: list[str]) -> int:
    tell_stderr = log.stderr_sink("master")
    log.set_sink(tell_stderr)
    try:
        found, words = parse(argv[1:], "c:Dde:istvw")
    except OptionError:
        found, words = [], ["?"]
    if words:
        raise FatalError(USAGE.format(argv[0]))
    options = dict(found)
    if "c" in options:
        os.environ["MAIL_CONFIG"] = options["c"]
    if "t" in options and "w" in options:
        raise FatalError("the -t and -w options cannot be used together")
    if "i" in options and os.getpid() != 1:
        raise FatalError("-i is allowed only for PID 1 process")
    if "i" in options and options.keys() & set("Ddw"):
        raise FatalError("the -i option cannot be used with -D, -d, or -w")
    verbose = sum(letter == "v" for letter, _ in found) + ("MAIL_VERBOSE" in os.environ)

    from postfixpy.config import load

    config = load()
    view = config.view(process_name="master")
    startup.check(view)
    if "t" in options:
        return test_lock(view.queue_directory)
    monitor = _monitor() if "w" in options else -1
    detached = "d" not in options
    foreground = bool(options.keys() & set("dis"))
    if detached:
        _detach(keep_output=foreground, session="i" not in options and "D" not in options)
    debug = "D" in options or "MAIL_DEBUG" in os.environ
    return _supervise(config, view, options.get("e"), verbose, monitor, detached, foreground, debug)


def _supervise(
    config: "Configuration",
    view: "View",
    exit_time: str | None,
    verbose: int,
    monitor: int,
    detached: bool,
    foreground: bool,
    debug: bool,
) -> int:
    from . import queue_directories
    from .master_command import environment
    from .master_supervisor import Supervisor

    if foreground and logs_nowhere(config, view):
        os.environ["POSTFIXPY_LOG"] = "stdout"
    kept = environment(view.import_environment, os.environ, os.path.abspath(config.directory))
    os.environ.clear()
    os.environ.update(kept)
    logger = logging.install("master", view, fallback=True)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f"chdir {view.queue_directory}: {os.strerror(error.errno or 0)}") from None
    _check_rights(view)
    queue_directories.create_missing(view)
    owner = None
    if os.geteuid() == 0:
        from postfixpy.ipc.jail import user_ids

        owner = user_ids(view.mail_owner)
    locks = [take_lock("pid/master.pid"), take_data_lock(view.data_directory, owner)]
    _raise_limits()
    if debug:
        from postfixpy.ipc.debugger import run_debugger

        run_debugger(view)
    supervisor = Supervisor(config, view, logger, detached=detached, verbose=verbose, owner=owner)
    if exit_time is not None:
        supervisor.end_after(int(exit_time) if exit_time.isdecimal() else 0)
    supervisor.catch_signals()
    supervisor.configure()
    logger.close()  # what was logged until now may have gone to the postlogd of a master that was killed
    log.info(f"daemon started -- version {view.mail_version}, configuration {config.directory}")
    if monitor >= 0:
        os.write(monitor, b"\0")
        os.close(monitor)
    number = supervisor.run()
    for lock in locks:
        os.close(lock)
    if number and os.getpid() != 1:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return 0


def logs_nowhere(config: "Configuration", view: "View") -> bool:
    """Whether a foreground master and its children ought to write the log to standard output themselves."""
    if not view.maillog_file:
        return not os.path.exists(logging.DEV_LOG)
    try:
        has_postlog = config.entry(view.postlog_service_name, "unix-dgram") is not None
    except FatalError:
        has_postlog = False  # master.cf is wrong: that is said when there is a log to say it in
    ours = os.geteuid() != 0 or not has_postlog or logging.wants_json()
    return view.maillog_file == "/dev/stdout" and ours


def _check_rights(view: "View") -> None:
    """Without root, the queue must be the user's own."""
    if os.geteuid() != 0 and os.stat(".").st_uid != os.geteuid():
        raise FatalError(f"the master command is reserved for the superuser, or the owner of {view.queue_directory}")


def _raise_limits() -> None:
    """As many open files as the system lets us have."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass  # the present limit has to do


# Locks


def lock_path(queue_directory: str) -> str:
    """The file that the running master of a queue has locked, with its process id in it."""
    return f"{queue_directory}/pid/master.pid"


def test_lock(queue_directory: str) -> int:
    """1 when a master runs on this queue directory, else 0."""
    path = lock_path(queue_directory)
    if not os.path.exists(path):
        return 0
    try:
        os.close(open_lock(path))
    except FatalError:
        return 1
    return 0


def open_lock(path: str) -> int:
    """A descriptor of `path`, locked. Raises FatalError when another process has the lock."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        what = "cannot open file" if os.path.lexists(path) else "cannot create file exclusively"
        raise FatalError(f"open lock file {path}: {what}: {os.strerror(error.errno or 0)}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        reason = os.strerror(error.errno or 0)
        raise FatalError(f"open lock file {path}: unable to set exclusive lock: {reason}") from None
    return fd


def take_lock(path: str) -> int:
    """Lock `path` and write our process id into it, as Postfix does. The caller keeps the descriptor open."""
    fd = open_lock(path)
    try:
        os.pwrite(fd, f"{os.getpid():32d}\n".encode(), 0)
    except OSError as error:
        raise FatalError(f"cannot update lock file {path}: {os.strerror(error.errno or 0)}") from None
    return fd


def take_data_lock(data_directory: str, owner: tuple[int, int] | None) -> int:
    """Lock the data directory, as the mail owner."""
    from .master_listen import as_owner

    return as_owner(owner, lambda: take_lock(f"{data_directory}/master.lock"))


# Starting


def _detach(*, keep_output: bool, session: bool) -> None:
    """Leave the terminal: no standard streams but perhaps the output, and a session of our own."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        if fd != 1 or not keep_output:
            os.dup2(null, fd)
    if null > 2:
        os.close(null)
    if session:
        try:
            os.setsid()
        except OSError as error:
            # Started in the foreground by a shell with job control, we lead a process group and cannot leave it.
            if os.getsid(0) != os.getpid() and not keep_output:
                raise FatalError(
                    f"unable to set session and process group ID: {os.strerror(error.errno or 0)}"
                ) from None


def _monitor() -> int:
    """Go into the background. The parent waits for the child's word, and exits; the child gets where to send it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        return write
    os.close(write)
    import select

    ready, _, _ = select.select([read], [], [], START_TIME)
    if not ready:
        log.warning("Connection timed out while waiting for daemon initialization")
        os.kill(pid, signal.SIGKILL)
    if not ready or os.read(read, 1) == b"":
        raise FatalError("daemon initialization failure -- see logs for details")
    sys.stdout.flush()
    os._exit(0)
