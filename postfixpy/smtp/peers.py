"""Scripted servers in memory, and a network of them, for `memory`.

The steps of a server's script are those of postfixpy.migrate.scenario. A server that waits for input that does not come
makes the client wait to its time limit; a Read that would wait for ever is a time-out too.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.sasl.testing import Scripted
from postfixpy.tls.channel import Channel
from postfixpy.tls.client import ClientHandshake
from postfixpy.tls.handshake import LibraryError, TLSRequest, TLSState
from postfixpy.tls.scripted import TLS_ALERT, TLS_HANDSHAKE, ScriptedTLS

from . import effects
from .effects import ConnectError, StreamError

if TYPE_CHECKING:
    from .memory import Clock

BUFFERED = 1 << 20
"""Bytes that are on their way when a server hangs up: who writes more notices."""
SYSTEM_LIMIT = 127.0
"""Seconds after which Linux gives up connecting."""


def unescape(text: str) -> bytes:
    r"""The bytes of text with the escapes \r, \n, \\ and \xHH."""
    out = bytearray()
    for match in re.finditer(r"\\x([0-9a-f]{2})|\\([rn\\])|(.)", text, re.DOTALL):
        if match[1]:
            out.append(int(match[1], 16))
        elif match[2]:
            out += {"r": b"\r", "n": b"\n", "\\": b"\\"}[match[2]]
        else:
            out += match[3].encode()
    return bytes(out)


class Peer:
    """One connection to a scripted server. `chunks` is what the client sent, by write; content counts as one write.

    Where both speak TLS all goes through it, the client's side (`start_tls`) by our engine, the server's by another
    (postfixpy.tls.scripted); `chunks` has the plaintext, and what came of the handshake. `certificates` is the folder
    of the server's.
    """

    def __init__(self, steps: Sequence[str], clock: "Clock", certificates: str = "") -> None:
        self.steps = list(steps)
        self.certificates = certificates
        self._tls: ScriptedTLS | None = None
        self._channel: Channel | None = None
        self.clock = clock
        self.chunks: list[bytes] = []
        self.unexpected: list[str] = []
        self._input = bytearray()
        self._out = bytearray()
        self._pause = 0.0
        self._closed = ""
        self._reading_content = self._merge = False
        self._content = 0
        self._exchange: Scripted | None = None
        self._deaf = False
        self._pace = 0.0
        self._writes_after_close = 0
        self.tls: TLSState | None = None
        self.local = "127.0.0.1"
        self._step()

    # The client's side

    def write(self, data: bytes, limit: float = float("inf")) -> None:
        """Raises StreamError when the server has hung up, or does not read fast enough."""
        if self._deaf or len(data) * self._pace > limit:
            self.clock.now += limit
            raise StreamError("time")
        if self._channel is None:
            self._send(data)
            return
        try:
            self._channel.write(data)
        except LibraryError:
            raise StreamError("eof") from None
        self._send(self._channel.output())

    def read(self, limit: float) -> bytes:
        """Raises StreamError."""
        if self._channel is None:
            return self._receive(limit)
        try:
            while not (data := self._channel.read()) and not self._channel.closed:
                self._channel.receive(self._receive(limit))
        except LibraryError:
            raise StreamError("eof") from None
        finally:
            self._answer(self._channel)
        return data

    def start_tls(self, request: TLSRequest, limit: float) -> TLSState:
        """Shake hands. Raises HandshakeError."""
        shake = ClientHandshake(request)
        while True:
            try:
                state = shake.step()
            finally:
                self._answer(shake.channel)
            if state is not None:
                self._channel, self.tls = shake.channel, state
                return state
            try:
                shake.channel.receive(self._receive(limit))
            except StreamError as error:
                shake.lost("Connection timed out" if error.kind == "time" else "Connection reset by peer")

    def _answer(self, channel: Channel) -> None:
        """Send what the engine wants to say of its own accord."""
        data = channel.output()
        if data:
            try:
                self._send(data)
            except StreamError:
                pass  # the next read will tell

    def hang_up(self) -> None:
        """The client closes the connection."""
        if self._tls is not None and not self._tls.story and not self._closed:
            self._through(self._tls, b"")
        if self._channel is not None:
            self._channel.shut()
            self._channel.free()

    def _send(self, data: bytes) -> None:
        """Raises StreamError when the server has hung up."""
        if len(data) > BUFFERED:
            for start in range(0, len(data), BUFFERED):
                self._send(data[start : start + BUFFERED])
            return
        if self._pace:
            self.clock.now += len(data) * self._pace
            self._input += data
            self._step()
            return
        if self._closed:
            self._writes_after_close += 1
            if self._closed == "reset" or self._writes_after_close > 1:
                raise StreamError("eof")
            return  # nobody reads it
        if self._tls is None and self._at_tls():
            self._tls = ScriptedTLS(self.steps[0].partition(" ")[2], self.certificates)
        if self._tls is not None:
            data = self._through(self._tls, data)
        self._take(data)
        self._step()

    def _take(self, data: bytes) -> None:
        """Plaintext has come from the client, or TLS that nobody here understands."""
        if self._tls is None and data.startswith(TLS_ALERT):
            return
        self._input += data
        if self._tls is None and data.startswith(TLS_HANDSHAKE):
            data = b"[TLS hello]\r\n"
        if not data:
            return
        if self._merge:
            self.chunks[-1] += data
        else:
            self.chunks.append(data)
        self._merge = self._reading_content

    def _at_tls(self) -> bool:
        return bool(self.steps) and self.steps[0].startswith("starttls ")

    def _through(self, tls: ScriptedTLS, data: bytes) -> bytes:
        """Give the server's TLS what the client has sent; returns what it says in plaintext."""
        before = tls.story
        tls.feed(data)
        plain = tls.read()
        if tls.story and not before:
            self.chunks.append(tls.story.encode() + b"\r\n")
        self._out += tls.output()
        if tls.failed:
            self._closed = "close"
        return plain

    def _receive(self, limit: float) -> bytes:
        """Raises StreamError."""
        if self._out:
            if self._pause > limit:
                self.clock.now += limit
                raise StreamError("time")
            self.clock.now += self._pause
            self._pause = 0.0
            data = bytes(self._out)
            self._out.clear()
            self._step()
            return data
        if self._closed:
            self.clock.now += self._pause
            if self._closed == "reset":
                raise StreamError("eof")
            return b""
        self.clock.now += limit
        raise StreamError("time")

    def pending(self) -> bool:
        return bool(self._out) or bool(self._closed)

    def send_buffer(self) -> int:
        return 0

    # The server's side

    def _step(self) -> None:
        while self.steps and not self._closed:
            word, _, rest = self.steps[0].partition(" ")
            if word == "starttls":
                if self._tls is None or not self._tls.story:
                    return
            elif word == ">":
                self._say(rest.encode("utf-8", "surrogateescape") + b"\r\n")
            elif word == ">>":
                self._say(unescape(rest))
            elif word == "hello":
                if not self._input:
                    return
                self._input.clear()
            elif word == "<":
                if not self._take_line(rest):
                    return
            elif word == "sasl":
                if not self._converse(rest):
                    return
            elif word == "<data":
                if not self._take_content():
                    return
            elif word == "<bytes":
                self._content += len(self._input)
                self._input.clear()
                self._reading_content = True
                if self._content < int(rest):
                    return
            elif word == "sleep":
                if self._out:
                    return  # what was said before the pause is read first
                self._pause += float(rest)
            elif word in ("close", "reset"):
                if self._tls is not None and word == "close" and rest != "abruptly":
                    self._tls.shut()
                    self._out += self._tls.output()
                self._closed = word
            elif word == "slow":
                size, seconds = rest.split()
                self._pace = float(seconds) / int(size)
                if not self._take_content():
                    return
                self._pace = 0.0
            elif word in ("stall", "deaf"):
                self._deaf = word == "deaf"
                return
            else:
                raise ValueError(f"unknown step: {self.steps[0]}")
            self.steps.pop(0)

    def _say(self, data: bytes) -> None:
        if self._tls is None:
            self._out += data
            return
        self._tls.write(data)
        self._out += self._tls.output()

    def _line(self) -> bytes | None:
        end = self._input.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        return line

    def _converse(self, words: str) -> bool:
        """The server's side of an authentication. True when it is over."""
        self._exchange = self._exchange or Scripted(words)
        while (line := self._line()) is not None:
            reply = self._exchange.respond(line)
            if reply is None:
                self._exchange = None
                return True
            self._say(reply)
        return False

    def _take_line(self, word: str) -> bool:
        data = self._line()
        if data is None:
            return False
        line = data.decode("utf-8", "surrogateescape")
        if not line.upper().startswith(word.upper()):
            self.unexpected.append(f"expected {word}, got {line}")
        return True

    def _take_content(self) -> bool:
        self._reading_content = True
        end = 0 if self._input.startswith(b".\r\n") else self._input.find(b"\r\n.\r\n") + 2
        if end == 1:
            return False
        del self._input[: end + 3]
        self._reading_content = self._merge = False
        return True


