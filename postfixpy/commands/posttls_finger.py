"""posttls-finger(1): tell the TLS properties of an SMTP or LMTP server.

    postfixpy posttls-finger [-acCfRSvwx] [-t conn_tmout] [-T cmd_tmout] [-L logopts] [-h host_lookup] [-l level]
        [-d mdalg] [-g grade] [-p protocols] [-A tafile] [-F CAfile.pem] [-P CApath/] [-s servername]
        [-H chainfiles | -k certfile [-K keyfile]] [-m count] [-r delay] [-M policy] [-o name=value]
        destination [match...]

Options, output and exit status are Postfix's; the output is on standard output. Of main.cf it heeds what is not the
client's (inet_protocols, myhostname, tls_*...) and smtp_tls_fingerprint_digest; -o overrides both. When root runs it,
it talks to servers as mail_owner. -R is there since 3.8, -x since 3.9.

Differs from Postfix: -X (by way of tlsproxy(8)) is refused; a time limit of 0 (-t, -T) is a panic there; it hangs up on
unix:pathname at once; and with ``-L ssl-debug`` there is the progress of the handshake, but not OpenSSL's own trace of
each message.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from postfixpy import config, log
from postfixpy.config import View
from postfixpy.errors import FatalError
from postfixpy.ipc.jail import drop_privileges
from postfixpy.options import OptionError, parse
from postfixpy.smtp.finger import Finger, Options
from postfixpy.smtp.settings import Settings
from postfixpy.tls.dane import TrustAnchorError, fingerprint_records, trust_anchors
from postfixpy.tls.level import LEVELS, Level, level_name
from postfixpy.tls.loglevel import VERBOSE, log_mask

_LETTERS = "a:A:cCd:fF:g:h:H:k:K:l:L:m:M:o:p:P:r:Rs:St:T:vwxX"
_SINCE = {"R": (3, 8), "x": (3, 9)}
_OWN = ("smtp_", "lmtp_")
_KEPT = "smtp_tls_fingerprint_digest"


@dataclass(slots=True)
class _Line:
    """The command line."""

    probe: Options
    family: str = "any"
    lookup: str = "dns"
    level: str = ""
    log: str = "routine,certmatch"
    srv: bool = False
    lmtp: bool = False
    anchors: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)
    certificate: str = ""
    key: str = ""
    overrides: list[tuple[str, str]] = field(default_factory=list)
    insecure_mx: str = "dane"
    set: dict[str, str] = field(default_factory=dict)  # parameters that options stand for


def main(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    name = argv[0].rpartition("/")[2]
    log.set_sink(_output(name))
    try:
        configuration = config.load()
        missing = [letter for letter, since in _SINCE.items() if configuration.database.release < since]
        letters = _LETTERS.translate({ord(letter): None for letter in missing})
        try:
            line, match = _parse(argv, letters)
        except OptionError:
            flags = "".join(letter for letter in "acCfRSvwx" if letter not in missing)
            sys.stderr.write(_USAGE.format(name, flags))
            return 1
        settings = _settings(line, configuration)
        _match(line, match)
        drop_privileges("", settings.view.mail_owner, settings.view)
        asyncio.run(_run(Finger(settings, line.probe, settings.tls_context, time.time)))
    except FatalError as error:
        log.fatal(str(error))
        return error.status
    return 0


def _output(name: str) -> Callable[[str, str], None]:
    def write(severity: str, text: str) -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        sys.stdout.write(f"{name}: {prefix}{log.printable(text)}\n")
        sys.stdout.flush()

    return write


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")


async def _run(finger: Finger) -> None:
    from postfixpy.dns.lookup import Resolver
    from postfixpy.dns.stub import Stub
    from postfixpy.smtp.edge import Edge

    stub = Stub()
    search, ndots = stub.config.search, stub.config.ndots
    edge = Edge(Resolver(stub, search=search, ndots=ndots, dnssec_probe=finger.settings.view.dnssec_probe))
    try:
        await edge.run(finger.run())
    finally:
        edge.close()


def _number(text: str) -> int:
    """As atoi(3)."""
    digits = text.strip()
    end = next((n for n, c in enumerate(digits) if not (c.isdigit() or (n == 0 and c in "+-"))), len(digits))
    try:
        return int(digits[:end])
    except ValueError:
        return 0


def _parse(argv: list[str], letters: str) -> tuple[_Line, list[str]]:
    """The options, and the match arguments. Raises OptionError, FatalError."""
    try:
        found, words = parse(argv[1:], letters)
    except OptionError as error:
        what = "option requires an argument" if error.letter in letters else "invalid option"
        sys.stderr.write(f"{argv[0]}: {what} -- '{error.letter}'\n")
        raise
    if not words:
        raise OptionError("")
    line = _Line(Options(words[0], _show))
    probe = line.probe
    for letter, value in found:
        match letter:
            case "a":
                line.family = value
            case "A":
                line.anchors.append(value)
            case "c":
                probe.chat = False
            case "C":
                probe.print_chain = True
            case "d":
                line.set[_KEPT] = value
            case "f":
                line.set["smtp_tls_force_insecure_host_tlsa_lookup"] = "yes"
            case "F":
                line.set["smtp_tls_CAfile"] = value
            case "g":
                probe.grade = value
            case "h":
                line.lookup = value
            case "H":
                line.chains.append(value)
            case "k":
                line.certificate = value
                line.key = line.key or value
            case "K":
                line.key = value
                line.certificate = line.certificate or value
            case "l":
                line.level = value
            case "L":
                line.log = value
            case "m":
                probe.tries = _number(value)
            case "M":
                if value.lower() not in ("may", "encrypt", "dane"):
                    raise FatalError(f"bad '-M' option value: {value}")
                line.insecure_mx = value
            case "o":
                parameter, equals, text = value.partition("=")
                if not equals:
                    raise OptionError(letter)
                line.overrides.append((parameter.strip(), text.strip()))
            case "p":
                probe.protocols = value
            case "P":
                line.set["smtp_tls_CApath"] = value
            case "r":
                probe.reconnect = _number(value)
            case "R":
                line.srv = True
            case "s":
                probe.servername = value
            case "S":
                line.lmtp = True
            case "t":
                probe.connect_limit = _number(value)
            case "T":
                probe.command_limit = _number(value)
            case "w":
                probe.wrapper = True
            case "x":
                probe.raw_key = True
            case "X":
                raise FatalError("the -X option (tlsproxy) is not supported")
    if line.chains and line.certificate:
        raise FatalError("When the '-H' option is used, neither the '-k', nor the '-K' options may be used")
    if line.family.lower() not in ("any", "ipv4", "ipv6"):
        raise FatalError(f"bad '-a' option value: {line.family}")
    return line, words[1:]


def _settings(line: _Line, configuration: config.Configuration) -> Settings:
    """The client's settings: those of the options, none of main.cf's own. Raises FatalError."""
    probe = line.probe
    level = LEVELS.get((line.level or "dane").lower())
    if level is None:
        raise FatalError(f'Invalid TLS level "{line.level}"')
    probe.level = level
    if level == Level.NONE and probe.wrapper:
        raise FatalError("SSL wrapper mode requires that TLS not be disabled")
    for word in line.lookup.replace(",", " ").split():
        if word.lower() not in ("dns", "native"):
            raise FatalError(f'unknown -h option value "{word}" in "{line.lookup}"')
    for _ in range(2 if level == Level.NONE else 3):  # a warning comes as often as Postfix looks at it
        probe.log = log_mask("-L option", line.log)
    values = configuration.settings.values
    for parameter in [name for name in values if name.startswith(_OWN) and name != _KEPT]:
        del values[parameter]
    overrides = [(name, value) for name, value in line.overrides if not name.startswith(_OWN) or name == _KEPT]
    mode = "lmtp" if line.lmtp else "smtp"
    given = {
        "smtp_dns_support_level": "dnssec",
        "smtp_host_lookup": line.lookup,
        "smtp_address_preference": line.family,
        "smtp_mx_address_limit": "0",
        "smtp_balance_inet_protocols": "no",
        "smtp_tls_security_level": line.level or "dane",
        "smtp_tls_dane_insecure_mx_policy": line.insecure_mx,
        "smtp_tls_chain_files": ", ".join(line.chains),
        "smtp_tls_cert_file": line.certificate,
        "smtp_tls_key_file": line.key,
        "smtp_tls_loglevel": "verbose" if probe.log & VERBOSE else "0",
        "use_srv_lookup": ("smtp" if line.srv else ""),
        **line.set,
    }
    if line.lmtp:
        kept = values.get(_KEPT)
        given = {name.replace("smtp_tls", "lmtp_tls"): value for name, value in given.items()}
        if kept is not None:
            given.setdefault("lmtp_tls_fingerprint_digest", kept)
    view: View = configuration.view(process_name=mode, overrides=[*given.items(), *overrides])
    settings = Settings(view, lmtp=line.lmtp, service=mode)
    settings.tls_log = line.probe.log
    return settings


def _match(line: _Line, match: list[str]) -> None:
    """What has to match at the level. Raises FatalError."""
    probe = line.probe
    if probe.level in (Level.DANE, Level.DANE_ONLY, Level.SECURE):
        probe.match = match or ["nexthop", "dot-nexthop"]
    elif probe.level == Level.VERIFY:
        probe.match = match or ["hostname"]
    elif probe.level == Level.FINGERPRINT:
        probe.tlsa = fingerprint_records(match, probe.raw_key, probe.log) or None
    elif match:
        log.warning(f"TLS level '{level_name(probe.level)}' does not implement certificate matching")
    if line.anchors and probe.level in (Level.SECURE, Level.VERIFY):
        try:
            probe.tlsa = tuple(record for path in line.anchors for record in trust_anchors(path, probe.log))
        except TrustAnchorError:
            raise FatalError(f"Failed to load trust anchor file: {line.anchors[-1]}") from None


_USAGE = """\
usage: {} [-{}] [-t conn_tmout] [-T cmd_tmout] [-L logopts] \\
\t[-h host_lookup] [-l level] [-d mdalg] [-g grade] [-p protocols] \\
\t[-A tafile] [-F CAfile.pem] [-P CApath/] [-s servername] \\
\t[ [-H chainfiles] | [-k certfile [-K keyfile]] ] \\
\t[-m count] [-r delay] [-o name=value] destination [match ...]
"""
