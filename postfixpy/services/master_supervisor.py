"""The event loop of master(8): sockets, processes, status messages, timers, signals.

What a service may do is decided in postfixpy.services.master_service; this module does it. One thread, one selector; an
event handler never blocks, but for opening sockets at start and reload. Descriptors that children inherit are moved
above those that they are inherited as, so that posix_spawn(3) can put them in place in any order.
"""

import fcntl
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

from postfixpy import log
from postfixpy.config import Configuration, MasterEntry, View, load
from postfixpy.errors import FatalError
from postfixpy.ipc import logging, startup
from postfixpy.ipc.installed import OUR_MASTER
from postfixpy.ipc.launch import command_line
from postfixpy.ipc.master_status import FLOW_READ, FLOW_WRITE, LISTEN, SIZE, STATUS, unpack

from . import master_command as command
from . import master_listen as listen
from .master_service import ServiceState
from .master_timers import Timers
from .master_wakeup import wake

ABOVE = 256
"""Our copies of inherited descriptors are at least this high."""

WATCHDOG = 1000
"""Seconds without a turn of the event loop after which master gives up."""

STRESS_TIME = 1000
"""Seconds for which processes are started with stress=yes after a service has reached its process limit."""


def high(fd: int) -> int:
    """Move a descriptor out of the way of those that children inherit."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE)
    os.close(fd)
    return moved


@dataclass(eq=False)
class Running:
    """A service's state with its descriptors."""

    state: ServiceState
    sockets: list[int] = field(default_factory=list)
    local: bool = True
    status_read: int = -1
    status_write: int = -1
    watched: bool = False
    wakeup: int = 0
    stress_until: float = 0.0
    warned: float = 0.0


