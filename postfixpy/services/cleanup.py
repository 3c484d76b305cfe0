"""cleanup(8): takes messages in, completes them, and puts them into the queue.

A client gets a queue id, sends its flags and the records of a message, and gets a verdict: 0 when the message is on
stable storage (content, directory entry), or has been returned or discarded as configured; otherwise STAT_* bits of
postfixpy.ipc.cleanup and a reason. What happens in between is in postfixpy.services.cleaning; this module is the edge:
the connection, the queue file, its end.

Memory does not grow with the message: content passes in blocks. One process serves many clients; each queue file is
synced in a thread, so that one slow disk write does not hold up the others.

Differs from Postfix: no Milter can be reached, so that for each of non_smtpd_milters milter_default_action decides what
becomes of the message (postfixpy.services.cleaning.milters). When the queue file cannot be made the client is sent away
at once (it tries again), where Postfix waits. message_size_limit is counted, not a resource limit of the process.
"""

import asyncio
import errno
import os
from typing import ClassVar

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.cleanup import (
    FLAG_BOUNCE,
    FLAG_DISCARD,
    FLAG_HOLD,
    PROTOCOL,
    STAT_BAD,
    STAT_RCPT,
    STAT_SIZE,
    STAT_WRITE,
    STATS_CANNOT_BOUNCE,
    CleanupResult,
    Flags,
)
from postfixpy.ipc.disposition import Reporter, now_us
from postfixpy.ipc.message import announcement
from postfixpy.ipc.rewrite import RewriteClient
from postfixpy.ipc.service import Service
from postfixpy.ipc.trigger import WAKEUP, send_trigger
from postfixpy.mail.queue import HOLD, INCOMING, Queue, QueueFile
from postfixpy.mail.records import Kind, RecordError, RecordParser

from .cleaning.content import Content, TextRun, text_run
from .cleaning.envelope import envelope_record, extracted_record
from .cleaning.flow import FlowControl
from .cleaning.refusal import refuse
from .cleaning.releases import complete
from .cleaning.settings import Settings
from .cleaning.state import Incoming, QueueWriter

MAX_RECORD = 1 << 20
"""Bytes of one record that a client may send. Postfix has no limit here; its clients send at most line_length_limit."""

_SPURIOUS_LOGS = ("defer", "bounce", "trace")
_HIDDEN = (Kind.POINTER, Kind.PADDING)


class Cleanup(Service):
    """The service. One connection is one message."""

    protocol: ClassVar[str] = ""  # it is announced with the queue id
    unlimited: ClassVar[bool] = True

    async def pre_jail(self) -> None:
        view = self.view = complete(self.view)
        if self.context.words:
            raise FatalError(f"unexpected command-line argument: {self.context.words[0]}")
        self.settings = Settings(view)

    async def start(self) -> None:
        view = self.view
        self.queue = Queue("", view.hash_queue_names, view.hash_queue_depth)
        self.rewriter = RewriteClient(
            f"private/{view.rewrite_service_name}", timeout=view.ipc_timeout, idle=view.ipc_idle, ttl=view.ipc_ttl
        )
        self.reporter = Reporter(view)
        self.flow = FlowControl.inherited()

    def tables_changed(self) -> str | None:
        return self.settings.changed()

    async def stop(self) -> None:
        self.rewriter.close()
        self.reporter.close()

    async def serve(self, channel: Channel) -> None:
        if self.flow is not None and not self.flow.take():
            await asyncio.sleep(self.view.in_flow_delay)
        try:
            file = self.queue.create(INCOMING, long_ids=self.view.enable_long_queue_ids, now=now_us())
        except TemporaryError as error:
            log.warning(str(error))
            await asyncio.sleep(1)  # the client comes back at once
            return
        await Session(self, channel, file).run()


