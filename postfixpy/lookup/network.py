"""Tables that ask a server: connections in a pool, time limits, and a synchronous door for commands.

Services await; several lookups are under way at once, each on a connection of its own, up to `POOL_LIMIT`. A command
that calls `Table.lookup` runs the same code in an event loop of the table's own.
"""

import asyncio
import contextlib
import errno
import math
import os
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from postfixpy import log
from postfixpy.config.hostname import hostname_problem
from postfixpy.lookup.host_port import host_port
from postfixpy.lookup.table import Flags, OpenError, Settings, Table, TableError, error_text

POOL_LIMIT = 20
T = TypeVar("T")


class Closable(Protocol):
    """A connection."""

    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """Connections of one event loop to one server. `connect` makes one.

    Idle ones are kept for `max_idle` seconds, and none is used again when it is `max_age` seconds old.
    """

    def __init__(self, connect: Callable[[], Awaitable[C]], max_idle: float = 10.0, max_age: float = math.inf) -> None:
        self.connect = connect
        self.max_idle, self.max_age = max_idle, max_age
        self.made: weakref.WeakKeyDictionary[C, float] = weakref.WeakKeyDictionary()
        self.idle: list[tuple[C, asyncio.TimerHandle]] = []
        self.room = asyncio.Semaphore(POOL_LIMIT)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[C]:
        """A connection for one request. One that was in use when an exception passed is not used again."""
        async with self.room:
            if self.idle:
                connection, timer = self.idle.pop()
                timer.cancel()
            else:
                connection = await self.connect()
                self.made[connection] = asyncio.get_running_loop().time()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._keep(connection)

    def _keep(self, connection: C) -> None:
        def expire() -> None:
            self.idle = [kept for kept in self.idle if kept[0] is not connection]
            connection.close()

        loop = asyncio.get_running_loop()
        left = self.made[connection] + self.max_age - loop.time()
        self.idle.append((connection, loop.call_later(min(self.max_idle, left), expire)))

    def drop_idle(self) -> None:
        """Close what is idle: the server has gone, and they are all dead."""
        for connection, timer in self.idle:
            timer.cancel()
            connection.close()
        self.idle.clear()


