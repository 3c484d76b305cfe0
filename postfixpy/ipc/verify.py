"""Client of the address verification database, verify(8).

The connection is kept for a next request, and made again after it was idle or is old. A request is repeated, a second
apart, until it is answered: an address probe that is not reported would be made again and again.

Source: verify_clnt(3), clnt_stream(3), spec/smtp-client.md 1.7, 15.4, 15.8.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from postfixpy import log

from .attributes import ProtocolError, encode
from .message import Message
from .persistent import PersistentClient

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


class VerifyClient(PersistentClient):
    """A client of the service at `path`. `timeout`, `idle` and `ttl` are ipc_timeout, ipc_idle and ipc_ttl, seconds."""

    protocol = PROTOCOL

    def __init__(self, path: str = "private/verify", *, timeout: float = 3600.0, **more: Any) -> None:
        super().__init__(path, timeout=timeout, **more)

    async def update(self, address: str, state: int, reason: str) -> int:
        """Report the state of `address` (internal form). OK, FAIL or BAD."""
        return (await self._exchange(Update("update", address, state, reason), Status)).status

    async def query(self, address: str) -> tuple[int, int, str]:
        """OK, FAIL or BAD; the state of `address`; and the reason."""
        answer = await self._exchange(Query("query", address), State)
        return answer.status, answer.recipient_status, answer.reason

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
                    self._keep()
                    return answer
