"""Replay of smtp and lmtp scenarios with our client, in memory (postfixpy.smtp.memory).

The observables come out in the same text that tools/record_smtp.py writes for the real program.
"""

import os
import random
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

from postfixpy import config, log
from postfixpy.errors import FatalError
from postfixpy.ipc.cleanup import flags_of
from postfixpy.ipc.disposition import Disposition, Reporter
from postfixpy.ipc.flush import FlushClient
from postfixpy.ipc.rewrite import LOCAL
from postfixpy.ipc.verify import VerifyClient
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.outcome import Outcome
from postfixpy.smtp import agent, notice
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.memory import Clock, Memory, TimeUp, finish
from postfixpy.smtp.names import Zone
from postfixpy.smtp.peers import Network
from postfixpy.smtp.settings import Settings

from . import scenario as format
from .scenario import Scenario

if TYPE_CHECKING:
    from postfixpy.config import View

START = 1_000_000_000
TIME_LIMIT = 20.0
"""Seconds that the queue manager of a scenario waits for the result of a request; then it ends the program."""
LOOPBACK = ["127.0.0.1", "::1"]
"""The addresses of a scenario's network interface."""
LINE_LIMIT = 2048
"""Longest record of content, as cleanup writes them (line_length_limit)."""


def request_of(scenario: Scenario, number: int = 0) -> DeliveryRequest:
    """A delivery request of a scenario; offsets of recipients are counted up from 1."""
    start = START * 1_000_000
    request = DeliveryRequest(
        flags=3,
        queue_name="active",
        queue_id=format.QUEUE_ID,
        offset=0,
        size=len(scenario.message.replace("\n", "\r\n")),
        nexthop="",
        encoding="7bit",
        sendopts=0,
        sender="sender@client.example",
        stats=MessageStats(start, start, start),
    )
    for name, value in scenario.requests[number]:
        if name == "recipient":
            request.recipients.append(_recipient(value, len(request.recipients) + 1))
        elif name == "age":  # seconds before the message became active
            request.stats.incoming_arrival = start - int(value) * 1_000_000
        elif name not in ("program", "words", "end", "after", "cut"):
            kind = type(getattr(request, name))
            setattr(request, name, int(value, 0) if kind is int else value)
    if not request.recipients:
        request.recipients.append(Recipient("rcpt@server.example", "", 1))
    return request


def after(scenario: Scenario, number: int) -> float:
    """Seconds between the request before and this one."""
    return sum(float(value) for name, value in scenario.requests[number] if name == "after")


def _recipient(text: str, offset: int) -> Recipient:
    address, *options = text.split(" ; ")
    recipient = Recipient("" if address == '""' else address, "", offset)
    for option in options:
        name, _, value = option.strip().partition("=")
        setattr(recipient, name, int(value) if name == "notify" else value)
    return recipient


def records_of(message: str, end: str = "X") -> list[tuple[str, bytes]]:
    """The content records that cleanup makes of a message; `end` is the kind of the record behind them."""
    data = message.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    out: list[tuple[str, bytes]] = []
    *lines, last = data.split(b"\n")
    for line in lines:
        while len(line) >= LINE_LIMIT:
            out.append(("L", line[:LINE_LIMIT]))
            line = line[LINE_LIMIT:]
        out.append(("N", line))
    if last:
        out.append(("L", last))
    out.append((end, b""))
    return out


class _Flush(FlushClient):
    """Records what goes to the fast flush service."""

    told: list[str]

    async def add(self, site: str, queue_id: str) -> int:
        refused = await self._refused(site, "update fast-flush logfile for domain")
        if not refused:
            self.told.append(show_told("flush", "add", site, queue_id))
        return refused


class _Verify(VerifyClient):
    """Records what goes to the address verification database."""

    told: list[str]

    async def update(self, address: str, state: int, reason: str) -> int:
        self.told.append(show_told("verify", "update", address, str(state), reason))
        return 0


def show_report(data: bytes) -> str:
    """A TLSRPT datagram, as a line."""
    return f"tlsrpt {data.decode('utf-8', 'replace')}"


def show_told(service: str, *words: str) -> str:
    """A request to another service, as a line."""
    return f"{service}: {' '.join(words)}"


class _Reporter(Reporter):
    """Records what goes to the bounce, defer and trace services."""

    told: list[str]  # set by make

    @classmethod
    def make(cls, view: "View") -> "_Reporter":
        reporter = cls.of(view, "smtp_delivery_status_filter")
        assert isinstance(reporter, _Reporter)
        told: list[str] = []
        reporter.told = told
        flush, verify = _Flush.of(view), _Verify()
        assert isinstance(flush, _Flush)
        flush.told = verify.told = told
        reporter.flush, reporter.verify = flush, verify
        return reporter

    async def _append(self, service: str, flags: int, queue_id: str, recipient: Recipient, dsn: DSN) -> bool:
        if service not in ("bounce", "defer", "trace"):
            log.warning(f"connect to private/{service}: No such file or directory")
            return False
        self.told.append(show_append(service, flags, recipient, dsn))
        return True


def show_append(service: str, flags: int, recipient: Recipient, dsn: DSN) -> str:
    """One report to the bounce, defer or trace service, as a line."""
    return (
        f"{service}: flags={flags} original={recipient.original} recipient={recipient.address} "
        f"offset={recipient.offset} orcpt={recipient.dsn_orcpt} notify={recipient.notify} status={dsn.status} "
        f"diag={dsn.diag_type}/{dsn.diag_text} mta={dsn.mta_type}/{dsn.mta_name} action={dsn.action} "
        f"reason={dsn.reason}"
    )


