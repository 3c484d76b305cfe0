"""A small process between a real Postfix master and one of ours that serves many clients at once.

Why. After ``postfix reload`` a Postfix process that is busy finishes and exits; master meanwhile starts new ones,
because the busy one has told it TAKEN. Ours may be busy for long and yet count as available, so that master would start
nothing and new mail for that service would wait until the last old delivery is done. Therefore the process that master
knows is this one: it passes status messages on, and when master goes away or reloads it exits at once, while the
process that serves (its child) finishes its clients unwatched.

Our own master does not need this (postfixpy.services.master_service).
"""

import os
import select
import signal
import socket

from .master_status import LISTEN, SIZE, STATUS, pack, unpack


def split() -> None:
    """Become two processes. Returns in the one that serves; the other passes messages and ends the process.

    Call before other threads or an event loop exist, and only with a master on descriptor 5.
    """
    inner, outer = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        inner.close()
        os.dup2(outer.fileno(), STATUS)
        outer.close()
        return
    outer.close()
    for fd in (3, 4, *range(LISTEN, LISTEN + 256)):
        if fd != inner.fileno():
            try:
                os.close(fd)
            except OSError:
                pass  # not open
    os._exit(keep_door(inner, pid))


def keep_door(inner: socket.socket, pid: int) -> int:
    """Pass messages between the serving process `pid` and master until either goes. Returns the exit status."""
    poll = select.poll()
    poll.register(inner, select.POLLIN)
    poll.register(STATUS, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if inner.fileno() in ready:
            try:
                data = inner.recv(SIZE * 10)
            except OSError:
                data = b""
            if not data:
                return _end_like(pid)
            try:
                os.write(STATUS, b"".join(_renamed(data[n : n + SIZE]) for n in range(0, len(data), SIZE)))
            except (OSError, ValueError):
                return 0
        if STATUS in ready:
            return 0  # closing `inner` tells the serving process


def _renamed(message: bytes) -> bytes:
    """A status message in our own name."""
    _, generation, state = unpack(message)
    return pack(os.getpid(), generation, state)


def _end_like(pid: int) -> int:
    """Wait for a process and end the way it did: its exit status, or its signal."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status >= 0:
        return status
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
    return 1
