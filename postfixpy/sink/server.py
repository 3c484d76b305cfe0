"""The sink's sockets: an asyncio protocol that drives `session.Session`, the journal and the dump files.

The journal has one JSON line for each accepted transaction, written before the client is told so: whoever counts
deliveries counts its lines.
"""

import asyncio
import json
import os
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from .rules import Script
from .session import Action, Delivery, Offer, Session, bare


@dataclass(slots=True)
class Sink:
    """What all connections share: the offer, the script, the outputs, the limits (0: none), the counters."""

    offer: Offer = field(default_factory=Offer)
    script: Script = field(default_factory=Script)
    journal: TextIO | None = None
    dump_single: str = ""
    dump_shared: str = ""
    dump_prefix: str = ""
    timeout: float = 100.0
    max_clients: int = 256
    max_messages: int = 0
    max_sessions: int = 0
    on_count: Callable[["Sink"], None] | None = None
    trace: Callable[[str], None] | None = None
    sessions: int = 0
    quits: int = 0
    messages: int = 0
    journal_content: bool = False
    tls: ssl.SSLContext | None = None
    tls_first: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(256))

    @property
    def keep(self) -> bool:
        """Whether message content is needed: for dump files, or for the journal when `journal_content` says so."""
        return bool(self.dump_single or self.dump_shared or (self.journal and self.journal_content))

    def deliver(self, delivery: Delivery) -> None:
        """Record one accepted transaction."""
        if self.journal is not None:
            entry = {
                "time": round(time.time(), 3),
                "client": delivery.client,
                "protocol": delivery.protocol,
                "helo": delivery.helo,
                "sender": bare(delivery.mail),
                "recipients": [bare(recipient) for recipient in delivery.recipients],
                "mail": delivery.mail,
                "rcpt": delivery.recipients,
                "size": delivery.size,
            }
            if delivery.tls:
                entry["tls"] = delivery.tls
            if self.journal_content:
                entry["content"] = delivery.content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
            self.journal.write(json.dumps(entry) + "\n")
            self.journal.flush()
        for template, mode in ((self.dump_single, "xb"), (self.dump_shared, "ab")):
            if template:
                self._dump(template, mode, delivery)

    def _dump(self, template: str, mode: str, delivery: Delivery) -> None:
        path = time.strftime(template)
        if mode == "xb":
            path += f"{random.getrandbits(32):08x}"
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        head = [f"X-Client-Addr: {delivery.client}", f"X-Client-Proto: {delivery.protocol}"]
        if delivery.helo:
            head.append(f"X-Helo-Args: {delivery.helo}")
        head.append(f"X-Mail-Args: {delivery.mail}")
        head += [f"X-Rcpt-Args: {recipient}" for recipient in delivery.recipients]
        text = self.dump_prefix + "\n".join(head) + "\n"
        with open(path, mode) as out:
            out.write(text.encode("utf-8", "surrogateescape"))
            out.write(delivery.content.replace(b"\r\n", b"\n") + b"\n")

    def count(self, what: str) -> None:
        """Advance a counter; ends the server at its limit."""
        self.messages += what == "message"
        self.quits += what == "quit"
        self.sessions += what == "session"
        if self.on_count is not None:
            self.on_count(self)
        if 0 < self.max_messages <= self.messages or 0 < self.max_sessions <= self.sessions:
            self.done.set()

    async def serve(self, listener: socket.socket) -> None:
        """Serve the clients of a listening socket until a limit is reached. Excess clients wait in its backlog."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._room = asyncio.Semaphore(self.max_clients)
        accepting = loop.create_task(self._accept(listener))
        await self.done.wait()
        accepting.cancel()
        listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            client, _ = await loop.sock_accept(listener)
            await loop.connect_accepted_socket(lambda: Connection(self), client)

    def gone(self) -> None:
        """A client has left: another one may come."""
        self._room.release()
        self.count("session")


def listen_tcp(host: str, port: int, backlog: int = 100, family: int = 0) -> socket.socket:
    """A listening TCP socket; host "" is every interface. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    entry = next((e for e in found if not host and e[0] == socket.AF_INET6), found[0])
    every = not host and entry[0] == socket.AF_INET6 and not family
    return socket.create_server(entry[4][:2], family=entry[0], backlog=backlog, dualstack_ipv6=every)


