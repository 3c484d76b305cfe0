"""Sockets for the client: connect, send and receive with time limits, on the running event loop.

Plain non-blocking sockets rather than asyncio transports, for three reasons. After a write error the input that has
arrived can still be read (a server may refuse a message and hang up before all of it was sent). A connection can be
handed to another process (scache). And nothing is copied into a second buffer.
"""

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.tls.handshake import LibraryError, TLSRequest, TLSState

from .effects import BindError, Connect, ConnectError, StreamError

if TYPE_CHECKING:
    from postfixpy.tls.channel import Channel

_CHUNK = 65536
_NO_LIMIT = 1e9
_BUSY_WAIT = 0.05


class Link:
    """One connected socket, in TLS after `start_tls`; `tls` is then what came of the handshake.

    The socket stays registered for reading between two waits, and one timer serves all: a wait costs one future.
    """

    __slots__ = ("_channel", "_expires", "_reading", "_timer", "_waiter", "loop", "sock", "tls")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._expires = 0.0
        self._channel: Channel | None = None
        self.tls: TLSState | None = None

    def _readable(self) -> None:
        if self._waiter is None:  # input that nobody waits for: look again when somebody does
            self._stop_reading()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self.sock.fileno())

    def _tick(self) -> None:
        """The timer: the limit of the present wait has passed, or is to be looked at again later."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.loop.time() >= self._expires:
            self._waiter.set_exception(StreamError("time"))
        else:
            self._timer = self.loop.call_at(self._expires, self._tick)

    async def wait(self, write: bool, limit: float) -> None:
        """Until the socket is ready. Raises StreamError("time")."""
        waiter = self._waiter = self.loop.create_future()
        self._expires = self.loop.time() + limit
        if self._timer is None or self._timer.when() > self._expires:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._expires, self._tick)
        fd = self.sock.fileno()
        if write:
            self._stop_reading()  # input must not be taken for room to write
            self.loop.add_writer(fd, _set, waiter)
        elif not self._reading:
            self._reading = True
            self.loop.add_reader(fd, self._readable)
        try:
            await waiter
        finally:
            self._waiter = None
            if write:
                self.loop.remove_writer(fd)

    async def send(self, data: bytes, limit: float) -> None:
        """Send all of `data`; each wait may take `limit` seconds. Raises StreamError."""
        try:
            if self._channel is None:
                await self._send(data, limit)
                return
            for start in range(0, len(data), _CHUNK):
                self._channel.write(data[start : start + _CHUNK])
                await self._send(self._channel.output(), limit)
        except (OSError, LibraryError):
            raise StreamError("eof") from None

    async def _send(self, data: bytes, limit: float) -> None:
        """Raises StreamError("time"), OSError."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self.wait(True, limit)

    async def receive(self, limit: float) -> bytes:
        """What arrives next, b"" at the end. Raises StreamError."""
        try:
            if self._channel is None:
                return await self._receive(limit)
            channel = self._channel
            try:
                while not (data := channel.read()) and not channel.closed:
                    channel.receive(await self._receive(limit))
            finally:
                self._answer(channel)
            return data
        except (OSError, LibraryError):
            raise StreamError("eof") from None

    async def _receive(self, limit: float) -> bytes:
        """Raises StreamError("time"), OSError."""
        while True:
            try:
                return self.sock.recv(_CHUNK)
            except BlockingIOError:
                await self.wait(False, limit)

    async def start_tls(self, request: TLSRequest, limit: float) -> TLSState:
        """Shake hands; each wait may take `limit` seconds. Raises HandshakeError."""
        from postfixpy.tls.client import ClientHandshake  # loads ctypes, which a process without TLS does not need

        shake = ClientHandshake(request)
        channel = shake.channel
        try:
            while True:
                try:
                    state = shake.step()
                except BaseException:
                    self._answer(channel)
                    raise
                await self._send(channel.output(), limit)
                if state is not None:
                    self._channel, self.tls = channel, state
                    return state
                channel.receive(await self._receive(limit))
        except StreamError:
            shake.lost(os.strerror(errno.ETIMEDOUT))
        except OSError as error:
            shake.lost(error.strerror or str(error))
        finally:
            if self._channel is None:
                channel.free()

    def _answer(self, channel: "Channel") -> None:
        """Send what the engine wants to say of its own accord, an alert or close_notify, if it can be sent at once."""
        data = channel.output()
        if data:
            try:
                self.sock.send(data)
            except OSError:
                pass  # it is a courtesy

    def pending(self) -> bool:
        """Whether input is waiting."""
        if self._channel is not None and self._channel.pending():
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    @property
    def local(self) -> str:
        """Our address; "" over a UNIX-domain socket."""
        name = self.sock.getsockname()
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def lendable(self) -> bool:
        """Whether another process can go on with the connection by its descriptor alone: not when TLS is on it."""
        return self.tls is None

    def send_buffer(self) -> int:
        """The size of the system's buffer for output, in bytes."""
        return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    def close(self) -> None:
        self._stop_reading()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._channel is not None:
            self._channel.shut()
            self._answer(self._channel)
            self._channel.free()
            self._channel = None
        self.sock.close()


def _set(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def connect(request: Connect) -> Link:
    """Open a connection. Raises ConnectError, BindError."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6, 0: socket.AF_UNIX}[request.family]
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise ConnectError(error.strerror or str(error)) from None
    link = Link(sock)
    try:
        if family != socket.AF_UNIX:
            _prepare(sock, request)
        await _open(link, request)
    except BaseException:
        link.close()
        raise
    return link


def _prepare(sock: socket.socket, request: Connect) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if request.window > 0:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, request.window)
            except OSError as error:
                log.warning(f"setsockopt window size: {error.strerror}")
    if request.bind:
        try:
            _bind(sock, request.bind)
        except OSError as error:
            log.warning(f"smtp_connect_addr: bind {request.bind}: {error.strerror}")
            if request.must_bind:
                raise BindError from None


def _bind(sock: socket.socket, address: str) -> None:
    """Raises OSError, also for an address of the other family, which Python would take for a host name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family != sock.family:
        number = errno.EINVAL if family == socket.AF_INET else errno.EAFNOSUPPORT
        raise OSError(number, os.strerror(number))
    sock.bind((address, 0))


async def _open(link: Link, request: Connect) -> None:
    """Raises ConnectError."""
    address: str | tuple[str, int] = (request.address, request.port) if request.family else request.address or "\0"
    limit = request.limit or _NO_LIMIT
    deadline = link.loop.time() + limit
    try:
        code = link.sock.connect_ex(address)
        while code == errno.EAGAIN and link.loop.time() < deadline:  # a UNIX-domain server that is busy
            await asyncio.sleep(_BUSY_WAIT)
            code = link.sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await link.wait(True, limit)
            code = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except StreamError:
        code = errno.ETIMEDOUT
    except OSError as error:
        code = error.errno or errno.EIO
    if code:
        raise ConnectError(os.strerror(code))
