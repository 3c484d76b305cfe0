"""The conversation of posttls-finger(1): connect, greet, shake hands, tell what was seen, and again to see whether the
session is resumed. A generator of effects like the rest of the client; what is seen goes into the log."""

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from postfixpy import log
from postfixpy.dns.record import Record
from postfixpy.tls.certificates import describe
from postfixpy.tls.context import ClientContext
from postfixpy.tls.handshake import TLSA, HandshakeError, TLSRequest, TLSState
from postfixpy.tls.level import Level
from postfixpy.tls.loglevel import CACHE, CERTMATCH, PEERCERT, SUMMARY, UNTRUSTED, VERBOSE

from . import dane, destination, route
from .effects import Connect, ConnectError, Run, Sleep, StartTLS, StreamError
from .settings import Settings
from .stream import Stream


@dataclass(slots=True)
class Options:
    """What the command line asks for; names as in `postfixpy.commands.posttls_finger`, which has the letters.

    show      prints a line of the certificate chain
    reconnect seconds before the next connection; 0 or less: one connection is enough
    """

    destination: str
    show: Callable[[str], None]
    level: Level = Level.DANE
    match: list[str] = field(default_factory=list)
    tlsa: tuple[TLSA, ...] | None = None
    chat: bool = True
    print_chain: bool = False
    grade: str = "medium"
    protocols: str = ">=TLSv1"
    servername: str = ""
    wrapper: bool = False
    raw_key: bool = False
    connect_limit: float = 30.0
    command_limit: float = 30.0
    reconnect: int = -1
    tries: int = 5
    log: int = SUMMARY | CERTMATCH


class _Over(Exception):
    """Nothing more can be learned; it has been told why."""


@dataclass(slots=True)
class _Response:
    code: int
    text: str


