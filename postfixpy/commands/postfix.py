"""postfix(1): control the mail system.

    postfix [-c config_dir] [-Dv] COMMAND

COMMAND is start, start-fg, stop, abort, reload, flush, check, status, drain, quick-stop or logrotate. Messages go to
the mail log, and to standard error as ``postfix/postfix-script: text`` unless the log goes there.

Differs from Postfix
- It does the work itself; there is no shell script, and daemon_directory need not exist. Under the name postfix-script
  (``postfixpy link --daemons``) it does that work for Postfix's own postfix command.
- Standard error is written to when it is no terminal, too, whatever the release: Postfix does so since 3.8 (and calls
  itself postlog there).
- A user other than root may run a mail system whose queue directory that user owns.
- ``start-fg`` becomes master itself, in the session of whoever started it when it cannot have its own.
- A running mail system can be stopped when master.cf is broken.
- set-permissions, upgrade-configuration, tls and non-bdb are an installed Postfix's own scripts, and are not done here.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.options import OptionError, parse

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View

NOT_OURS = ("set-permissions", "upgrade-configuration", "tls", "non-bdb", "post-install")
ENDING = ("stop", "quick-stop", "abort", "drain")
"""What has to work with a master.cf that is broken, too."""
COMPATIBILITY_LEVELS = ((2, 0), (3, 6), (3, 11))
"""The levels at which defaults changed."""

STOP_TIME = 5
"""Seconds that ``stop`` waits for master to end, before it kills."""

POLL = 0.02


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    os.umask(0o022)
    log.set_sink(log.stderr_sink("postfix"))
    try:
        return _main(argv)
    except FatalError as error:
        log.fatal(str(error))
        return error.status


def _main(argv: list[str]) -> int:
    try:
        found, words = parse(argv[1:], "c:Dv")
    except OptionError as error:
        sys.stderr.write(f"postfix: invalid option -- '{error.letter}'\n")
        raise FatalError("usage: postfix [-c config_dir] [-Dv] command") from None
    for letter, value in found:
        if letter == "c":
            if not value.startswith("/"):
                raise FatalError("-c requires absolute pathname")
            os.environ["MAIL_CONFIG"] = value
        else:
            os.environ[{"D": "MAIL_DEBUG", "v": "MAIL_VERBOSE"}[letter]] = ""
    single = "MAIL_CONFIG" in os.environ

    from postfixpy.config import load
    from postfixpy.ipc.startup import check

    config = load()
    view = config.view(process_name="postfix")
    _check_rights(view)
    check(view)
    name = words[0] if words else ""
    control_log(config, view, program="postfix", foreground=name == "start-fg")
    if os.path.basename(argv[0]) != "postfix-script":  # else Postfix's command has done it
        _tell_compatibility(view)
    os.environ["MAIL_CONFIG"] = config.directory
    instances = view.multi_instance_directories.replace(",", " ").split()
    if instances and not single:
        return _hand_over(view, words)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f"chdir({view.queue_directory}): {os.strerror(error.errno or 0)}") from None
    action = getattr(Control(config, view, instances), "do_" + name.replace("-", "_"), None)
    if action is None:
        control_log(config, view)
        if name in NOT_OURS:
            log.fatal(f"{name} is the business of an installed Postfix; there is nothing of that to do here")
        else:
            log.fatal(
                f"unknown command: '{name}'. Usage: postfix start (or stop, reload, abort, flush, check, status, "
                "start-fg, drain, quick-stop, logrotate)"
            )
        return 1
    control_log(config, view, foreground=name == "start-fg")
    if name not in ENDING and not _master_cf_is_readable(config, view):
        return 1
    return int(action())


def _master_cf_is_readable(config: "Configuration", view: "View") -> bool:
    """Whether postconf takes every row of master.cf, which Postfix's script needs for everything; says what is not."""
    from postfixpy.config.inspect.rows import read_rows

    previous = log.set_sink(lambda severity, text: None)  # the warnings are those of who uses the row
    try:
        if os.path.isfile(config.master_path):
            read_rows(config.master_path, view.release, required=True)
    except FatalError as error:
        sys.stderr.write(f"{view.command_directory}/postconf: fatal: {error}\n")
        log.set_sink(previous)
        log.fatal(f"cannot execute {view.command_directory}/postconf!")
        return False
    finally:
        log.set_sink(previous)
    return True


