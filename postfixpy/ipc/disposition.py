"""What is done about the outcome of one recipient: log it, record it, mark it (spec/smtp-client.md 1.5 to 1.8).

sent      the log line, the trace log when the sender asked for a report; the recipient is marked done
defer     the defer log, the log line, the fast flush service; tried again later
bounce    the bounce log, the log line; marked done. With soft_bounce it is a deferral that says SOFTBOUNCE
probe     an address that is only verified goes to the verification database or the trace log, whatever the outcome

A delivery status filter may change the status, and turn a bounce into a deferral or back, before anything is said.

`Reporter` is what all requests of a process share, and is enough for programs that have no queue file open (the queue
manager). `Disposition` belongs to one delivery request, and also marks its queue file. Results are 0, the recipient
needs no more attempts, or -1, it does.

Differs from Postfix in nothing that a peer or a reader of the log could see.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.delivery import (
    MTA_VERIFY,
    RECORD,
    RECORD_DELAYED_SENT,
    SUCCESS,
    TRACE_FLAGS,
    USER_VERIFY,
    DeliveryRequest,
    Recipient,
)
from postfixpy.mail.dsn import DSN, NOTIFY_DELAY, NOTIFY_SUCCESS, find_status, split_text, valid_status
from postfixpy.mail.outcome import Outcome, log_line

from . import bounce as bounce_service
from . import flush, verify

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.lookup import Maps
    from postfixpy.mail.queue import QueueFile

NO_RELAY = "none"


def now_us() -> int:
    """The wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


