"""Runs a `Service` as a process of master(8): options, sockets, status, limits, privileges, end (spec 15.1-15.3, 17).

Order, as in Postfix: log, main.cf, options, log again, lock file, working directory, `pre_jail`, chroot, setuid,
`start`, then clients until it is time to end. A FatalError at any time is logged, the process waits a second, and exits
with status 1; master throttles a service that fails before it has served.

Where one process of ours differs from one of Postfix
- It serves many clients at once: as many as its master.cf row allows processes, because that is what the number is for
  (0: no limit). When it is full, further clients wait in the socket, as with Postfix at its process limit; so master is
  told TAKEN only when this process takes no more clients for good, and starts a fresh one then.
- max_use counts for each session: the process of a row of 100 with max_use 100 ends after 10000 clients.
- At the end (master gone or reloading, idle, retired, table changed) it takes no more clients, lets those in flight
  finish, and asks clients that keep their connection open to leave between two requests.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from postfixpy import log
from postfixpy.errors import FatalError

from . import logging
from .accept import AcceptLock, Listeners, accept
from .attributes import ProtocolError
from .channel import Channel
from .debugger import run_debugger
from .doorkeeper import OUR_MASTER
from .jail import drop_privileges
from .master_status import AVAIL, LISTEN, STATUS, TAKEN, Status
from .service import Context, Service
from .service_options import Options, check_transport, parse_generation, parse_options

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View

TRIGGER_SIZE = 1024
TRIGGER_TIMEOUT = 10.0
PASS_TIMEOUT = 100.0
"""Seconds that a peer may take to send its trigger, or the descriptor that it passes."""

QUIET, BUSY = 0.5, 20
"""Seconds without a client after which master is told that one has been served; at the latest after so many clients."""

Factory = Callable[[Context], Service]


def run(argv: list[str], factory: Factory) -> int:
    """Run the service that `factory` makes; argv[0] is the program's name. Returns the exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # not Python's traceback
    program = os.path.basename(argv[0])
    _name_process(program)
    try:
        logging.install(program)
        return _run(argv, factory)
    except FatalError as error:
        log.fatal(str(error))
    except Exception as error:
        log.panic(describe(error))
    time.sleep(1)
    return 1


def _name_process(program: str) -> None:
    """Let ps and top say "smtp" and not "python"."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(program)
    except OSError:
        pass  # not Linux, or no /proc


def _run(argv: list[str], factory: Factory) -> int:
    options = parse_options(argv)
    options.verbose += "MAIL_VERBOSE" in os.environ
    options.debug |= "MAIL_DEBUG" in os.environ
    config, view, sessions = _configure(options)
    logger = logging.install(options.program, view)
    if options.stderr:
        logger.also_to_stderr()
    if options.daemon and not options.stand_alone and os.isatty(0):
        logger.also_to_stderr()
        raise FatalError("do not run this command by hand")
    context = Context(
        config=config,
        view=view,
        program=options.program,
        service=options.service,
        transport="" if options.stand_alone else options.transport,
        words=options.words,
        sessions=sessions,
        verbose=options.verbose,
    )
    kind = factory if isinstance(factory, type) else Service
    _check(options, kind)
    generation = parse_generation(os.environ.get("GENERATION"))
    if options.debug:
        run_debugger(view)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f'chdir("{view.queue_directory}"): {os.strerror(error.errno or 0)}') from None
    lock = None
    if not options.stand_alone and not options.alone:
        lock = AcceptLock(f"pid/{options.transport}.{options.service}")
    process = Process(factory, context, options, Status(generation, -1 if options.stand_alone else STATUS), lock)
    return run_loop(process.main)


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine function to its end in an event loop, uvloop's when it is installed. Returns its result."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return int(runner.run(main()))


def _configure(options: Options) -> "tuple[Configuration, View, int]":
    """The configuration, this service's view of it, and the number of sessions that its row in master.cf allows."""
    from postfixpy import config as room

    config = room.load()
    view = config.view(overrides=options.overrides, process_name=options.program, service_name=options.service)
    if options.alone or options.stand_alone:
        return config, view, 1
    if options.unlimited:
        return config, view, 0
    try:
        row = config.entry(options.service, options.transport)
    except FatalError:
        row = None  # it was edited and is wrong now: master's business, which runs on with the old one
    return config, view, max(1, row.maxproc if row is not None else view.default_process_limit)


