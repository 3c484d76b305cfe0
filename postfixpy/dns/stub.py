"""The stub resolver: carries queries to the servers of resolv.conf over UDP and TCP, with asyncio.

It plays res_send(3) of the C library: the servers in turn, `attempts` rounds, the time limit doubled each round and
shared among the servers; an answer SERVFAIL, NOTIMP or REFUSED makes it try the next server; a truncated answer is
asked again over TCP. Each query goes out from a fresh socket, so its source port and its id are both unpredictable,
and only an answer from the server's own address with the same id and question counts (RFC 5452).
"""

import asyncio
import os
import secrets
import struct

from . import config, message
from .lookup import NoReply

_MAX_TCP = 65535


class _Datagrams(asyncio.DatagramProtocol):
    """Waits for the answer to one query; anything else that arrives is dropped."""

    def __init__(self, ident: int, name: str, rtype: int) -> None:
        self.ident, self.name, self.rtype = ident, name.rstrip(".").lower(), rtype
        self.answer: asyncio.Future[message.Reply] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) < 2 or int.from_bytes(data[:2], "big") != self.ident or self.answer.done():
            return
        try:
            reply = message.decode(data)
        except message.Malformed as error:
            if len(data) > 2 and data[2] & 2:  # truncated: cut anywhere
                self.answer.set_result(message.Reply(self.ident, 0, True, False, (self.name, self.rtype)))
            else:
                self.answer.set_exception(error)
            return
        if reply.question[0].lower() == self.name and reply.question[1] == self.rtype:
            self.answer.set_result(reply)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


class Stub:
    """Queries by the configuration in a resolv.conf file, which is read again when it changes."""

    def __init__(self, path: str = config.RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._turn = 0
        self.config = config.ResolverConfig()
        self.reload()

    def reload(self) -> None:
        """Read the configuration if the file has changed."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino)
        except OSError:
            stamp = (0, 0)
        if stamp != self._stamp:
            self._stamp = stamp
            self.config = config.read(self._path)

    async def __call__(self, name: str, rtype: int, dnssec: bool) -> message.Reply:
        """The reply of the first server that has one. Raises NoReply, or message.Malformed."""
        self.reload()
        settings = self.config
        servers = list(settings.servers)
        if settings.rotate:
            self._turn = (self._turn + 1) % len(servers)
            servers = servers[self._turn :] + servers[: self._turn]
        refused: set[tuple[str, int]] = set()
        for attempt in range(settings.attempts):
            limit = settings.timeout * (1 << attempt)
            if attempt:
                limit = max(1.0, limit / len(servers))
            for server in servers:
                if server in refused:
                    continue
                try:
                    reply = await self._ask(server, name, rtype, dnssec, limit)
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
                if reply.rcode in (message.SERVFAIL, message.NOTIMP, message.REFUSED):
                    refused.add(server)
                    continue
                return reply
        raise NoReply(name)

    async def _ask(self, server: tuple[str, int], name: str, rtype: int, dnssec: bool, limit: float) -> message.Reply:
        ident = secrets.randbits(16)
        try:
            query = message.encode_query(ident, name, rtype, dnssec=dnssec, edns=self.config.edns)
        except ValueError as error:
            raise message.Malformed(str(error)) from None
        if not self.config.use_tcp:
            reply = await self._ask_udp(server, query, ident, name, rtype, limit)
            if reply.rcode == message.FORMERR and (dnssec or self.config.edns):  # a server without EDNS
                query = message.encode_query(ident, name, rtype)
                reply = await self._ask_udp(server, query, ident, name, rtype, limit)
            if not reply.truncated:
                return reply
        async with asyncio.timeout(limit):
            return await self._ask_tcp(server, query)

    async def _ask_udp(
        self, server: tuple[str, int], query: bytes, ident: int, name: str, rtype: int, limit: float
    ) -> message.Reply:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Datagrams(ident, name, rtype), remote_addr=server
        )
        try:
            transport.sendto(query)
            async with asyncio.timeout(limit):
                return await protocol.answer
        finally:
            transport.close()

    async def _ask_tcp(self, server: tuple[str, int], query: bytes) -> message.Reply:
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            return message.decode(await reader.readexactly(min(size, _MAX_TCP)))
        finally:
            writer.close()
