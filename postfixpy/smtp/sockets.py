"""Sockets for the client: connect, send and receive with time limits, on the running event loop.

Plain non-blocking sockets rather than asyncio transports, for three reasons. After a write error the input that has
arrived can still be read (a server may refuse a message and hang up before all of it was sent). A connection can be
handed to another process (scache). And nothing is copied into a second buffer.
"""

import asyncio
import errno
import os
import socket

from postfixpy import log

from .effects import BindError, Connect, ConnectError, StreamError

_CHUNK = 65536


class Link:
    """One connected socket."""

    __slots__ = ("loop", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def _wait(self, write: bool, limit: float) -> None:
        """Until the socket is ready. Raises StreamError("time")."""
        fd = self.sock.fileno()
        ready = self.loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add, remove = (
            (self.loop.add_writer, self.loop.remove_writer)
            if write
            else (self.loop.add_reader, self.loop.remove_reader)
        )
        timer = self.loop.call_later(limit, ready.cancel)
        add(fd, wake)
        try:
            await ready
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StreamError("time") from None
        finally:
            timer.cancel()
            remove(fd)

    async def send(self, data: bytes, limit: float) -> None:
        """Send all of `data`; each wait may take `limit` seconds. Raises StreamError."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self._wait(True, limit)
            except OSError:
                raise StreamError("eof") from None

    async def receive(self, limit: float) -> bytes:
        """What arrives next, b"" at the end. Raises StreamError."""
        while True:
            try:
                return self.sock.recv(_CHUNK)
            except BlockingIOError:
                await self._wait(False, limit)
            except OSError:
                raise StreamError("eof") from None

    def pending(self) -> bool:
        """Whether input is waiting."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def close(self) -> None:
        self.sock.close()


async def connect(request: Connect) -> Link:
    """Open a connection. Raises ConnectError, BindError."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6, 0: socket.AF_UNIX}[request.family]
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise ConnectError(error.strerror or str(error)) from None
    try:
        if family != socket.AF_UNIX:
            _prepare(sock, request)
        await _open(sock, request)
    except BaseException:
        sock.close()
        raise
    return Link(sock)


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
            sock.bind((request.bind, 0))
        except OSError as error:
            log.warning(f"smtp_connect_addr: bind {request.bind}: {error.strerror}")
            if request.must_bind:
                raise BindError from None


async def _open(sock: socket.socket, request: Connect) -> None:
    address: str | tuple[str, int] = (request.address, request.port) if request.family else request.address
    try:
        code = sock.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EAGAIN):
            await Link(sock)._wait(True, request.limit or 1e9)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except StreamError:
        code = errno.ETIMEDOUT
    except OSError as error:
        code = error.errno or errno.EIO
    if code:
        raise ConnectError(os.strerror(code))
