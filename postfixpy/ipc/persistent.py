"""A client's connection to a service that is kept for a next request (clnt_stream(3)).

It is closed when it has been idle, or is old, and made again by the next request. Requests of the tasks that share it
take turns; what is to become of a failed one is the client's own affair.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from .channel import Channel, connect


class PersistentClient:
    """A client of the service at `path`. Safe to share between tasks of one event loop.

    `timeout`, `idle` and `ttl` are for one operation, without a request, and in all, seconds. `clock` and `sleep` are
    for tests.
    """

    protocol = ""
    """What the service announces when a client connects."""

    def __init__(
        self,
        path: str,
        *,
        timeout: float,
        idle: float = 5.0,
        ttl: float = 1000.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = path
        self.timeout, self.idle, self.ttl = timeout, idle, ttl
        self._clock, self._sleep = clock, sleep
        self._channel: Channel | None = None
        self._expires = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    def close(self) -> None:
        """Hang up. The next request connects again."""
        self._stop_timer()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _connect(self) -> Channel:
        """A new connection. Raises OSError."""
        return await connect(self.path, timeout=self.timeout)

    async def _access(self) -> Channel:
        """The connection, made when needed. Raises OSError, ProtocolError, and what `_connect` raises."""
        self._stop_timer()
        if self._channel is not None and self._clock() >= self._expires:
            self.close()
        if self._channel is None:
            channel = await self._connect()
            self._channel, self._expires = channel, self._clock() + self.ttl
            await channel.read_announcement(self.protocol)
        return self._channel

    def _keep(self) -> None:
        """A request is done: the connection is idle."""
        self._idle_timer = asyncio.get_running_loop().call_later(self.idle, self.close)

    def _stop_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
