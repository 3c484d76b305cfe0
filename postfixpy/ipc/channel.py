"""A stream socket to another Postfix program, for asyncio: attribute lists, typed messages, raw bytes.

Every read has a time limit (seconds; None waits without limit) and fails with ProtocolError and Postfix's text, which
names the peer's path. Output is buffered by asyncio; `drain` waits until the peer takes it.
"""

import asyncio
import errno
import os
import socket
from typing import TypeVar

from postfixpy import log

from .attributes import Pair, ProtocolError, TooSlow, Value, encode, parse
from .message import Message, Release, check_announcement, is_silent, system_release

M = TypeVar("M", bound=Message)

_HIGH_WATER = 1 << 20


class Channel(asyncio.Protocol):
    """One connection. Made by `connect`, or by a service for each client it accepts.

    `peer` is the path for texts, such as ``private/bounce``; `release` is the peer's Postfix release (attribute names
    changed over time), None that of this mail system.
    """

    def __init__(self, peer: str, *, timeout: float | None = 3600.0, release: Release | None = None) -> None:
        self.peer = peer
        self.timeout = timeout
        self.release = release or system_release()
        self._buffer = bytearray()
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._closed = asyncio.get_running_loop().create_future()
        self._paused_reading = False
        self._lists = 0
        self._draining = False
        self._between = False
        self.transport: asyncio.Transport | None = None
        self.attributes: dict[str, str] = {}
        """What the peer said about a connection that it passed (master.cf type pass): client_address and so on."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return True  # the write side stays open: the peer may still read our answer

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._buffer += self._last_words()
        self._eof = True
        self._wake()
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        if not self._closed.done():
            self._closed.set_result(None)

    def _last_words(self) -> bytes:
        """What a peer sent before it hung up: asyncio reads no more when our own words have nobody to read them, but
        a wakeup (send a byte, hang up) counts, although the service announced itself to nobody."""
        if self.transport is None:
            return b""
        sock = self._second_socket(self.transport)
        try:
            return sock.recv(_HIGH_WATER)
        except OSError:
            return b""  # it said nothing
        finally:
            sock.close()

    def pause_writing(self) -> None:
        self._drain = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._drain = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self, doing: str) -> None:
        """Wait for more input. Raises ProtocolError at end of input and at the time limit."""
        if self._eof:
            raise ProtocolError(f"premature end-of-input on {self.peer} while {doing}")
        if self._paused_reading and self.transport is not None:
            self._paused_reading = False
            self.transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            # Not wait_for: before Python 3.12 it drops a cancellation that comes at the same time as the input.
            async with asyncio.timeout(self.timeout):
                await self._waiter
        except TimeoutError:
            raise TooSlow(f"timeout on {self.peer} while {doing}") from None
        finally:
            self._waiter = None

    # Reading

    async def read_list(self) -> list[Pair]:
        """One attribute list. Raises ProtocolError."""
        while True:
            parsed = parse(self._buffer)
            if parsed is not None:
                pairs, end = parsed
                del self._buffer[:end]
                self._lists += 1
                return pairs
            size = len(self._buffer)
            try:
                await self._more("reading input attribute name")
            except ProtocolError:
                if len(self._buffer) == size:
                    raise

    async def read(self, kind: type[M]) -> M:
        """One typed message. Raises ProtocolError."""
        return kind.parse(await self.read_list(), self.peer)

    async def read_announcement(self, protocol: str) -> list[Pair]:
        """The list that a server sends first: its `protocol` name, and what may follow it in the same list.

        Before Postfix 3.6 most services said nothing. Raises ProtocolError when the name differs.
        """
        if is_silent(protocol, self.release):
            return []
        try:
            pairs = await self.read_list()
        except TooSlow as error:
            error.announced = False
            raise
        return check_announcement(pairs, protocol, self.release, self.peer)

    async def read_bytes(self) -> bytes:
        """Whatever has arrived, at least one byte; b"" at end of input. For streams of queue-file records."""
        if not self._buffer:
            if self._eof:
                return b""
            try:
                await self._more("reading")
            except ProtocolError:
                if not self._eof:
                    raise
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was read too far."""
        self._buffer[:0] = data

    async def wait_readable(self) -> bool:
        """Wait without time limit for input; False when the peer hung up without sending any.

        Also False when our process is ending (`drain_requests`) and this peer has had an answer before: such clients
        keep their connection for a next request, and connect again when it has gone.
        """
        timeout, self.timeout = self.timeout, None
        self._between = self._lists > 0
        try:
            while not self._buffer:
                if self._eof or (self._draining and self._between):
                    return False
                try:
                    await self._more("waiting")
                except ProtocolError:
                    return bool(self._buffer)
            return True
        finally:
            self.timeout = timeout
            self._between = False

    def drain_requests(self) -> None:
        """End this connection between two requests: see `wait_readable`."""
        self._draining = True
        if self._between:
            self._wake()

    async def wait_closed_by_peer(self) -> None:
        """Read until the peer hangs up, within the time limit; what it sends is dropped. Never raises."""
        try:
            while not self._eof:
                self._buffer.clear()
                await self._more("waiting for the peer to hang up")
        except ProtocolError:
            pass

    # Writing

    def write(self, data: bytes) -> None:
        """Queue bytes for the peer. A peer that has gone is noticed by the next read."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def send(self, *pairs: tuple[str, Value]) -> None:
        """Queue one attribute list."""
        self.write(encode(pairs))

    def send_message(self, *messages: Message) -> None:
        """Queue typed messages."""
        self.write(b"".join(message.encode(self.release) for message in messages))

    # Descriptors

    def hold_input(self) -> None:
        """Leave what comes next in the socket: a descriptor, which a plain read would lose (`receive_descriptor`)."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    async def receive_descriptor(self) -> int:
        """The descriptor that the peer sends with one byte, and to which `hold_input` was the prelude.

        Raises ProtocolError.
        """
        sock = self._own_socket()
        try:
            await self._until_ready(sock, write=False)
            _, received, _, _ = socket.recv_fds(sock, 1, 1)
        except OSError as error:
            raise ProtocolError(f"{os.strerror(error.errno or 0)} on {self.peer} while receiving it") from None
        finally:
            sock.close()
            if self.transport is not None and not self.transport.is_closing() and not self._paused_reading:
                self.transport.resume_reading()
        if not received:
            raise ProtocolError(f"no file descriptor from {self.peer}")
        os.set_inheritable(received[0], False)
        return received[0]

    async def send_descriptor(self, descriptor: int) -> None:
        """Send the peer a copy of a descriptor. What was written before must have been taken. Raises ProtocolError."""
        sock = self._own_socket()
        try:
            await self._until_ready(sock, write=True)
            socket.send_fds(sock, [b"\0"], [descriptor])
        except OSError as error:
            raise ProtocolError(f"{os.strerror(error.errno or 0)} on {self.peer} while sending it") from None
        finally:
            sock.close()

    def _own_socket(self) -> socket.socket:
        """A second socket object for the connection: the transport guards its own."""
        if self.transport is None or self.transport.is_closing():
            raise ProtocolError(f"premature end-of-input on {self.peer}")
        return self._second_socket(self.transport)

    @staticmethod
    def _second_socket(transport: asyncio.Transport) -> socket.socket:
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        sock.setblocking(False)
        return sock

    async def _until_ready(self, sock: socket.socket, *, write: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        (loop.add_writer if write else loop.add_reader)(sock.fileno(), ready.set)
        try:
            async with asyncio.timeout(self.timeout):
                await ready.wait()
        except TimeoutError:
            raise ProtocolError(f"timeout on {self.peer} while passing a descriptor") from None
        finally:
            (loop.remove_writer if write else loop.remove_reader)(sock.fileno())

    async def drain(self) -> None:
        """Wait until the peer has taken most of what is queued. Raises ProtocolError when it hung up."""
        if self._drain is not None:
            async with asyncio.timeout(self.timeout):
                await asyncio.shield(self._drain)  # others wait for it, too
        if self.transport is None or self.transport.is_closing():
            raise ProtocolError(f"write error on {self.peer}: Broken pipe")

    def close(self) -> None:
        """Hang up, after what is queued has been sent."""
        if self.transport is not None:
            self.transport.close()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        await self._closed


async def connect(
    path: str, *, timeout: float | None = 3600.0, release: Release | None = None, connect_timeout: float = 100.0
) -> Channel:
    """Connect to a service's UNIX-domain socket; `path` is relative to the queue directory, the working directory.

    While the socket's queue is full (all processes are busy), tries again now and then. Raises OSError when nobody
    listens, TimeoutError when the queue is still full after `connect_timeout` seconds.
    """
    client = await _connect_socket(path, connect_timeout)
    _, channel = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: Channel(path, timeout=timeout, release=release), client
    )
    return channel


