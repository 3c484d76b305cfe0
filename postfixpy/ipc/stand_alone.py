"""A service's one client in stand-alone mode (-S): standard input and output, of whatever kind these are.

Files and terminals cannot be watched by an event loop, so two threads copy between them and a socket.
"""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from . import logging

_BLOCK = 65536


@asynccontextmanager
async def standard_streams() -> AsyncIterator[socket.socket]:
    """A socket that is standard input and output; at the end waits until all output has been written."""
    ours, theirs = socket.socketpair()

    def copy_in() -> None:
        try:
            while data := os.read(0, _BLOCK):
                theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the service has hung up

    def copy_out() -> None:
        try:
            while data := theirs.recv(_BLOCK):
                logging.write_all(1, data)
        except OSError:
            pass  # nobody reads our output any more

    threading.Thread(target=copy_in, daemon=True).start()
    writer = threading.Thread(target=copy_out)
    writer.start()
    ours.setblocking(False)
    try:
        yield ours
    finally:
        await asyncio.get_running_loop().run_in_executor(None, writer.join)
