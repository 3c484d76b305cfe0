"""Triggers: a few request bytes to a service that acts on them and says nothing (trigger(3), mail_trigger(3)).

"W" wakes up pickup and the queue manager; the queue manager knows more letters. The service's end point is a FIFO or a
UNIX-domain socket, whichever its row in master.cf says.
"""

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

WAKEUP = b"W"


def trigger_blocking(path: str, requests: bytes, timeout: float = 10.0) -> None:
    """Send `requests` to the service at `path`. Raises OSError when nobody listens, or takes longer than `timeout`."""
    if stat.S_ISFIFO(os.stat(path).st_mode):
        _write_fifo(path, requests)
        return
    from .blocking import connect

    with connect(path, timeout) as client:
        client.socket.sendall(requests)


async def send_trigger(path: str, requests: bytes, timeout: float = 10.0) -> None:
    """The same from a service. Raises OSError (TimeoutError is one)."""
    import asyncio

    if stat.S_ISFIFO(os.stat(path).st_mode):
        _write_fifo(path, requests)
        return
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        transport, _ = await loop.create_unix_connection(_protocol, path)
    transport.write(requests)
    transport.close()


def _protocol() -> "asyncio.Protocol":
    import asyncio

    return asyncio.Protocol()


def _write_fifo(path: str, requests: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(fd, requests)
    finally:
        os.close(fd)