async def _settled() -> None:
    """Let the transports that were closed finish: TLS needs a few turns of the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


class NetworkTable(Table):
    """A table behind a server. Subclasses implement `aget`."""

    def __init__(
        self, name: str, settings: Settings, flags: Flags, *, pattern: bool = False, secure: bool = False
    ) -> None:
        if flags & Flags.NO_UNAUTH and not secure:
            raise OpenError(f"{self.kind}:{name} map is not allowed for security-sensitive data")
        super().__init__(name, settings, flags, pattern=pattern)
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._per_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    async def aget(self, key: str) -> str | None:
        raise NotImplementedError

    def get(self, key: str) -> str | None:
        return self.blocking(self.aget(key))

    def blocking(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, for callers that cannot await. Inside an event loop, which it holds up, in a thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass  # the usual case: a command
        else:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(asyncio.run, self._once(work)).result()
        if self._own_loop is None:
            self._own_loop = asyncio.new_event_loop()
        return self._own_loop.run_until_complete(work)

    async def _once(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            await self._close_own()

    def per_loop(self, make: Callable[[], T]) -> T:
        """What `make` makes, once for each event loop: a pool, or pools, with a method `drop_idle`."""
        loop = asyncio.get_running_loop()
        found = self._per_loop.get(loop)
        if found is None:
            found = self._per_loop[loop] = make()
        result: T = found
        return result

    def close(self) -> None:
        loop, self._own_loop = getattr(self, "_own_loop", None), None
        if loop is None or loop.is_closed():
            return
        if found := self._per_loop.pop(loop, None):
            found.drop_idle()
        if asyncio._get_running_loop() is None:  # else the garbage collector calls, in the midst of something
            loop.run_until_complete(_settled())
        loop.close()

    async def _close_own(self) -> None:
        found = self._per_loop.get(asyncio.get_running_loop())
        if found is not None:
            found.drop_idle()
            await _settled()

    def __del__(self) -> None:
        self.close()


class Stream:
    """A stream connection with a time limit for each operation. Raises OSError (TimeoutError), EOFError, ValueError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self.reader, self.writer, self.timeout = reader, writer, timeout

    def close(self) -> None:
        """Hang up at once."""
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.writer.write(data)
        async with asyncio.timeout(self.timeout):
            await self.writer.drain()

    async def line(self, limit: int) -> bytes:
        """The next line without its newline. ValueError: longer than `limit`."""
        try:
            async with asyncio.timeout(self.timeout):
                data = await self.reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise EOFError from None
        except asyncio.LimitOverrunError:
            raise ValueError("line too long") from None
        if len(data) > limit + 1:
            raise ValueError("line too long")
        return data[:-1]

    async def exactly(self, length: int) -> bytes:
        """The next `length` bytes."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self.reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise EOFError from None


_BUFFER = 1 << 17


def _valid_host(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return True
    return not hostname_problem(host)


async def connect_inet(endpoint: str, timeout: float) -> Stream:
    """Connect to ``host:port``, with `timeout` for each address. Raises OSError; TableError for what is no endpoint."""
    host, service, problem = host_port(endpoint, _valid_host, host="localhost")
    if problem:
        raise TableError(f"{endpoint}: {problem}", fatal=True)
    port: str | int = service
    if service.isascii() and service.isdigit():
        port = int(service[:20]) % 65536  # as the C library has it
    host = host[5:] if host[:5].lower() == "ipv6:" else host
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        log.warning(f"host or service {endpoint} not found: {getattr(error, 'strerror', error)}")
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)) from None
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(sock, address)
            reader, writer = await asyncio.open_connection(sock=sock, limit=_BUFFER)
            return Stream(reader, writer, timeout)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


async def connect_unix(path: str, timeout: float) -> Stream:
    """Connect to a socket in the file system. Raises OSError."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_unix_connection(path, limit=_BUFFER)
    return Stream(reader, writer, timeout)


class ConnectError(OSError):
    """A connection could not be made; that is logged."""


def connector(service: str, timeout: float) -> Callable[[], Awaitable[Stream]]:
    """What connects to ``inet:host:port`` or ``unix:path``; it raises ConnectError.

    Raises OpenError with Postfix's text.
    """
    transport, _, endpoint = service.partition(":")
    if not transport or not endpoint:
        raise OpenError(f'need service transport:endpoint instead of "{service}"')
    if transport not in ("inet", "unix", "local"):
        raise OpenError(f"invalid transport name: {transport} in service: {service}")
    way = connect_inet if transport == "inet" else connect_unix

    async def connect() -> Stream:
        try:
            return await way(endpoint, timeout)
        except OSError as error:
            reason = failure_text(error)
            log.warning(f"connect to {endpoint}: {reason}")
            raise ConnectError(error.errno or errno.ETIMEDOUT, reason) from None

    return connect


def left_over(service: str) -> str:
    """The error text (``%m``) that Postfix shows for what is no system error: what its last connect() left behind."""
    return os.strerror(errno.EINPROGRESS) if service.startswith("inet:") else "Application error"


def load_driver(module: str, kind: str) -> Any:
    """The third-party `module` that the type `kind` needs. Raises OpenError that names the extra to install."""
    try:
        return import_module(module)
    except ImportError:
        need = f'it needs the extra: pip install "postfixpy[{kind}]"'
        raise OpenError(f"unsupported dictionary type: {kind} ({need})") from None


def failure_text(error: BaseException) -> str:
    """The system's text of a failed operation."""
    if isinstance(error, TimeoutError):
        return os.strerror(110)
    if isinstance(error, OSError):
        # asyncio wraps the errors of several addresses, and getaddrinfo has numbers of its own.
        return os.strerror(error.errno) if error.errno and 0 < error.errno < 200 else error_text(error)
    return "Success"
