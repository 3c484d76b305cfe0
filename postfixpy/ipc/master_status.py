"""The status channel between a service process and its master(8): descriptor 5 (spec/smtp-client.md 15.1, 15.3).

A message is the native structure ``int pid, unsigned generation, int avail``: 12 bytes. Master counts a process as
available from the moment it starts it; TAKEN says that it waits for no more clients, AVAIL that it does again. The
channel works in both directions, so that end of input on it means that master is gone, or is reloading.

Also the descriptors of the flow-control pipe, which cleanup empties and the queue manager fills (mail_flow(3)).
"""

import os
import struct

FLOW_READ, FLOW_WRITE, STATUS, LISTEN = 3, 4, 5, 6
"""Descriptors that a service inherits: the flow-control pipe, this channel, and the listening sockets."""

TAKEN, AVAIL = 0, 1

_MESSAGE = struct.Struct("=iIi")
SIZE = _MESSAGE.size


def pack(pid: int, generation: int, state: int) -> bytes:
    """A status message. `generation` is what master put, in octal, in $GENERATION."""
    return _MESSAGE.pack(pid, generation, state)


def unpack(data: bytes) -> tuple[int, int, int]:
    """(pid, generation, state). Raises ValueError for a partial message."""
    if len(data) != SIZE:
        raise ValueError(f"status message of {len(data)} bytes")
    pid, generation, state = _MESSAGE.unpack(data)
    return pid, generation, state


class Status:
    """A service's side of the channel. `fd` -1: no master (stand-alone)."""

    def __init__(self, generation: int, fd: int = STATUS) -> None:
        self.generation = generation
        self.fd = fd

    def tell(self, *states: int) -> bool:
        """Send status messages; False when master has gone."""
        if self.fd < 0:
            return True
        try:
            # One write, so that a master that reads all there is does not act on the first of two.
            os.write(self.fd, b"".join(pack(os.getpid(), self.generation, state) for state in states))
        except OSError:
            return False
        return True


def flow_get(count: int, fd: int = FLOW_READ) -> bool:
    """Take `count` tokens; False when there are fewer, and then none is taken (mail_flow_get(3))."""
    try:
        if flow_count(fd) < count:
            return False
        return len(os.read(fd, count)) == count
    except OSError:
        return False


def flow_put(count: int, fd: int = FLOW_WRITE) -> None:
    """Give `count` tokens. A pipe that is full has enough of them, and a missing one needs none."""
    try:
        os.set_blocking(fd, False)
        os.write(fd, b"\0" * count)
    except OSError:
        pass


def flow_count(fd: int = FLOW_READ) -> int:
    """Tokens in the pipe. Raises OSError."""
    import fcntl
    import termios

    found = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(found, "little")
