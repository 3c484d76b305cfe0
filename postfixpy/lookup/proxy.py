"""proxy: tables: another table, opened by the proxymap(8) service on behalf of all who name it.

In a real Postfix system the service is there for the processes' many connections to databases, and for tables that a
chrooted process cannot reach. A process of ours serves many requests with few connections; so where the system has no
proxymap service (no socket of that name), the table is opened directly, as Postfix does for `Flags.NO_PROXY`.

Protocol: attributes, ``name NUL value NUL``, closed by an empty name; integers are unsigned 32-bit decimal.
"""

import asyncio
import os
import socket
from collections.abc import Iterator

from postfixpy import log
from postfixpy.lookup.network import NetworkTable, Pool, Stream, connect_unix, failure_text
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.table import Flags, OpenError, Settings, Table, TableError

OK, NO_KEY, RETRY, BAD, DENY, CONFIG = range(6)
FIRST, NEXT = 0, 1
MAX_REPLY = 1 << 20
TRIES = 10


class ProxyError(Exception):
    """The service broke the protocol."""


def encode(*pairs: tuple[str, str | int]) -> bytes:
    """An attribute list."""
    parts = []
    for name, value in pairs:
        text = str(value & 0xFFFFFFFF) if isinstance(value, int) else value
        parts.append(f"{name}\0{text}\0".encode("utf-8", "surrogateescape"))
    return b"".join(parts) + b"\0"


def decode(fields: list[bytes]) -> dict[str, str]:
    """The attributes whose names and values are `fields`."""
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    if len(texts) % 2:
        raise ProxyError("malformed reply")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def number(attributes: dict[str, str], name: str) -> int:
    """The integer attribute `name`."""
    text = attributes.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise ProxyError(f"no {name} in the reply")
    return int(text)


async def read_attributes(stream: Stream) -> dict[str, str]:
    """The next attribute list."""
    fields: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(stream.timeout):
                field = await stream.reader.readuntil(b"\0")
        except asyncio.IncompleteReadError:
            raise EOFError from None
        except asyncio.LimitOverrunError:
            raise ProxyError("reply too long") from None
        if field == b"\0" and len(fields) % 2 == 0:
            return decode(fields)
        size += len(field)
        if size > MAX_REPLY:
            raise ProxyError("reply too long")
        fields.append(field[:-1])


def socket_path(settings: Settings, service: str) -> str:
    """Where the service listens, seen from the queue directory or from elsewhere."""
    relative = f"private/{service}"
    if os.path.exists(relative):
        return relative
    return f"{getattr(settings, 'queue_directory', '/var/spool/postfix')}/{relative}"


def open_proxy(name: str, settings: Settings, flags: Flags, surrogates: bool, writable: bool = False) -> Table:
    """The table ``proxy:NAME``, or the table NAME itself when it is not to be, or cannot be, asked for by proxy."""
    service = str(getattr(settings, "proxywrite_service_name" if writable else "proxymap_service_name", "proxymap"))
    path = socket_path(settings, service)
    if flags & Flags.NO_PROXY or not os.path.exists(path):
        return open_table(name, settings, flags=flags, surrogates=surrogates, writable=writable)
    return Proxy(name, settings, flags, service, path)


