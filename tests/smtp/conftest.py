"""What the tests of the client share: settings from a few lines of main.cf, and deliveries in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postfixpy import config
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.smtp import agent
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.names import Zone
from postfixpy.smtp.peers import Network
from postfixpy.smtp.settings import Settings

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings from main.cf text; `release` is a Postfix release."""

    def make(text: str = "", *, program: str = "smtp", release: str = "3.11", **options: Any) -> Settings:
        base = "myhostname = client.example\nsmtp_randomize_addresses = no\ncompatibility_level = 3.6\n"
        # The default, as a setting: without the line in the log that the default is kept for compatibility.
        if release == "3.11":
            base += "smtp_tls_security_level = ${{$compatibility_level} <level {3.11} ? {} : {may}}\n"
        (tmp_path / "main.cf").write_text(base + text)
        view = config.load(str(tmp_path), release=release, profile="upstream").view(process_name=program)
        return Settings(view, lmtp=program == "lmtp", interfaces=["127.0.0.1", "::1"], **options)

    return make


class World:
    """Servers, names, and everything that a delivery did."""

    def __init__(self, settings: Settings, servers: dict[str, list[list[str]]], zone: list[str]) -> None:
        self.settings = settings
        self.clock = Clock()
        self.network = Network(servers, self.clock)
        self.outcomes: list[Outcome] = []
        self.memory = Memory(self.network, self.clock, self._dispose, Zone(zone))

    def _dispose(self, outcome: Outcome) -> int:
        self.outcomes.append(outcome)
        return -1 if outcome.result == "deferred" else 0

    def request(self, nexthop: str = "[127.0.0.11]", count: int = 1, **fields: Any) -> DeliveryRequest:
        now = int(self.clock.now * 1_000_000)
        recipients = [Recipient(f"r{n}@server.example", "", n + 1) for n in range(count)]
        request = DeliveryRequest(
            3, "active", "ABC", 0, 20, nexthop, "7bit", 0, "s@client.example",
            stats=MessageStats(now, now, now), recipients=recipients,
        )  # fmt: skip
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    def delivery(self, request: DeliveryRequest | None = None, content: bytes = b"Subject: x\n\nbody\n") -> Delivery:
        lines = content.split(b"\n")[:-1]
        source = ListSource([*(("N", line) for line in lines), ("X", b"")])
        return Delivery(self.settings, request or self.request(), source, self.clock)

    def deliver(self, request: DeliveryRequest | None = None, content: bytes = b"Subject: x\n\nbody\n") -> Delivery:
        delivery = self.delivery(request, content)
        self.memory.run(agent.deliver(delivery))
        return delivery

    def wire(self, number: int = 0) -> bytes:
        """Everything that the client sent on a connection."""
        return b"".join(self.network.peers[number][1].chunks)


@pytest.fixture
def make_world(make_settings: MakeSettings) -> Callable[..., World]:
    def make(text: str = "", *, servers: Any = None, zone: Any = (), **options: Any) -> World:
        return World(make_settings(text, **options), servers or {}, list(zone))

    return make
