"""Dovecot's authentication protocol, version 1: dovecot's auth service knows the users, and runs the mechanisms.

One connection carries all authentications of the process, by number. It is made when first needed, and again when it
was lost: an authentication that was under way then fails for now. Protocol: lines, fields separated by tabs; ours are
VERSION, CPID, AUTH, CONT and CANCEL, theirs VERSION, MECH, SPID, CUID, COOKIE, DONE, OK, FAIL and CONT.
"""

import asyncio
import base64
import os
import re

from .server import MAX_RESPONSE, Backend, Challenge, Exchange, Offer, Peer, Refused, Success

_LIMIT = 1 << 16
"""Bytes of a line; dovecot's own limit is 8192."""
_MOST_LINES = 1000
"""Lines of a handshake."""
_PROPERTIES = {
    "plaintext": "plaintext",
    "active": "active",
    "dictionary": "dictionary",
    "anonymous": "anonymous",
    "mutual-auth": "mutual",
    "forward-secrecy": "forward_secret",
    "private": "private",
}
_ESCAPES = str.maketrans({"\1": "\x011", "\t": "\1t", "\n": "\1n", "\r": "\1r", "\0": "\x010"})


def escape(text: str) -> str:
    """A field."""
    return text.translate(_ESCAPES)


def unescape(text: str) -> str:
    """What a field says."""
    meant = {"0": "\0", "1": "\1", "t": "\t", "n": "\n", "r": "\r"}
    return re.sub("\1(.)", lambda match: meant.get(match[1], match[1]), text, flags=re.DOTALL)


