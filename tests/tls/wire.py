"""A client's handshake with a scripted server, in memory."""

from typing import Any

from postfixpy.smtp.effects import Read, Run, StartTLS, Write
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.peers import Network
from postfixpy.tls.context import ClientContext
from postfixpy.tls.handshake import TLSRequest, TLSState
from postfixpy.tls.level import Level

from .conftest import CERTIFICATES

NAMADDR = "MX.server.example[127.0.0.1]:25"
LOWER = NAMADDR.lower()


class Talk:
    """One server, and connections to it."""

    def __init__(self, *connections: list[str]) -> None:
        self.clock = Clock()
        self.network = Network({"127.0.0.1:25": list(connections)}, self.clock, str(CERTIFICATES))
        self.memory = Memory(self.network, self.clock, lambda outcome: 0)

    def shake(self, context: ClientContext, level: Level = Level.MAY, **options: Any) -> TLSState:
        """Connect, shake hands, say hello and hear the answer; the state afterwards. Raises HandshakeError."""
        return self.memory.run(self._shake(TLSRequest(context, NAMADDR, level, **options)))

    def _shake(self, request: TLSRequest) -> Run[TLSState]:
        from postfixpy.smtp.effects import Connect, Hangup

        link = yield from Connect(4, "127.0.0.1", 25)
        try:
            state = yield from StartTLS(link, request, 30.0)
            yield from Write(link, b"HELLO\r\n", 30.0)
            assert (yield from Read(link, 30.0)) == b"WELCOME\r\n"
        finally:
            yield from Hangup(link)
        return state

    @property
    def seen(self) -> list[bytes]:
        """What the server saw on the last connection."""
        return self.network.peers[-1][1].chunks


def server(step: str) -> list[str]:
    """The script of a server that answers one line in TLS."""
    return [f"starttls {step}", "< HELLO", "> WELCOME", "close"]
