"""smtp(8) and lmtp(8): deliver mail to remote hosts, and to LMTP servers on this one.

The program's name chooses the mode (spec/smtp-client.md 2.1). The client itself is postfixpy.smtp; here it is joined
to the mail system: requests come from the queue manager, outcomes go to the disposition.

Differs from Postfix: one process serves many requests at once, so connections are kept in the process, and go to
scache(8) only when the process ends (`lending`); names, labels and time limits are the same. A cleanup service that
says nothing ends no process: the postmaster goes without the notice.
"""

import asyncio
import dataclasses
import time
from typing import Any

from postfixpy import log
from postfixpy.dns.lookup import Resolver
from postfixpy.dns.stub import Stub
from postfixpy.errors import FatalError
from postfixpy.ipc import delivery
from postfixpy.ipc.attributes import ProtocolError, TooSlow
from postfixpy.ipc.channel import connect
from postfixpy.ipc.cleanup import post_mail
from postfixpy.ipc.disposition import Reporter
from postfixpy.ipc.rewrite import LOCAL, RewriteClient
from postfixpy.ipc.service import Context
from postfixpy.ipc.tlsmgr import TlsmgrClient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.records import RecordFile
from postfixpy.services.agent import DeliveryAgent, Job
from postfixpy.services.lending import Lending
from postfixpy.smtp import agent, effects, notice
from postfixpy.smtp.content import QueueFileSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.edge import Edge, policies_of, reporting, tokens_of
from postfixpy.smtp.settings import Settings

_CONNECT_TRIES, _CONNECT_WAIT = 10, 10.0
"""How often, and how far apart in seconds, another transport is tried."""


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
        self.view.check("lmtp_" if self.lmtp else "smtp_")
        self.reporter = Reporter.of(self.view, self.filter_parameter)
        self.settings = Settings(self.view, lmtp=self.lmtp, service=context.service, words=context.words)
        self.tokens = tokens_of(self.view)
        self.policies = policies_of(self.settings)

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
        handlers: dict[type, Any] = {effects.Rewrite: self._rewrite, effects.Notify: self._notify}
        self.edge = Edge(resolver, handlers, self.tokens, self.policies)
        self.lending = Lending(self, self.edge, view)
        self.edge.handlers |= {effects.CacheFind: self.lending.find, effects.CacheSave: self.lending.save}
        self.tlsmgr = TlsmgrClient(f"private/{view.tlsmgr_service_name}")
        self.edge.handlers |= {effects.FindSession: self._find_session, effects.SaveSession: self._save_session}

    async def deliver(self, job: Job) -> int:
        source = QueueFileSource(RecordFile(job.file, job.file.path))
        state = Delivery(self.settings, job.request, source, time.time)

        async def corrupt(_: effects.Corrupt) -> None:
            mark_corrupt(job)

        async def pass_on(effect: effects.PassOn) -> int:
            return await hand_over(job, effect, self.view.ipc_timeout)

        handlers: dict[type, Any] = reporting(job.disposition.dispose)
        handlers[effects.Corrupt] = corrupt
        handlers[effects.PassOn] = pass_on
        await self.edge.run(agent.deliver(state), handlers)
        job.hop = state.hop
        return state.status

    def tables_changed(self) -> str | None:
        return self.settings.tables_changed() or super().tables_changed()

    async def stop(self) -> None:
        await self.lending.leave()
        self.edge.close()
        self.rewrite.close()
        self.tlsmgr.close()
        await super().stop()

    async def _find_session(self, effect: effects.FindSession) -> bytes:
        return await self.tlsmgr.find(effect.kind, effect.key)

    async def _save_session(self, effect: effects.SaveSession) -> None:
        await self.tlsmgr.save(effect.kind, effect.key, effect.data)

    async def _rewrite(self, effect: effects.Rewrite) -> str:
        return await self.rewrite.rewrite(LOCAL, effect.address)

    async def _notify(self, effect: effects.Notify) -> None:
        """Mail a session transcript to the postmaster; mail goes on without when that does not work."""
        view = self.view
        sender = f"{view.double_bounce_sender}@{view.myhostname}"
        try:
            submission = await post_mail(view, sender, view.error_notice_recipient, source="notify", now=time.time())
            for line in notice.compose(view, effect.peer, effect.transcript, lmtp=self.lmtp):
                submission.line(line)
            await submission.finish()
        except (OSError, ProtocolError) as error:
            if isinstance(error, OSError):
                log.warning(f"connect to public/{view.cleanup_service_name}: {error.strerror}")
            reason = error.strerror if isinstance(error, OSError) else error.reason
            log.warning(f"postmaster notify: {reason}")


async def hand_over(job: Job, effect: effects.PassOn, timeout: float) -> int:
    """Pass one recipient to another delivery agent of this mail system (deliver_pass(3)): 0 or -1."""
    request = dataclasses.replace(job.request, nexthop=effect.nexthop, recipients=[effect.recipient])
    path = f"private/{effect.transport}"
    channel = None
    for attempt in range(_CONNECT_TRIES):
        if attempt:
            await asyncio.sleep(_CONNECT_WAIT)
        try:
            channel = await connect(path, timeout=timeout)
            break
        except OSError as error:
            log.warning(f"connect #{attempt + 1} to subsystem {path}: {error.strerror}")
    if channel is None:
        raise FatalError(f"connect #{_CONNECT_TRIES} to subsystem {path}")
    text = "mail transport unavailable"
    try:
        await channel.read_announcement(delivery.PROTOCOL)
        text = "unknown mail transport error"
        channel.write(delivery.pack(request, channel.release))
        result = await channel.read(delivery.Result)
    except ProtocolError as error:
        slow = isinstance(error, TooSlow) and not error.announced
        log.warning(f"{path} socket: {'bad write: Connection timed out' if slow else 'malformed response'}")
        dsn = DSN("4.3.0", reason=text)
        return await job.disposition.defer(Outcome(effect.recipient, "deferred", dsn, stats=job.request.stats))
    finally:
        channel.close()
    return result.status


def mark_corrupt(job: Job) -> None:
    """Let the queue manager move the message to the corrupt queue: a queue file that is not executable."""
    import os

    log.warning(f"corrupted queue file: {job.file.path}")
    try:
        os.fchmod(job.file.fd, 0o400)
    except OSError as error:
        log.warning(f"mark_corrupt: {job.file.path}: {error.strerror}")
