"""bounce(8), which runs as the services bounce, defer and trace: keeps the logs of what happened to recipients, and
sends the notifications that they call for.

    append      add a recipient's status to the message's log; on stable storage before we answer
    flush       return the message: notify the sender (or a postmaster), remove the log
    verp        as flush, one notification a recipient, to the VERP form of the sender
    warn        the message is late: notify, keep the log
    trace       report what was asked for (sendmail -v, -bv, NOTIFY=SUCCESS), remove the log
    one         notify about one recipient, without a log; the bounce service only

The log is the file named as the message in the queue directory named as the service. Status 0 says that all was done;
anything else, or no answer, and the client tries again later. What Postfix dies of (a log that cannot be opened, a
lock that cannot be had) is here a logged error and status -1 for that request only.

The notice is sent before its recipients are marked done and before the log is removed, as in Postfix: whatever fails
between costs a second notice at the next try, where the other order would lose the only one. There is nothing on the
disk in which "sent, but not marked" could be kept: it is the disk that has failed.

As the service ``dump_templates`` or ``expand_templates`` in stand-alone mode it prints the templates: that is how
postconf(1) asks for them.
"""

import asyncio
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.ipc import bounce as wire
from postfixpy.ipc import cleanup
from postfixpy.ipc.attributes import Pair, ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.service import Context, Service
from postfixpy.mail import bounce_log, queue_id
from postfixpy.mail.bounce_log import Entry
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN, NOTIFY_FAILURE
from postfixpy.mail.printable import printable
from postfixpy.mail.queue import Queue, QueueFile

from .notices import templates
from .notices.original import Original, open_message, read_original
from .notices.plan import Notice, Plan, Rules, notify_classes, redact, reported, verp_sender
from .notices.report import Report

DRAIN = 64
"""Records between two waits for cleanup to take them."""


class Posting(Protocol):
    """A message on its way to cleanup: `cleanup.Submission`, or a test's."""

    queue_id: str

    def record(self, kind: str, payload: bytes | str = b"") -> None: ...
    async def drain(self) -> None: ...
    async def finish(self) -> cleanup.CleanupResult: ...
    def close(self) -> None: ...