def _check(options: Options, kind: type[Service]) -> None:
    if kind.datagrams:
        allowed: tuple[str, ...] = ("unix-dgram",)
    elif kind.triggers:
        allowed = ("unix", "pass", "fifo")
    else:
        allowed = ("inet", "unix", "pass")
    if kind.single and not options.stand_alone and not options.alone:
        raise FatalError(f"service {options.service} requires a process limit of 1")
    if kind.privileged and options.unprivileged:
        raise FatalError(f"service {options.service} requires privileged operation")
    check_transport(options, allowed)


class Process:
    """The life of one service process, from `main`."""

    def __init__(
        self, factory: Factory, context: Context, options: Options, status: Status, lock: AcceptLock | None
    ) -> None:
        self.context = context
        self._factory = factory
        self._options = options
        self._status = status
        self._lock = lock
        self._view = context.view
        self._channels: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._served = 0
        self._told = False
        self._ending = False
        self._exit = 0
        self._pending = bytearray()
        self._trigger_task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def main(self) -> int:
        """Everything from pre_jail on. Returns the exit status. Raises FatalError."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._end = asyncio.Event()
        self.service = self._factory(self.context)
        await self.service.pre_jail()
        options, view = self._options, self._view
        jail = view.queue_directory if options.chroot else ""
        drop_privileges(jail, view.mail_owner if options.unprivileged else "", view)
        await self.service.start()
        if options.stand_alone:
            await self._stand_alone()
            await self.service.stop()
            return self._exit
        self._start_watchdog()
        self._listeners = Listeners([LISTEN + n for n in range(options.sockets)], self._ready, self._lock)
        os.set_inheritable(STATUS, False)
        loop.add_reader(STATUS, self._master_gone)
        if self.service.datagrams:
            loop.add_signal_handler(signal.SIGTERM, self._last_datagrams)
        if options.retire:
            loop.call_later(options.retire, self.end, "time to retire")
        self._arm_idle()
        self._listeners.open()
        await self._end.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._trigger_task is not None:
            await self._trigger_task
        await self.service.stop()
        return self._exit

    # The end

    def end(self, why: str = "") -> None:
        """Take no more clients; the process ends when those in flight are done. `why` is for -v."""
        if self._ending:
            return
        if why and self.context.verbose:
            log.info(f"{why} -- exiting")
        self._ending = True
        self._listeners.shut()
        self._status.tell(TAKEN)
        self.service.draining = True
        for channel in self._channels:
            channel.drain_requests()
        self._end.set()

    def _master_gone(self) -> None:
        self._loop.remove_reader(STATUS)
        self.end("master disconnect")

    def _arm_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._tasks and self._view.max_idle > 0 and not self.service.single:
            self._idle = self._loop.call_later(self._view.max_idle, self.end, "idle timeout")

    def _start_watchdog(self) -> None:
        """A process whose event loop hangs is ended by SIGALRM, as Postfix's watchdog(3) does."""
        limit = max(3.0, float(self.service.watchdog_time()))

        def bark(number: int, frame: object) -> None:
            log.fatal("watchdog timeout")
            os._exit(1)

        def pat() -> None:
            signal.setitimer(signal.ITIMER_REAL, limit)
            self._loop.call_later(limit / 3, pat)

        signal.signal(signal.SIGALRM, bark)
        pat()

    # Clients

    @property
    def _full(self) -> bool:
        return 0 < self.context.sessions <= len(self._tasks)

    def _ready(self, fd: int) -> None:
        """Something waits on a listening descriptor."""
        changed = self.service.tables_changed()
        if changed is not None:
            log.info(f"table {changed} has changed -- restarting")
            self.end()
            return
        if self.service.datagrams:
            self._read_datagrams(fd)
        elif self._options.transport == "fifo":
            self._read_fifo(fd)
        else:
            self._accept(fd)
        if self._ending:
            return
        self._listeners.yield_turn()
        if not self._tasks:
            self._count_served()

    def _count_served(self) -> None:
        if OUR_MASTER in os.environ:
            self._tell_served()
        elif not self._told:
            self._loop.call_later(QUIET, self._tell_served)

    def _tell_served(self) -> None:
        """Once: let master count a client, because it takes a process that dies before its first for a broken one.

        Our own master takes both messages at once. For Postfix's we wait for a quiet moment, because a client that
        comes between the two makes it start another process.
        """
        if OUR_MASTER not in os.environ and self._tasks and self._served < BUSY:
            return
        if not self._told and not self._exit and not self._ending:
            self._told = True
            if not self._status.tell(TAKEN, AVAIL):
                self._master_gone()

    def _accept(self, fd: int) -> None:
        while not self._full:
            try:
                client = accept(fd)
            except OSError as error:
                log.error(f"accept connection: {os.strerror(error.errno or 0)}")
                break
            if client is None:
                break
            task = self._loop.create_task(self._client(client))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        if self._full:
            self._listeners.close()
        self._arm_idle()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._served += 1
        if self._ending:
            return
        self._count_served()
        limit = self._view.max_use * max(1, self.context.sessions or 100)
        if 0 < limit <= self._served and not self.service.single:
            self.end()
            return
        self._listeners.open()
        self._arm_idle()

    async def _client(self, client: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        if self.context.verbose:
            log.info("connection established")
        try:
            attributes: dict[str, str] = {}
            if self._options.transport == "pass":
                client, attributes = await receive_passed(client)
            if self.service.triggers:
                await self._read_trigger(client)
                return
            name = f"{self.context.service} socket"
            _, channel = await self._loop.connect_accepted_socket(
                lambda: Channel(name, timeout=self._view.ipc_timeout, release=self._view.release), client
            )
            channel.attributes = attributes
            await self._serve(channel)
        except (OSError, ProtocolError) as error:
            log.warning(str(error))
            client.close()

    async def _serve(self, channel: Channel) -> None:
        self._channels.add(channel)
        if self._ending:
            channel.drain_requests()
        try:
            if self.service.announcement:
                channel.write(self.service.announcement)
            await self.service.serve(channel)
        except ProtocolError as error:
            log.warning(str(error))
        except FatalError as error:
            self._fatal(error)
        except Exception as error:
            log.panic(f"service {self.context.service}: {describe(error)}")
        finally:
            self._channels.discard(channel)
            channel.close()
            await channel.wait_closed()
            if self.context.verbose:
                log.info("connection closed")

    def _fatal(self, error: FatalError) -> None:
        """The service cannot go on: take no more clients, and end with status 1."""
        log.fatal(str(error))
        self._exit = 1
        if not self._options.stand_alone:
            self.end()

    # Triggers and datagrams

    async def _read_trigger(self, client: socket.socket) -> None:
        try:
            data = await asyncio.wait_for(self._loop.sock_recv(client, TRIGGER_SIZE), TRIGGER_TIMEOUT)
        except (TimeoutError, OSError):
            return
        finally:
            client.close()
        self._trigger(data)

    def _read_fifo(self, fd: int) -> None:
        try:
            self._trigger(os.read(fd, TRIGGER_SIZE))
        except BlockingIOError:
            pass
        self._served += 1
        self._arm_idle()

    def _trigger(self, data: bytes) -> None:
        """Add requests; one task acts on them, one batch after another."""
        self._pending += data.replace(b"\0", b"")
        if self._pending and (self._trigger_task is None or self._trigger_task.done()):
            self._trigger_task = self._loop.create_task(self._triggered())

    async def _triggered(self) -> None:
        while self._pending:
            requests = bytes(self._pending)
            self._pending.clear()
            try:
                await self.service.triggered(requests)
            except FatalError as error:
                self._fatal(error)
            except Exception as error:
                log.panic(f"service {self.context.service}: {describe(error)}")

    def _read_datagrams(self, fd: int) -> None:
        listener = socket.socket(fileno=fd)
        try:
            for _ in range(1000):
                self.service.datagram(listener.recv(4096))
        except BlockingIOError:
            pass
        except OSError as error:
            log.warning(f"failed to receive message with recv: {os.strerror(error.errno or 0)}")
        except FatalError as error:
            self._fatal(error)
        finally:
            listener.detach()
        self._arm_idle()

    def _last_datagrams(self) -> None:
        """The mail system is ended: what was sent before that is still read, then the process ends."""
        if self._ending:
            return
        for n in range(self._options.sockets):
            self._read_datagrams(LISTEN + n)
        self.end("terminated")

    # Stand-alone

    async def _stand_alone(self) -> None:
        """One client on standard input and output, of whatever kind these are."""
        import threading

        ours, theirs = socket.socketpair()

        def copy_in() -> None:
            try:
                while data := os.read(0, 65536):
                    theirs.sendall(data)
                theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the service has hung up

        def copy_out() -> None:
            try:
                while data := theirs.recv(65536):
                    logging.write_all(1, data)
            except OSError:
                pass  # nobody reads our output any more

        threading.Thread(target=copy_in, daemon=True).start()
        writer = threading.Thread(target=copy_out)
        writer.start()
        ours.setblocking(False)
        _, channel = await self._loop.connect_accepted_socket(
            lambda: Channel("stdin", timeout=self._view.ipc_timeout), ours
        )
        try:
            await self._serve(channel)
        finally:
            await self._loop.run_in_executor(None, writer.join)


async def receive_passed(client: socket.socket) -> tuple[socket.socket, dict[str, str]]:
    """The connection that a peer passes to us, and its attributes (pass_accept_attr(3)); closes `client`.

    Raises OSError and ProtocolError.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    data = bytearray()
    try:
        while not received:
            readable = asyncio.Event()
            loop.add_reader(client.fileno(), readable.set)
            try:
                await asyncio.wait_for(readable.wait(), PASS_TIMEOUT)
            finally:
                loop.remove_reader(client.fileno())
            first, received, _, _ = socket.recv_fds(client, 1, 1)
            if not first and not received:
                raise ProtocolError("pass_accept: cannot receive file descriptor: the peer hung up")
        while bytes(data) not in (b"\0", b"\n") and not data.endswith((b"\0\0", b"\n\n")):
            more = await asyncio.wait_for(loop.sock_recv(client, 4096), PASS_TIMEOUT)
            if not more or len(data) > 100_000:
                raise ProtocolError("pass_accept: cannot receive connection attributes")
            data += more
    except TimeoutError:
        raise ProtocolError("pass_accept: timeout receiving file descriptor") from None
    except BaseException:
        for fd in received:
            os.close(fd)
        raise
    finally:
        client.close()
    passed = socket.socket(fileno=received[0])
    passed.setblocking(False)
    from .attributes import decode_text, parse

    if data.endswith(b"\0"):
        parsed = parse(data)
        pairs = parsed[0] if parsed is not None else []
    else:
        lines = decode_text(bytes(data)).split("\n")
        pairs = [(name, value) for name, equals, value in (line.partition("=") for line in lines) if equals]
    return passed, dict(pairs)


def describe(error: BaseException) -> str:
    """An unexpected exception in one line: what, and where in our code."""
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"unexpected {type(error).__name__} at {place}: {error}"