class Session:
    """One message of one client."""

    def __init__(self, service: Cleanup, channel: Channel, file: QueueFile) -> None:
        view = service.view
        self.service = service
        self.channel = channel
        self.file = file
        self.mail = Incoming(
            settings=service.settings,
            rewriter=service.rewriter,
            writer=QueueWriter(file, max(view.message_size_limit, 0), view.line_length_limit),
            queue_id=file.id,
            created=file.arrival,
            clock=now_us,
        )
        self._content: Content | None = None
        self._envelope_done = False
        self._rest = bytearray()

    async def run(self) -> None:
        """From the announcement to the verdict. The queue file is removed unless the verdict is 0."""
        kept = False
        try:
            self._remove_spurious_logs()
            self.channel.write(announcement(PROTOCOL, self.channel.release, ("queue_id", self.mail.queue_id)))
            await self._receive()
            kept = await self._finish()
            self.channel.send_message(CleanupResult(self.mail.errors, self.mail.reason))
            try:
                await self.channel.drain()
            except (ProtocolError, TimeoutError):
                pass  # the client has gone; the message is as safe as the verdict would say
            if kept and self.file.queue == INCOMING:
                await self._wake(f"public/{self.service.view.queue_service_name}")
        finally:
            self.file.close()
            if not kept:
                self._remove()

    def _remove_spurious_logs(self) -> None:
        for name in _SPURIOUS_LOGS:
            try:
                self.service.queue.remove(name, self.mail.queue_id)
                log.warning(f"{self.mail.queue_id}: removed spurious {name} log")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise FatalError(f"{name}: remove {self.mail.queue_id} log: {error.strerror}") from None

    # Receiving

    async def _receive(self) -> None:
        mail = self.mail
        try:
            mail.accept((await self.channel.read(Flags)).flags)
        except ProtocolError as error:
            log.warning(str(error))
            mail.errors |= STAT_BAD
            return
        mail.put_sizes()
        ended = False
        while not ended:
            try:
                data = await self.channel.read_bytes()
            except ProtocolError:
                log.warning(f"{mail.queue_id}: read timeout on {self.channel.peer}")
                data = b""
            if not data:
                if mail.going:
                    mail.errors |= STAT_BAD
                return
            self._rest += data
            try:
                ended = await self._records()
            except RecordError as error:
                log.warning(str(error))
                mail.errors |= STAT_BAD
                return

    async def _records(self) -> bool:
        """Process the complete records of what has arrived. True after the last one."""
        limit = self.service.view.line_length_limit
        while True:
            if self._in_body:
                run = text_run(self._rest, 0, limit)
                if run.records:
                    await self._body(bytes(self._rest[: run.end]), run)
                    del self._rest[: run.end]
                    continue
            parser = self._parser(bytes(self._rest))
            progress = False
            for kind, payload in parser:
                progress = True
                await self._record(kind, payload)
                if kind == Kind.END:
                    return True
                if self._in_body:
                    break
            self._rest = bytearray(parser.rest)
            if not progress:
                return False

    @property
    def _in_body(self) -> bool:
        return self._content is not None and self._content.in_body and self.mail.going

    async def _body(self, block: bytes, run: TextRun) -> None:
        """Copy body records, one by one only if something needs that."""
        if self._content is not None and not self._content.block(block, run):
            for kind, payload in self._parser(block):
                await self._record(kind, payload)

    def _parser(self, data: bytes) -> RecordParser:
        parser = RecordParser(f"{self.channel.peer} socket", MAX_RECORD)
        parser.feed(data)
        return parser

    async def _record(self, kind: str, payload: bytes) -> None:
        mail = self.mail
        if not mail.going:
            return  # until the client is ready for the verdict
        if kind == Kind.MILTER_COUNT and payload.strip() not in (b"", b"0"):
            log.warning(f"{mail.queue_id}: the client has Milters, which are not supported: message not accepted")
            raise RecordError(f"{self.channel.peer} socket: Milter state")
        if kind in _HIDDEN:
            log.warning(f"{mail.queue_id}: record type {ord(kind)} not allowed - discarding this message")
            mail.errors |= STAT_BAD
        elif not self._envelope_done:
            if await envelope_record(mail, kind, payload):
                self._envelope_done = True
                self._content = Content(mail)
        elif self._content is None:
            await extracted_record(mail, kind, payload)
        elif kind == Kind.EXTRACTED:
            await self._content.finish()
            self._content = None
        else:
            await self._content.record(kind, payload)

    # The end

    async def _finish(self) -> bool:
        """Put the message where it belongs. True when its file stays."""
        mail = self.mail
        if mail.going:
            if mail.recipient is None:
                mail.errors |= STAT_RCPT
            if not mail.end_seen:
                mail.errors |= STAT_BAD
        if mail.flags & FLAG_DISCARD:
            mail.errors = 0
        if mail.going:
            mail.finish_sizes()
        if mail.errors and self._may_return():
            await refuse(mail, self.file, self.service.reporter)
        if mail.errors == 0 and not mail.flags & FLAG_DISCARD:
            mail.errors = await self._commit()
        return mail.errors == 0 and not mail.flags & FLAG_DISCARD

    def _may_return(self) -> bool:
        mail = self.mail
        return bool(mail.flags & FLAG_BOUNCE) and not mail.errors & STATS_CANNOT_BOUNCE and mail.sender is not None

    async def _commit(self) -> int:
        """Make the message part of the queue."""
        mail, file, queue = self.mail, self.file, self.service.queue
        try:
            if mail.flags & FLAG_HOLD:
                queue.rename(mail.queue_id, INCOMING, HOLD)
                file.queue, file.path = HOLD, queue.path(HOLD, mail.queue_id)
                if self.service.flow is not None:
                    self.service.flow.give()
            mail.writer.flush()
            await asyncio.get_running_loop().run_in_executor(None, file.commit)
        except OSError as error:
            log.warning(f"{mail.queue_id}: write queue file: {error.strerror}")
            return STAT_SIZE if error.errno == errno.EFBIG else STAT_WRITE
        return 0

    async def _wake(self, path: str) -> None:
        """Tell the queue manager. The message is in the queue whether it listens or not."""
        try:
            await send_trigger(path, WAKEUP)
        except FileNotFoundError as error:
            log.warning(f"unable to look up {path}: {error.strerror}")
        except OSError:
            pass  # it looks by itself

    def _remove(self) -> None:
        queue, queue_id = self.service.queue, self.mail.queue_id
        if self.mail.traced:
            try:
                queue.remove("trace", queue_id)
            except OSError:
                pass  # it is not there, or the queue manager finds it without a message
        try:
            os.unlink(self.file.path)
        except OSError as error:
            log.warning(f"remove {self.file.path}: {error.strerror}")
        if self.mail.settings.view.release >= (3, 10):
            log.info(f"{queue_id}: removed ({'canceled' if self.mail.errors else 'discarded'})")
