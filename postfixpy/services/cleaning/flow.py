"""Flow control between those who receive mail and those who deliver it (postconf(5) in_flow_delay).

master(8) gives every service a pipe. The queue manager puts a byte into it for each message it takes from the queue; a
service that receives mail takes one for each message, and pauses when there is none, so that delivery can keep up.
"""

import os
import stat

READ_FD, WRITE_FD = 3, 4


class FlowControl:
    """The pipe's two ends, not blocking."""

    def __init__(self, read_fd: int = READ_FD, write_fd: int = WRITE_FD) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd

    @classmethod
    def inherited(cls) -> "FlowControl | None":
        """The pipe from master; None when master did not start this process, or gave it none."""
        if "GENERATION" not in os.environ:
            return None
        try:
            if not all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (READ_FD, WRITE_FD)):
                return None
        except OSError:
            return None
        os.set_blocking(READ_FD, False)
        os.set_blocking(WRITE_FD, False)
        return cls()

    def take(self) -> bool:
        """Take a token; False when there is none."""
        try:
            return os.read(self._read_fd, 1) != b""
        except OSError:
            return False

    def give(self) -> None:
        """Put a token back; a full pipe has enough."""
        try:
            os.write(self._write_fd, b"\0")
        except OSError:
            pass