def _tell_compatibility(view: "View") -> None:
    """Say that compatibility_level keeps old defaults in effect, as postfix(1) does with every command, before it."""
    newest = max((level for level in COMPATIBILITY_LEVELS if level <= view.release), default=(0, 0))
    if view.compatibility()[:2] < newest and view.release >= (3, 0):
        level = ".".join(map(str, newest)) if newest[1] else str(newest[0])
        log.info("Postfix is using backwards-compatible default settings")
        log.info("See https://www.postfix.org/COMPATIBILITY_README.html for details")
        log.info(f'To disable backwards compatibility use "postconf compatibility_level={level}" and "postfix reload"')


def _check_rights(view: "View") -> None:
    uid = os.geteuid()
    if uid == 0:
        return
    try:
        owner = os.stat(view.queue_directory).st_uid
    except OSError:
        return  # chdir will say it
    if owner != uid:
        log.error("to submit mail, use the Postfix sendmail command")
        raise FatalError("the postfix command is reserved for the superuser")


def _hand_over(view: "View", words: list[str]) -> int:
    """Several instances: their manager runs us for each."""
    wrapper = view.multi_instance_wrapper.split()
    if not wrapper:
        raise FatalError("multi-instance support is requested, but multi_instance_wrapper is empty")
    try:
        os.execvp(wrapper[0], [*wrapper, *words])
    except OSError as error:
        raise FatalError(f"{wrapper[0]}: {os.strerror(error.errno or 0)}") from None


def control_log(
    config: "Configuration", view: "View", *, program: str = "postfix-script", foreground: bool = False
) -> None:
    """Log as ``postfix/postfix-script``, or as ``postfix``: to the mail log, and to people."""
    from postfixpy.ipc import logging
    from postfixpy.services.master import logs_nowhere, test_lock

    tag = program if program == "postfix" else logging.task(program, view)
    direct = os.path.isfile(config.master_path) and _answers(lambda: logs_nowhere(config, view))
    if foreground and direct:
        os.environ["POSTFIXPY_LOG"] = "stdout"
    logger = logging.install("postfix", view, fallback=True, tag=tag)
    if not view.maillog_file.startswith("/dev/"):
        logger.without_postlogd()  # it may be about to end, by what we do
    os.environ.pop("POSTFIXPY_LOG", None)
    if foreground and direct:
        return
    ours = view.maillog_file in ("/dev/stdout", "/dev/stderr")  # written by us while no postlogd answers
    if ours and (foreground or test_lock(view.queue_directory) == 0):
        return
    logger.also_to_stderr()


