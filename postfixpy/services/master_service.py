"""What master(8) knows about one service and its processes, and what follows from it. Pure: no sockets, no processes.

A process counts as available from its start, until it says TAKEN. Master watches a service's sockets only while no
process is available, the process limit leaves room, and the service is not throttled. A process that ends badly before
its first client makes the service throttled for service_throttle_time.

Differs from Postfix: after a reload the processes of the old generation, which have been told to finish, no longer
count as available. Postfix's are either idle, and exit, or busy, and are not available anyway; ours may be both.
"""

import os
from dataclasses import dataclass, field

from postfixpy.config import MasterEntry
from postfixpy.ipc.master_status import AVAIL, TAKEN


@dataclass(slots=True)
class Child:
    """A process: its generation number, the clients that it reported, and whether it waits for more."""

    pid: int
    generation: int
    uses: int = 0
    available: bool = True


@dataclass
class ServiceState:
    """A service. `path` is for texts: daemon_directory/command, as Postfix names it."""

    entry: MasterEntry
    path: str
    internal: str
    throttled: bool = False
    stopping: bool = False
    used: bool = False
    children: dict[int, Child] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """Processes that wait for clients."""
        return sum(child.available for child in self.children.values())

    def may_start(self, more: int = 0) -> bool:
        """Whether the process limit has room for one process more, after `more` others."""
        return self.entry.maxproc == 0 or len(self.children) + more < self.entry.maxproc

    @property
    def watching(self) -> bool:
        """Whether master, and no process, watches the sockets."""
        return not (self.throttled or self.stopping) and self.available == 0 and self.may_start()

    def started(self, pid: int, generation: int) -> None:
        """A process has been started for this service."""
        self.children[pid] = Child(pid, generation)
        self.used = True

    def status(self, pid: int, generation: int, state: int) -> str | None:
        """A process reports. Returns a warning, or None.

        An unknown process has been reaped already: nothing to say. A repeated status changes nothing.
        """
        child = self.children.get(pid)
        if child is None:
            return None
        if child.generation != generation:
            return f"ignoring status update from child pid {pid} generation {generation}"
        if state == AVAIL:
            child.uses += not child.available
            child.available = True
        elif state == TAKEN:
            child.available = False
        else:
            return f"master_status_event: ignoring unknown status: {state} allegedly from pid: {pid}"
        return None

    def reaped(self, pid: int, status: int) -> list[str]:
        """A process has ended with a wait(2) status: the warnings to log. Throttles the service if it ought to be."""
        child = self.children.pop(pid)
        warnings: list[str] = []
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return warnings
        if os.WIFEXITED(status):
            warnings.append(f"process {self.path} pid {pid} exit status {os.WEXITSTATUS(status)}")
        elif not self.stopping:
            warnings.append(f"process {self.path} pid {pid} killed by signal {os.WTERMSIG(status)}")
        if child.uses == 0 and not (self.throttled or self.stopping):
            warnings.append(f"{self.path}: bad command startup -- throttling")
            self.throttled = True
        return warnings

    def reloaded(self, entry: MasterEntry, path: str) -> None:
        """A new row for the same service; the processes of the old one finish."""
        self.entry, self.path = entry, path
        for child in self.children.values():
            child.available = False
