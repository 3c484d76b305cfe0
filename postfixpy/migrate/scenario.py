r"""Scenarios: one file that is the test, the recording and the documentation of one behaviour (DESIGN 2C).

A file begins with a sentence for people, then has sections, each introduced by a ``== NAME`` line:

    == main.cf              settings on top of `BASE`
    == table NAME           a file NAME in the configuration directory; texthash:$config_directory/NAME and the like
    == zone                 resource records, one a line: ``name TYPE data``; names that are not here do not exist
    == hosts                lines of /etc/hosts
    == server ADDRESS:PORT  (or a path) what the scripted server does, a step a line; ``--`` begins its next connection
    == request              ``name = value``: fields of the delivery request; ``recipient`` may repeat; further
                            sections are further requests to the same process
    == message [N]          the content of the message, its last line N times; without it a short one
    == master.cf, submission, command    for whole mail systems: see tools/recorder/systems.py
    == releases RELEASE...  only these releases can do it; without it every release
    == compare WORD...      only these observables are recorded and compared: first words of their lines, as wire, log,
                            bounce, defer, trace, verify, flush, notice, tlsrpt, result, done; without it all
    == live PARAMETER...    only between processes: not replayed in memory; of these parameters the value matters
    == recorded RELEASE...  what the real program of these releases did: wire, log, reports, result, queue-file marks

Steps of a server:

    > text        send a line             >> text     send text as it is, with \r \n \xHH escapes
    < WORD        read one line, which should begin with WORD
    sasl MECHANISM USER PASSWORD   read AUTH and play the server's side of it, but for the last reply
    <data         read to the final dot   <bytes N    read until N bytes of content have come
    sleep N       wait N seconds          close, reset, stall: hang up, with or without FIN; never answer again
    deaf          read no more            slow BYTES SECONDS: read to the final dot, so many bytes at a time
    starttls CERTIFICATE [OPTION...]      a TLS handshake; what follows is encrypted (postfixpy.tls.scripted)
    hello         read the beginning of a TLS handshake, and say nothing
    close abruptly                        in TLS, hang up without saying so

The files of compat/certificates are in ``$config_directory/certificates``. The wire shows what was said in TLS in
plaintext, and what the server saw of a handshake in square brackets.

Addresses of 192.0.2.0/24 swallow what is sent to them. In a request ``program``, ``words`` (arguments in master.cf),
``age`` (seconds since the message arrived), ``after`` (seconds since the request before), ``end`` (the record behind
the content, X) and ``cut`` (bytes that the queue file lacks at its end) are not fields of it.

The service ``deaf`` accepts connections and says nothing; tools/recorder/services.py has more of this kind.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from postfixpy.sasl.testing import shown
from postfixpy.smtp.peers import unescape

__all__ = [
    "BASE", "Scenario", "Server", "escape", "files", "normal_log", "parse", "read", "read_text", "show_wire",
    "unescape", "with_recording", "write_text",
]  # fmt: skip

BASE = """\
compatibility_level = 3.6
myhostname = client.example
mydomain = example
myorigin = client.example
mydestination = client.example
inet_interfaces = 127.0.0.1
smtp_randomize_addresses = no
relay_domains =
fast_flush_domains =
"""

CERTIFICATES = Path(__file__).resolve().parents[2] / "compat/certificates"
"""What servers and clients of scenarios have; tools/make_certificates.py makes them."""
OBSERVABLES = frozenset(
    "wire log notice rewrite bounce defer trace verify flush pass tlsrpt result done".split()  # noqa: SIM905  # shorter
)
"""First words of the lines of a recording."""
QUEUE_ID = "3A1B2C3D4E"
DEFAULT_MESSAGE = "Subject: test\n\nhello\n"


@dataclass(slots=True)
class Server:
    """A scripted server: its address and the steps of each connection."""

    address: str
    connections: list[list[str]]


@dataclass(slots=True)
class Scenario:
    """A scenario file, parsed."""

    title: str = ""
    main_cf: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    zone: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    requests: list[list[tuple[str, str]]] = field(default_factory=list)
    message: str = DEFAULT_MESSAGE
    rows: list[str] = field(default_factory=list)
    steps: list[tuple[str, list[str]]] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    tlsmgr: bool = True
    compared: list[str] = field(default_factory=list)
    only_live: bool = False
    live: list[str] = field(default_factory=list)
    recorded: dict[str, str] = field(default_factory=dict)

    def value(self, name: str, default: str = "") -> str:
        """A field of the first request."""
        return next((value for key, value in self.requests[0] if key == name), default)

    @property
    def uses_certificates(self) -> bool:
        """Whether the configuration names files of compat/certificates."""
        return any("/certificates" in text for text in (self.main_cf, *self.tables.values()))

    def wants(self, release: str) -> bool:
        """Whether the scenario is for a release."""
        return not self.releases or release in self.releases

    def select(self, text: str) -> str:
        """Of all observables of a run, as text, those that are compared."""
        if not self.compared:
            return text
        out, chosen = [], False
        for line in text.splitlines(keepends=True):
            if not line.startswith(("|", "--")):  # else it is of the wire above
                chosen = line.split(maxsplit=1)[0].rstrip(":") in self.compared
            if chosen:
                out.append(line)
        return "".join(out)


def parse(text: str) -> Scenario:
    """A scenario from the text of its file. Raises ValueError."""
    head, *sections = re.split(r"^== ", text, flags=re.MULTILINE)
    scenario = Scenario(head.strip())
    for section in sections:
        title, _, body = section.partition("\n")
        kind, _, argument = title.strip().partition(" ")
        lines = [line for line in body.split("\n") if line.strip()]
        if kind == "main.cf":
            scenario.main_cf = body
        elif kind == "table":
            scenario.tables[argument] = body.strip("\n") + "\n"
        elif kind == "zone":
            scenario.zone = lines
        elif kind == "hosts":
            scenario.hosts = lines
        elif kind == "server":
            connections: list[list[str]] = [[]]
            for line in lines:
                if line.strip() == "--":
                    connections.append([])
                else:
                    connections[-1].append(line.strip() if not line.startswith(">") else line)
            scenario.servers.append(Server(argument, connections))
        elif kind == "request":
            pairs = (line.partition("=") for line in lines)
            scenario.requests.append([(name.strip(), value.strip()) for name, _, value in pairs])
        elif kind == "message":
            scenario.message = body.removesuffix("\n") if body.endswith("\n\n") else body
            if argument:
                *head, last = scenario.message.splitlines(keepends=True)
                scenario.message = "".join(head) + last * int(argument)
        elif kind == "without" and argument == "tlsmgr":
            scenario.tlsmgr = False
        elif kind == "master.cf":
            scenario.rows = lines
        elif kind in ("submission", "command"):
            scenario.steps.append((kind, argument.split() if kind == "command" else lines))
        elif kind == "releases":
            scenario.releases = argument.split()
        elif kind == "compare":
            scenario.compared = argument.split()
            if unknown := set(scenario.compared) - OBSERVABLES:
                raise ValueError(f"unknown observable: {min(unknown)}")
        elif kind == "live":
            scenario.only_live, scenario.live = True, argument.split()
        elif kind == "recorded":
            scenario.recorded |= dict.fromkeys(argument.split(), body.strip("\n") + "\n")
        else:
            raise ValueError(f"unknown section: {kind}")
    scenario.requests = scenario.requests or [[]]
    return scenario


def read(path: Path) -> Scenario:
    """The scenario in a file. Raises ValueError, OSError."""
    try:
        return parse(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_text(path: Path) -> str:
    """The text of a scenario file, any bytes of it."""
    return path.read_text("utf-8", "surrogateescape")


def write_text(path: Path, text: str) -> None:
    """Write a scenario file."""
    path.write_text(text, "utf-8", "surrogateescape")


def files(names: Sequence[str]) -> list[Path]:
    """The files that are named, and all scenarios below the folders that are named. Raises FileNotFoundError."""
    out: list[Path] = []
    for path in map(Path, names):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        out += sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    return out


def with_recording(text: str, release: str, recorded: str) -> str:
    """The text of a scenario file with the recording of one release replaced. Equal recordings share a section."""
    found = parse(text).recorded | {release: recorded}
    body = re.split(r"^== recorded ", text, maxsplit=1, flags=re.MULTILINE)[0].rstrip("\n") + "\n"
    groups: dict[str, list[str]] = {}
    for name in sorted(found, key=lambda name: [int(part) for part in name.split(".")]):
        groups.setdefault(found[name], []).append(name)
    return body + "".join(f"== recorded {' '.join(names)}\n{shown}" for shown, names in groups.items())


def escape(data: bytes) -> str:
    """Bytes in a line of text."""
    out = []
    for code in data:
        if code == 0x5C:
            out.append("\\\\")
        elif 32 <= code < 127:
            out.append(chr(code))
        else:
            out.append({13: "\\r", 10: "\\n"}.get(code, f"\\x{code:02x}"))
    return "".join(out)


def show_wire(name: str, chunks: list[bytes]) -> list[str]:
    """What one connection carried from the client: a line a line, ``--`` between separate writes."""
    out = [f"wire {name}"]
    for number, chunk in enumerate(chunks):
        if number:
            out.append("--")
        lines = chunk.split(b"\r\n")
        out += [f"| {escape(shown(line))}" for line in lines[:-1]]
        if lines[-1]:
            out.append(f"|~{escape(lines[-1])}")
    return out


_DIFFERENT = (
    (re.compile(r"delay=[0-9.]+, delays=[0-9./]+"), "delay=#, delays=#"),
    (re.compile(r"TCP send buffer size is [0-9]+"), "TCP send buffer size is #"),
    # The TLS library's source files, and two words that newer versions of OpenSSL changed.
    (re.compile(r"(TLS library problem: error:[^:]*:[^:]*:[^:]*:[^:]*):[^:]*:[0-9]+:"), r"\1:#:#:"),
    (re.compile(r"(TLS library problem: .*|SSL3 alert .*)(?:sslv3|ssl/tls) alert"), r"\1tls alert"),
    (re.compile("error:05880020:(x509 certificate routines)::BIO lib"), r"error:05880002:\1::system lib"),
    (re.compile(r"&[0-9A-F]{64}\b"), "&#"),  # the key of a TLS session
    (re.compile(r"^(read from|write to) [0-9A-F]+ \[[0-9A-F]+\]"), r"\1 # [#]"),
)


_SHOWN = 1900
"""Characters of a log line: Postfix cuts its records at 2000 bytes, somewhere, as the delays have it."""


_LIBRARY = re.compile(
    r"dns_query: |dns_get_answer: |lookup \S+ type |global TLS level: |ctable_locate: |vstream_\w+: |fd=[0-9]+: "
    r"|name_mask: |connect to subsystem |private/\S+ socket: |input attribute |send attr |hbc_|mime_|smtp_map11|"
    r"auto_clnt_|event_|maps_find: |dict_|match_|rewrite_clnt|been_here|mail_addr_|post_mail|rec_"
)
"""Verbose log lines (debug_peer_list) of Postfix's libraries, which have no counterpart here."""


def normal_log(line: str) -> str | None:
    """A log line without what differs between runs and versions of OpenSSL; None for one that does not count."""
    if _LIBRARY.match(line):
        return None
    for pattern, same in _DIFFERENT:
        line = pattern.sub(same, line)
    return line[:_SHOWN]