class Finger:
    """One run; `context` is None where TLS is not wanted or cannot be had."""

    def __init__(
        self, settings: Settings, options: Options, context: ClientContext | None, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.options = options
        self.context = context
        self.clock = clock
        self.first = True
        self.sessions: dict[str, bytes] = {}
        self.hits = 0
        self.bits = options.log
        self.nexthop = settings.view.myhostname
        self.host = ""
        self.address: Record | None = None
        self.port = 0
        self.namaddrport = self.addrport = ""
        self.level = options.level
        self.names = tuple(options.match)
        self.tlsa = options.tlsa
        self.base = ""
        self.server_name = ""

    def run(self) -> Run[None]:
        """All connections."""
        options = self.options
        wait, left = options.reconnect, options.tries
        while True:
            try:
                yield from self._once()
            except _Over:
                return
            if wait > 0:
                if self.context is not None and not self.sessions:
                    log.info("Server declined session caching. Done reconnecting.")
                    return
                if self.hits and self.bits & CACHE:
                    log.info("Found a previously used server.  Done reconnecting.")
                    return
                if left <= 0:
                    log.info("Maximum reconnect count reached.")
                    return
                left -= 1
            if wait <= 0:
                return
            log.info(f"Reconnecting after {wait} seconds")
            self.first = False
            yield from Sleep(wait)

    def _once(self) -> Run[None]:
        link = yield from self._connect()
        stream = Stream(link, self.clock)
        if self.first and self.options.chat:
            log.info(f"Connected to {self.namaddrport}")
        try:
            yield from self._converse(stream)
        finally:
            yield from stream.close()

    # Where to

    def _connect(self) -> Run[object]:
        where = self.options.destination
        if self.settings.lmtp and where.startswith("unix:"):
            path = where[5:]
            self.host = self.nexthop
            self.namaddrport, self.addrport = f"{self.host}[{path}]", path
            try:
                return (yield from Connect(0, path, limit=self.options.connect_limit))
            except ConnectError as error:
                log.info(f"Failed to establish session to {where}: connect to {self.namaddrport}: {error}")
                raise _Over from None
        if self.settings.lmtp:
            where = where.removeprefix("inet:")
        found, mx = ([self.address], None) if self.address is not None else (yield from self._servers(where))
        for record in found:
            link = yield from self._try(where, record, mx)
            if link is not None:
                return link
        raise _Over

    def _servers(self, where: str) -> Run[tuple[list[Record], Record | None]]:
        settings = self.settings
        site = destination.parse_site(where, "24" if settings.lmtp else "smtp", settings.known_ports)
        self.nexthop, self.port = site.host, site.port
        found = yield from route.find_servers(settings, site, False)
        if not found.addresses:
            log.info(f"Destination address lookup failed: {found.why.reason}")
            raise _Over
        return found.addresses, found.mx

    def _try(self, where: str, record: Record, mx: Record | None) -> Run[object | None]:
        """A connection to one address, or None, with the reason in the log."""
        port = self.port
        via = f"Failed to establish session to {where} via {record.query}"
        if self.settings.release >= (3, 8):
            via += f":{port}"
        if self.first:
            self.level = self.options.level
            if self.level in (Level.DANE, Level.DANE_ONLY) and not (yield from self._dane(record, mx)):
                log.info(f"{via}: TLSA lookup error for {record.query}:{port}")
                return None
        port = self.port = record.port or port
        family = 6 if ":" in record.text else 4
        self.namaddrport = f"{record.query}[{record.text}]:{port}"
        self.addrport = f"[{record.text}]:{port}"
        try:
            link = yield from Connect(family, record.text, port, self.options.connect_limit)
        except ConnectError as error:
            log.info(f"{via}: connect to {record.query}[{record.text}]:{port}: {error}")
            return None
        self.host, self.address = record.query, record
        return link  # type: ignore[no-any-return]  # a link is whatever the driver has

    def _dane(self, record: Record, mx: Record | None) -> Run[bool]:
        """Set level, names and records by the DNS. False when it cannot be asked."""
        settings, only = self.settings, self.level == Level.DANE_ONLY
        insecure = mx is not None and not mx.validated
        if insecure and settings.insecure_mx_level <= Level.MAY:
            log.info("MX RRset is insecure: try to encrypt")
            self.level = Level.MAY
            return True
        found = yield from dane.resolve(settings, self.port, record, self.clock())
        if found is None:
            return False
        if not found.records:
            if only:
                usable = "" if found.records is None else "usable "
                log.info(f'no {usable}TLSA records found, resorting to "secure"')
            self.level = Level.SECURE
        elif insecure and settings.insecure_mx_level == Level.ENCRYPT:
            log.info("TLSA RRs found, MX RRset insecure: just encrypt")
            self.level = Level.ENCRYPT
        else:
            self.tlsa, self.base = found.records, found.base
            names = [found.base]
            if mx is not None:
                if insecure:
                    log.info("MX RRset insecure: log verified as trusted")
                    self.level = Level.HALFDANE
                names += [mx.query] if mx.query == mx.name else [mx.name, mx.query]
            self.names = tuple(names)
        return True

    # What is said

    def _command(self, stream: Stream, text: str, verbose: bool) -> None:
        if verbose and self.options.chat:
            log.info(f"> {text}")
        stream.put(text.encode("utf-8", "surrogateescape") + b"\r\n")

    def _response(self, stream: Stream, verbose: bool) -> Run[_Response]:
        """Raises StreamError."""
        limit = self.settings.line_length_limit
        texts: list[str] = []
        while True:
            data, cut = yield from stream.read_line(limit)
            if cut and not (yield from stream.skip_line(limit)):
                raise StreamError("eof")
            line = "".join(chr(b) if 32 <= b < 127 or 9 <= b <= 13 else "?" for b in data)
            if verbose and self.options.chat:
                log.info(f"< {line}")
            digits = len(line) - len(line.lstrip("0123456789"))
            code = int(line[:3]) if digits == 3 else 0
            rest = line[digits:]
            more = rest.startswith("-")
            if sum(map(len, texts)) < limit:
                texts.append(rest.removeprefix("-").lstrip())
            if not more:
                return _Response(code, "\n".join(texts))

    @staticmethod
    def _trouble(error: StreamError) -> str:
        return "lost connection" if error.kind == "eof" else "timeout"

    def _converse(self, stream: Stream) -> Run[None]:
        options = self.options
        offered = False
        if not options.wrapper:
            yield from self._greeting(stream)
            reply = yield from self._hello(stream)
            if reply is None:
                raise _Over
            for number, line in enumerate(reply.text.split("\n")):
                word = line.replace("=", " ").split()[:1]
                if number == 0 and word:
                    self.server_name = word[0]
                offered = offered or (bool(word) and word[0].upper() == "STARTTLS")
        if (options.wrapper or offered) and self.context is not None:
            yield from self._start_tls(stream, self.context)
        stream.set_limit(options.command_limit, deadline=True)
        try:
            self._command(stream, "QUIT", True)
            yield from self._response(stream, True)
        except StreamError as error:
            log.warning(f"{self._trouble(error)} while sending QUIT command")

    def _greeting(self, stream: Stream) -> Run[None]:
        stream.set_limit(self.options.connect_limit, deadline=True)
        try:
            reply = yield from self._response(stream, True)
        except StreamError as error:
            log.info(f"{self._trouble(error)} while reading server greeting")
            raise _Over from None
        if reply.code // 100 != 2:
            log.info(f"SMTP service not available: {reply.code} {reply.text}")
            raise _Over

    def _hello(self, stream: Stream) -> Run[_Response | None]:
        word = "LHLO" if self.settings.lmtp else "EHLO"
        stream.set_limit(self.options.command_limit, deadline=True)
        try:
            self._command(stream, f"{word} {self.settings.view.myhostname}", self.first)
            reply = yield from self._response(stream, self.first)
        except StreamError as error:
            log.info(f"{self._trouble(error)} while sending {word}")
            return None
        if reply.code // 100 != 2:
            log.info(f"{word} rejected: {reply.code} {reply.text}")
            return None
        return reply

    def _start_tls(self, stream: Stream, context: ClientContext) -> Run[None]:
        options = self.options
        if not options.wrapper:
            stream.set_limit(options.command_limit, deadline=True)
            try:
                self._command(stream, "STARTTLS", self.first)
                reply = yield from self._response(stream, self.first)
            except StreamError as error:
                log.fatal(f"{self._trouble(error)} while sending STARTTLS")
                raise _Over from None
            if reply.code // 100 != 2:
                log.info(f"STARTTLS rejected: {reply.code} {reply.text}")
                raise _Over
            stream.input.clear()
        request = self._request(context)
        try:
            state = yield from StartTLS(stream.link, request, options.command_limit)
        except HandshakeError:
            self.sessions.pop(request.session_id, None)
            stream.broken = True
            raise _Over from None
        self.server_name = ""
        self.hits += state.reused
        if options.wrapper:
            yield from self._greeting(stream)
        if self.first:
            yield from self._hello(stream)
            if not (state.certificate or state.raw_key):
                log.info("Server is anonymous")
            else:
                if options.print_chain:
                    self._print_chain(context, state)
                self.bits &= ~(CERTMATCH | PEERCERT | VERBOSE | UNTRUSTED)
            self.bits |= CACHE | SUMMARY
        if state.session:
            self.sessions[request.session_id] = state.session

    def _request(self, context: ClientContext) -> TLSRequest:
        options, level = self.options, self.level
        words = {"hostname": self.host, "nexthop": self.nexthop, "dot-nexthop": f".{self.nexthop}"}
        names = tuple(words.get(name.lower(), name) for name in self.names)
        parts = (self.server_name, options.protocols, options.grade, names, self.base, options.servername, level)
        key = f"{self.addrport}&{hashlib.sha256(repr(parts).encode()).hexdigest().upper()}"
        kept = options.reconnect > 0
        return TLSRequest(
            context,
            self.namaddrport,
            level,
            options.protocols,
            options.grade,
            "aNULL" if level.must_match else "eNULL",
            names,
            words.get(options.servername, options.servername),
            context.digest,
            self.tlsa,
            self.base,
            options.raw_key,
            session_id=key if kept else "",
            cache="memory",
            session=self.sessions.get(key, b""),
            log=self.bits,
        )

    def _print_chain(self, context: ClientContext, state: TLSState) -> None:
        show = self.options.show
        if not state.chain:
            return
        show("")
        show("---")
        show("Certificate chain")
        for number, der in enumerate(state.chain):
            certificate = describe(context.library, der)
            show(f"{number:2d} subject: {certificate.subject}")
            show(f"    issuer: {certificate.issuer}")
            show(f"   cert digest={context.fingerprint(der)}")
            show(f"   pkey digest={context.fingerprint(certificate.key)}")
            show(ssl.DER_cert_to_PEM_cert(der).rstrip("\n"))