class Proxy(NetworkTable):
    """A table behind the service that listens at `path`."""

    kind = "proxy"
    pause = 1.0

    def __init__(self, name: str, settings: Settings, flags: Flags, service: str, path: str) -> None:
        super().__init__(name, settings, flags, secure=True)
        self.service, self.path = service, path
        self.timeout = float(getattr(settings, "ipc_timeout", 3600))
        self.idle = float(getattr(settings, "ipc_idle", 5))
        self.server_flags = Flags.FIXED
        release = getattr(settings, "release", (3, 11))
        self.announced = release >= (3, 6)
        """Whether the service says first which protocol it speaks."""
        self.instances = release >= (3, 11)
        """Whether requests name the flags of the instance beside those of the request, as since Postfix 3.11."""
        # The server folds keys and checks UTF-8; it is told how by the flags.
        self.utf8 = self.fold = False
        self._first_contact()

    def _first_contact(self) -> None:
        """Ask for the kind of table: callers must know it before their first lookup. A silent server is asked later."""
        try:
            status, flags = self._open_request()
            if status == BAD and self.instances:
                self.instances = False  # a service from before Postfix 3.11
                status, flags = self._open_request()
        except (OSError, EOFError, ProxyError) as error:
            log.warning(f"dict_proxy_open: service {self.service}: {failure_text(error)}")
            return
        if status == DENY:
            raise OpenError(f'{self.service} service is not configured for table "{self.label}"')
        if status != OK:
            raise OpenError(f'{self.service} open failed for table "{self.label}": invalid request')
        self._take_flags(flags)

    def _open_request(self) -> tuple[int, int]:
        """The status and the flags with which the service answers "open". Blocks, but not for long."""
        name = "instance_flags" if self.instances else "flags"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(min(self.timeout, 10))
            connection.connect(self.path)
            if self.announced:
                _read_blocking(connection)
            connection.sendall(encode(("request", "open"), ("table", self.label), (name, int(self.flags))))
            reply = _read_blocking(connection)
            return number(reply, "status"), number(reply, "flags")

    def _take_flags(self, flags: int) -> None:
        self.server_flags = Flags(flags & 0x7FFFFFFF)
        self.pattern = bool(flags & Flags.PATTERN)

    async def aget(self, key: str) -> str | None:
        reply = await self._request("lookup", ("key", key))
        return reply.get("value", "") if reply is not None else None

    def put(self, key: str, value: str) -> bool:
        return self.blocking(self._request("update", ("key", key), ("value", value))) is not None

    def delete(self, key: str) -> bool:
        return self.blocking(self._request("delete", ("key", key))) is not None

    def items(self) -> Iterator[tuple[str, str]]:
        function = FIRST
        while (reply := self.blocking(self._request("sequence", ("function", function)))) is not None:
            yield reply.get("key", ""), reply.get("value", "")
            function = NEXT

    async def _request(self, request: str, *rest: tuple[str, str | int]) -> dict[str, str] | None:
        """The reply to a request, None for "not there". Raises TableError."""
        pool = self.per_loop(lambda: Pool(self._connect, self.idle))
        problem = ""
        for attempt in range(TRIES):
            if attempt > 1:
                await asyncio.sleep(self.pause)
            flags = [("instance_flags", int(self.flags))] if self.instances else []
            flags.append(("flags", int(self.server_flags if self.instances else self.flags)))
            data = encode(("request", request), ("table", self.label), *flags, *rest)
            try:
                async with pool.borrow() as stream:
                    await stream.send(data)
                    reply = await read_attributes(stream)
                    status = number(reply, "status")
                    if self.instances:
                        self._take_flags(number(reply, "flags"))
                if status <= DENY or status == CONFIG:
                    return self._judged(request, status, reply, rest)
                problem = f"unexpected reply status {status}"
            except (OSError, EOFError, ProxyError) as error:
                pool.drop_idle()
                problem = failure_text(error)
            if attempt:
                log.warning(f"dict_proxy_{request}: service {self.service}: {problem}")
        raise TableError(f"{self.name}: service {self.service}: {problem}", reason=problem)

    def _judged(
        self, request: str, status: int, reply: dict[str, str], rest: tuple[tuple[str, str | int], ...]
    ) -> dict[str, str] | None:
        if status == OK:
            return reply
        if status == NO_KEY:
            return None
        if status == BAD:
            what = f'{request} failed for table "{self.label}" key "{rest[0][1]}": invalid request'
            raise TableError(f"{self.service} {what}", fatal=True)
        if status == DENY:
            what = "service" if request in ("lookup", "sequence") else "update access"
            raise TableError(f'{self.service} {what} is not configured for table "{self.label}"', fatal=True)
        raise TableError(f"{self.name}: {request} failed", config=status == CONFIG)

    async def _connect(self) -> Stream:
        stream = await connect_unix(self.path, self.timeout)
        if not self.announced:
            return stream
        try:
            announced = await read_attributes(stream)
        except BaseException:
            stream.close()
            raise
        if announced.get("protocol") != "proxymap_protocol":
            stream.close()
            raise ProxyError("no announcement of the protocol")
        return stream


def _read_blocking(connection: socket.socket) -> dict[str, str]:
    data = b""
    while True:
        part = connection.recv(4096)
        if not part:
            raise EOFError
        data += part
        fields = data.split(b"\0")
        for index in range(0, len(fields) - 1, 2):
            if not fields[index]:
                return decode(fields[:index])
        if len(data) > MAX_REPLY:
            raise ProxyError("reply too long")