class Reporter:
    """Tells the mail system what became of recipients.

    `view` is read for the names of the services, soft_bounce, info_log_address_format and the like; `status_filter` is
    the delivery status filter, None for programs without one; `clock` gives microseconds since the epoch.

    Raises FatalError for a bad parameter.
    """

    def __init__(self, view: "View", *, status_filter: "Maps | None" = None, clock: Callable[[], int] = now_us) -> None:
        self.status_filter = status_filter
        self.release: tuple[int, ...] = tuple(view.release)[:2]
        self.clock = clock
        self.soft_bounce: bool = view.soft_bounce
        self.negative_cache: bool = view.address_verify_negative_cache
        self.external = _is_external(view.info_log_address_format)
        self.resolution: int = view.delay_logging_resolution_limit
        self.smtputf8: bool = view.smtputf8_enable
        self.timeout: int = view.ipc_timeout
        self.bounce_name: str = view.bounce_service_name
        self.defer_name: str = view.defer_service_name
        self.trace_name: str = view.trace_service_name
        self.flush_name: str = view.flush_service_name
        self.verify_name: str = view.address_verify_service_name
        self.flush = flush.FlushClient.of(view)
        self.verify = verify.VerifyClient(
            f"private/{self.verify_name}", timeout=self.timeout, idle=view.ipc_idle, ttl=view.ipc_ttl
        )

    @classmethod
    def of(cls, view: "View", filter_parameter: str = "") -> "Reporter":
        """The reporter of a delivery agent; `filter_parameter` names its delivery status filter, such as
        ``smtp_delivery_status_filter`` (in LMTP mode too). Raises FatalError."""
        text: str = getattr(view, filter_parameter) if filter_parameter else ""
        if not text:
            return cls(view)
        from postfixpy.lookup import Maps

        return cls(view, status_filter=Maps(filter_parameter, text, view))

    def close(self) -> None:
        """Hang up kept connections."""
        self.verify.close()

    def tables_changed(self) -> str | None:
        """The name of a table in use whose file has changed, or None. See `Service.tables_changed`."""
        if self.status_filter is not None:
            for table in self.status_filter.tables:
                if table.changed():
                    return f"{table.kind}:{table.label}"
        if self.flush.domains is not None:
            for pattern in self.flush.domains.patterns:
                if pattern.table is not None and pattern.table.changed():
                    return f"{pattern.table.kind}:{pattern.table.label}"
        return None

    # The three outcomes. `flags` are the request's flags, or 0.

    async def sent(self, flags: int, queue_id: str, outcome: Outcome) -> int:
        """The recipient was delivered, or could be."""
        dsn = await self._filtered(_checked(outcome.dsn, "2", "sent"))
        if flags & MTA_VERIFY:
            return await self._verified(queue_id, outcome, replace(dsn, action="deliverable"), verify.DELIVERABLE)
        if flags & USER_VERIFY:
            return await self._trace(flags, queue_id, outcome, replace(dsn, action="deliverable"))
        dsn = replace(dsn, action=dsn.action or "delivered")
        notify = outcome.recipient.notify
        late = flags & RECORD_DELAYED_SENT and (notify == 0 or notify & NOTIFY_DELAY)
        if (flags & RECORD or late) and await self._trace(flags, queue_id, outcome, dsn) != 0:
            return await self._trace_failed(flags, queue_id, outcome, dsn)
        if notify & NOTIFY_SUCCESS and await self._trace(flags, queue_id, outcome, dsn) != 0:
            return await self._trace_failed(flags, queue_id, outcome, dsn)
        self._log(queue_id, outcome, dsn, "sent")
        return 0

    async def defer(self, flags: int, queue_id: str, outcome: Outcome) -> int:
        """The recipient is to be tried again later."""
        dsn = await self._filtered(_checked(outcome.dsn, "4", "defer_append"))
        if dsn.status.startswith("5"):
            return await self._bounce(flags, queue_id, outcome, dsn)
        return await self._defer(flags, queue_id, outcome, dsn)

    async def bounce(self, flags: int, queue_id: str, outcome: Outcome) -> int:
        """The recipient cannot be delivered."""
        dsn = await self._filtered(_checked(outcome.dsn, "5", "bounce_append"))
        if dsn.status.startswith("4"):
            return await self._defer(flags, queue_id, outcome, dsn)
        return await self._bounce(flags, queue_id, outcome, dsn)

    # What they are made of

    async def _trace_failed(self, flags: int, queue_id: str, outcome: Outcome, dsn: DSN) -> int:
        failed = replace(dsn, status="4.3.0", reason=f"{queue_id}: {self.trace_name} service failed")
        return await self.defer(flags, queue_id, outcome.with_dsn(failed))

    async def _defer(self, flags: int, queue_id: str, outcome: Outcome, dsn: DSN) -> int:
        if flags & MTA_VERIFY:
            return await self._verified(queue_id, outcome, replace(dsn, action="undeliverable"), verify.DEFERRED)
        if flags & USER_VERIFY:
            return await self._trace(flags, queue_id, outcome, replace(dsn, action="undeliverable"))
        dsn = replace(dsn, action="delayed")
        if not await self._append(self.defer_name, flags, queue_id, outcome.recipient, dsn):
            log.warning(f"{queue_id}: {self.defer_name} service failure")
        self._log(queue_id, outcome, dsn, "deferred")
        if flags & RECORD and await self._trace(flags, queue_id, outcome, dsn) != 0:
            log.warning(f"{queue_id}: {self.trace_name} service failure")
        domain = outcome.recipient.address.rpartition("@")
        if domain[1] and domain[2] and await self.flush.add(domain[2], queue_id) not in (flush.OK, flush.DENY):
            log.warning(f"{queue_id}: {self.flush_name} service failure")
        return -1

    async def _bounce(self, flags: int, queue_id: str, outcome: Outcome, dsn: DSN) -> int:
        if flags & MTA_VERIFY:
            return await self._verified(queue_id, outcome, replace(dsn, action="undeliverable"), verify.UNDELIVERABLE)
        if flags & USER_VERIFY:
            return await self._trace(flags, queue_id, outcome, replace(dsn, action="undeliverable"))
        clean = flags & bounce_service.CLEAN
        if self.soft_bounce:
            if clean:
                return -1
            name, word, result = self.defer_name, "SOFTBOUNCE", -1
            dsn = replace(dsn, status="4" + dsn.status[1:], action="delayed")
        else:
            name, word, result = self.bounce_name, "bounced", 0
            dsn = replace(dsn, action="failed")
        if await self._append(name, flags, queue_id, outcome.recipient, dsn) and (
            not flags & RECORD or await self._trace(flags, queue_id, outcome, dsn) == 0
        ):
            self._log(queue_id, outcome, dsn, word)
            return result
        if clean:
            return -1
        reason = f"{self.bounce_name} or {self.trace_name} service failure"
        return await self._defer(flags, queue_id, outcome, replace(dsn, status="4.3.0", reason=reason))

    async def _trace(self, flags: int, queue_id: str, outcome: Outcome, dsn: DSN) -> int:
        told = dsn
        if outcome.relay != NO_RELAY:
            told = replace(dsn, reason=f"delivery via {outcome.relay}: {dsn.reason}")
        if not await self._append(self.trace_name, flags, queue_id, outcome.recipient, told):
            log.warning(f"{queue_id}: {self.trace_name} service failure")
            return -1
        if flags & USER_VERIFY:
            self._log(queue_id, outcome, dsn, dsn.action)
        return 0

    async def _verified(self, queue_id: str, outcome: Outcome, dsn: DSN, state: int) -> int:
        word, status = dsn.action, verify.OK
        if state != verify.DELIVERABLE and not self.negative_cache:
            word = "undeliverable-but-not-cached"
        else:
            recipient = outcome.recipient
            if recipient.original:
                status = await self.verify.update(recipient.original, state, dsn.reason)
            if status == verify.OK and recipient.address != recipient.original:
                status = await self.verify.update(recipient.address, state, dsn.reason)
        if status != verify.OK:
            log.warning(f"{queue_id}: {self.verify_name} service failure")
            return -1
        self._log(queue_id, outcome, dsn, word)
        return 0

    async def _append(self, service: str, flags: int, queue_id: str, recipient: Recipient, dsn: DSN) -> bool:
        path = f"private/{service}"
        return await bounce_service.append(path, flags, queue_id, recipient, dsn, timeout=self.timeout)

    def _log(self, queue_id: str, outcome: Outcome, dsn: DSN, word: str) -> None:
        log.info(
            log_line(
                queue_id,
                outcome.with_dsn(dsn),
                word,
                self.clock(),
                external=self.external,
                resolution=self.resolution,
                smtputf8=self.smtputf8,
            )
        )

    async def _filtered(self, dsn: DSN) -> DSN:
        """`dsn` as the delivery status filter changes it; a filter that fails changes nothing."""
        if self.status_filter is None:
            return dsn
        from postfixpy.lookup import TableError

        try:
            found = await self.status_filter.afind(f"{dsn.status} {dsn.reason}")
        except TableError:
            return dsn
        if found is None:
            return dsn
        status = find_status(found)
        if not status or (status[0] == "2") != (dsn.status[0] == "2"):
            log.warning(f"{self.status_filter.title}: bad status code: {found}")
            return dsn
        status, text = split_text(found, status)
        if not text and self.release < (3, 11):
            text = dsn.reason  # older releases read what is still in their buffer
        action = {"4": "delayed", "5": "failed"}.get(status[0], dsn.action)
        return replace(dsn, status=status, action=action, reason=text)


