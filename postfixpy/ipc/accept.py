"""Accepting clients on listening sockets that a master and sibling processes share (single_server(3), spec 15.3).

Only the process that holds the lock file ``pid/TRANSPORT.SERVICE`` waits for clients, and it lets go as soon as it has
accepted. Siblings that are the real Postfix block in flock(2); we must go on serving, so a thread does that for us.

Postfix accepts one client and serves it. We accept all that wait, up to the number of free sessions.
"""

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Callable

from postfixpy.errors import FatalError


class AcceptLock:
    """The lock file. All methods run in the event loop's thread."""

    def __init__(self, path: str) -> None:
        """Create or open `path`. Raises FatalError."""
        try:
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            what = "cannot open file" if os.path.lexists(path) else "cannot create file exclusively"
            raise FatalError(f"open lock file {path}: {what}: {os.strerror(error.errno or 0)}") from None
        self._waiting = False
        self.held = False

    def acquire(self, then: Callable[[], None]) -> bool:
        """True when we hold the lock now. Otherwise calls `then` when we do (once, however often this was called)."""
        if self.held:
            return True
        if self._waiting:
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._waiting = True
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._wait, args=(loop, then), daemon=True, name="accept lock").start()
            return False
        self.held = True
        return True

    def _wait(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            loop.call_soon_threadsafe(self._got, then)
        except RuntimeError:
            pass  # the loop has ended; so does the process, and with it the lock

    def _got(self, then: Callable[[], None]) -> None:
        self._waiting = False
        self.held = True
        then()

    def release(self) -> None:
        """Let a sibling have it."""
        if self.held:
            self.held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)


class Listeners:
    """The listening descriptors, watched or not. `ready` is called with a descriptor that has something to accept."""

    def __init__(self, fds: list[int], ready: Callable[[int], None], lock: AcceptLock | None) -> None:
        self._fds = fds
        self._ready = ready
        self._lock = lock
        self._wanted = False
        self._watching = False
        for fd in fds:
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)

    def open(self) -> None:
        """Watch, as soon as we have the lock."""
        self._wanted = True
        self._resume()

    def close(self) -> None:
        """Watch no more."""
        self._wanted = False
        self._unwatch()
        if self._lock is not None:
            self._lock.release()

    def shut(self) -> None:
        """Watch no more, for good, and close our copies of the descriptors."""
        self.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def yield_turn(self) -> None:
        """Let a sibling that waits for the lock have it, and queue behind it."""
        if self._lock is not None and self._lock.held:
            self._unwatch()
            self._lock.release()
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if not self._wanted:
            if self._lock is not None:
                self._lock.release()
            return
        if self._watching or (self._lock is not None and not self._lock.acquire(self._resume)):
            return
        self._watching = True
        loop = asyncio.get_running_loop()
        for fd in self._fds:
            loop.add_reader(fd, self._ready, fd)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            loop = asyncio.get_running_loop()
            for fd in self._fds:
                loop.remove_reader(fd)


def accept(fd: int) -> socket.socket | None:
    """The next client, or None when nobody waits any more. Raises OSError when the system has no room for it."""
    try:
        client, _ = os_accept(fd)
    except (BlockingIOError, ConnectionAbortedError, InterruptedError):
        return None
    client.setblocking(False)
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return client


def os_accept(fd: int) -> tuple[socket.socket, object]:
    """accept(2) on a descriptor that stays open."""
    listener = socket.socket(fileno=fd)
    try:
        return listener.accept()
    finally:
        listener.detach()