def listen_unix(path: str, backlog: int = 100) -> socket.socket:
    """A listening UNIX-domain socket; a socket that is already there is replaced. Raises OSError."""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.transport: asyncio.Transport | None = None
        self.session: Session | None = None
        self._tls: _TLS | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        peer = transport.get_extra_info("peername")
        client = peer[0] if isinstance(peer, tuple) else "local"
        if ":" in client:
            client = f"ipv6:{client}"
        self.session = Session(self.sink.offer, self.sink.script, client, self.sink.deliver, self.sink.keep)
        if self.sink.tls_first:
            self._start_tls()
        self._run()

    def _start_tls(self) -> None:
        assert self.sink.tls is not None
        self._tls = _TLS(self.sink.tls)

    def _decrypt(self, tls: "_TLS", data: bytes) -> bytes:
        """What the client says in `data`, which is TLS; its handshake is answered here."""
        assert self.session is not None and self.transport is not None
        before = tls.description
        try:
            plain = tls.receive(data)
        except ssl.SSLError as error:
            self._trace("* ", f"TLS: {error.reason}".encode())
            self.transport.write(tls.output())
            self.transport.close()
            return b""
        if tls.description and not before:
            self._trace("* ", f"TLS: {tls.description}".encode())
            self.session.enter_tls(tls.description)
        self.transport.write(tls.output())
        return plain

    def _trace(self, mark: str, data: bytes) -> None:
        if self.sink.trace is not None:
            self.sink.trace(mark + data.decode("utf-8", "backslashreplace").rstrip())

    def data_received(self, data: bytes) -> None:
        assert self.session is not None
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
        self._trace("< ", data)
        self.session.feed(data)
        if self._resume is None:
            self._run()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._resume):
            if timer is not None:
                timer.cancel()
        self.sink.gone()

    def _run(self) -> None:
        """Carry out the session's actions until it waits for input or for a delay."""
        assert self.session is not None and self.transport is not None
        self._resume = None
        loop = asyncio.get_running_loop()
        while not self.transport.is_closing():
            action = self.session.step()
            if action is None:
                break
            if action.delay > 0:
                self._resume = loop.call_later(action.delay, self._after_delay, action)
                break
            self._act(action)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self.sink.timeout, self.transport.abort)

    def _after_delay(self, action: Action) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self._act(action)
            self._run()

    def _act(self, action: Action) -> None:
        assert self.transport is not None
        if action.write:
            self._trace("> ", action.write)
            self.transport.write(action.write if self._tls is None else self._tls.encrypt(action.write))
        if action.start_tls:
            self._start_tls()
        if action.counts:
            self.sink.count(action.counts)
        if action.close:
            self.transport.close()


class _TLS:
    """The server's side of TLS on one connection, by memory: asyncio's own keeps 256 kilobytes a connection.

    description   protocol and cipher once the handshake is done
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._input, self._written = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._input, self._written, server_side=True)
        self.description = ""
        self._held = b""

    def receive(self, data: bytes) -> bytes:
        """What `data` holds in plaintext. Raises ssl.SSLError."""
        self._input.write(data)
        plain = b""
        try:
            if not self.description:
                self._object.do_handshake()
                cipher = self._object.cipher()
                self.description = f"{self._object.version()} {cipher[0] if cipher else ''}"
                if self._object.session_reused:
                    self.description += " resumed"
            while part := self._object.read(65536):
                plain += part
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return plain

    def encrypt(self, data: bytes) -> bytes:
        """`data` and what else is to be sent. What is said before the handshake is done is kept back until then."""
        self._held += data
        return self.output()

    def output(self) -> bytes:
        """What is to be sent."""
        if self.description and self._held:
            held, self._held = self._held, b""
            self._object.write(held)
        return self._written.read()