async def command(
    path: str, protocol: str, message: Message, answer: type[M], *, timeout: float, release: Release | None = None
) -> M | None:
    """One request to a service on a connection of its own (mail_command_client(3)); None, after a warning, when there
    is no answer within `timeout` seconds. Never raises for a service that fails."""
    try:
        channel = await connect(path, timeout=timeout, release=release)
    except OSError as error:
        log.warning(f"connect to {path}: {error.strerror or 'Connection timed out'}")
        return None
    try:
        await channel.read_announcement(protocol)
        channel.send_message(message)
        return await channel.read(answer)
    except TooSlow as error:
        log.warning(f"{'write/read' if error.announced else 'write'} {path} socket: Connection timed out")
    except (ProtocolError, OSError) as error:
        log.warning(str(error))
    finally:
        channel.close()
    return None


async def _connect_socket(path: str, timeout: float) -> socket.socket:
    """A connected socket. A UNIX-domain connect takes no time, it works or fails at once, so it needs no event loop;
    asyncio's own takes the EAGAIN of a full queue for "in progress" and breaks."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.setblocking(False)
        wait = 0.01
        while True:
            try:
                client.connect(path)
                return client
            except BlockingIOError:
                if timeout <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            await asyncio.sleep(min(wait, timeout))
            timeout -= wait
            wait = min(2 * wait, 1.0)
    except BaseException:
        client.close()
        raise
