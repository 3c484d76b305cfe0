"""Connections that another process passes to a service of type `pass`, with their attributes (pass_accept(3)).

The peer connects, sends the descriptor of its client with one byte, then the attributes: as an attribute list, or
as the lines that postscreen(8) and smtpd(8) send. Every wait has a limit.
"""

import asyncio
import os
import socket

from .attributes import ProtocolError, decode_text, parse

PASS_TIMEOUT = 100.0
"""Seconds that a peer may take for the descriptor, and again for the attributes."""


async def receive_passed(client: socket.socket) -> tuple[socket.socket, dict[str, str]]:
    """The connection that a peer passes to us, and its attributes (pass_accept_attr(3)); closes `client`.

    Raises OSError and ProtocolError.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    data = bytearray()
    try:
        while not received:
            readable = asyncio.Event()
            loop.add_reader(client.fileno(), readable.set)
            try:
                async with asyncio.timeout(PASS_TIMEOUT):
                    await readable.wait()
            finally:
                loop.remove_reader(client.fileno())
            first, received, _, _ = socket.recv_fds(client, 1, 1)
            if not first and not received:
                raise ProtocolError("pass_accept: cannot receive file descriptor: the peer hung up")
        while bytes(data) not in (b"\0", b"\n") and not data.endswith((b"\0\0", b"\n\n")):
            async with asyncio.timeout(PASS_TIMEOUT):
                more = await loop.sock_recv(client, 4096)
            if not more or len(data) > 100_000:
                raise ProtocolError("pass_accept: cannot receive connection attributes")
            data += more
    except TimeoutError:
        raise ProtocolError("pass_accept: timeout receiving file descriptor") from None
    except BaseException:
        for fd in received:
            os.close(fd)
        raise
    finally:
        client.close()
    passed = socket.socket(fileno=received[0])
    passed.setblocking(False)
    if data.endswith(b"\0"):
        parsed = parse(data)
        pairs = parsed[0] if parsed is not None else []
    else:
        lines = decode_text(bytes(data)).split("\n")
        pairs = [(name, value) for name, equals, value in (line.partition("=") for line in lines) if equals]
    return passed, dict(pairs)
