"""Client of the address verification database, verify(8).

The connection is kept for a next request, and made again after it was idle or is old. A request is repeated, a second
apart, until it is answered: an address probe that is not reported would be made again and again.

Source: verify_clnt(3), clnt_stream(3), spec/smtp-client.md 1.7, 15.4, 15.8.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from postfixpy import log

from .attributes import ProtocolError, encode
from .channel import Channel, connect
from .message import Message

PROTOCOL = "address_verification_prrotocol"  # the wire has it so
ANNOUNCEMENT = encode([("protocol", PROTOCOL)])

OK, FAIL, BAD = 0, -1, -2
"""Answers: done, failed, bad request."""

DELIVERABLE, DEFERRED, UNDELIVERABLE, UNKNOWN = 0, 1, 2, 3
"""States of an address; UNKNOWN: a probe is under way."""

M = TypeVar("M", bound=Message)


@dataclass(slots=True)
class Update(Message):
    """Tell the state of an address."""

    request: str
    address: str
    recipient_status: int
    reason: str


@dataclass(slots=True)
class Query(Message):
    """Ask for the state of an address."""

    request: str
    address: str


@dataclass(slots=True)
class Status(Message):
    """The answer to Update."""

    status: int


@dataclass(slots=True)
class State(Message):
    """The answer to Query."""

    status: int
    recipient_status: int
    reason: str


class VerifyClient:
    """A client of the service at `path`. Safe to share between tasks of one event loop: requests take turns.

    `timeout`, `idle` and `ttl` are ipc_timeout, ipc_idle and ipc_ttl, seconds. `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        path: str = "private/verify",
        *,
        timeout: float = 3600.0,
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

    async def update(self, address: str, state: int, reason: str) -> int:
        """Report the state of `address` (internal form). OK, FAIL or BAD."""
        return (await self._exchange(Update("update", address, state, reason), Status)).status

    async def query(self, address: str) -> tuple[int, int, str]:
        """OK, FAIL or BAD; the state of `address`; and the reason."""
        answer = await self._exchange(Query("query", address), State)
        return answer.status, answer.recipient_status, answer.reason

    def close(self) -> None:
        """Hang up. The next request connects again."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _exchange(self, message: Message, kind: type[M]) -> M:
        tries = 0
        async with self._turn:
            while True:
                tries += 1
                try:
                    channel = await self._access()
                    channel.send_message(message)
                    answer = await channel.read(kind)
                except (ProtocolError, OSError) as error:
                    self.close()
                    if tries > 1:
                        reason = error.strerror if isinstance(error, OSError) else error.reason
                        log.warning(f"problem talking to service {self.path.rpartition('/')[2]}: {reason}")
                    await self._sleep(1)
                else:
                    self._idle_timer = asyncio.get_running_loop().call_later(self.idle, self.close)
                    return answer

    async def _access(self) -> Channel:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._channel is not None and self._clock() >= self._expires:
            self.close()
        if self._channel is None:
            channel = await connect(self.path, timeout=self.timeout)
            self._channel, self._expires = channel, self._clock() + self.ttl
            await channel.read_announcement(PROTOCOL)
        return self._channel
