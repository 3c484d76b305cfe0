"""tcp: tables (tcp_table(5)): ``get KEY``, and ``200 VALUE``, ``400`` try later or ``500`` not there, %XX-encoded."""

import asyncio

from postfixpy import log
from postfixpy.lookup.network import NetworkTable, Pool, Stream, connect_inet, failure_text, left_over
from postfixpy.lookup.table import Flags, OpenError, Settings, TableError

TIMEOUT = 100.0
MAX_REPLY = 4096
MAX_TRIES = 10


def hex_quote(text: str) -> bytes:
    """``%``, white space and what is not printable ASCII as %XX."""
    return b"".join(
        b"%c" % byte if 0x20 < byte < 0x7F and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode("utf-8", "surrogateescape")
    )


def hex_unquote(data: bytes) -> str | None:
    """The reverse of `hex_quote`; None if it is malformed."""
    parts = data.split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        try:
            out.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
        except ValueError:
            return None
        if len(part) < 2 or b" " in part[:2]:
            return None
    return b"".join(out).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def shown(data: bytes) -> str:
    """At most 100 bytes of a reply, for a log text."""
    return "".join(char if char.isprintable() else "_" for char in data[:100].decode("utf-8", "replace"))


class Tcp(NetworkTable):
    """``tcp:host:port``. A lookup is tried ten times, a second apart."""

    kind = "tcp"
    pause = 1.0

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        if flags & Flags.NO_UNAUTH:
            raise OpenError(f"tcp:{name} map is not allowed for security sensitive data")
        super().__init__(name, settings, flags, pattern=True)

    async def aget(self, key: str) -> str | None:
        pool = self.per_loop(lambda: Pool(self._connect))
        for attempt in range(MAX_TRIES):
            if attempt:
                await asyncio.sleep(self.pause)
            try:
                async with pool.borrow() as stream:
                    return await self._ask(stream, key)
            except (OSError, EOFError, ValueError) as error:
                reason = f"read TCP map reply from {self.label}: "
                if isinstance(error, ValueError):
                    log.warning(f"{reason}text longer than {MAX_REPLY}")
                elif not getattr(error, "logged", False):
                    log.warning(f"{reason}unexpected EOF ({failure_text(error)})")
                last = failure_text(error)
        raise TableError(f"{self.name}: no answer", reason=last)

    async def _connect(self) -> Stream:
        try:
            return await connect_inet(self.label, TIMEOUT)
        except OSError as error:
            log.warning(f"connect to TCP map {self.label}: {failure_text(error)}")
            error.logged = True  # type: ignore[attr-defined]  # so that the caller does not log it a second time
            raise

    async def _ask(self, stream: Stream, key: str) -> str | None:
        await stream.send(b"get " + hex_quote(key) + b"\n")
        reply = await stream.line(MAX_REPLY)
        value = hex_unquote(reply[4:])
        if not (reply[:3].isdigit() and reply[3:4].isspace()) or value is None:
            log.warning(f"read TCP map reply from {self.label}: malformed reply: {shown(reply)}")
            raise TableError(f"{self.name}: malformed reply", reason=left_over("inet:"))
        if reply[:1] == b"2":
            return value
        if reply[:1] == b"5":
            return None
        if reply[:1] != b"4":
            log.warning(f"read TCP map reply from {self.label}: bad status code: {shown(reply)}")
        raise TableError(f"{self.name}: {shown(reply)}", reason=left_over("inet:"))
