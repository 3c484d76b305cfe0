"""Properties of the whole client against servers that say anything, split anywhere, and hang up or stall anywhere.

Whatever happens, every recipient ends in exactly one result, none is "sent" without a 2xx reply to the final dot (for
LMTP: to that recipient's), and the client comes to an end.
"""

import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postfixpy import config, log
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.smtp import agent, effects
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.effects import ConnectError, StreamError
from postfixpy.smtp.memory import Clock, Memory, Network
from postfixpy.smtp.settings import Settings

CODES = ["220", "250", "250", "250", "250", "354", "354", "421", "450", "451", "500", "550", "554", "150", "999", "xyz"]
KEYWORDS = ["PIPELINING", "SIZE 100", "SIZE", "8BITMIME", "DSN", "SMTPUTF8", "AUTH PLAIN", "STARTTLS", "XFORWARD NAME"]


class WildServer:
    """Answers each line with what `draw` chooses, in pieces; counts the final dots that it said yes to."""

    def __init__(self, clock: Clock, draw: Any, lmtp: bool) -> None:
        self.clock, self.draw, self.lmtp = clock, draw, lmtp
        self.buffer = bytearray()
        self.output = bytearray()
        self.closed = self.silent = False
        self.in_data = False
        self.accepted = 0
        self.good_dots = 0
        self.reply("220")

    def reply(self, likely: str) -> str:
        code = likely if self.draw(st.integers(0, 9)) < 8 else self.draw(st.sampled_from(CODES))
        shape = self.draw(st.integers(0, 11))
        if shape == 0:
            self.closed = True
            return ""
        if shape == 1:
            self.output += b"\xff garbage\r\n"
        if shape == 2:
            self.output += f"{code}-first\r\n".encode()
        if shape == 3:
            self.silent = True  # the client waits to its time limit
            return ""
        self.output += f"{code} text\r\n".encode()
        # A server that leaves one reply out and gives the next would have them taken for each other, by any client.
        self.silent = not code.isdigit()
        return code

    def write(self, data: bytes) -> None:
        if self.closed:
            raise StreamError("eof")
        self.buffer += data
        while not self.closed and not self.silent:
            if self.in_data:
                end = 0 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n") + 2
                if end == 1:
                    return
                del self.buffer[: end + 3]
                self.in_data = False
                for _ in range(self.accepted if self.lmtp else 1):
                    if not self.silent and self.reply("250").startswith("2"):
                        self.good_dots += 1
                continue
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return
            line = bytes(self.buffer[:end])
            del self.buffer[: end + 2]
            verb = line[:4].upper()
            if verb in (b"EHLO", b"LHLO"):
                for keyword in self.draw(st.lists(st.sampled_from(KEYWORDS), max_size=4, unique=True)):
                    self.output += f"250-{keyword}\r\n".encode()
                self.reply("250")
            elif verb == b"RCPT":
                if self.reply("250").startswith("2"):
                    self.accepted += 1
            elif verb == b"DATA":
                self.in_data = self.reply("354").startswith("3")
            else:
                self.reply("250")

    def read(self, limit: float) -> bytes:
        if self.output:
            size = self.draw(st.integers(1, len(self.output)))
            data = bytes(self.output[:size])
            del self.output[:size]
            return data
        if self.closed:
            if self.draw(st.booleans()):
                raise StreamError("eof")
            return b""
        self.clock.now += limit
        raise StreamError("time")

    def hang_up(self) -> None:
        pass

    def pending(self) -> bool:
        return bool(self.output)


class WildNetwork(Network):
    def __init__(self, clock: Clock, draw: Any, lmtp: bool) -> None:
        super().__init__({}, clock)
        self.draw, self.lmtp = draw, lmtp
        self.servers: list[WildServer] = []

    def connect(self, request: effects.Connect) -> Any:
        if self.draw(st.integers(0, 9)) == 0:
            raise ConnectError("Connection refused")
        server = WildServer(self.clock, self.draw, self.lmtp)
        self.servers.append(server)
        return server


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> types.SimpleNamespace:
    directory: Path = tmp_path_factory.mktemp("config")
    (directory / "main.cf").write_text("myhostname = client.example\ninet_interfaces = 127.0.0.1\n")
    loaded = config.load(str(directory), profile="upstream")
    return types.SimpleNamespace(
        smtp=Settings(loaded.view(process_name="smtp"), own=["127.0.0.1"]),
        lmtp=Settings(loaded.view(process_name="lmtp"), lmtp=True, own=["127.0.0.1"]),
    )


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_recipient_has_exactly_one_result(views: types.SimpleNamespace, data: st.DataObject) -> None:
    previous = log.set_sink(lambda severity, text: None)
    try:
        check(views, data.draw)
    finally:
        log.set_sink(previous)


def check(views: types.SimpleNamespace, draw: Any) -> None:
    lmtp = draw(st.booleans())
    clock = Clock()
    count = draw(st.integers(1, 4))
    recipients = [Recipient(f"r{n}@server.example", "", n) for n in range(count)]
    flags = draw(st.sampled_from([3, 3, 3, 0x1803, 0x203]))
    now = int(clock.now * 1_000_000)
    request = DeliveryRequest(
        flags, "active", "ABC", 0, 50, "[127.0.0.11], [127.0.0.12]", "8bit", draw(st.sampled_from([0, 0, 9])),
        "s@client.example", stats=MessageStats(now, now, now), recipients=recipients,
    )  # fmt: skip
    outcomes: list[Outcome] = []

    def dispose(outcome: Outcome) -> int:
        outcomes.append(outcome)
        return -1 if outcome.result == "deferred" else 0

    network = WildNetwork(clock, draw, lmtp)
    memory = Memory(network, clock, dispose)
    source = ListSource([("N", b"Subject: x"), ("N", b""), ("N", b".body"), ("X", b"")])
    delivery = Delivery(views.lmtp if lmtp else views.smtp, request, source, clock)
    memory.run(agent.deliver(delivery))

    results = Counter(outcome.recipient.address for outcome in outcomes)
    assert results == Counter(recipient.address for recipient in recipients)
    sent = sum(outcome.result == "sent" for outcome in outcomes)
    if flags != 0x203:
        good = sum(server.good_dots for server in network.servers)
        assert sent == 0 or good > 0
        if lmtp:
            assert sent <= good
    assert delivery.status == (-1 if any(outcome.result == "deferred" for outcome in outcomes) else 0)
    for outcome in outcomes:
        assert outcome.dsn.status[0] == {"sent": "2", "deferred": "4", "bounced": "5"}[outcome.result]
