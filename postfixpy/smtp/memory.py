"""The driver of the client's generators in memory: scripted servers, a table of DNS records, and a clock of its own.

A test of a five-minute time limit takes no time, and nothing depends on the machine. The steps of a server's script
are those of postfixpy.migrate.scenario. A server that waits for input that does not come makes the client wait to its
time limit; a Read that would wait for ever is a time-out too.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from postfixpy import log
from postfixpy.dns import message, zone
from postfixpy.dns.lookup import NoReply, Resolver
from postfixpy.dns.record import TYPE_NAMES, type_name
from postfixpy.mail.outcome import Outcome
from postfixpy.sasl.mechanism import TokenError
from postfixpy.sasl.testing import Scripted
from postfixpy.tls.channel import Channel
from postfixpy.tls.client import ClientHandshake
from postfixpy.tls.handshake import LibraryError, TLSRequest, TLSState
from postfixpy.tls.scripted import TLS_ALERT, TLS_HANDSHAKE, ScriptedTLS

from . import effects
from .edge import outcome_of
from .effects import ConnectError, Effect, Run, StreamError
from .pool import Pool
from .session_store import SessionStore
from .sts_policy import STSPolicy, parse_policy
from .sts_store import FetchError, Policies

T = TypeVar("T")


BUFFERED = 1 << 20
"""Bytes that are on their way when a server hangs up: who writes more notices."""
SYSTEM_LIMIT = 127.0
"""Seconds after which Linux gives up connecting."""


class TimeUp(BaseException):
    """The clock has reached its deadline. Not an Exception: nothing in the client may catch it."""


class Clock:
    """The time in seconds, which only effects move. Raises TimeUp when it is moved beyond `deadline`."""

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start
        self.deadline = float("inf")

    def __call__(self) -> float:
        return self._now

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        if value > self.deadline:
            raise TimeUp
        self._now = value


def finish(coroutine: "Coroutine[Any, Any, T] | Awaitable[T]") -> T:
    """The result of a coroutine that never waits."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a coroutine waited for the outside world")


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

    def __init__(self, steps: Sequence[str], clock: Clock, certificates: str = "") -> None:
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

    def __init__(self, servers: dict[str, list[list[str]]], clock: Clock, certificates: str = "") -> None:
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


class Zone:
    """A DNS exchange of resource records in text (postfixpy.dns.zone). `hosts` are lines of /etc/hosts."""

    def __init__(self, lines: Sequence[str], hosts: Sequence[str] = ()) -> None:
        self.records = zone.parse(lines)
        self.hosts = [line.split() for line in hosts]

    async def __call__(self, name: str, rtype: int, dnssec: bool) -> message.Reply:
        """See `postfixpy.dns.lookup.Exchange`."""
        found = message.Reply(0, message.NOERROR, False, False, (name, rtype))
        records = self.records.get(name.rstrip(".").lower())
        if records is None:
            found.rcode = message.NXDOMAIN
            return found
        wanted = [record for record in records if record.answers(type_name(rtype))]
        for record in wanted:
            if record.data == "TIMEOUT":
                raise NoReply(name)
            if record.data in zone.CODES:
                found.rcode = getattr(message, record.data)
                return found
            found.answers.append(_raw(name, record))
        found.authentic = dnssec and bool(wanted) and all(record.validated for record in wanted)
        return found

    def native(self, name: str, family: int) -> list[str]:
        """The addresses by getaddrinfo(3): of /etc/hosts, else of the zone, IPv6 first. Raises NativeError."""
        found = [words[0] for words in self.hosts if name in words[1:]]
        records = self.records.get(name.rstrip(".").lower(), [])
        found = found or [record.data for record in records if record.kind in ("A", "AAAA")]
        found = [address for address in found if not family or (":" in address) == (family == 6)]
        if not found:
            raise effects.NativeError("Name or service not known", False, True)
        return sorted(found, key=lambda address: ":" not in address)


def _raw(name: str, record: zone.ZoneRecord) -> message.Raw:
    data = record.data
    numbers: tuple[int, ...] = ()
    words = data.split()
    rtype = next(number for number, text in TYPE_NAMES.items() if text == record.kind)
    if data.startswith("\\#"):
        data = message.tlsa_text(bytes.fromhex("".join(words[2:])))
    elif record.kind == "TLSA":
        data = " ".join([*words[:3], "".join(words[3:]).lower()])
    elif record.kind == "TXT":
        data = data.removeprefix('"').removesuffix('"')
    elif record.kind in ("MX", "SRV"):
        numbers = tuple(int(word) for word in words[:-1])
        data = words[-1]
    if record.kind in ("MX", "SRV", "CNAME", "NS"):
        data = data.rstrip(".")
    return message.Raw(name, rtype, 1, 3600, data, numbers)


