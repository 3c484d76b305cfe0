"""A queue directory with messages, and a queue manager in it whose agents, resolver and notices are pretended.

The agents are real sockets, private/NAME, that speak the delivery protocol; they run in the test's event loop.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from postfixpy.errors import FatalError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.delivery import ANNOUNCEMENT, Request, RequestRecipient, Result, unpack
from postfixpy.ipc.rewrite import Resolved
from postfixpy.mail.delivery import DeliveryRequest, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.queue import INCOMING, Queue, QueueFile
from postfixpy.mail.records import Kind, Sizes, encode_record, encode_sizes, encode_time
from postfixpy.services.queue_manager.flow import Flow
from postfixpy.services.queue_manager.intake import Intake
from postfixpy.services.queue_manager.manager import FEEDERS, Manager
from postfixpy.services.queue_manager.model import Message
from postfixpy.services.queue_manager.routing import Policy
from postfixpy.services.queue_manager.scheduler import Scheduler
from postfixpy.services.queue_manager.settings import Settings, TransportSettings
from postfixpy.services.queue_manager.store import Store

Answer = tuple[DSN | None, int] | None
"""Hop status and status of a delivery; None: the agent hangs up without an answer."""


def queue_file(
    recipients: list[str],
    *,
    sender: str = "s@example.com",
    arrival: float = 0.0,
    extra: bytes = b"",
    before: dict[str, bytes] | None = None,
    flags: int = 0,
) -> bytes:
    """The bytes of a queue file as cleanup writes it: size, time, sender, recipients, content, end.

    `extra`: more envelope records; `before`: records in front of a recipient.
    """
    size_length = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0)))
    envelope = encode_record(Kind.TIME, encode_time(int(arrival * 1_000_000)))
    envelope += encode_record(Kind.ATTRIBUTE, b"create_time=%d" % int(arrival)) + extra
    envelope += encode_record(Kind.FROM, sender.encode())
    for recipient in recipients:
        envelope += (before or {}).get(recipient, b"") + encode_record(Kind.RECIPIENT, recipient.encode())
    start = envelope + encode_record(Kind.MESSAGE, b"")
    content = encode_record(Kind.NORMAL, b"Subject: test") + encode_record(Kind.NORMAL, b"")
    sizes = Sizes(len(content), size_length + len(start), len(recipients), flags, 14, 0)
    return encode_sizes(sizes) + start + content + encode_record(Kind.EXTRACTED, b"") + encode_record(Kind.END, b"")


class FakeResolver:
    """user@domain goes to transport smtp, next hop domain; `routes` overrides that for an address."""

    def __init__(self) -> None:
        self.routes: dict[str, Resolved] = {}
        self.asked: list[tuple[str, str, bool]] = []

    async def resolve(self, sender: str, address: str, *, verify: bool = False) -> Resolved:
        self.asked.append((sender, address, verify))
        return self.routes.get(address) or Resolved("smtp", address.rpartition("@")[2], address, 0)

    async def rewrite_internal(self, rule: str, address: str) -> str:
        return address if "@" in address else address + "@local.example"


class FakeNotices:
    """Notes what is asked; `fail` names the requests that fail."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.calls: list[str] = []
        self.fail: set[str] = set()

    async def _call(self, what: str, message: Message) -> bool:
        self.calls.append(f"{what} {message.queue_id}")
        await asyncio.sleep(0)
        return what not in self.fail

    async def bounce(self, message: Message) -> bool:
        done = await self._call("bounce", message)
        if done:
            self.queue.remove("bounce", message.queue_id)
        return done

    async def expire(self, message: Message) -> bool:
        return await self._call("expire", message)

    async def warn(self, message: Message) -> bool:
        return await self._call("warn", message)

    async def trace(self, message: Message) -> bool:
        return await self._call("trace", message)

    async def defer(self, message: Message, recipients: list[Recipient], reason: DSN) -> bool:
        for recipient in recipients:
            self.calls.append(f"defer {message.queue_id} {recipient.address} {reason.status} {reason.reason}")
        return False

    async def discard(self, message: Message, file: QueueFile, recipient: Recipient) -> bool:
        self.calls.append(f"discard {message.queue_id} {recipient.address}")
        file.mark_done(recipient.offset)
        return True


