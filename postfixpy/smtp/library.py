"""The client as a library: deliver a message under a Postfix configuration, without queue and daemons.

    import asyncio
    from postfixpy.smtp.library import Client

    async def main() -> None:
        async with Client("/etc/postfix") as client:
            message = b"Subject: hello\\n\\nHello, world.\\n"
            for outcome in await client.deliver(message, "me@example.com", ["you@example.org"]):
                print(outcome.recipient.address, outcome.result, outcome.dsn.status, outcome.dsn.reason)

    asyncio.run(main())

Each recipient gets exactly one Outcome: "sent", "deferred" (try again later) or "bounced". The log is quiet unless the
program installs a sink (postfixpy.log.set_sink).
"""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from postfixpy import config
from postfixpy.config import View
from postfixpy.dns.config import RESOLV_CONF
from postfixpy.dns.lookup import Resolver
from postfixpy.dns.stub import Stub
from postfixpy.mail.delivery import SMTPUTF8_RECIPIENT, SMTPUTF8_REQUESTED, DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome

from . import agent, effects
from .content import CONTINUED, EXTRACTED, NORMAL, ListSource
from .delivery import Delivery
from .edge import Edge, policies_of, reporting, tokens_of
from .settings import Settings

_numbers = itertools.count(1)


class Client:
    """Delivers messages by SMTP, or with `lmtp` by LMTP.

    `configuration` is a configuration directory or a view of one; `resolv_conf` is the resolver's configuration file.
    Connections are kept for a moment (smtp_connection_cache_time_limit) when `reuse` is set. Raises FatalError for a
    bad configuration.
    """

    def __init__(
        self,
        configuration: str | View = "/etc/postfix",
        *,
        lmtp: bool = False,
        reuse: bool = True,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        program = "lmtp" if lmtp else "smtp"
        if isinstance(configuration, str):
            configuration = config.load(configuration).view(process_name=program, service_name=program)
        self._settings = Settings(configuration, lmtp=lmtp, service=program)
        stub = Stub(resolv_conf)
        resolver = Resolver(
            stub,
            search=stub.config.search,
            ndots=stub.config.ndots,
            reply_filter=self._settings.dns_reply_filter,
            filter_name=self._settings.name("smtp_dns_reply_filter"),
        )
        handlers: dict[type, Any] = {effects.Rewrite: self._rewrite, effects.Notify: _ignore}
        self._edge = Edge(resolver, handlers, tokens_of(self._settings.view), policies_of(self._settings))
        self._reuse = reuse

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up connections that were kept."""
        self._edge.close()

    async def deliver(
        self, message: bytes, sender: str, recipients: Sequence[str | Recipient], *, nexthop: str = ""
    ) -> list[Outcome]:
        """Deliver `message` (lines end in LF or CRLF) to `recipients`, and return an Outcome for each, in their order.

        Addresses are in internal (unquoted) form; a Recipient also carries DSN options. `nexthop` is a destination as
        in transport(5); by default relayhost, or for each recipient its domain. What the network and the servers do
        is never an exception but an Outcome. Raises FatalError for a destination that makes no sense, and for tables
        whose failure is fatal (smtp_generic_maps): then nothing is known of the recipients.
        """
        people = [Recipient(one) if isinstance(one, str) else dataclasses.replace(one) for one in recipients]
        view = self._settings.view
        relay = nexthop or view.relayhost
        groups: dict[str, list[Recipient]] = {}
        for person in people:
            _, at, domain = person.address.rpartition("@")
            groups.setdefault(relay or (domain if at else view.myorigin), []).append(person)
        outcomes: dict[int, Outcome] = {}
        for destination, group in groups.items():
            for outcome in await self._deliver(message, sender, group, destination):
                outcomes[id(outcome.recipient)] = outcome
        return [outcomes[id(person)] for person in people]

    async def _deliver(self, message: bytes, sender: str, recipients: list[Recipient], nexthop: str) -> list[Outcome]:
        now = time.time_ns() // 1000
        utf8 = any(not person.address.isascii() for person in recipients) or not sender.isascii()
        data = message.replace(b"\r\n", b"\n")
        request = DeliveryRequest(
            flags=0x1800 if self._reuse else 0,
            queue_name="active",
            queue_id=f"LIB{next(_numbers):X}",
            offset=0,
            size=len(data) + data.count(b"\n"),
            nexthop=nexthop,
            encoding="7bit" if data.isascii() else "8bit",
            sendopts=SMTPUTF8_REQUESTED | SMTPUTF8_RECIPIENT if utf8 else 0,
            sender=sender,
            stats=MessageStats(now, now, now),
            recipients=recipients,
        )
        outcomes: list[Outcome] = []

        async def dispose(outcome: Outcome) -> int:
            outcomes.append(outcome)
            return -1 if outcome.result == "deferred" else 0

        delivery = Delivery(self._settings, request, ListSource(_records(data)), time.time)
        await self._edge.run(agent.deliver(delivery), reporting(dispose))
        return outcomes

    async def _rewrite(self, effect: effects.Rewrite) -> str:
        """Without a rewrite service: an address without a domain gets $myorigin."""
        view = self._settings.view
        return effect.address if "@" in effect.address else f"{effect.address}@{view.myorigin}"


async def _ignore(effect: effects.Notify) -> None:
    """There is no postmaster to notify."""


def _records(data: bytes) -> list[tuple[str, bytes]]:
    *lines, last = data.split(b"\n")
    records = [(NORMAL, line) for line in lines]
    if last:
        records.append((CONTINUED, last))
    return [*records, (EXTRACTED, b"")]