class Dovecot(Backend):
    """The auth service that listens at `path` (a socket), or at ``inet:host:port``. `timeout` is in seconds."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._path, self._timeout = path, timeout
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def offers(self, peer: Peer) -> list[Offer]:
        return [offer for offer in (await self._connect()).offers if not offer.private]

    def exchange(self, mechanism: str, peer: Peer) -> Exchange:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", mechanism):
            raise Refused("no such mechanism", protocol=True)
        return _Exchange(self, mechanism, peer)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> "_Connection":
        """A connection that works. Raises Refused."""
        async with self._opening:
            if self._connection is None or self._connection.lost:
                try:
                    async with asyncio.timeout(self._timeout):
                        self._connection = await _Connection.open(self._path)
                except (OSError, TimeoutError) as error:
                    reason = getattr(error, "strerror", None) or "no answer"
                    raise Refused(f"connect to {self._path}: {reason}", temporary=True) from None
            return self._connection

    async def ask(self, exchange: "_Exchange", command: str, rest: str) -> Challenge | Success:
        """Send a command of an exchange and wait for what it comes to. Raises Refused."""
        connection = exchange.connection
        if connection is None:
            connection = exchange.connection = await self._connect()
            exchange.number = connection.next_number()
        try:
            async with asyncio.timeout(self._timeout):
                found = await connection.ask(exchange.number, f"{command}\t{exchange.number}\t{rest}")
        except TimeoutError:
            connection.close()  # a late answer must not meet another question
            raise Refused(f"{self._path}: no answer within {self._timeout:g} seconds", temporary=True) from None
        except OSError:
            raise Refused(f"{self._path}: connection lost", temporary=True) from None
        return _meaning(found)


class _Exchange(Exchange):
    def __init__(self, backend: Dovecot, mechanism: str, peer: Peer) -> None:
        self._backend, self._mechanism, self._peer = backend, mechanism, peer
        self.connection: _Connection | None = None
        self.number = 0

    async def respond(self, data: bytes | None) -> Challenge | Success:
        if data is not None and len(data) > MAX_RESPONSE:
            raise Refused("a response that is too long", protocol=True)
        encoded = base64.b64encode(data).decode() if data is not None else None
        if self.connection is not None:
            return await self._backend.ask(self, "CONT", encoded or "")
        return await self._backend.ask(self, "AUTH", self._first(encoded))

    def _first(self, response: str | None) -> str:
        peer = self._peer
        fields = [f"service={peer.service}", "nologin", f"lip={peer.server}", f"rip={peer.client}"]
        fields += [f"lport={peer.server_port}"] if peer.server_port else []
        fields += [f"rport={peer.client_port}"] if peer.client_port else []
        fields += ["secured"] * peer.secured + ["valid-client-cert"] * peer.certified
        fields += [f"resp={response}"] if response is not None else []  # it must be the last
        return "\t".join((self._mechanism, *(escape(field) for field in fields)))

    async def cancel(self) -> None:
        if self.connection is not None and not self.connection.lost:
            self.connection.send(f"CANCEL\t{self.number}")


def _meaning(fields: list[str]) -> Challenge | Success:
    """What an OK, FAIL or CONT line says. Raises Refused."""
    kind, rest = fields[0], fields[2:]
    if kind == "CONT":
        try:
            return Challenge(base64.b64decode(rest[0] if rest else "", validate=True))
        except ValueError:
            raise Refused("malformed challenge from dovecot", temporary=True) from None
    values = {name: unescape(value) for name, _, value in (field.partition("=") for field in rest)}
    if kind == "OK" and values.get("user"):
        return Success(values["user"])
    if kind == "FAIL":
        reason = "".join(c if c.isprintable() else "?" for c in values.get("reason", "authentication failed"))[:200]
        code = values.get("code", "")
        raise Refused(reason, temporary="temp" in values or code == "temp_fail")
    raise Refused("malformed answer from dovecot", temporary=True)


class _Connection:
    """One connection, after its handshake. `lost`: of no more use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offers: list[Offer]) -> None:
        self.offers = offers
        self.lost = False
        self._reader, self._writer = reader, writer
        self._waiting: dict[int, asyncio.Future[list[str]]] = {}
        self._number = 0
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: str) -> "_Connection":
        """Connect and shake hands. Raises OSError."""
        if path.startswith("inet:"):
            host, _, port = path[5:].rpartition(":")
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_LIMIT)
        else:
            reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT)
        try:
            writer.write(f"VERSION\t1\t1\nCPID\t{os.getpid()}\n".encode())
            offers: list[Offer] = []
            for _ in range(_MOST_LINES):
                fields = await _line(reader)
                if fields[0] == "VERSION" and fields[1:2] != ["1"]:
                    raise OSError(0, "not version 1 of the protocol")
                if fields[0] == "MECH" and len(fields) > 1:
                    known = {_PROPERTIES[word]: True for word in fields[2:] if word in _PROPERTIES}
                    offers.append(Offer(fields[1].upper(), **known))
                if fields[0] == "DONE":
                    return cls(reader, writer, offers)
            raise OSError(0, "a handshake without end")
        except BaseException:
            writer.transport.abort()
            raise

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def send(self, line: str) -> None:
        self._writer.write(line.encode("utf-8", "surrogateescape") + b"\n")

    async def ask(self, number: int, line: str) -> list[str]:
        """The fields of the answer. Raises OSError."""
        if self.lost:
            raise ConnectionResetError
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.send(line)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self.lost = True
        self._task.cancel()
        self._writer.transport.abort()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError())

    async def _read(self) -> None:
        try:
            while True:
                fields = await _line(self._reader)
                if fields[0] not in ("OK", "FAIL", "CONT") or not fields[1:2] or not fields[1].isdigit():
                    continue
                future = self._waiting.get(int(fields[1][:18]))
                if future is not None and not future.done():
                    future.set_result(fields)
        except OSError:
            self.close()


async def _line(reader: asyncio.StreamReader) -> list[str]:
    """The fields of the next line. Raises OSError."""
    try:
        data = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ConnectionResetError from None
    return data[:-1].decode("utf-8", "surrogateescape").split("\t")
