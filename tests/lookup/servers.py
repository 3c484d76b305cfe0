"""Scripted servers for the tables that ask one: on loopback, in a thread, each connection served by a function."""

import socket
import threading
from collections.abc import Callable


class Server:
    """A listening socket, TCP or (with `path`) in the file system. `serve` gets each connection's file object."""

    def __init__(self, serve: Callable[[socket.SocketIO], None], path: str = "") -> None:
        self.serve = serve
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0)) if not path else socket.socket(socket.AF_UNIX)
        if path:
            self.listener.bind(path)
            self.listener.listen()
        self.port = 0 if path else self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb", buffering=0) as file:
            try:
                self.serve(file)
            except OSError:
                pass  # the client has hung up

    def close(self) -> None:
        """Stop listening."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
