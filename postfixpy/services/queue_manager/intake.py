"""From queue file to routed recipients: the envelope is read, and every recipient is resolved.

The file stays open, and at first locked, until all its recipients have been resolved, so that nobody else delivers it.
"""

from dataclasses import dataclass, field

from postfixpy import log
from postfixpy.ipc.rewrite import LOCAL
from postfixpy.mail.delivery import MTA_VERIFY, RECORD_DELAYED_SENT, Recipient
from postfixpy.mail.outcome import log_address
from postfixpy.mail.queue import DEFER, QueueFile

from . import routing
from .decisions import Route
from .envelope import Envelope, EnvelopeReader
from .interfaces import Notifier, Resolver
from .model import Message
from .scheduler import Scheduler
from .settings import Settings
from .store import CorruptFile, Store

Routed = list[tuple[Recipient, Route]]


@dataclass(slots=True)
class Intake:
    """See the module. `verp_filter` is verp_delimiter_filter; `external_addresses`: info_log_address_format.

    `probes` are the active messages that only verify an address.
    """

    settings: Settings
    scheduler: Scheduler
    store: Store
    resolver: Resolver
    notices: Notifier
    policy: routing.Policy
    verp_filter: str = "-=+"
    external_addresses: bool = True
    probes: set[Message] = field(default_factory=set)

    def reader(self, envelope: Envelope) -> EnvelopeReader:
        """What reads the message's file into `envelope`."""
        return EnvelopeReader(envelope, self.verp_filter, self._opened)

    def external(self, address: str) -> str:
        """An address as the log shows it."""
        return log_address(address, external=self.external_addresses)

    def _opened(self, envelope: Envelope) -> None:
        sender, nrcpt = self.external(envelope.from_), envelope.unread
        log.info(f"{envelope.queue_id}: from=<{sender}>, size={envelope.size}, nrcpt={nrcpt} (queue active)")

    async def load(self, message: Message, limit: int, mode: int) -> Routed:
        """Read a message for the first time, up to `limit` recipients; `mode` is the file's mode.

        Raises CorruptFile, StillBeingDelivered, FatalError.
        """
        file = self.store.open(message.queue_id)
        if file is None:
            raise CorruptFile(message.queue_id)
        with file:
            recipients = self.store.load(message, file, limit, mode)
            self._after_reading(message)
            if message.envelope.trace_flags & MTA_VERIFY:
                self.probes.add(message)
            if message.force_expire and self.store.has_log(DEFER, message.queue_id):
                # Its recipients' fate is known; returning the defer log is all that is left to do.
                message.deferred = True
                return []
            self.store.reset_defer_log(message.queue_id)
            return await self._route(message, recipients, file)

    def _after_reading(self, message: Message) -> None:
        if self.settings.delay_cleared and message.envelope.warn_time < 0:
            message.envelope.trace_flags |= RECORD_DELAYED_SENT

    async def _route(self, message: Message, recipients: list[Recipient], file: QueueFile) -> Routed:
        """Where each recipient goes; those for whom that settles it (double bounces) are left out."""
        envelope, policy = message.envelope, self.policy
        recipients = routing.sorted_for_resolving(recipients)
        if envelope.redirect is not None and recipients:
            envelope.next_offset = envelope.unread = 0
            recipients = recipients[:1]
            recipients[0].address = await self.resolver.rewrite_internal(LOCAL, envelope.redirect)
        verify = bool(envelope.trace_flags & MTA_VERIFY)
        routed = []
        for recipient in recipients:
            resolved = None if envelope.redirect is not None else routing.filter_route(policy, message, recipient)
            if resolved is None:
                resolved = await self.resolver.resolve(envelope.from_, recipient.address, verify=verify)
            recipient.address = resolved.recipient
            if routing.is_double_bounce(policy, message, resolved):
                if not await self.notices.discard(message, file, recipient):
                    message.deferred = True
                continue
            limit = self.settings.verify_pending_limit
            route = routing.final_route(policy, message, resolved, len(self.probes), limit, self._recipient_limit)
            routed.append((recipient, route))
        return routed

    def _recipient_limit(self, transport: str) -> int:
        return self.scheduler.transport(transport).settings.destination_recipient_limit

    async def read_more(self, message: Message, limit: int) -> Routed:
        """Read up to `limit` more recipients. Raises CorruptFile, FatalError."""
        file = self.store.open(message.queue_id)
        if file is None:
            raise CorruptFile(message.queue_id)
        with file:
            recipients = self.store.read(message, file, limit)
            self._after_reading(message)
            return await self._route(message, recipients, file)
