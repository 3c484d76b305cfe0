"""qmgr(8): the queue manager. Mail from the incoming queue to delivery agents, and what follows from their answers.

Looks at the incoming queue when it is triggered, and at the deferred queue every queue_run_delay seconds; keeps at most
qmgr_message_active_limit messages active; resolves their recipients with trivial-rewrite(8); schedules deliveries by
transport and destination; then returns, defers or removes each message. The parts are in `queue_manager`.

Agents and the bounce family may be Postfix's own: `ipc.message.system_release` tells their release, which decides an
attribute's name in their protocol.

Where it differs from Postfix - An agent that does not answer within daemon_timeout is given up like one that crashed;
Postfix ends its queue manager. - A transport never has more connections than its process limit in master.cf. -
Recipients are resolved, and more of them read, without stopping deliveries meanwhile. - Stop and reload leave running
deliveries to their agents, as Postfix does. A message that is still being delivered when
  the next queue manager starts is looked at again a minute later; Postfix waits for the next wakeup of its own (300 s).
"""

import os
import time

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc.disposition import Reporter
from postfixpy.ipc.message import system_release
from postfixpy.ipc.rewrite import RewriteClient
from postfixpy.ipc.service import Context, Service
from postfixpy.ipc.trigger import send_trigger
from postfixpy.mail.queue import Queue

from .queue_manager.flow import Flow
from .queue_manager.intake import Intake
from .queue_manager.manager import Manager
from .queue_manager.notices import Notices
from .queue_manager.routing import Policy
from .queue_manager.scheduler import Scheduler
from .queue_manager.settings import Settings, TransportSettings
from .queue_manager.store import Store


class QueueManager(Service):
    """The service: a trigger server, one process."""

    triggers = True
    single = True

    manager: Manager

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.words:
            raise FatalError(f"unexpected command-line argument: {context.words[0]}")

    async def pre_jail(self) -> None:
        """Read master.cf, and open the tables that logging a deferral needs (fast_flush_domains)."""
        self._process_limits = self._read_process_limits()
        self.reporter = Reporter.of(self.view)
        self.reporter.timeout = self.view.qmgr_ipc_timeout

    def watchdog_time(self) -> int:
        """qmgr_daemon_timeout."""
        return int(self.view.qmgr_daemon_timeout)

    def tables_changed(self) -> str | None:
        """See Service."""
        return self.reporter.tables_changed()

    async def start(self) -> None:
        """Read the parameters, move active mail back to incoming, start scanning."""
        view = self.view
        settings = Settings.read(view)
        store = Store(Queue("", view.hash_queue_names, view.hash_queue_depth))
        self.rewrite = RewriteClient(
            f"private/{view.rewrite_service_name}",
            timeout=view.qmgr_ipc_timeout,
            idle=view.ipc_idle,
            ttl=view.ipc_ttl,
        )
        intake = Intake(
            settings,
            Scheduler(settings, self._transport, time.time()),
            store,
            self.rewrite,
            Notices(view, self.reporter, system_release()),
            Policy.read(view),
            verp_filter=view.verp_delimiter_filter,
            external_addresses=self.reporter.external,
        )
        self.manager = Manager(
            intake,
            Flow.inherited(view.in_flow_delay, view.default_process_limit),
            fatal=self._fatal,
            release=system_release(),
            agent_timeout=view.daemon_timeout,
        )
        self.manager.start()

    async def triggered(self, requests: bytes) -> None:
        """Requests of postqueue, cleanup and master: see `queue_manager.scan`."""
        self.manager.triggered(requests)

    async def stop(self) -> None:
        """Leave running deliveries to their agents, and a flush that has begun to the queue manager that comes next."""
        unfinished = self.manager.scans.unfinished()
        await self.manager.stop()
        if unfinished:
            try:
                await send_trigger(f"public/{self.context.service}", unfinished)
            except OSError:
                pass  # the mail system stops
        self.rewrite.close()
        self.reporter.close()

    def _read_process_limits(self) -> dict[str, int]:
        """maxproc of the services that may be transports, from master.cf."""
        try:
            return {row.name: row.maxproc for row in self.context.config.master if row.type == "unix"}
        except FatalError:
            return {}  # it was edited and is wrong now: master, which has the old one, bounds its processes itself

    def _transport(self, name: str) -> TransportSettings:
        """The parameters of a transport, and how many processes its row in master.cf allows."""
        return TransportSettings.read(self.view, name, self._process_limits.get(name, 0))

    def _fatal(self, error: FatalError) -> None:
        """A background task cannot go on: end at once, as a Postfix daemon does. The queue is safe at any moment."""
        log.fatal(str(error))
        time.sleep(1)
        os._exit(error.status)
