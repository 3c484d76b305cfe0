"""smtp(8) and lmtp(8): deliver mail to remote hosts, and to LMTP servers on this one.

The program's name chooses the mode (spec/smtp-client.md 2.1). The client itself is postfixpy.smtp; here it is joined
to the mail system: requests come from the queue manager, outcomes go to the disposition.
"""

import time
from typing import Any

from postfixpy import log
from postfixpy.dns.lookup import Resolver
from postfixpy.dns.stub import Stub
from postfixpy.errors import FatalError
from postfixpy.ipc.disposition import Reporter
from postfixpy.ipc.rewrite import LOCAL, RewriteClient
from postfixpy.ipc.service import Context
from postfixpy.mail.records import RecordFile
from postfixpy.services.agent import DeliveryAgent, Job
from postfixpy.smtp import agent, effects
from postfixpy.smtp.content import QueueFileSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.edge import Edge, reporting
from postfixpy.smtp.settings import Settings


class Smtp(DeliveryAgent):
    """The smtp and lmtp programs."""

    filter_parameter = "smtp_delivery_status_filter"

    settings: Settings
    edge: Edge

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.program not in ("smtp", "lmtp"):
            raise FatalError(f'unexpected process name "{context.program}" - specify "smtp" or "lmtp"')
        self.lmtp = context.program == "lmtp"

    async def pre_jail(self) -> None:
        context = self.context
        self.settings = Settings(self.view, lmtp=self.lmtp, service=context.service, words=context.words)
        self.reporter = Reporter.of(self.view, self.filter_parameter)

    async def start(self) -> None:
        view = self.view
        stub = Stub()
        resolver = Resolver(
            stub,
            search=stub.config.search,
            ndots=stub.config.ndots,
            reply_filter=self.settings.dns_reply_filter,
            filter_name=self.settings.name("smtp_dns_reply_filter"),
            dnssec_probe=view.dnssec_probe,
        )
        self.rewrite = RewriteClient(
            f"private/{view.rewrite_service_name}",
            timeout=view.ipc_timeout,
            idle=view.ipc_idle,
            ttl=view.ipc_ttl,
        )
        self.edge = Edge(resolver, {effects.Rewrite: self._rewrite})

    async def deliver(self, job: Job) -> int:
        source = QueueFileSource(RecordFile(job.file, job.file.path))  # type: ignore[arg-type]  # reads as one does
        delivery = Delivery(self.settings, job.request, source, time.time)

        async def corrupt(_: effects.Corrupt) -> None:
            mark_corrupt(job)

        handlers: dict[type, Any] = reporting(job.disposition.dispose)
        handlers[effects.Corrupt] = corrupt
        await self.edge.run(agent.deliver(delivery), handlers)
        job.hop = delivery.hop
        return delivery.status

    def tables_changed(self) -> str | None:
        return self.settings.tables_changed() or super().tables_changed()

    async def stop(self) -> None:
        self.rewrite.close()
        await super().stop()

    async def _rewrite(self, effect: effects.Rewrite) -> str:
        return await self.rewrite.rewrite(LOCAL, effect.address)


def mark_corrupt(job: Job) -> None:
    """Let the queue manager move the message to the corrupt queue: a queue file that is not executable."""
    import os

    log.warning(f"corrupted queue file: {job.file.path}")
    try:
        os.fchmod(job.file.fd, 0o400)
    except OSError as error:
        log.warning(f"mark_corrupt: {job.file.path}: {error.strerror}")