def _answers(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except FatalError:
        return False  # a broken master.cf is reported by who needs it


def _spawn(argv: list[str]) -> int:
    """Start a program. Returns its process id. Raises FatalError."""
    try:
        return os.posix_spawn(argv[0], argv, os.environ)
    except OSError as error:
        raise FatalError(f"{argv[0]}: {os.strerror(error.errno or 0)}") from None


class Control:
    """One method for each command, `do_COMMAND`, which returns the exit status."""

    def __init__(self, config: "Configuration", view: "View", instances: list[str]) -> None:
        self.config, self.view, self._instances = config, view, instances

    # Helpers

    def _running(self) -> bool:
        from postfixpy.services.master import test_lock

        return test_lock(self.view.queue_directory) != 0

    def _pid(self) -> int:
        """Master's process id, from its lock file. Raises FatalError."""
        from postfixpy.services.master import lock_path

        try:
            with open(lock_path(self.view.queue_directory), encoding="ascii") as file:
                return int(file.readline())
        except (OSError, ValueError):
            raise FatalError("cannot read the process ID in pid/master.pid") from None

    def _not_running(self) -> int:
        log.fatal("the Postfix mail system is not running")
        return 1

    def _kill(self, number: int) -> None:
        try:
            os.kill(self._pid(), number)
        except ProcessLookupError:
            pass  # it has just ended

    def _command(self, name: str, *words: str, wait: bool = True) -> int:
        """Run another of our commands. Returns its exit status, 0 when not waiting."""
        from postfixpy.ipc.launch import command_line

        pid = _spawn([*command_line(name), *words])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if wait else 0

    # Commands

    def do_start(self, foreground: bool = False) -> int:
        """Check, and run master: in the background, or until it ends."""
        if self._running():
            log.fatal("the Postfix mail system is already running")
            return 1
        if foreground and self._instances:
            log.fatal("start-fg does not support multi_instance_directories")
            return 1
        if os.path.isfile("quick-start"):
            os.unlink("quick-start")
        else:
            if self._check_fatal():
                log.fatal("Postfix integrity check failed!")
                return 1
            self._check_warn()
        log.info("starting the Postfix mail system")
        if foreground:
            return self._master_in_front()
        if self._command("master", "-w"):
            log.fatal("mail system startup failed")
            return 1
        return 0

    def do_start_fg(self) -> int:
        """Run master in the foreground."""
        return self.do_start(foreground=True)

    def _master_in_front(self) -> int:
        """Become master, so that whoever started this command knows, watches and kills the right process."""
        from postfixpy.ipc.launch import command_line

        argv = command_line("master")
        try:
            os.execv(argv[0], [*argv, "-i" if os.getpid() == 1 else "-s"])
        except OSError as error:
            raise FatalError(f"{argv[0]}: {os.strerror(error.errno or 0)}") from None

    def do_stop(self) -> int:
        """End the mail system, by force if need be."""
        if not self._running():
            return self._not_running()
        log.info("stopping the Postfix mail system")
        pid = self._pid()
        self._kill(signal.SIGTERM)
        for _ in range(STOP_TIME):
            if self._ends_within(1.0):
                return 0
            log.info("waiting for the Postfix mail system to terminate")
        log.warning("stopping the Postfix mail system with force")
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            self._kill(signal.SIGKILL)
        return 0

    def _ends_within(self, seconds: float) -> bool:
        for _ in range(int(seconds / POLL)):
            if not self._running():
                return True
            time.sleep(POLL)
        return False

    def do_quick_stop(self) -> int:
        """Stop, and do not check at the next start."""
        status = self.do_stop()
        with open("quick-start", "w", encoding="ascii"):
            return status

    def do_abort(self) -> int:
        """End the mail system, without waiting."""
        if not self._running():
            return self._not_running()
        log.info("aborting the Postfix mail system")
        self._kill(signal.SIGTERM)
        return 0

    def do_drain(self) -> int:
        """End master only; the other processes finish what they do."""
        if not self._running():
            return self._not_running()
        log.info("stopping the Postfix mail system")
        self._kill(signal.SIGKILL)
        return 0

    def do_reload(self) -> int:
        """Let the mail system read its configuration again."""
        if not self._running():
            return self._not_running()
        log.info("refreshing the Postfix mail system")
        if self._command("postsuper", "active"):
            return 1
        self._kill(signal.SIGHUP)
        self._command("postsuper", wait=False)
        return 0

    def do_flush(self) -> int:
        """Try to deliver all deferred mail."""
        return self._command("postqueue", "-f")

    def do_status(self) -> int:
        """Say whether the mail system runs."""
        if not self._running():
            log.info("the Postfix mail system is not running")
            return 1
        log.info(f"the Postfix mail system is running: PID: {self._pid()}")
        return 0

    def do_check(self) -> int:
        """Look for what is wrong, and create what is missing."""
        if self._check_fatal():
            return 1
        self._check_warn()
        return 0

    def do_logrotate(self) -> int:
        """Rename the log file, let postlogd open a new one, and compress the old one."""
        names = ("maillog_file", "maillog_file_compressor", "maillog_file_rotate_suffix")
        values = [self.view.text(name) for name in names]
        for name, value in zip(names, values, strict=True):
            if not value:
                log.fatal(f"empty '{name}' parameter value - logfile rotation failed")
                return 1
        path, compressor, suffix = values
        if path.startswith("/dev/"):
            log.fatal(f"not rotating '{path}'")
            return 1
        rotated = f"{path}.{time.strftime(suffix)}"
        try:
            os.rename(path, rotated)
            if self._running():
                self._kill(signal.SIGHUP)
            time.sleep(1)
            argv = [*compressor.split(), rotated]
            pid = os.posix_spawnp(argv[0], argv, os.environ)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                raise OSError(0, f"{compressor} failed")
        except OSError as error:
            log.fatal(f"logfile '{path}' rotation failed: {error.strerror}")
            return 1
        return 0

    def _check_fatal(self) -> bool:
        """Whether something prevents a start; says what."""
        from postfixpy.services import installation_check, queue_directories

        try:
            queue_directories.create_missing(self.view)
        except FatalError as error:
            log.fatal(f"unable to create missing queue directories: {error}")
            return True
        problem = installation_check.fatal_problem(self.config)
        if problem is not None:
            log.fatal(problem)
            return True
        return self._command("postsuper") != 0

    def _check_warn(self) -> None:
        from postfixpy.services import installation_check

        for text in installation_check.warnings(self.config, self.view):
            log.warning(text)
