"""The remote servers of a scenario: threads that play the steps of postfixpy.migrate.scenario."""

import os
import socket
import struct
import threading
import time

from postfixpy.migrate import scenario
from postfixpy.sasl.testing import Scripted
from postfixpy.tls.scripted import TLS_ALERT, TLS_HANDSHAKE, ScriptedTLS

DEAF = 10.0
"""Seconds after which a server that does not read hangs up all the same."""


class ScriptedServer(threading.Thread):
    """One server address: each connection plays the next list of steps. `chunks` is what the clients sent."""

    def __init__(self, server: scenario.Server, queue_directory: str) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.chunks: list[tuple[str, list[bytes]]] = []
        if "/" in server.address:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(os.path.join(queue_directory, server.address))
        else:
            host, _, port = server.address.rpartition(":")
            host = host.strip("[]")
            self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((host, int(port)))
        self.listener.listen(10)

    def run(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            number += 1
            steps = self.server.connections[min(number, len(self.server.connections)) - 1]
            chunks: list[bytes] = []
            self.chunks.append((f"{self.server.address} {number}", chunks))
            threading.Thread(target=Play(connection, steps, chunks).run, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Play:
    """One connection."""

    def __init__(self, sock: socket.socket, steps: list[str], chunks: list[bytes]) -> None:
        self.sock = sock
        self.steps = steps
        self.chunks = chunks
        self.buffer = b""
        self.merge = False
        self.out = b""
        self.tls: ScriptedTLS | None = None

    def run(self) -> None:
        try:
            for step in self.steps:
                if not self.play(step):
                    return
            self.flush()
            while self.more():
                pass
        except OSError:
            pass
        finally:
            self.sock.close()

    def flush(self) -> None:
        if self.out and self.tls is None:
            self.sock.sendall(self.out)
        elif self.tls is not None:
            if self.out:
                self.tls.write(self.out)
            self.sock.sendall(self.tls.output())
        self.out = b""

    def more(self) -> bool:
        """Wait for input. False at the end."""
        data = self.sock.recv(65536)
        if self.tls is not None:
            return self.more_tls(self.tls, data)
        if not data:
            return False
        if not data.startswith(TLS_ALERT):
            self.take(data, b"[TLS hello]\r\n" if data.startswith(TLS_HANDSHAKE) else data)
        return True

    def more_tls(self, tls: ScriptedTLS, data: bytes) -> bool:
        """Input for TLS has come, b"" at the end. False when there is no more."""
        before = tls.story
        tls.feed(data)
        plain = tls.read()
        if tls.story and not before:
            self.chunks.append(tls.story.encode() + b"\r\n")
        if plain:
            self.take(plain, plain)
        self.sock.sendall(tls.output())
        return bool(data) and not tls.failed

    def take(self, data: bytes, shown: bytes) -> None:
        """`data` has come; the recording shows it as `shown`."""
        if self.merge:
            self.chunks[-1] += shown
        else:
            self.chunks.append(shown)
        self.buffer += data

    def play(self, step: str) -> bool:
        """One step. False when the connection is over."""
        word, _, rest = step.partition(" ")
        if word == ">":
            self.out += rest.encode("utf-8", "surrogateescape") + b"\r\n"
            return True
        if word == ">>":
            self.out += scenario.unescape(rest)
            return True
        self.flush()
        if word == "<":
            return self.line() is not None
        if word == "sasl":
            return self.converse(Scripted(rest))
        if word == "<data":
            return self.content()
        if word == "<bytes":
            while len(self.buffer) < int(rest):
                if not self.more():
                    return False
                self.merge = True
            return True
        if word == "starttls":
            self.tls = ScriptedTLS(rest, str(scenario.CERTIFICATES))
            while not self.tls.story:
                if not self.more():
                    return False
            return not self.tls.failed
        if word == "hello":
            if not self.more():
                return False
            self.buffer = b""
            return True
        if word == "sleep":
            time.sleep(float(rest))
            return True
        if word == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if word == "stall":
            while self.more():
                pass
            return False
        if word == "deaf":
            time.sleep(DEAF)
            return False
        if word == "slow":
            size, seconds = rest.split()
            return self.slow_content(int(size), float(seconds))
        if word == "close":
            if self.tls is not None and rest != "abruptly":
                self.tls.shut()
                self.flush()
            return False
        raise ValueError(step)

    def line(self) -> bytes | None:
        """The next line. None when the connection is over."""
        while b"\r\n" not in self.buffer:
            if not self.more():
                return None
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def converse(self, exchange: Scripted) -> bool:
        """The server's side of an authentication."""
        while (line := self.line()) is not None:
            reply = exchange.respond(line)
            if reply is None:
                return True
            self.out += reply
            self.flush()
        return False

    def slow_content(self, size: int, seconds: float) -> bool:
        """Read to the final dot at some pace, and forget it: how much of it comes is a matter of the system."""
        data = self.buffer
        while b"\r\n.\r\n" not in data:
            time.sleep(seconds)
            more = self.sock.recv(size)
            if not more:
                return False
            data = data[-4:] + more
        self.buffer = data.partition(b"\r\n.\r\n")[2]
        return True

    def content(self) -> bool:
        """Read to the final dot."""
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            if not self.more():
                return False
            self.merge = True
        self.merge = False
        end = 0 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n") + 2
        self.buffer = self.buffer[end + 3 :]
        return True
