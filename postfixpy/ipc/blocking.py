"""A blocking client of the attribute protocol, for commands: the counterpart of postfixpy.ipc.channel without asyncio.

    with connect("public/showq", timeout=3600) as client:
        client.read_announcement("queue_list_protocol")
        client.send(("request", "list"))
        pairs = client.read_list()

Every read has the client's time limit in seconds. Errors are ProtocolError with Postfix's texts; connecting raises
OSError.
"""

import os
import socket
import time
from typing import TYPE_CHECKING, TypeVar

from .attributes import Pair, ProtocolError, Value, encode, parse

if TYPE_CHECKING:
    from .message import Message

    M = TypeVar("M", bound=Message)

_CHUNK = 1 << 16


class Client:
    """A connection to a service. `peer` is its path, for texts."""

    def __init__(self, sock: socket.socket, peer: str, timeout: float | None = 3600.0) -> None:
        self.peer = peer
        self.socket = sock
        self.timeout = timeout
        self._buffer = bytearray()
        sock.settimeout(timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, *pairs: tuple[str, Value]) -> None:
        """Send one attribute list. Raises ProtocolError."""
        self.write(encode(pairs))

    def send_message(self, *messages: "Message") -> None:
        """Send typed messages. Raises ProtocolError."""
        self.write(b"".join(message.encode() for message in messages))

    def write(self, data: bytes) -> None:
        """Send bytes. Raises ProtocolError."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ProtocolError(f"write error on {self.peer}: {_reason(error)}") from None

    def _more(self, doing: str) -> bool:
        try:
            data = self.socket.recv(_CHUNK)
        except TimeoutError:
            raise ProtocolError(f"timeout on {self.peer} while {doing}") from None
        except OSError as error:
            raise ProtocolError(f"{_reason(error)} on {self.peer} while {doing}") from None
        self._buffer += data
        return bool(data)

    def read_list(self) -> list[Pair]:
        """One attribute list. Raises ProtocolError, also at the end of input."""
        while (parsed := parse(self._buffer)) is None:
            if not self._more("reading input attribute name"):
                raise ProtocolError(f"premature end-of-input on {self.peer} while reading input attribute name")
        pairs, end = parsed
        del self._buffer[:end]
        return pairs

    def at_end(self) -> bool:
        """Whether the peer has hung up and nothing is left to read; waits for either. Raises ProtocolError."""
        return not self._buffer and not self._more("reading input attribute name")

    def read(self, kind: "type[M]") -> "M":
        """One typed message. Raises ProtocolError."""
        return kind.parse(self.read_list(), self.peer)

    def read_announcement(self, protocol: str) -> list[Pair]:
        """The list that a server sends first; returns what follows the name. Raises ProtocolError."""
        from .message import check_announcement, is_silent, system_release

        release = system_release()
        if is_silent(protocol, release):
            return []
        return check_announcement(self.read_list(), protocol, release, self.peer)

    def read_bytes(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end of input. Raises ProtocolError."""
        if not self._buffer and not self._more("reading"):
            return b""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data


def connect(path: str, timeout: float | None = 3600.0, *, peer: str = "") -> Client:
    """Connect to the UNIX-domain socket `path`. Raises OSError.

    A path that is too long for a socket address goes through its directory. `peer` replaces the path in texts.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        connect_path(sock, path)
    except BaseException:
        sock.close()
        raise
    return Client(sock, peer or path, timeout)


def connect_path(sock: socket.socket, path: str) -> None:
    """Connect a UNIX-domain socket to a path of any length. Raises OSError."""
    if len(os.fsencode(path)) <= 100:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def connect_patiently(path: str, timeout: float | None, tries: int, pause: float = 1.0) -> Client:
    """`connect`, again after `pause` seconds while nobody listens, `tries` times in all. Raises OSError."""
    for left in range(tries - 1, -1, -1):
        try:
            return connect(path, timeout)
        except (ConnectionRefusedError, FileNotFoundError):
            if not left:
                raise
            time.sleep(pause)
    raise AssertionError(tries)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