class Spool:
    """See the module. `clock` is the time that files are judged by; `settings` and `transports` may be changed before
    `start`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queue = Queue(str(directory))
        for name in ("incoming", "active", "deferred", "corrupt", "defer", "bounce", "trace", "private"):
            (directory / name).mkdir()
        self.now = time.time()
        self.settings = Settings()
        self.transports: dict[str, TransportSettings] = {}
        self.policy = Policy()
        self.resolver = FakeResolver()
        self.notices = FakeNotices(self.queue)
        self.requests: list[DeliveryRequest] = []
        self.fatal: list[str] = []
        self.answer: Callable[[str, DeliveryRequest], Awaitable[Answer]] = self._deliver_all
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()

    # Files

    def submit(self, recipients: list[str], queue: str = INCOMING, *, mode: int = 0, **facts: object) -> str:
        """A message in the queue; returns its id."""
        file = self.queue.create(queue, now=time.time_ns() // 1000)
        with file:
            file.write(queue_file(recipients, **{"arrival": self.now, **facts}))  # type: ignore[arg-type]
            file.commit(mode)
        os.utime(file.path, (self.now, self.now))
        return file.id

    def where(self, queue_id: str) -> list[str]:
        """The queues that have a file of that name."""
        names = ("incoming", "active", "deferred", "corrupt")
        return [name for name in names if os.path.exists(self.queue.path(name, queue_id))]

    def due_in(self, queue_id: str, queue: str = "deferred") -> int:
        """Seconds until the file's time comes."""
        return int(os.stat(self.queue.path(queue, queue_id)).st_mtime) - int(self.now)

    def mark(self, request: DeliveryRequest, recipient: Recipient) -> None:
        """The recipient is done."""
        with self.queue.open(request.queue_name, request.queue_id) as file:
            file.mark_done(recipient.offset)

    # Agents

    async def _deliver_all(self, service: str, request: DeliveryRequest) -> Answer:
        for recipient in request.recipients:
            if service != "retry":
                self.mark(request, recipient)
        return None, -1 if service == "retry" else 0

    async def agent(self, service: str) -> None:
        """Serve private/`service`."""

        async def serve(channel: Channel) -> None:
            channel.write(ANNOUNCEMENT)
            if not await channel.wait_readable():
                return
            head = await channel.read(Request)
            recipients = [await channel.read(RequestRecipient) for _ in range(head.recipient_count)]
            request = unpack(head, recipients)
            self.requests.append(request)
            answer = await self.answer(service, request)
            if answer is not None:
                channel.send_message(Result.of(*answer))
                await channel.wait_readable()

        async def client(channel: Channel) -> None:
            with contextlib.suppress(Exception):
                await serve(channel)
            channel.close()

        def accepted() -> Channel:
            channel = Channel("qmgr", timeout=10)

            def started() -> None:
                task = asyncio.get_running_loop().create_task(client(channel))
                self._clients.add(task)
                task.add_done_callback(self._clients.discard)

            asyncio.get_running_loop().call_soon(started)
            return channel

        path = str(self.directory / "private" / service)
        self._servers.append(await asyncio.get_running_loop().create_unix_server(accepted, path))

    # The queue manager

    async def start(self, *services: str) -> Manager:
        """Agents for `services`, and a manager at work."""
        for service in services:
            await self.agent(service)
        os.chdir(self.directory)

        def transport(name: str) -> TransportSettings:
            return self.transports.get(name, TransportSettings())

        def fatal(error: FatalError) -> None:
            self.fatal.append(str(error))

        store = Store(self.queue, clock=lambda: self.now)
        intake = Intake(
            self.settings,
            Scheduler(self.settings, transport, store.clock()),
            store,
            self.resolver,
            self.notices,
            self.policy,
        )
        self.manager = Manager(intake, Flow(0), fatal=fatal)
        self.manager.start()
        return self.manager

    async def idle(self, timeout: float = 20.0) -> None:
        """Wait until nothing is active and nothing is left to look at."""
        end = time.monotonic() + timeout
        manager = self.manager
        while (
            manager.scheduler.messages
            or manager.scans.incoming.running
            or manager.scans.deferred.running
            or len(manager._tasks) > FEEDERS
        ):
            assert time.monotonic() < end, f"busy: {[m.queue_id for m in manager.scheduler.messages]}"
            assert not self.fatal, self.fatal
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """End the manager and the agents."""
        await self.manager.stop()
        for server in self._servers:
            server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
