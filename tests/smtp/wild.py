"""Servers that say anything, split anywhere, hang up or stall anywhere; and what must be true whatever they do.

`check` runs a few requests against such servers with one client, whose choices come from a `Chance`: hypothesis in the
tests, a random number generator in tools/fuzz_session.py.
"""

import random
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from postfixpy import config
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.smtp import agent, effects
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.effects import ConnectError, StreamError
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.names import Zone
from postfixpy.smtp.peers import Network
from postfixpy.smtp.settings import Settings

T = TypeVar("T")

CODES = ["220", "250", "250", "250", "250", "354", "354", "421", "450", "451", "500", "550", "554", "150", "999", "xyz"]
KEYWORDS = ["PIPELINING", "SIZE 100", "SIZE", "8BITMIME", "DSN", "SMTPUTF8", "AUTH PLAIN", "STARTTLS", "XFORWARD NAME"]
VARIANTS = [
    "",
    "smtp_skip_quit_response = no\nlmtp_skip_quit_response = yes\n",
    "soft_bounce = yes\nsmtp_mx_session_limit = 0\nlmtp_mx_session_limit = 0\n",
    "smtp_per_request_deadline = yes\nlmtp_per_request_deadline = yes\nnotify_classes = protocol, data\n",
    "smtp_address_verify_target = data\nlmtp_address_verify_target = data\nsmtp_always_send_ehlo = no\n",
    "smtp_send_xforward_command = yes\nlmtp_send_xforward_command = yes\nsmtp_connection_reuse_count_limit = 1\n",
]
ZONE = ["mx.example MX 10 a.example", "mx.example MX 20 b.example", "a.example A 127.0.0.13", "b.example A 127.0.0.14"]
DESTINATIONS = ["[127.0.0.11]", "[127.0.0.11], [127.0.0.12]", "mx.example", "[127.0.0.11] mx.example", "none.example"]
PROBE = 0x200


class Chance:
    """Choices by a random number generator."""

    def __init__(self, source: random.Random) -> None:
        self.source = source

    def number(self, low: int, high: int) -> int:
        return self.source.randint(low, high)

    def pick(self, items: Sequence[T]) -> T:
        return self.source.choice(items)


def clients() -> list[Settings]:
    """A client for each variant, by SMTP and by LMTP."""
    out = []
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as directory:
            text = f"myhostname = client.example\ninet_interfaces = 127.0.0.1\n{variant}"
            (Path(directory) / "main.cf").write_text(text)
            for program in ("smtp", "lmtp"):
                view = config.load(directory, profile="upstream").view(process_name=program)
                out.append(Settings(view, lmtp=program == "lmtp", interfaces=["127.0.0.1"]))
    return out


class WildServer:
    """Answers each line with what chance says, in pieces.

    took        recipients that got a 2xx to RCPT
    delivered   recipients that got a 2xx to the final dot of a transaction that they were in (LMTP: their own)
    """

    tls = None

    def __init__(self, clock: Clock, chance: Chance, lmtp: bool) -> None:
        self.clock, self.chance, self.lmtp = clock, chance, lmtp
        self.buffer = bytearray()
        self.output = bytearray()
        self.closed = self.silent = False
        self.in_data = False
        self.accepted: list[str] = []
        self.took: set[str] = set()
        self.delivered: set[str] = set()
        self.steps = 0
        self.reply("220")

    def reply(self, likely: str) -> str:
        code = likely if self.chance.number(0, 9) < 8 else self.chance.pick(CODES)
        shape = self.chance.number(0, 14)
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
        if shape == 4:
            self.output += f"{code}-{'long ' * 500}\n".encode()
        self.output += f"{code} {self.chance.pick(['', '2.0.0 ', '5.1.1 ', '4.9.9 '])}text\r\n".encode()
        # A server that leaves one reply out and gives the next would have them taken for each other, by any client.
        self.silent = not code.isdigit()
        return code

    def write(self, data: bytes, limit: float) -> None:
        self.steps += 1
        if self.closed:
            raise StreamError("eof")
        self.buffer += data
        while not self.closed and not self.silent and (self._content() if self.in_data else self._line()):
            pass

    def _content(self) -> bool:
        end = 0 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n") + 2
        if end == 1:
            return False
        del self.buffer[: end + 3]
        self.in_data = False
        if self.lmtp:
            for address in self.accepted:
                if not self.silent and not self.closed and self.reply("250").startswith("2"):
                    self.delivered.add(address)
        elif self.reply("250").startswith("2"):
            self.delivered.update(self.accepted)
        return True

    def _line(self) -> bool:
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        verb = line[:4].upper()
        if verb in (b"EHLO", b"LHLO"):
            for keyword in KEYWORDS:
                if self.chance.number(0, 2) == 0:
                    self.output += f"250-{keyword}\r\n".encode()
            self.reply("250")
        elif verb == b"RCPT":
            if self.reply("250").startswith("2"):
                found = re.search(rb"<(.*?)>", line)
                assert found is not None
                self.accepted.append(found[1].decode())
                self.took.add(found[1].decode())
        elif verb == b"DATA":
            self.in_data = self.reply("354").startswith("3")
        else:
            if verb in (b"MAIL", b"RSET"):
                self.accepted = []
            self.reply("250")
        return True

    def read(self, limit: float) -> bytes:
        self.steps += 1
        if self.output:
            size = self.chance.number(1, len(self.output)) if self.chance.number(0, 3) == 0 else len(self.output)
            data = bytes(self.output[:size])
            del self.output[:size]
            self.clock.now += self.chance.pick([0, 0, 0, 0.5, 12])
            return data
        if self.closed:
            if self.chance.number(0, 1):
                raise StreamError("eof")
            return b""
        self.clock.now += limit
        raise StreamError("time")

    def hang_up(self) -> None:
        pass

    def pending(self) -> bool:
        return bool(self.output)

    def send_buffer(self) -> int:
        return 0


