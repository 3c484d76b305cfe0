"""socketmap: tables (socketmap_table(5)): Sendmail's protocol, ``NAME KEY`` and ``OK VALUE`` in netstrings."""

import errno
import os

from postfixpy import log
from postfixpy.lookup.network import ConnectError, NetworkTable, Pool, Stream, connector, failure_text, left_over
from postfixpy.lookup.table import Flags, OpenError, Settings, TableError, lowercase, release

TIMEOUT = 100.0
MAX_IDLE, MAX_AGE = 10.0, 100.0
"""Seconds that an idle connection, and any connection, is used."""
MAX_REPLY = 100_000


TOO_LONG = "input exceeds size limit"


class NetstringError(Exception):
    """The peer does not speak in netstrings. str(error) is Postfix's text, `reason` the system's of a failed read."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


async def read_netstring(stream: Stream, limit: int) -> bytes:
    """The next netstring, of at most `limit` bytes."""
    length = digits = 0
    while (byte := await stream.exactly(1)) != b":":
        if not byte.isdigit():
            raise NetstringError("input format error")
        length, digits = 10 * length + int(byte), digits + 1
        if length >= 1 << 63 or digits > 100:
            raise NetstringError(TOO_LONG)
    if length > limit:
        raise NetstringError(TOO_LONG)
    data = await stream.exactly(length)
    try:
        if await stream.exactly(1) == b",":
            return data
    except EOFError:
        pass  # the same for Postfix
    except TimeoutError:
        raise NetstringError("input format error", os.strerror(errno.ETIMEDOUT)) from None
    raise NetstringError("input format error")


class Socketmap(NetworkTable):
    """``socketmap:inet:host:port:NAME`` or ``socketmap:unix:path:NAME``."""

    kind = "socketmap"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, pattern=True)
        service, colon, self.map_name = name.rpartition(":")
        if not colon:
            raise OpenError("socketmap requires server:socketmap argument")
        self.connect = connector(service, TIMEOUT)
        self.modern = release(settings) >= (3, 10)
        self.reason = left_over(service)
        self.max_reply = int(getattr(settings, "socketmap_max_reply_size", MAX_REPLY))

    async def aget(self, key: str) -> str | None:
        if self.flags & Flags.FOLD_MUL:
            key = lowercase(key)
        return self._answer(await self._exchange(key))

    async def _exchange(self, key: str) -> bytes:
        pool = self.per_loop(lambda: Pool(self.connect, MAX_IDLE, MAX_AGE))
        query = f"{self.map_name} {key}".encode("utf-8", "surrogateescape")
        for attempt in (0, 1):
            try:
                async with pool.borrow() as stream:
                    await stream.send(b"%d:%s," % (len(query), query))
                    return await read_netstring(stream, self.max_reply)
            except ConnectError as error:
                raise self._failed(str(error.strerror), str(error.strerror)) from None
            except (EOFError, ConnectionResetError, BrokenPipeError):
                if attempt == 0:  # the server was restarted: its old connections are dead
                    pool.drop_idle()
                    continue
                raise self._failed("unexpected disconnect") from None
            except TimeoutError:
                raise self._failed("time limit exceeded", os.strerror(errno.ETIMEDOUT)) from None
            except OSError as error:
                raise self._failed(failure_text(error), failure_text(error)) from None
            except NetstringError as error:
                too_long = str(error) == TOO_LONG
                modern = os.strerror(errno.EMSGSIZE) if too_long else "Application error"
                raise self._failed(str(error), modern if self.modern else error.reason) from None
        raise AssertionError("two attempts end in an answer or an error")

    def _failed(self, text: str, reason: str = "") -> TableError:
        log.warning(f"table {self.name} lookup error: {text}")
        return TableError(f"{self.name} lookup error: {text}", reason=reason or self.reason)

    def _answer(self, reply: bytes) -> str | None:
        status, blank, value = reply.partition(b"\0")[0].decode("utf-8", "surrogateescape").partition(" ")
        if status == "OK":
            return value if blank or self.modern else None
        if status == "NOTFOUND":
            return None
        what = {"TEMP": "temporary", "TIMEOUT": "timeout", "PERM": "permanent"}.get(status, "unknown")
        value = value.lstrip()
        detail = f": {log.printable(value)[:200]}" if value else ""
        log.warning(f"{self.name} socketmap server {what} error{detail}")
        raise TableError(f"{self.name}: {what} error", config=status == "PERM", reason=self.reason)