class Network:
    """Scripted servers by ``address:port`` or path. `peers` has every connection that was made, in order;
    `certificates` is the folder of the servers' certificates."""

    def __init__(self, servers: dict[str, list[list[str]]], clock: "Clock", certificates: str = "") -> None:
        self.clock = clock
        self.certificates = certificates
        self.scripts = {address: list(connections) for address, connections in servers.items()}
        self.counts: dict[str, int] = {}
        self.peers: list[tuple[str, Peer]] = []

    def connect(self, request: effects.Connect) -> Peer:
        """Raises ConnectError."""
        problem = _bind_problem(request.bind, request.family)
        if problem:
            log.warning(f"smtp_connect_addr: bind {request.bind}: {problem}")
            if request.must_bind:
                raise effects.BindError
        if request.address.startswith("192.0.2."):
            self.clock.now += request.limit or SYSTEM_LIMIT
            raise ConnectError("Connection timed out")
        host = f"[{request.address}]" if request.family == 6 else request.address
        name = f"{host}:{request.port}" if request.family else request.address
        scripts = self.scripts.get(name)
        if scripts is None:
            if request.family == 6 and request.address != "::1":
                raise ConnectError("Network is unreachable")
            refused = request.family or not request.address
            raise ConnectError("Connection refused" if refused else "No such file or directory")
        number = self.counts[name] = self.counts.get(name, 0) + 1
        peer = Peer(scripts[min(number, len(scripts)) - 1], self.clock, self.certificates)
        self.peers.append((f"{name} {number}", peer))
        return peer


def _bind_problem(address: str, family: int) -> str:
    if not address:
        return ""
    if (":" in address) != (family == 6):
        return "Invalid argument" if family == 6 else "Address family not supported by protocol"
    return "" if address.startswith("127.") or address == "::1" else "Cannot assign requested address"
