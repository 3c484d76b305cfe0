"""The attribute protocol over a blocking socket."""

import socket

from postfixpy.ipc.attributes import Pair, encode, parse


class Stream:
    """A connection that carries attribute lists, and what was read beyond the last one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""

    def read(self) -> list[tuple[str, str]] | None:
        """One attribute list, None at the end."""
        while True:
            found = parse(self.rest)
            if found is not None:
                self.rest = self.rest[found[1] :]
                return found[0]
            data = self.sock.recv(65536)
            if not data:
                return None
            self.rest += data

    def bytes(self) -> bytes:
        """What comes next, whatever it is; nothing at the end."""
        data, self.rest = self.rest, b""
        return data or self.sock.recv(65536)

    def send(self, *pairs: Pair) -> None:
        self.sock.sendall(encode(list(pairs)))
