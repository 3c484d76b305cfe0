"""A cleanup(8) that keeps what it is given, for the tests of services that send mail: a thread on a socket."""

import socket
import threading
from pathlib import Path

from postfixpy.ipc.attributes import encode, parse
from postfixpy.mail.records import RecordParser


class Message:
    """One conversation: the flags, the records, and whether the message came to its end."""

    def __init__(self, queue_id: str) -> None:
        self.queue_id = queue_id
        self.flags = ""
        self.records: list[tuple[str, bytes]] = []
        self.complete = False

    def text(self) -> str:
        """The content as lines."""
        lines = [payload for kind, payload in self.records if kind in "NL"]
        return b"\n".join(lines).decode("utf-8", "surrogateescape")


class FakeCleanup:
    """The service, as a context manager. `status` is its answer; `messages` all that came, in order."""

    def __init__(self, path: Path, status: int = 0) -> None:
        self.path, self.status = path, status
        self.messages: list[Message] = []

    def __enter__(self) -> "FakeCleanup":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(20)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(20)
                self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        message = Message(f"NEW{len(self.messages) + 1:05d}")
        self.messages.append(message)
        client.sendall(encode([("protocol", "cleanup_protocol"), ("queue_id", message.queue_id)]))
        buffer = b""
        parser = RecordParser()
        while data := client.recv(65536):
            if not message.flags:
                buffer += data
                parsed = parse(buffer)
                if parsed is None:
                    continue
                message.flags, data = dict(parsed[0])["flags"], buffer[parsed[1] :]
            parser.feed(data)
            message.records += parser
            if message.records and message.records[-1][0] == "E":
                message.complete = True
                client.sendall(encode([("status", self.status), ("reason", "")]))
                client.recv(1)
                return
