"""Client of the fast flush service, flush(8), which remembers for each domain the messages that wait for it.

One connection a request, as with bounce(8). Nothing depends on this service: a request that fails costs time, not mail.

Source: flush_clnt(3), spec/smtp-client.md 1.5, 15.8.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postfixpy import log

from .attributes import encode
from .message import Message

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.lookup.matching import DomainList

PROTOCOL = "queue_flush_protocol"
ANNOUNCEMENT = encode([("protocol", PROTOCOL)])

OK, FAIL, BAD, DENY = 0, -1, 3, 4
"""Answers: done, failed, bad request, not done for this domain."""


@dataclass(slots=True)
class Add(Message):
    """Remember that message `queue_id` waits for `site`."""

    request: str
    site: str
    queue_id: str


@dataclass(slots=True)
class SendSite(Message):
    """Deliver what waits for `site`."""

    request: str
    site: str


@dataclass(slots=True)
class SendFile(Message):
    """Deliver message `queue_id`."""

    request: str
    queue_id: str


@dataclass(slots=True)
class Plain(Message):
    """ "purge" (deliver all that is remembered) or "rfrsh" (the same, for logs that were not used for long)."""

    request: str


@dataclass(slots=True)
class Status(Message):
    """The answer."""

    status: int


async def request(path: str, message: Message, *, timeout: float = 3600.0) -> int:
    """Send one request to the service at `path`; its answer, FAIL (after a warning) when it has none."""
    from .channel import command

    found = await command(path, PROTOCOL, message, Status, timeout=timeout)
    return FAIL if found is None else found.status


class FlushClient:
    """A client for the domains in `domains` (None: no domain). `timeout` is ipc_timeout, seconds.

    `notice`: say that the list of domains is a default that compatibility_level will take away.
    """

    def __init__(
        self,
        domains: "DomainList | None",
        *,
        path: str = "public/flush",
        timeout: float = 3600.0,
        notice: bool = False,
    ) -> None:
        self.domains = domains
        self.path = path
        self.timeout = timeout
        self.notice = notice

    @classmethod
    def of(cls, view: "View") -> "FlushClient":
        """The client that a configuration describes (fast_flush_domains). Raises FatalError."""
        return cls(
            flush_domains(view),
            path=f"public/{view.flush_service_name}",
            timeout=view.ipc_timeout,
            notice=notice_needed(view),
        )

    async def add(self, site: str, queue_id: str) -> int:
        """Remember that `queue_id` waits for domain `site`. DENY when fast_flush_domains does not have it."""
        if refused := await self._refused(site, "update fast-flush logfile for domain"):
            return refused
        return await request(self.path, Add("add", site, queue_id), timeout=self.timeout)

    async def send_site(self, site: str) -> int:
        """Deliver what waits for domain `site`."""
        if refused := await self._refused(site, "flush mail for domain"):
            return refused
        return await request(self.path, SendSite("send_site", site), timeout=self.timeout)

    async def send_file(self, queue_id: str) -> int:
        """Deliver message `queue_id` now."""
        return await request(self.path, SendFile("send_file", queue_id), timeout=self.timeout)

    async def purge(self) -> int:
        """Deliver all that is remembered."""
        return await request(self.path, Plain("purge"), timeout=self.timeout) if self.domains else DENY

    async def _refused(self, site: str, purpose: str) -> int:
        """OK when `site` is in the list; else DENY, or FAIL when the list cannot tell."""
        if not self.domains:
            return DENY
        from postfixpy.lookup import TableError

        try:
            if not await self.domains.amatch(site):
                return DENY
        except TableError:
            return FAIL
        if self.notice:
            log.info(f'using backwards-compatible default setting relay_domains=$mydestination to {purpose} "{site}"')
        return OK


def flush_domains(view: "View") -> "DomainList | None":
    """fast_flush_domains as a list; None when it is empty. Raises FatalError."""
    text: str = view.fast_flush_domains
    if not text:
        return None
    from postfixpy.lookup.matching import DomainList, matches_parent

    parent = matches_parent("fast_flush_domains", view)
    return DomainList("fast_flush_domains", text, view, parent=parent)


def notice_needed(view: "View") -> bool:
    """Whether fast_flush_domains has its value only because compatibility_level is below 1."""
    if view.origin("fast_flush_domains").kind != "default" or view.compatibility() >= (1, 0, 0):
        return False
    return view.origin("relay_domains").kind in ("default", "compatibility") and bool(view.relay_domains)
