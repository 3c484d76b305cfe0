"""The wakeup call that master sends to services with a timer in master.cf: one byte, without waiting for anybody."""

import errno
import os
import socket

from postfixpy.config import MasterEntry

from .master_listen import host_port


def wake(entry: MasterEntry, name: str) -> None:
    """Send "W" to a service without waiting; `name` is its socket's or FIFO's path. Raises OSError."""
    if entry.type == "fifo":
        fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            os.write(fd, b"W")
        finally:
            os.close(fd)
    elif entry.type in ("unix", "pass"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect(name)
            if entry.type == "unix":
                sock.send(b"W")
                return
            near, far = socket.socketpair()
            with near, far:
                near.send(b"W")
                socket.send_fds(sock, [b"\0"], [far.fileno()])
                sock.send(b"\0")
    elif entry.type == "inet":
        host, port = host_port(entry.name)
        with socket.create_connection((host or "127.0.0.1", port), timeout=1) as sock:
            sock.send(b"W")
    else:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