def _no_token(effect: effects.FetchToken) -> tuple[str, str]:
    raise TokenError("there are no tokens here")


class Memory:
    """Drives a generator.

    `dispose` gets each Outcome; `notices` has the postmaster notices, `traces` the session traces, `passed` what was
    passed to another transport, `rewritten` the addresses that were asked to be rewritten. `sites` are MTA-STS policies
    by domain, or the result types of what goes wrong; `fetched` has the domains whose policy was fetched.
    """

    def __init__(
        self,
        network: Network,
        clock: Clock,
        dispose: Callable[[Outcome], int],
        zone: Zone | None = None,
        **resolver_options: Any,
    ) -> None:
        self.network = network
        self.clock = clock
        self.dispose = dispose
        self.zone = zone or Zone([])
        self.resolver = Resolver(self.zone, **resolver_options)
        self.notices: list[effects.Notify] = []
        self.traces: list[dict[str, Any]] = []
        self.passed: list[effects.PassOn] = []
        self.rewritten: dict[str, None] = {}
        self.corrupt = False
        self.pool = Pool(clock, lambda link: None)
        self.sessions = SessionStore(clock)
        self.reports: list[tuple[str, bytes]] = []
        self.policies = Policies(clock=clock, fetch=self._fetch_policy)
        self.sites: dict[str, str] = {}
        self.fetched: list[str] = []
        self.fetch_token: Callable[[effects.FetchToken], tuple[str, str]] = _no_token

    def run(self, generator: Run[T]) -> T:
        """Drive `generator` to its end."""
        try:
            effect: Effect[Any] = next(generator)
            while True:
                try:
                    result = self._perform(effect)
                except Exception as error:
                    effect = generator.throw(error)
                else:
                    effect = generator.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _fetch_policy(self, domain: str) -> STSPolicy:
        """Raises FetchError."""
        self.fetched.append(domain)
        text = self.sites.get(domain, "sts-policy-fetch-error")
        if text.startswith("sts-"):
            raise FetchError(text, "as the test has it")
        return parse_policy(text.encode())

    def _perform(self, effect: Any) -> Any:
        if isinstance(effect, effects.Write):
            return effect.link.write(effect.data, effect.limit)
        if isinstance(effect, effects.Read):
            return effect.link.read(effect.limit)
        if isinstance(effect, effects.Peek):
            return effect.link.pending()
        if isinstance(effect, effects.Connect):
            return self.network.connect(effect)
        if isinstance(effect, effects.StartTLS):
            return effect.link.start_tls(effect.request, effect.limit)
        if isinstance(effect, effects.Hangup):
            return effect.link.hang_up()
        if isinstance(effect, effects.Sleep):
            self.clock.now += effect.seconds
        elif isinstance(effect, effects.Find):
            return finish(effect.table.find(effect.key))
        elif isinstance(effect, effects.Store):
            if effect.value is None:
                return effect.table.remove(effect.key)
            return effect.table.update(effect.key, effect.value)
        elif isinstance(effect, effects.Compute):
            return effect.function()
        elif isinstance(effect, effects.FetchToken):
            return self.fetch_token(effect)
        elif isinstance(effect, effects.FetchPolicy):
            return finish(self.policies.get(effect.domain, effect.ident))
        elif isinstance(effect, effects.Resolve):
            lookup = self.resolver.lookup(effect.name, effect.rtype, options=effect.options, dnssec=effect.dnssec)
            return finish(lookup)
        elif isinstance(effect, effects.Report):
            return self.dispose(outcome_of(effect))
        elif isinstance(effect, effects.Rewrite):
            self.rewritten[effect.address] = None
            return effect.address if "@" in effect.address else f"{effect.address}@client.example"
        elif isinstance(effect, effects.Trace):
            self.traces.append(effect.record)
        elif isinstance(effect, effects.Notify):
            self.notices.append(effect)
        elif isinstance(effect, effects.Corrupt):
            self.corrupt = True
        elif isinstance(effect, effects.PassOn):
            self.passed.append(effect)
            return 0
        elif isinstance(effect, effects.CacheFind):
            return self.pool.find(effect)
        elif isinstance(effect, effects.CacheSave):
            self.pool.save(effect)
        elif isinstance(effect, effects.SendReport):
            self.reports.append((effect.path, effect.data))
        elif isinstance(effect, effects.FindSession):
            return self.sessions.find(effect.kind, effect.key)
        elif isinstance(effect, effects.SaveSession):
            self.sessions.save(effect.kind, effect.key, effect.data)
        elif isinstance(effect, effects.Native):
            return self.zone.native(effect.name, effect.family)
        else:
            raise TypeError(f"no handler for {type(effect).__name__}")
        return None
