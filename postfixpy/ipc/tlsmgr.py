"""The protocol of tlsmgr(8), which keeps TLS sessions for all processes, and its client.

The cache is an optimisation: a client that cannot reach the service goes without, and asks again later.

Source: tls_mgr(3), spec/smtp-client.md 15.9.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .attributes import ProtocolError
from .channel import Channel, connect
from .message import Message

PROTOCOL = "tlsmgr_protocol"
OK, ERROR, FAIL = 0, -1, -2
"""Answers: done; not found, or not possible; a bad request, or no such cache."""

_RETRY = 60.0
"""Seconds without the service after it could not be reached."""

M = TypeVar("M", bound=Message)


@dataclass(slots=True)
class Seed(Message):
    """Ask for random bytes."""

    request: str
    size: int


@dataclass(slots=True)
class Policy(Message):
    """Ask how a cache is kept."""

    request: str
    cache_type: str


@dataclass(slots=True)
class Lookup(Message):
    """Ask for a session, or (request "delete") have it removed."""

    request: str
    cache_type: str
    cache_id: str


@dataclass(slots=True)
class Update(Message):
    """Store a session."""

    request: str
    cache_type: str
    cache_id: str
    session: bytes


@dataclass(slots=True)
class TicketKey(Message):
    """Ask for the key with this name (16 bytes), or with b"" for the one to encrypt session tickets with."""

    request: str
    keyname: bytes


@dataclass(slots=True)
class Status(Message):
    """The answer to Update and to "delete"."""

    status: int


@dataclass(slots=True)
class SeedAnswer(Message):
    status: int
    seed: bytes


@dataclass(slots=True)
class PolicyAnswer(Message):
    """`timeout` in seconds."""

    status: int
    cachable: int
    timeout: int


@dataclass(slots=True)
class Session(Message):
    """The answer to Lookup."""

    status: int
    session: bytes


@dataclass(slots=True)
class KeyAnswer(Message):
    status: int
    keybuf: bytes


class TlsmgrClient:
    """A client of the service at `path`; tasks of one event loop may share it.

    `timeout` is in seconds; `clock` is for tests.
    """

    def __init__(
        self, path: str = "private/tlsmgr", *, timeout: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.timeout = path, timeout
        self._clock = clock
        self._channel: Channel | None = None
        self._not_before = 0.0
        self._turn = asyncio.Lock()

    async def policy(self, kind: str) -> tuple[bool, int]:
        """Whether the cache `kind` ("smtp", "lmtp", "smtpd") keeps sessions, and for how many seconds."""
        answer = await self._exchange(Policy("policy", kind), PolicyAnswer)
        return (False, 0) if answer is None or answer.status != OK else (bool(answer.cachable), answer.timeout)

    async def find(self, kind: str, key: str) -> bytes:
        """A session, b"" if there is none."""
        answer = await self._exchange(Lookup("lookup", kind, key), Session)
        return b"" if answer is None or answer.status != OK else answer.session

    async def save(self, kind: str, key: str, data: bytes) -> None:
        """Store a session; b"" removes what is there."""
        message = Update("update", kind, key, data) if data else Lookup("delete", kind, key)
        await self._exchange(message, Status)

    def close(self) -> None:
        """Hang up. The next request connects again."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _exchange(self, message: Message, kind: type[M]) -> M | None:
        """The answer, None when the service cannot be reached. A connection that has gone stale is made again."""
        async with self._turn:
            if self._clock() < self._not_before:
                return None
            for _ in range(2):
                fresh = self._channel is None
                try:
                    if self._channel is None:
                        self._channel = await connect(self.path, timeout=self.timeout)
                        await self._channel.read_announcement(PROTOCOL)
                    self._channel.send_message(message)
                    return await self._channel.read(kind)
                except (ProtocolError, OSError):
                    self.close()
                    if fresh:
                        break
            self._not_before = self._clock() + _RETRY
            return None