class Bounce(Service):
    """The service. `now` gives seconds since the epoch."""

    protocol = wire.PROTOCOL
    unlimited = True

    def __init__(self, context: Context, now: Callable[[], float] = time.time) -> None:
        super().__init__(context)
        self._now = now

    async def pre_jail(self) -> None:
        """Read the templates and parameters. Raises FatalError."""
        context, view = self.context, self.view
        if context.words:
            raise FatalError(f"unexpected command-line argument: {context.words[0]}")
        self.templates = templates.load(view)
        if context.service in ("dump_templates", "expand_templates"):
            show = templates.dump if context.service == "dump_templates" else templates.expand_all
            sys.stdout.write(show(self.templates, view))
            sys.stdout.flush()
            raise SystemExit(0)
        if not queue_id.valid_queue_name(context.service):
            raise FatalError(f"malformed service name: {context.service}")
        templates.BUILT_IN[templates.FAILURE].sender(templates.header_from_format(view))  # fatal if it is not valid
        self.queue = Queue("", view.hash_queue_names, view.hash_queue_depth)
        self.utf8 = view.smtputf8_enable
        self.rules = Rules(
            double_bounce=f"{view.double_bounce_sender}@{view.myhostname}",
            classes=notify_classes(view.notify_classes),
            bounce_notice_recipient=view.bounce_notice_recipient,
            second_bounce_notice_recipient=view.text("2bounce_notice_recipient"),
            delay_notice_recipient=view.delay_notice_recipient,
            smtputf8_enable=self.utf8,
        )

    async def serve(self, channel: Channel) -> None:
        if not await channel.wait_readable():
            return
        status = await self.answer(await channel.read_list())
        channel.send_message(wire.Status(status))

    async def answer(self, request: Sequence[Pair]) -> int:
        """Carry out one request; 0 is "done". Never raises for a request that fails."""
        try:
            message = self._parse(request)
        except ProtocolError as error:
            log.warning(str(error))
            log.warning("malformed request")
            return -1
        if message is None:
            return -1
        status = -1
        try:
            status = await self._execute(message)
        except TemporaryError as error:
            log.error(str(error))
        finally:
            if status and not isinstance(message, wire.NotifyOne) and message.flags & wire.CLEAN:
                self._clean_up(message.queue_id)
        return status

    def _clean_up(self, message_id: str) -> None:
        """Remove the log of a request that failed, as its client wished."""
        try:
            self._remove_log(message_id)
        except TemporaryError as error:
            log.error(str(error))

    # Requests

    def _parse(self, request: Sequence[Pair]) -> wire.Append | wire.Notify | None:
        """The request, its text made harmless; None, after a warning, when it makes no sense. Raises ProtocolError."""
        if not request or request[0][0] != "nrequest":
            raise ProtocolError(f"missing attribute nrequest in input from {self._peer}")
        number = request[0][1]
        kind = _REQUESTS.get(number)
        if kind is None:
            log.warning(f"unknown command: {number}")
            return None
        message = kind.parse(request, self._peer)
        if isinstance(message, wire.NotifyOne) and self.context.service != "bounce":
            log.warning(f'wrong service name "{self.context.service}" for one-recipient bouncing')
            return None
        if isinstance(message, wire.Notify) and not queue_id.valid_queue_name(message.queue_name):
            log.warning(f"malformed queue name: {printable(message.queue_name, utf8=self.utf8)}")
            return None
        if not queue_id.valid(message.queue_id):
            log.warning(f"malformed queue id: {printable(message.queue_id, utf8=self.utf8)}")
            return None
        _make_printable(message, self.utf8)
        if isinstance(message, wire.NotifyVerp) and len(message.verp_delimiters.encode()) != 2:
            log.warning(f"malformed verp delimiter string: {message.verp_delimiters}")
            return None
        return message

    @property
    def _peer(self) -> str:
        return f"{self.context.service} socket"

    async def _execute(self, message: wire.Append | wire.Notify) -> int:
        if isinstance(message, wire.Append):
            recipient, dsn = wire.recipient_and_dsn(message)
            entry = bounce_log.encode_entry(
                recipient,
                dsn,
                utf8=self.utf8,
                compatible=self.view.backwards_bounce_logfile_compatibility,
            )
            await asyncio.to_thread(self._append, message.queue_id, entry)
            return 0
        view = self.view
        message.sendopts, message.ret_flags = redact(
            message.sendopts,
            message.ret_flags,
            enable=getattr(view, "requiretls_enable", False),
            redact_dsn=getattr(view, "requiretls_redact_dsn", False),
        )
        if isinstance(message, wire.NotifyOne):
            return await self._one(message)
        if isinstance(message, wire.NotifyVerp):
            return await self._verp(message)
        if message.nrequest == wire.FLUSH:
            return await self._flush(message)
        if message.nrequest == wire.WARN:
            return await self._warn(message)
        return await self._trace(message)

    def _append(self, message_id: str, entry: bytes) -> None:
        """Append to a log; in a thread, for it waits for the disk. Raises TemporaryError."""
        service, view = self.context.service, self.view
        with bounce_log.open_for_append(self.queue, service, message_id) as file:
            deadline, delay = float(view.deliver_lock_attempts * view.deliver_lock_delay), 0.01
            while not bounce_log.try_lock(file):
                if deadline <= 0:
                    raise TemporaryError(
                        f"lock file {service} {message_id}: unable to lock for exclusive access: "
                        "Resource temporarily unavailable"
                    )
                time.sleep(delay)
                deadline -= delay
                delay = min(2 * delay, view.deliver_lock_delay)
            bounce_log.append(file, entry)

    async def _flush(self, message: wire.Notify) -> int:
        plan = self.rules.failure(message.sender, message.ret_flags)
        with self._report(message, plan.template) as (report, file):
            status = await self._send_all(plan, report)
            if status == 0 and message.flags & wire.DELETE_RECIPIENTS:
                _mark_done(file, report.entries or ())
            if status == 0:
                self._remove_log(message.queue_id)
        return status

    async def _warn(self, message: wire.Notify) -> int:
        plan = self.rules.delay(message.sender)
        with self._report(message, plan.template) as (report, _):
            return await self._send_all(plan, report)

    async def _trace(self, message: wire.Notify) -> int:
        plan = self.rules.trace(message.sender, message.flags)
        if plan.info:
            log.info(f"{message.queue_id}: {plan.info}")
            if plan.remove_log:
                self._remove_log(message.queue_id)
            return 0
        with self._report(message, plan.template) as (report, _):
            if report.entries is None:
                return 0  # of this message's recipients, none that asked for a report was delivered
            status = await self._send_all(plan, report)
            if status == 0:
                self._remove_log(message.queue_id)
        return status

    async def _one(self, message: wire.NotifyOne) -> int:
        plan = self.rules.failure(message.sender, message.ret_flags)
        entry = Entry(*wire.recipient_and_dsn(message))
        with self._report(message, plan.template, entries=[entry]) as (report, file):
            status = await self._send_all(_without_cancelling(plan, entry), report)
            if status == 0 and message.flags & wire.DELETE_RECIPIENTS:
                _mark_done(file, [entry])
        return status

    async def _verp(self, message: wire.NotifyVerp) -> int:
        if not message.sender or self.rules.is_double_bounce(message.sender):
            log.warning("request to send VERP-style notification of bounced mail")
            return await self._flush(message)
        plan = self.rules.failure(message.sender, message.ret_flags)
        with self._report(message, plan.template) as (report, file):
            entries = report.entries
            if entries is None:
                nobody = Recipient(bounce_log.NO_RECIPIENT)
                entries = [Entry(nobody, DSN("5.0.0", "failed", "(error report unavailable)"))]
                report = replace(report, entries=entries)
                return await self._send_all(plan, report)
            for entry in entries:
                verp = verp_sender(message.sender, entry.recipient, message.verp_delimiters)
                each = _addressed_to(_without_cancelling(plan, entry), verp)
                status = await self._send_all(each, replace(report, entries=[entry]))
                if status:
                    return status
                if message.flags & wire.DELETE_RECIPIENTS and reported(entry.recipient, NOTIFY_FAILURE):
                    _mark_done(file, [entry])
            self._remove_log(message.queue_id)
        return 0

    # Notices

    @contextmanager
    def _report(
        self, message: wire.Notify, kind: str, entries: Sequence[Entry] | None = None
    ) -> Iterator[tuple[Report, QueueFile | None]]:
        """What the notices of `message` have in common, and the message's open file. Raises TemporaryError."""
        view, service = self.view, self.context.service
        encoding = message.encoding
        if encoding not in ("7bit", "8bit", ""):
            if not self.utf8:
                log.warning(f"{message.queue_id}: unknown encoding: {encoding:.200}")
            encoding = ""
        if entries is None:
            try:
                entries = bounce_log.read(self.queue, service, message.queue_id, utf8=self.utf8)
            except OSError as error:
                raise TemporaryError(f"open {service} {message.queue_id}: {error.strerror}") from error
        file = open_message(self.queue, message.queue_name, message.queue_id)
        try:
            original: Original | None = None
            if file is not None:
                daemon = f"MAILER-DAEMON@{view.myhostname}"
                threaded = getattr(view, "enable_threaded_bounces", False)
                original = read_original(file, message.queue_id, daemon, threaded=threaded, release=self.view.release)
            yield (
                Report(
                    view=view,
                    templates=self.templates,
                    kind=kind,
                    queue_id=message.queue_id,
                    encoding=encoding,
                    sendopts=message.sendopts,
                    envelope_id=message.envelope_id,
                    entries=entries,
                    original=original,
                    time=int(self._now()),
                ),
                file,
            )
        finally:
            if file is not None:
                file.close()

    async def _send_all(self, plan: Plan, report: Report) -> int:
        """Send the notices of `plan`: the status of the critical one. Those behind it are only copies."""
        if plan.discarded:
            log.warning(f"{report.queue_id}: undeliverable postmaster notification discarded")
        status = 0
        for notice in plan.notices:
            result = await self._send(notice, report)
            if notice.critical:
                status = result
                if status:
                    break
        return status

    async def _send(self, notice: Notice, report: Report) -> int:
        """Send one notice: 0, a status of cleanup, or 1 when there is no cleanup service to talk to.

        From 3.11 on the new queue id is logged before the message is sent, and the failure of every notice.
        """
        new = self.view.release >= (3, 11)
        failure = f"{report.queue_id}: {notice.failure}" if new or not notice.critical else ""
        announce = f"{report.queue_id}: {notice.label}"
        try:
            posting = await self.post(notice, report.sendopts)
        except (OSError, ProtocolError) as error:
            reason = (error.strerror or "Connection timed out") if isinstance(error, OSError) else str(error)
            log.warning(f"connect to public/{self.view.cleanup_service_name}: {reason}")
            if failure:
                log.warning(failure)
            return 1
        try:
            if new:
                log.info(f"{announce}: {posting.queue_id}")
            result, wanted = 0, report.count(notice.wanted)
            if wanted:
                result = await _post(posting, report.records(notice))
            else:  # what is wrong with the template is said all the same
                template = report.template
                if not notice.postmaster:
                    templates.expand(template, self.view)
        finally:
            posting.close()  # when nobody asked to be told, this cancels the message
        if result and failure:
            log.warning(f"{failure}: {cleanup.detail(result).text}" if notice.critical else failure)
        if not result and wanted and not new:
            log.info(f"{announce}: {posting.queue_id}")
        return result

    async def post(self, notice: Notice, sendopts: int) -> Posting:
        """Begin the message for `notice`. Raises OSError, ProtocolError."""
        return await cleanup.post_mail(
            self.view, notice.sender, notice.recipient, source="bounce", now=self._now(), sendopts=sendopts
        )

    def _remove_log(self, message_id: str) -> None:
        service = self.context.service
        try:
            self.queue.remove(service, message_id)
        except FileNotFoundError:
            pass  # there was nothing to report, or the message was flushed twice
        except OSError as error:
            raise TemporaryError(f"remove {service} {message_id}: {error.strerror}") from error


