"""A scripted SMTP server on a loopback socket, in a thread: for the few tests that need a real connection."""

import socket
import threading


class ScriptedServer:
    """Plays one list of steps a connection: bytes to send, or None to read up to a line end (or the final dot).

    The last step, "close" or "stall", says what to do at the end of the script.
    """

    def __init__(self, *scripts: list[bytes | str | None], path: str = "") -> None:
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(5)
            self.port = 0
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        self.scripts = scripts
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listener.close()
        self._thread.join(5)

    def _run(self) -> None:
        for number, script in enumerate(self.scripts):
            connection, _ = self.listener.accept()
            self.received.append(b"")
            with connection:
                try:
                    self._play(connection, script, number)
                except OSError:
                    pass

    def _play(self, connection: socket.socket, script: list[bytes | str | None], number: int) -> None:
        buffer = b""
        for step in script:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif step == "stall":
                while data := connection.recv(65536):
                    self.received[number] += data
            elif step == "close":
                return
            else:
                end = b"\r\n.\r\n" if step == "data" else b"\r\n"
                while end not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    self.received[number] += data
                    buffer += data
                buffer = buffer.partition(end)[2]


def good(*extra: bytes | str | None) -> list[bytes | str | None]:
    """A server that takes one message."""
    return [
        b"220 server ESMTP\r\n", None, b"250 server\r\n", None, b"250 ok\r\n", None, b"250 ok\r\n", None, b"354 go\r\n",
        "data", b"250 2.0.0 queued\r\n", *(extra or ("stall",)),
    ]  # fmt: skip
