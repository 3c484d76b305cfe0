"""The life of one service process, from its first client to its end (spec 15.3, 17; single_server(3)).

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
import select
import signal
import socket
from collections.abc import Callable

from postfixpy import log
from postfixpy.errors import FatalError, describe

from .accept import AcceptLock, Listeners, accept
from .attributes import ProtocolError
from .channel import Channel
from .installed import OUR_MASTER
from .jail import drop_privileges
from .master_status import AVAIL, LISTEN, STATUS, TAKEN, Status
from .message import announcement, system_release
from .passed import receive_passed
from .requests import Requests
from .service import Context, Service
from .service_options import Options
from .stand_alone import standard_streams

QUIET, BUSY = 0.5, 20
"""Seconds without a client after which master is told that one has been served; at the latest after so many clients."""

STOP_TIME = 10.0
"""Seconds for a service to stop in, when its clients have been served."""

Factory = Callable[[Context], Service]


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
        self._release = system_release()
        self._channels: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._served = 0
        self._told = False
        self._ending = False
        self._exit = 0
        self._idle: asyncio.TimerHandle | None = None

    async def main(self) -> int:
        """Everything from pre_jail on. Returns the exit status. Raises FatalError."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._end = asyncio.Event()
        self.service = self._factory(self.context)
        self._requests = Requests(self.service, self._fatal, self._bug)
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
        await self._requests.finish()
        await self._stop()
        return self._exit

    async def _stop(self) -> None:
        """Let the service finish. One that does not would work on unseen, beside the process that comes after it."""
        stopping = self._loop.create_task(self.service.stop())
        await asyncio.wait((stopping,), timeout=STOP_TIME)
        if not stopping.done():
            log.warning(f"service {self.context.service} did not stop within {STOP_TIME:.0f} s: ending it")
            os._exit(self._exit or 1)
        stopping.result()

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
        self._last_datagrams("master disconnect")

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
        return not (self.service.single or self.service.multi) and 0 < self.context.sessions <= len(self._tasks)

    def _ready(self, fd: int) -> None:
        """Something waits on a listening descriptor."""
        if select.select([STATUS], [], [], 0)[0]:
            self._master_gone()  # what comes now is for the process of the new generation
            return
        changed = self.service.tables_changed()
        if changed is not None:
            log.info(f"table {changed} has changed -- restarting")
            self.end()
            return
        if self.service.datagrams:
            self._requests.read_datagrams(fd)
            self._arm_idle()
        elif self._options.transport == "fifo":
            self._requests.read_fifo(fd)
            self._served += 1
            self._arm_idle()
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
                await self._requests.read_client(client)
                return
            name = f"{self.context.service} socket"
            _, channel = await self._loop.connect_accepted_socket(
                lambda: Channel(name, timeout=self._view.ipc_timeout, release=self._release), client
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
            if self.service.protocol:
                channel.write(announcement(self.service.protocol, self._release))
            await self.service.serve(channel)
        except ProtocolError as error:
            log.warning(str(error))
        except FatalError as error:
            self._fatal(error)
        except Exception as error:
            self._bug(error)
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

    def _bug(self, error: Exception) -> None:
        log.panic(f"service {self.context.service}: {describe(error)}")

    def _last_datagrams(self, why: str = "terminated") -> None:
        """The mail system has ended: what was sent before that is still read, then the process ends."""
        if self._ending:
            return
        if self.service.datagrams:
            for n in range(self._options.sockets):
                self._requests.read_datagrams(LISTEN + n)
        self.end(why)

    async def _stand_alone(self) -> None:
        async with standard_streams() as client:
            _, channel = await self._loop.connect_accepted_socket(
                lambda: Channel("stdin", timeout=self._view.ipc_timeout), client
            )
            await self._serve(channel)