_REQUESTS: dict[str, type[wire.Append] | type[wire.Notify]] = {
    str(wire.APPEND): wire.Append,
    str(wire.FLUSH): wire.Notify,
    str(wire.WARN): wire.Notify,
    str(wire.VERP): wire.NotifyVerp,
    str(wire.ONE): wire.NotifyOne,
    str(wire.TRACE): wire.Notify,
}


async def _post(posting: Posting, records: Iterable[tuple[str, bytes]]) -> int:
    """Send the content and read the verdict, a status of cleanup."""
    try:
        for number, (kind, payload) in enumerate(records):
            posting.record(kind, payload)
            if number % DRAIN == DRAIN - 1:
                await posting.drain()
        return (await posting.finish()).status
    except ProtocolError as error:
        log.warning(str(error))
        return cleanup.STAT_WRITE


def _make_printable(message: wire.Append | wire.Notify, utf8: bool) -> None:
    """Replace control characters in every text of `message`: it goes into a log, a message and the system log."""
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, str):
            setattr(message, field.name, printable(value, utf8=utf8))


def _mark_done(file: QueueFile | None, entries: Iterable[Entry]) -> None:
    """Mark the recipients done in the message's queue file. Raises TemporaryError."""
    for entry in entries:
        if file is not None and entry.recipient.offset > 0:
            try:
                file.mark_done(entry.recipient.offset)
            except OSError as error:
                raise TemporaryError(f"update queue file {file.path}: {error.strerror}") from error


def _without_cancelling(plan: Plan, entry: Entry) -> Plan:
    """`plan` without the notices that `entry` alone does not call for: they are not even begun."""
    return replace(plan, notices=tuple(n for n in plan.notices if reported(entry.recipient, n.wanted)))


def _addressed_to(plan: Plan, sender: str) -> Plan:
    """`plan` with the sender's notice going to its VERP form."""
    failure = f"sender notification failed to {sender}"
    return replace(
        plan,
        notices=tuple(replace(n, recipient=sender, failure=failure) if n.critical else n for n in plan.notices),
    )
