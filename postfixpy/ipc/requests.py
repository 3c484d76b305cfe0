"""Trigger requests and datagrams for a service: read, collected, acted upon one batch after another (trigger(3))."""

import asyncio
import os
import socket
from collections.abc import Callable

from postfixpy import log
from postfixpy.errors import FatalError

from .service import Service

TRIGGER_SIZE = 1024
TRIGGER_TIMEOUT = 10.0
"""Seconds that a peer may take to send its trigger."""

DATAGRAM_SIZE = 4096
DATAGRAMS = 1000
"""Datagrams that are read in one turn of the event loop."""


class Requests:
    """The requests that wait for `service`. `fatal` is called with the FatalError that it raises, `bug` with others."""

    def __init__(self, service: Service, fatal: Callable[[FatalError], None], bug: Callable[[Exception], None]) -> None:
        self._service = service
        self._fatal, self._bug = fatal, bug
        self._pending = bytearray()
        self._task: asyncio.Task[None] | None = None

    def add(self, data: bytes) -> None:
        """Add requests; one task acts on them, one batch after another."""
        self._pending += data.replace(b"\0", b"")
        if self._pending and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._act())

    async def _act(self) -> None:
        while self._pending:
            requests = bytes(self._pending)
            self._pending.clear()
            try:
                await self._service.triggered(requests)
            except FatalError as error:
                self._fatal(error)
            except Exception as error:
                self._bug(error)

    async def finish(self) -> None:
        """Wait until all that was added has been acted upon."""
        if self._task is not None:
            await self._task

    async def read_client(self, client: socket.socket) -> None:
        """One trigger from a connection, which is then closed."""
        try:
            async with asyncio.timeout(TRIGGER_TIMEOUT):
                data = await asyncio.get_running_loop().sock_recv(client, TRIGGER_SIZE)
        except (TimeoutError, OSError):
            return
        finally:
            client.close()
        self.add(data)

    def read_fifo(self, fd: int) -> None:
        """Triggers from a FIFO that is ready."""
        try:
            self.add(os.read(fd, TRIGGER_SIZE))
        except BlockingIOError:
            pass

    def read_datagrams(self, fd: int) -> None:
        """The datagrams that wait in a socket."""
        listener = socket.socket(fileno=fd)
        try:
            for _ in range(DATAGRAMS):
                self._service.datagram(listener.recv(DATAGRAM_SIZE))
        except BlockingIOError:
            pass
        except OSError as error:
            log.warning(f"failed to receive message with recv: {os.strerror(error.errno or 0)}")
        except FatalError as error:
            self._fatal(error)
        finally:
            listener.detach()