class Supervisor:
    """A master. `detached`: children are not told -d; `owner`: the mail owner's ids, None without root."""

    def __init__(
        self,
        config: Configuration,
        view: View,
        logger: logging.Logger,
        *,
        detached: bool,
        verbose: int,
        owner: tuple[int, int] | None,
    ) -> None:
        self.config, self.view, self.logger = config, view, logger
        self.services: dict[tuple[str, str], Running] = {}
        self._detached, self._verbose, self._owner = detached, verbose, owner
        self._selector = selectors.DefaultSelector()
        self._timers = Timers()
        self._generation = 0
        self._interfaces = view.inet_interfaces
        self._pids: dict[int, Running] = {}
        self._signals: set[int] = set()
        self._exit: int | None = None
        self._missing: set[str] = set()
        self._protocol = ""
        self._flow = tuple(high(fd) for fd in os.pipe())
        for fd in self._flow:
            os.set_blocking(fd, False)

    # Configuration

    def configure(self) -> None:
        """Start the services of master.cf, or apply what has changed in it. Raises FatalError."""
        self._throttle_time = self.view.service_throttle_time
        seen, missing = set(), set()
        if not listen.families(self.view.inet_protocols):
            log.warning(f"all network protocols are disabled (inet_protocols = {self.view.inet_protocols})")
            log.warning('disabling all type "inet" services in master.cf')
        root = self._owner is not None

        def missed(problem: str) -> None:
            if problem not in self._missing:
                log.warning(problem)
            missing.add(problem)

        entries = list(self.config.master)
        postlog = command.implied_postlog(entries, self.view)
        if postlog is not None:
            entries.append(postlog)
            missed(command.postlog_warning(postlog))
        self._protocol, doubt = command.protocol(entries, self.view.daemon_directory, self.view.release)
        if doubt:
            missed(doubt)
        for entry in entries:
            if not self._enabled(entry):
                continue
            path = f"{self.view.daemon_directory}/{entry.command}"
            problem = command.unavailable(entry, path, root=root, mail_owner=self.view.mail_owner)
            if problem is not None:
                missed(problem)
                continue
            key = (listen.internal_name(entry), entry.type)
            seen.add(key)
            running = self.services.get(key)
            if running is None:
                running = Running(ServiceState(entry, path, key[0]))
                try:
                    self._start(running)
                except listen.NotAllowed as error:
                    if root:
                        raise
                    missed(command.forbidden(entry, str(error)))
                    continue
                self.services[key] = running
            else:
                self._restart(running, entry, path)
        for key in [key for key in self.services if key not in seen]:
            self._stop(self.services.pop(key))
        self._missing = missing

    def _enabled(self, entry: MasterEntry) -> bool:
        if entry.type == "inet" and not listen.families(self.view.inet_protocols):
            return False
        if entry.type == "inet" and self.view.inet_interfaces != self._interfaces:
            log.warning(f"service {entry.name}: ignoring inet_interfaces change")
            log.warning("to change inet_interfaces, stop and start Postfix")
        return not command.disabled(entry.name, entry.type, self.view.master_service_disable)

    def _start(self, running: Running) -> None:
        backlog = max(running.state.entry.maxproc, self.view.default_process_limit)
        fds, running.local = listen.open_sockets(
            running.state.entry, self._interfaces, self.view.inet_protocols, backlog, self._owner
        )
        running.sockets = [high(fd) for fd in fds]
        self._open_status(running)
        self._watch(running)
        self._schedule_wakeup(running, first=True)

    def _open_status(self, running: Running) -> None:
        ours, theirs = socket.socketpair()
        running.status_read, running.status_write = high(ours.detach()), high(theirs.detach())
        os.set_blocking(running.status_read, False)
        self._selector.register(running.status_read, selectors.EVENT_READ, (0, self._on_status, running))

    def _close_status(self, running: Running) -> None:
        self._selector.unregister(running.status_read)
        os.close(running.status_read)
        os.close(running.status_write)

    def _restart(self, running: Running, entry: MasterEntry, path: str) -> None:
        """Tell the processes to finish, by a new status channel; the next ones run with the new row."""
        self._close_status(running)
        running.state.reloaded(entry, path)
        self._open_status(running)
        self._watch(running)
        self._schedule_wakeup(running, first=True)

    def _stop(self, running: Running) -> None:
        running.state.stopping = True
        self._watch(running)
        running.wakeup += 1
        self._close_status(running)
        for pid in running.state.children:
            _kill(pid, signal.SIGTERM)
        for fd in running.sockets:
            os.close(fd)
        running.sockets = []

    # Events

    def run(self) -> int:
        """Serve until a signal or the -e timer ends it. Returns the number of the fatal signal, or 0."""
        while self._exit is None:
            signal.alarm(WATCHDOG)
            events = self._selector.select(self._timers.until(WATCHDOG / 2))
            for key, _ in sorted(events, key=lambda event: event[0].data[0]):
                _, action, running = key.data
                if key.fd in self._selector.get_map():  # an earlier event may have ended the watch
                    action(running)
            self._timers.run()
            if signal.SIGHUP in self._signals:
                self._signals.discard(signal.SIGHUP)
                self._reload()
            self._signals.discard(signal.SIGCHLD)
            if self._exit is None:
                self._reap()
        return self._exit

    def catch_signals(self) -> None:
        """Handle signals from now on; call before `configure` and `run`."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self._signal_pipe = high(read)
        signal.set_wakeup_fd(high(write), warn_on_full_buffer=False)
        self._selector.register(self._signal_pipe, selectors.EVENT_READ, (1, self._on_signal, None))
        for number in (signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: self._signals.add(number))
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self._die(number))
        signal.signal(signal.SIGALRM, lambda number, frame: self._hung())

    def _on_signal(self, running: None) -> None:
        try:
            os.read(self._signal_pipe, 512)
        except BlockingIOError:
            pass

    def _hung(self) -> None:
        log.fatal("watchdog timeout")
        os._exit(1)

    def _die(self, number: int) -> None:
        """End all processes of this mail system, and this one."""
        self._exit = number
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # in case something below hangs
        self.logger.without_postlogd()
        if os.getsid(0) == os.getpid() != 1:
            os.killpg(0, signal.SIGTERM)
        for pid in self._pids:
            _kill(pid, signal.SIGTERM)
        log.info(f"terminating on signal {number}")

    def end_after(self, seconds: float) -> None:
        """End by itself after a time (-e)."""

        def leave() -> None:
            log.info("master exit time has arrived")
            self._exit = 0

        self._timers.add(seconds, leave)

    def _watch(self, running: Running) -> None:
        """Watch the service's sockets, or no longer, as its state wants it."""
        wanted = running.state.watching
        if wanted != running.watched:
            running.watched = wanted
            for fd in running.sockets:
                if wanted:
                    self._selector.register(fd, selectors.EVENT_READ, (2, self._on_client, running))
                else:
                    self._selector.unregister(fd)
        elif not wanted and not running.local and not running.state.may_start() and running.state.available == 0:
            self._warn_busy(running)

    def _warn_busy(self, running: Running) -> None:
        now = time.monotonic()
        entry = running.state.entry
        if entry.maxproc <= 1 or now < running.warned:
            return
        running.warned = now + STRESS_TIME
        log.warning(
            f'service "{entry.name}" ({running.state.internal}) has reached its process limit "{entry.maxproc}": '
            "new clients may experience noticeable delays"
        )
        log.warning(
            "to avoid this condition, increase the process count in master.cf or reduce the service time per client"
        )
        log.warning(
            "see https://www.postfix.org/STRESS_README.html for examples of stress-adapting configuration settings"
        )

    def _on_client(self, running: Running) -> None:
        """A client waits, and no process does."""
        state = running.state
        if not running.local and state.entry.maxproc > 1 and not state.may_start(1):
            running.stress_until = time.monotonic() + STRESS_TIME
        self._spawn(running)

    def _on_status(self, running: Running) -> None:
        while running.status_read >= 0:
            try:
                data = os.read(running.status_read, SIZE)
            except BlockingIOError:
                break
            try:
                pid, generation, said = unpack(data)
            except ValueError:
                entry = running.state.entry
                log.warning(
                    f"service {entry.name}({running.state.internal}): child sent partial status update "
                    f"({len(data)} bytes)"
                )
                break
            problem = running.state.status(pid, generation, said)
            if problem is not None:
                log.warning(problem)
        self._watch(running)

    # Processes

    def _spawn(self, running: Running) -> None:
        state = running.state
        if not state.watching:
            return
        entry = state.entry
        words = command.arguments(
            entry,
            sockets=len(running.sockets),
            local=running.local,
            detached=self._detached,
            verbose=self._verbose,
            stress=running.stress_until > time.monotonic(),
            root=self._owner is not None,
        )
        ours = command.is_ours(entry.command)
        argv = [*command_line(entry.command), *words] if ours else [entry.command, *words]
        path = sys.executable if ours else state.path
        self._generation += 1
        places = [(self._flow[0], FLOW_READ), (self._flow[1], FLOW_WRITE), (running.status_write, STATUS)]
        places += [(fd, LISTEN + n) for n, fd in enumerate(running.sockets)]
        if self._verbose:
            log.info(f"spawn command {state.path}")
        try:
            pid = os.posix_spawn(
                path,
                argv,
                {**os.environ, "GENERATION": f"{self._generation:o}", OUR_MASTER: self._protocol},
                file_actions=[(os.POSIX_SPAWN_DUP2, ours_fd, child_fd) for ours_fd, child_fd in places],
                setsigdef=[signal.SIGXFSZ],
            )
        except OSError as error:
            log.fatal(f"master_spawn: exec {state.path}: {os.strerror(error.errno or 0)}")
            log.warning(f"{state.path}: bad command startup -- throttling")
            self._throttle(running)
            return
        first = not state.used
        state.started(pid, self._generation)
        self._pids[pid] = running
        self._watch(running)
        if first and not entry.wakeup_always:
            self._schedule_wakeup(running, first=True)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            running = self._pids.pop(pid, None)
            if running is None:
                continue  # as process 1 we inherit strangers
            was_throttled = running.state.throttled
            for text in running.state.reaped(pid, status):
                log.warning(text)
            if running.state.throttled and not was_throttled:
                self._throttle(running)
            self._watch(running)

    def _throttle(self, running: Running) -> None:
        running.state.throttled = True
        self._watch(running)

        def release() -> None:
            running.state.throttled = False
            self._watch(running)

        self._timers.add(self._throttle_time, release)

    # Wakeups

    def _schedule_wakeup(self, running: Running, *, first: bool = False) -> None:
        """Wake the service up now and then every `wakeup` seconds. Cancels the timer of an earlier row."""
        running.wakeup += 1
        turn = running.wakeup
        entry = running.state.entry
        if entry.wakeup == 0 or not (entry.wakeup_always or running.state.used):
            return

        def wake() -> None:
            if running.wakeup != turn or running.state.stopping:
                return
            if not running.state.throttled:
                self._wake(running)
            self._timers.add(entry.wakeup, wake)

        self._timers.add(0, wake) if first else self._timers.add(entry.wakeup, wake)

    def _wake(self, running: Running) -> None:
        state = running.state
        try:
            wake(state.entry, state.internal)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            log.warning(f"master_wakeup_timer_event: service {state.entry.name}({state.internal}): {reason}")

    def _reload(self) -> None:
        """Read both files again. A file that is wrong now leaves everything as it was."""
        try:
            config = load(self.config.directory)
            view = config.view(process_name="master")
            startup.check(view)
            _ = config.master
            log.info(f"reload -- version {view.mail_version}, configuration {config.directory}")
            self.config, self.view = config, view
            self.configure()
            self.logger = logging.install("master", view, fallback=True)
        except FatalError as error:
            log.error(f"reload failed, the previous configuration stays in effect: {error}")


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