class WildNetwork(Network):
    def __init__(self, clock: Clock, chance: Chance, lmtp: bool) -> None:
        super().__init__({}, clock)
        self.chance, self.lmtp = chance, lmtp
        self.servers: list[WildServer] = []

    def connect(self, request: effects.Connect) -> Any:
        if self.chance.number(0, 9) == 0:
            raise ConnectError("Connection refused")
        server = WildServer(self.clock, self.chance, self.lmtp)
        self.servers.append(server)
        return server


def check(settings: list[Settings], chance: Chance) -> int:
    """Some requests to one client. Returns the number of steps; raises AssertionError when something is not right."""
    client = chance.pick(settings)
    clock = Clock()
    network = WildNetwork(clock, chance, client.lmtp)
    outcomes: list[Outcome] = []

    def dispose(outcome: Outcome) -> int:
        outcomes.append(outcome)
        return -1 if outcome.result == "deferred" else 0

    memory = Memory(network, clock, dispose, Zone(ZONE))
    for number in range(chance.number(1, 3)):
        outcomes.clear()
        request = make_request(chance, clock, number)
        lines = [("N", b"Subject: x"), ("N", b""), ("N", b".body"), *[("N", b"more")] * chance.pick([0] * 11 + [2000])]
        delivery = Delivery(client, request, ListSource([*lines, ("X", b"")]), clock)
        memory.run(agent.deliver(delivery))
        judge(request, delivery, outcomes, network)
    return sum(server.steps for server in network.servers)


def make_request(chance: Chance, clock: Clock, number: int) -> DeliveryRequest:
    recipients = [Recipient(f"r{number}-{n}@server.example", "", n) for n in range(chance.number(1, 5))]
    now = int(clock.now * 1_000_000)
    return DeliveryRequest(
        flags=chance.pick([3, 3, 0x1803, 0x1803, 3 | PROBE, 0x1803 | PROBE]),
        queue_name="active",
        queue_id="ABC",
        offset=0,
        size=50,
        nexthop=chance.pick(DESTINATIONS),
        encoding=chance.pick(["7bit", "8bit", ""]),
        sendopts=chance.pick([0, 0, 9]),
        sender=chance.pick(["", "s@client.example"]),
        stats=MessageStats(now, now, now),
        recipients=recipients,
    )


def judge(request: DeliveryRequest, delivery: Delivery, outcomes: list[Outcome], network: WildNetwork) -> None:
    """Raises AssertionError."""
    results = Counter(outcome.recipient.address for outcome in outcomes)
    assert results == Counter(recipient.address for recipient in request.recipients)
    allowed: set[str] = set()
    for server in network.servers:
        allowed |= server.took if request.flags & PROBE else server.delivered
    sent = {outcome.recipient.address for outcome in outcomes if outcome.result == "sent"}
    assert sent <= allowed, (sent, allowed)
    assert delivery.status == (-1 if any(outcome.result == "deferred" for outcome in outcomes) else 0)
    assert delivery.hop is None or delivery.status == -1
    for outcome in outcomes:
        assert outcome.dsn.status[0] == {"sent": "2", "deferred": "4", "bounced": "5"}[outcome.result]
        assert outcome.dsn.reason