def show_result(status: int, hop: DSN | None, corrupt: bool = False) -> str:
    """The final status that the queue manager gets, and whether the queue file was marked as corrupt."""
    if hop is None:
        return f"result {status}{' corrupt' if corrupt else ''}"
    return (
        f"result {status} hop {hop.status} diag={hop.diag_type}/{hop.diag_text} "
        f"mta={hop.mta_type}/{hop.mta_name} action={hop.action} reason={hop.reason}"
    )


def show_notice(lines: list[str]) -> list[str]:
    """A postmaster notice, without what differs between runs."""
    return [f"notice {line}" for line in lines]


class _Marks:
    """Stands for the queue file: remembers which records were marked."""

    path = "(memory)"

    def __init__(self) -> None:
        self.done: list[int] = []

    def mark_done(self, offset: int) -> None:
        self.done.append(offset)


def replay(scenario: Scenario, directory: str, release: str) -> str:
    """The observables of our client; `directory` is an empty folder for the configuration."""
    with open(os.path.join(directory, "main.cf"), "w", encoding="utf-8") as file:
        file.write(format.BASE + scenario.main_cf)
    for name, text in scenario.tables.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    if scenario.uses_certificates:
        os.symlink(format.CERTIFICATES, os.path.join(directory, "certificates"))
    program = scenario.value("program", "smtp")
    lines: list[str] = []

    def sink(severity: str, text: str) -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        shown = format.normal_log(log.printable(text).replace(directory, "$queue/etc"))
        if shown is not None:
            lines.append(f"log {prefix}{shown}")

    previous = log.set_sink(sink)
    try:
        text = _replay(scenario, directory, release, program, lines)
    except FatalError as error:
        log.fatal(str(error))
        text = render([], lines, [], "result none", [])
    finally:
        log.set_sink(previous)
    return scenario.select(text.replace(directory, "$queue/etc"))


class _Backwards(random.Random):
    """The same chance in every replay, and never the order of the DNS answer, so that one who shuffles is seen."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Turn the order round."""
        x.reverse()


def _replay(scenario: Scenario, directory: str, release: str, program: str, lines: list[str]) -> str:
    configuration = config.load(directory, release=release, profile="debian", process_name=program)
    view = configuration.view(process_name=program, service_name=program)
    words = scenario.value("words").split()
    reporter = _Reporter.make(view)
    settings = Settings(
        view,
        lmtp=program == "lmtp",
        service=program,
        words=words,
        interfaces=LOOPBACK,
        rng=_Backwards(0),
        tls=scenario.tlsmgr,
    )
    clock = Clock(float(START))
    reporter.clock = lambda: int(clock.now * 1_000_000)
    servers = {server.address: server.connections for server in scenario.servers}
    network = Network(servers, clock, str(format.CERTIFICATES))
    options: dict[str, Any] = {
        "reply_filter": settings.dns_reply_filter,
        "filter_name": settings.name("smtp_dns_reply_filter"),
        "dnssec_probe": view.dnssec_probe,
        "search": ["example"],  # the domain of the host in a scenario
    }
    zone = Zone(scenario.zone, scenario.hosts)
    memory = Memory(network, clock, lambda outcome: 0, zone, **options)
    outcomes, done = [], []
    for number in range(len(scenario.requests)):
        outcome, marked = _deliver(scenario, number, settings, reporter, memory)
        outcomes.append(outcome)
        done += marked
    for found in memory.notices:
        text = notice.compose(settings.view, found.peer, found.transcript, lmtp=settings.lmtp)
        lines += show_notice([f"flags={flags_of(view, 'notify')}", *text])
    for passed in memory.passed:
        reporter.told.append(f"pass {passed.transport} {passed.nexthop} {passed.recipient.address}")
    asked = [show_told("rewrite", LOCAL, address) for address in memory.rewritten]
    wires = sorted(((name, peer.chunks) for name, peer in network.peers), key=lambda wire: wire[0])
    told = [*asked, *reporter.told, *(show_report(data) for _, data in memory.reports)]
    return render(wires, lines, told, "\n".join(outcomes), done)


def _deliver(
    scenario: Scenario, number: int, settings: Settings, reporter: _Reporter, memory: Memory
) -> tuple[str, list[int]]:
    """One request: its final status, and the recipients that were marked."""
    request = request_of(scenario, number)
    marks = _Marks()
    disposition = Disposition(reporter, request, marks)  # type: ignore[arg-type]  # all that is used of the file

    def dispose(outcome: Outcome) -> int:
        return finish(disposition.dispose(outcome))

    memory.dispose = dispose
    memory.clock.deadline = float("inf")
    memory.clock.now += after(scenario, number)
    records = records_of(scenario.message, scenario.value("end", "X"))
    delivery = Delivery(settings, request, ListSource(records), memory.clock)
    memory.clock.deadline = memory.clock.now + TIME_LIMIT
    try:
        memory.run(agent.deliver(delivery))
    except TimeUp:
        return "result none", marks.done
    except FatalError as error:
        log.fatal(str(error))
        return "result none", marks.done
    if memory.corrupt:
        log.warning(f"corrupted queue file: active/{request.queue_id}")
    return show_result(delivery.status, delivery.hop, memory.corrupt), marks.done


def render(
    wires: list[tuple[str, list[bytes]]], lines: list[str], told: list[str], outcome: str, done: list[int]
) -> str:
    """All observables as text."""
    out: list[str] = []
    for name, chunks in wires:
        out += format.show_wire(name, chunks)
    out += lines
    out += told
    out.append(outcome)
    out.append("done " + " ".join(str(offset) for offset in sorted(done)) if done else "done none")
    return "\n".join(out) + "\n"
