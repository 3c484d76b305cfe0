"""Which connections of the SMTP client stay in the process, and which go to scache(8) for other processes (spec 10).

One process of ours serves all requests of its row, so nearly always the next user of a connection is in the same
process, and needs no hop:

* A connection that may be used again is kept in the process (`postfixpy.smtp.pool`).
* A process that takes no more requests (reload, max_use, idle) leaves its connections to scache(8), for the process
  that comes after it, ours or the real smtp(8): when a delivery ends, and at the end whatever the pool still has.
* Who finds nothing in its own pool asks scache(8): in the first `EARLY` seconds of the process, and for as long again
  after each find. A process that has been alone for longer has no relatives that could have left something.

Labels and properties are those of the real smtp(8) of the same release, so the two use each other's connections. A
connection with TLS is of no use without its keys: it stays in the process.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfixpy.ipc.scache import ScacheClient, owned_socket
from postfixpy.smtp.effects import CacheFind, CacheSave
from postfixpy.smtp.sockets import Link

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.smtp.edge import Edge

    from .smtp import Smtp

Found = tuple[Link, str, str]

EARLY = 30.0
"""Seconds."""


class Lending:
    """The two caches together. `service` says whether its process is ending. `clock` is for tests."""

    def __init__(
        self, service: "Smtp", edge: "Edge", view: "View", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._edge = edge
        self._clock = clock
        self._until = clock() + EARLY
        self.scache = ScacheClient(
            f"private/{view.connection_cache_service_name}",
            timeout=view.connection_cache_protocol_timeout,
            idle=view.ipc_idle,
            ttl=view.ipc_ttl,
        )

    async def find(self, effect: CacheFind) -> Found | None:
        """A connection with a label: (link, endpoint properties, destination properties)."""
        kept: Found | None = self._edge.pool.find(effect)
        if kept is not None or self._clock() > self._until:
            return kept
        about = ""
        if effect.by_destination:
            by_destination = await self.scache.find_destination(effect.label)
            if by_destination is None:
                return None
            descriptor, properties, about = by_destination
        else:
            by_endpoint = await self.scache.find_endpoint(effect.label)
            if by_endpoint is None:
                return None
            descriptor, properties = by_endpoint
        self._until = self._clock() + EARLY
        try:
            return Link(owned_socket(descriptor)), properties, about
        except OSError:
            return None

    async def save(self, effect: CacheSave) -> None:
        """Keep a connection."""
        if self._service.draining:
            await self._lend(effect)
        else:
            await self._edge.keep(effect)

    async def leave(self) -> None:
        """Leave everything that is kept to other processes."""
        for effect in self._edge.pool.take_all():
            await self._lend(effect)
        self.scache.close()

    async def _lend(self, effect: CacheSave) -> None:
        link, ttl = effect.link, int(effect.ttl)
        try:
            if ttl < 1 or not link.lendable:
                return
            if effect.destination_label:
                await self.scache.save_destination(
                    ttl, effect.destination_label, effect.destination_properties, effect.label
                )
            link.sock.setblocking(True)  # of the connection, not of this descriptor: the real smtp(8) expects it
            await self.scache.save_endpoint(ttl, effect.label, effect.properties, link.sock.fileno())
        finally:
            link.close()
