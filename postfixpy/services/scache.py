"""scache(8): keeps connections that delivery agents lend each other for a short time.

One process. A request is an attribute list (postfixpy.ipc.scache); a connection comes and goes as a descriptor. What
is kept is what `postfixpy.smtp.pool` keeps, for connection_cache_ttl_limit at most. The hit rates are logged every
connection_cache_status_update_time, and at the end.

Differs from Postfix: the process does not end when nobody has been connected for max_idle, and it keeps
`pool.MAX_CONNECTIONS` connections at most; the oldest is closed for a new one.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import Message
from postfixpy.ipc.scache import (
    BAD,
    FAIL,
    OK,
    PROTOCOL,
    Destination,
    Dummy,
    Endpoint,
    FindDestination,
    FindEndpoint,
    SaveDestination,
    SaveEndpoint,
    Status,
)
from postfixpy.ipc.service import Context, Service
from postfixpy.smtp.effects import CacheFind
from postfixpy.smtp.pool import Pool

_KINDS: dict[str, type[Message]] = {
    "find_dest": FindDestination,
    "find_endp": FindEndpoint,
    "save_dest": SaveDestination,
    "save_endp": SaveEndpoint,
}
_NAMES = {
    "find_dest": "scache_find_dest_service",
    "find_endp": "scache_find_endp_service",
    "save_dest": "scache_save_dest_service",
    "save_endp": "scache_save_endp_service",
}


@dataclass(slots=True)
class Counts:
    """Since the last report: lookups that found something and that did not, and the most there was at a time."""

    dest_hits: int = 0
    dest_miss: int = 0
    endp_hits: int = 0
    endp_miss: int = 0
    dest_count: int = 0
    endp_count: int = 0
    sess_count: int = 0


class Scache(Service):
    """The service. `clock` is for tests."""

    single: ClassVar[bool] = True
    protocol: ClassVar[str] = PROTOCOL

    def __init__(self, context: Context, clock: Callable[[], float] = time.time) -> None:
        super().__init__(context)
        if context.words:
            raise FatalError(f"unexpected command-line argument: {context.words[0]}")
        self._clock = clock
        self.pool = Pool(clock, os.close)
        self._counts = Counts()
        self._since = 0.0
        self._reporting: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        self.ttl_limit: int = self.view.connection_cache_ttl_limit
        self._interval: int = self.view.connection_cache_status_update_time
        self._since = self._clock()
        self._reporting = asyncio.get_running_loop().call_later(self._interval, self._report_again)

    async def stop(self) -> None:
        for timer in (self._reporting, self._expiry):
            if timer is not None:
                timer.cancel()
        self._report()
        self.pool.clear()

    async def serve(self, channel: Channel) -> None:
        """The requests of one client, until it hangs up."""
        while await channel.wait_readable():
            pairs = await channel.read_list()
            if pairs == [("dummy", "")]:
                continue  # what a client says after it has received a descriptor
            name = pairs[0][1] if pairs and pairs[0][0] == "request" else ""
            kind = _KINDS.get(name)
            if kind is None:
                log.warning(f'unrecognized request: "{name}", ignored')
                channel.send_message(Status(BAD))
                continue
            try:
                request = kind.parse(pairs, channel.peer)
            except ProtocolError as error:
                log.warning(str(error))
                request = None
            if request is None or getattr(request, "ttl", 1) <= 0:
                log.warning(f"{_NAMES[name]}: bad or missing request parameter")
                channel.send_message(_refusal(name, BAD))
                continue
            await self._answer(channel, request)

    async def _answer(self, channel: Channel, request: Message) -> None:
        counts = self._counts
        if isinstance(request, SaveEndpoint):
            await self._save_endpoint(channel, request)
        elif isinstance(request, SaveDestination):
            self.pool.bind(min(request.ttl, self.ttl_limit), request.label, request.properties, request.endpoint)
            channel.send_message(Status(OK))
            self._measure()
        elif isinstance(request, FindDestination):
            found = self.pool.find(CacheFind(request.label, True))
            counts.dest_hits += found is not None
            counts.dest_miss += found is None
            answer: Message = _refusal("find_dest", FAIL) if found is None else Destination(OK, found[2], found[1])
            await self._give(channel, answer, found[0] if found is not None else -1)
        elif isinstance(request, FindEndpoint):
            found = self.pool.find(CacheFind(request.label, False))
            counts.endp_hits += found is not None
            counts.endp_miss += found is None
            answer = _refusal("find_endp", FAIL) if found is None else Endpoint(OK, found[1])
            await self._give(channel, answer, found[0] if found is not None else -1)

    async def _save_endpoint(self, channel: Channel, request: SaveEndpoint) -> None:
        channel.hold_input()
        channel.send_message(Dummy(""))
        try:
            descriptor = await channel.receive_descriptor()
        except ProtocolError as error:
            log.warning(f"scache_save_endp_service: unable to receive file descriptor: {error}")
            channel.send_message(Status(FAIL))
            return
        ttl = min(request.ttl, self.ttl_limit)
        self.pool.save_endpoint(ttl, request.label, request.properties, descriptor)
        channel.send_message(Status(OK))
        self._measure()
        if self._expiry is None:
            self._expire()

    @staticmethod
    async def _give(channel: Channel, answer: Message, descriptor: int) -> None:
        """Send an answer, and the descriptor that belongs to it, which is closed here."""
        channel.send_message(answer)
        if descriptor < 0:
            return
        try:
            await channel.read(Dummy)
            await channel.send_descriptor(descriptor)
        except ProtocolError as error:
            log.warning(f"cannot send file descriptor: {error}")
        finally:
            os.close(descriptor)  # the client says "dummy" once more when it has its copy: `serve` takes that

    def _expire(self) -> None:
        self._expiry = None
        wait = self.pool.expire()
        if wait > 0:
            self._expiry = asyncio.get_running_loop().call_later(wait + 0.01, self._expire)

    # Statistics

    def _measure(self) -> None:
        counts = self._counts
        destinations, endpoints, connections = self.pool.sizes()
        counts.dest_count = max(counts.dest_count, destinations)
        counts.endp_count = max(counts.endp_count, endpoints)
        counts.sess_count = max(counts.sess_count, connections)

    def _report_again(self) -> None:
        self._report()
        self._reporting = asyncio.get_running_loop().call_later(self._interval, self._report_again)

    def _report(self) -> None:
        c = self._counts
        if any(getattr(c, field.name) for field in fields(c)):
            log.info(f"statistics: start interval {time.ctime(self._since)[4:19]}")
        for what, hits, miss in (("domain", c.dest_hits, c.dest_miss), ("address", c.endp_hits, c.endp_miss)):
            if hits or miss:
                log.info(f"statistics: {what} lookup hits={hits} miss={miss} success={hits * 100 // (hits + miss)}%")
        if c.dest_count or c.endp_count or c.sess_count:
            most = f"domains={c.dest_count} addresses={c.endp_count} connection={c.sess_count}"
            log.info(f"statistics: max simultaneous {most}")
        self._counts = Counts()
        self._since = self._clock()


def _refusal(name: str, status: int) -> Message:
    if name == "find_dest":
        return Destination(status, "", "")
    return Endpoint(status, "") if name == "find_endp" else Status(status)
