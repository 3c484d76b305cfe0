"""Client of the connection cache, scache(8) (spec/smtp-client.md 10, 15.9): connections that processes lend each other.

The service keeps open connections, each with the text that its next user needs, under an endpoint label; and
destination labels that lead to endpoint labels. Descriptors travel over the socket (SCM_RIGHTS). Labels and properties
are the caller's; this module looks into neither.

One connection to the service serves all requests of a process, one after another. It is closed when it has been idle,
and made again. A service that breaks the protocol is tried twice; then the cache is out of use for as long as the
process lives, with Postfix's warnings. A service that is not there is no failure here: nothing is found and nothing is
kept.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from postfixpy import log

from .attributes import ProtocolError
from .channel import Channel, connect
from .message import Message, attribute
from .persistent import PersistentClient

T = TypeVar("T")

PROTOCOL = "connection_cache_protocol"
OK, BAD, FAIL = range(3)
"""Values of `status`: done, a request that makes no sense, not found or not possible."""

TRIES = 2


@dataclass(slots=True)
class FindDestination(Message):
    """request=find_dest; answered by `Destination`."""

    request: str
    label: str


@dataclass(slots=True)
class Destination(Message):
    status: int
    destination: str = attribute("property")
    endpoint: str = attribute("property")


@dataclass(slots=True)
class FindEndpoint(Message):
    """request=find_endp; answered by `Endpoint`."""

    request: str
    label: str


@dataclass(slots=True)
class Endpoint(Message):
    status: int
    endpoint: str = attribute("property")


@dataclass(slots=True)
class SaveDestination(Message):
    """request=save_dest; answered by `Status`."""

    request: str
    ttl: int
    label: str
    properties: str = attribute("property")
    endpoint: str = attribute("label")


@dataclass(slots=True)
class SaveEndpoint(Message):
    """request=save_endp; answered by `Dummy`, the descriptor is sent, answered by `Status`."""

    request: str
    ttl: int
    label: str
    properties: str = attribute("property")


@dataclass(slots=True)
class Status(Message):
    status: int


@dataclass(slots=True)
class Dummy(Message):
    """Says "your turn": a descriptor is sent when nothing else is under way."""

    dummy: str


class _Absent(Exception):
    """There is no such service, which is no failure."""


class ScacheClient(PersistentClient):
    """A client of the service at `path`.

    `timeout` is connection_cache_protocol_timeout; `idle` and `ttl` are ipc_idle and ipc_ttl; seconds.
    """

    protocol = PROTOCOL

    def __init__(self, path: str = "private/scache", *, timeout: float = 5.0, **more: Any) -> None:
        super().__init__(path, timeout=timeout, **more)
        self.usable = True
        """False when the service has failed for good."""

    async def find_endpoint(self, label: str) -> tuple[int, str] | None:
        """A connection by its endpoint label: its descriptor, which is the caller's now, and its properties."""
        return await self._talk(lambda channel: _find_endpoint(channel, label))

    async def find_destination(self, label: str) -> tuple[int, str, str] | None:
        """By a destination label: the descriptor, the properties of the connection, and those of the destination."""
        return await self._talk(lambda channel: _find_destination(channel, label))

    async def save_endpoint(self, ttl: int, label: str, properties: str, descriptor: int) -> bool:
        """Let the service have a connection for `ttl` seconds (1 or more). The caller's descriptor stays open."""
        saved = await self._talk(lambda channel: _save_endpoint(channel, ttl, label, properties, descriptor))
        return saved is True

    async def save_destination(self, ttl: int, label: str, properties: str, endpoint: str) -> bool:
        """Let a destination label lead to an endpoint label."""
        saved = await self._talk(lambda channel: _save_destination(channel, ttl, label, properties, endpoint))
        return saved is True

    async def _talk(self, request: Callable[[Channel], Awaitable[T | None]]) -> T | None:
        async with self._turn:
            tries = 0
            while self.usable:
                reused = self._channel is not None
                try:
                    result = await request(await self._access())
                except _Absent:
                    return None
                except (ProtocolError, OSError, TimeoutError) as error:
                    self.close()
                    if reused and not isinstance(error, TimeoutError):
                        continue  # it hung up while we were idle; nothing is wrong
                    tries += 1
                    log.warning(f"problem talking to service {self.path}: {_reason(error)}")
                    if tries >= TRIES:
                        log.warning("disabling connection caching")
                        self.usable = False
                        break
                    await self._sleep(1)
                except BaseException:
                    self.close()  # an answer that comes now would be taken for another's
                    raise
                else:
                    self._keep()
                    return result
            return None

    async def _connect(self) -> Channel:
        try:
            return await connect(self.path, timeout=self.timeout, connect_timeout=self.timeout)
        except (FileNotFoundError, ConnectionRefusedError):
            raise _Absent from None


async def _find_endpoint(channel: Channel, label: str) -> tuple[int, str] | None:
    channel.send_message(FindEndpoint("find_endp", label))
    answer = await channel.read(Endpoint)
    if answer.status != OK:
        return None
    return await _receive(channel), answer.endpoint


async def _find_destination(channel: Channel, label: str) -> tuple[int, str, str] | None:
    channel.send_message(FindDestination("find_dest", label))
    answer = await channel.read(Destination)
    if answer.status != OK:
        return None
    return await _receive(channel), answer.endpoint, answer.destination


async def _save_endpoint(channel: Channel, ttl: int, label: str, properties: str, descriptor: int) -> bool | None:
    channel.send_message(SaveEndpoint("save_endp", ttl, label, properties))
    await channel.read(Dummy)
    await channel.send_descriptor(descriptor)
    return (await channel.read(Status)).status == OK


async def _save_destination(channel: Channel, ttl: int, label: str, properties: str, endpoint: str) -> bool | None:
    channel.send_message(SaveDestination("save_dest", ttl, label, properties, endpoint))
    return (await channel.read(Status)).status == OK


async def _receive(channel: Channel) -> int:
    channel.hold_input()
    channel.send_message(Dummy(""))
    descriptor = await channel.receive_descriptor()
    channel.send_message(Dummy(""))
    return descriptor


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, ProtocolError):
        return error.reason
    return str(error) or "Connection timed out"


def owned_socket(descriptor: int) -> socket.socket:
    """A received descriptor as a non-blocking socket. Raises OSError when it is none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    sock.setblocking(False)
    return sock
