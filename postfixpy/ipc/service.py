"""What a service is: one program that master.cf names, as a class.

A service module in postfixpy.services holds one subclass of `Service` a program. The runner (postfixpy.ipc.runner)
plays the master(8) side of it: options, listening sockets, status channel, limits, privileges, shutdown (spec 15.1 to
15.3, 17). One process of ours serves many clients at once, as asyncio tasks, where Postfix uses a process each;
`Context.sessions` bounds them, and is what master.cf's maxproc says.

An exception that leaves `serve` is a bug: the runner logs it with its place and closes that connection, so the peer
sees what it would see if a real daemon had died: mail is deferred, never lost.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .channel import Channel

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View


@dataclass(slots=True)
class Context:
    """What a service knows about itself when it starts. The working directory is the queue directory.

    program       the command word of master.cf, "smtp"
    service       the service name of master.cf, "relay"
    transport     "unix", "inet", "pass", "fifo"; "" in stand-alone mode (-S)
    words         the arguments that are not options: ["flags=DR"]
    sessions      clients to serve at once; 0 is no limit
    """

    config: "Configuration"
    view: "View"
    program: str
    service: str
    transport: str = "unix"
    words: list[str] = field(default_factory=list)
    sessions: int = 0
    verbose: int = 0


class Service:
    """Base of the services. Construct, `pre_jail`, (chroot, setuid), `start`, then `serve` per client, `stop`."""

    protocol: ClassVar[str] = ""
    """Its name is announced to every client as it connects; empty: the service does so itself."""

    triggers: ClassVar[bool] = False
    """Clients send request bytes ("W" wake up...) and hang up: `triggered` is called instead of `serve`."""

    single: ClassVar[bool] = False
    """One process, which never exits for idleness (qmgr, postlogd...); master.cf's maxproc is 1."""

    multi: ClassVar[bool] = False
    """A process serves any number of clients at once (multi_server(3)): master.cf's maxproc is about processes only."""

    unlimited: ClassVar[bool] = False
    """Never refuses a client, because that would hold up other services (bounce, cleanup); master.cf's maxproc is 0."""

    datagrams: ClassVar[bool] = False
    """The socket is unix-dgram: `datagram` is called with each datagram."""

    privileged: ClassVar[bool] = False
    """Needs root where master has it: master.cf must not say unprivileged."""

    draining: bool = False
    """The process takes no more clients: long-lived clients should be asked to leave (trivial-rewrite's flags)."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.view = context.view

    async def pre_jail(self) -> None:
        """Open what needs privileges or paths outside a chroot: tables, certificates. Raises FatalError."""

    async def start(self) -> None:
        """Prepare to serve, without privileges. Background tasks start here. Raises FatalError."""

    async def serve(self, channel: Channel) -> None:
        """Serve one client to the end; the runner closes the channel."""
        raise NotImplementedError(f"{type(self).__name__} serves no clients")

    async def triggered(self, requests: bytes) -> None:
        """Act on trigger requests, one byte each. A wakeup by master's timer is "W"."""
        raise NotImplementedError(f"{type(self).__name__} takes no triggers")

    def datagram(self, data: bytes) -> None:
        """Act on one datagram. Must not block."""
        raise NotImplementedError(f"{type(self).__name__} takes no datagrams")

    def watchdog_time(self) -> int:
        """Seconds without a turn of the event loop after which the process ends itself."""
        return int(self.view.daemon_timeout)

    def tables_changed(self) -> str | None:
        """The registered name of an open table whose file has changed, or None. When it names one, the runner logs
        ``table NAME has changed -- restarting`` and lets the process end, without accepting another client."""
        return None

    async def stop(self) -> None:
        """Finish: master is gone, reloading, or the idle limit passed. Clients in flight have been served."""