def _checked(dsn: DSN, digit: str, caller: str) -> DSN:
    """`dsn`, with a status of the wrong class or form replaced: it may have come from a hostile server."""
    if dsn.status.startswith(digit) and valid_status(dsn.status):
        return dsn
    log.warning(f'{caller}: ignoring dsn code "{dsn.status}"')
    return replace(dsn, status=f"{digit}.0.0")


def _is_external(form: str) -> bool:
    if form not in ("external", "internal"):
        raise FatalError(f'invalid parameter setting "info_log_address_format = {form}"')
    return form == "external"


class Disposition:
    """What is done about the recipients of one delivery request. `file` None: nothing is marked."""

    def __init__(self, reporter: Reporter, request: DeliveryRequest, file: "QueueFile | None" = None) -> None:
        self.reporter = reporter
        self.request = request
        self.file = file
        self._flags = request.flags & TRACE_FLAGS
        self._disposed: set[int] = set()

    async def sent(self, outcome: Outcome) -> int:
        """The recipient was delivered. 0, or -1 when it must be tried again (the report could not be recorded)."""
        result = await self.reporter.sent(self._flags, self.request.queue_id, outcome)
        if result == 0 and self.request.flags & SUCCESS:
            self._mark(outcome.recipient)
        self._disposed.add(id(outcome.recipient))
        return result

    async def defer(self, outcome: Outcome) -> int:
        """The recipient is to be tried later. -1; 0 when a filter made it a bounce, or it was a probe."""
        return self._finished(outcome, await self.reporter.defer(self._flags, self.request.queue_id, outcome))

    async def bounce(self, outcome: Outcome) -> int:
        """The recipient cannot be delivered. 0, or -1 when that is not final."""
        return self._finished(outcome, await self.reporter.bounce(self._flags, self.request.queue_id, outcome))

    async def dispose(self, outcome: Outcome) -> int:
        """`sent`, `defer` or `bounce`, as `outcome.result` says."""
        if outcome.result == "sent":
            return await self.sent(outcome)
        return await (self.defer(outcome) if outcome.result == "deferred" else self.bounce(outcome))

    def unreported(self) -> list[Recipient]:
        """The recipients of the request of which nothing has been said yet."""
        return [recipient for recipient in self.request.recipients if id(recipient) not in self._disposed]

    def _finished(self, outcome: Outcome, result: int) -> int:
        if result == 0:
            self._mark(outcome.recipient)
        self._disposed.add(id(outcome.recipient))
        return result

    def _mark(self, recipient: Recipient) -> None:
        """Mark the recipient done in the queue file. Raises FatalError: then it will be tried again."""
        if self.file is None:
            return
        try:
            self.file.mark_done(recipient.offset)
        except OSError as error:
            raise FatalError(f"update queue file {self.file.path}: {error.strerror}") from error
