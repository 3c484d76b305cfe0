"""postfixpy sink: an SMTP and LMTP server that throws mail away, slowly, rudely or not at all, as told.

The option letters are those of Debian's smtp-sink(1). The long options are ours: a script of rules (see
postfixpy.sink.rules), a journal of what was accepted, other keywords to offer. Differences: the backlog argument is
optional, and "-s" logs to standard error, not to syslog.
"""

import asyncio
import getopt
import os
import random
import socket
import sys

from postfixpy.errors import FatalError
from postfixpy.sink.rules import Rule, Script, parse_rule, parse_rules
from postfixpy.sink.server import Sink, listen_tcp, listen_unix
from postfixpy.sink.session import Offer

SOFT = "450 4.3.0 Error: command failed"
HARD = "500 5.3.0 Error: command failed"

USAGE = """\
usage: postfixpy sink [options] [inet:][host]:port [backlog]
       postfixpy sink [options] unix:pathname [backlog]

Accepts SMTP (-L: LMTP) mail and throws it away. Options as in smtp-sink(1):
  -4 -6            IPv4 only, IPv6 only            -L               LMTP
  -8 -a -C -E -F -N -p  do not announce 8BITMIME, AUTH, XCLIENT, ENHANCEDSTATUSCODES, XFORWARD, DSN, PIPELINING
  -e -P            no ESMTP; a PIX-like greeting   -h hostname      name in greeting and HELO reply
  -f CMD,CMD -r CMD,CMD   refuse commands with 5xx, with 4xx; both imply -p. Commands are CONNECT HELO EHLO LHLO
                   MAIL RCPT DATA . RSET NOOP VRFY QUIT
  -q CMD,CMD -Q CMD,CMD   hang up at commands without a reply, with a 421 reply
  -B reply -b reply       the text of hard, of soft refusals
  -A s -w s -H s   abort after DATA; wait before the reply to DATA; wait before reading the content
  -W CMD:s[:odds]  wait before replying to a command
  -d template -D template -S string   dump messages to single files, to a shared file; text before each
  -c -v            show counters; show the conversations
  -m n -M n -n n -t s   clients at once; end after n messages, n sessions; time limit

and ours:
  --rule 'STAGE WHO [times=N] [odds=P] [delay=S] ACTION'
                       what to do when; may be repeated; --script FILE reads a file of rules. Examples:
       rcpt refuse@* 550 5.1.1 no such user        refuse one recipient
       rcpt * times=1 450 4.2.0 greylisted         defer every recipient once
       dot * odds=10 drop                          hang up at one final dot in ten, message not accepted
  --offer 'KEYWORD'    announce it, e.g. --offer 'SIZE 10240000' --offer SMTPUTF8
  --journal FILE       a JSON line for each accepted transaction; --journal-content puts the message in it
  --tls-cert FILE      offer STARTTLS; FILE has the certificate, its chain and, without --tls-key FILE, its key
  --tls-wrapper        the handshake comes first (port 465)
  --seed N             make odds repeatable
  --print-port         print the port, for port 0
"""

_WITHOUT = {
    "8": "8BITMIME",
    "a": "AUTH",
    "C": "XCLIENT",
    "E": "ENHANCEDSTATUSCODES",
    "F": "XFORWARD",
    "N": "DSN",
    "p": "PIPELINING",
}
_LONG = [
    *("help", "rule=", "script=", "offer=", "journal=", "journal-content", "seed=", "print-port"),
    *("tls-cert=", "tls-key=", "tls-wrapper"),
]


def _seconds(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FatalError(f"bad value for -{option}: {text}") from None


def _commands(text: str) -> list[str]:
    """The stages of a -f, -r, -q, -Q or -s argument."""
    words = text.replace(",", " ").lower().split()
    stages = ["dot" if word == "." else word for word in words]
    for stage in stages:
        try:
            parse_rule(f"{stage} * ok")
        except ValueError:
            raise FatalError(f"unknown command: {stage.upper()}") from None
    return stages


def _delay_rule(text: str, rng: random.Random) -> Rule:
    command, _, rest = text.partition(":")
    delay, _, odds = rest.partition(":")
    stage = _commands(command)[0]
    seconds = _seconds(delay, "W")
    if odds:
        # A random multiple: the number of dice rolls until one is at least `odds`; drawn once a rule, here.
        limit, rolls = _seconds(odds, "W"), 1
        while rng.randrange(100) < limit and rolls < 1000:
            rolls += 1
        seconds *= rolls
    return Rule(stage, delay=seconds)


class _Options:
    """The command line, parsed."""

    def __init__(self, argv: list[str]) -> None:
        self.sink = Sink()
        self.family = 0
        self.backlog = 100
        self.print_port = False
        self.user = self.root = ""
        self.certificate = self.key = ""
        self.soft, self.hard = SOFT, HARD
        refusals: list[tuple[str, list[str]]] = []
        rules: list[Rule] = []
        dropped: set[str] = set()
        rng = self.sink.script.rng
        letters = "468aA:b:B:cCd:D:eEf:Fh:H:Ln:m:M:NpPq:Q:r:R:s:S:t:T:u:vw:W:"
        try:
            options, arguments = getopt.getopt(argv[1:], letters, _LONG)
        except getopt.GetoptError as error:
            raise FatalError(f"{error}\n{USAGE}", 64) from None
        offer = self.sink.offer
        for option, value in options:
            letter = option.lstrip("-")
            if letter == "seed":
                rng.seed(value)
            elif letter in _WITHOUT:
                dropped.add(_WITHOUT[letter])
            elif letter in "fr" or letter in "qQ":
                refusals.append((letter, _commands(value)))
                if letter in "fr":
                    dropped.add("PIPELINING")
            elif letter in ("rule", "script"):
                rules += self._script(letter, value)
            elif letter == "W":
                rules.append(_delay_rule(value, rng))
            else:
                self._plain(letter, value, offer)
        offer.keywords = [k for k in offer.keywords if k.split()[0] not in dropped]
        rules += [rule for letter, stages in refusals for rule in self._refusal(letter, stages)]
        self.sink.script = Script(rules, rng)
        if not 1 <= len(arguments) <= 2:
            raise FatalError(USAGE, 64)
        self._load_certificate()
        self.endpoint = arguments[0]
        if len(arguments) == 2:
            self.backlog = int(_seconds(arguments[1], "backlog"))

    def _load_certificate(self) -> None:
        import ssl

        if not self.certificate:
            if self.key or self.sink.tls_first:
                raise FatalError("--tls-key and --tls-wrapper need --tls-cert")
            return
        self.sink.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self.sink.tls.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise FatalError(f"{self.certificate}: {reason}") from None
        self.sink.offer.starttls = not self.sink.tls_first

    def _script(self, option: str, value: str) -> list[Rule]:
        try:
            if option == "rule":
                return [parse_rule(value)]
            with open(value, encoding="utf-8") as script:
                return parse_rules(script.read())
        except ValueError as error:
            where = f"{value}: " if option == "script" else ""
            raise FatalError(f"{where}{error}") from None
        except OSError as error:
            raise FatalError(f"open {value}: {error.strerror}") from None

    def _refusal(self, letter: str, stages: list[str]) -> list[Rule]:
        kinds = {
            "f": ("reply", self.hard),
            "r": ("reply", self.soft),
            "q": ("drop", ""),
            "Q": ("close", "421 4.0.0 Server closing connection"),
        }
        action, reply = kinds[letter]
        return [Rule(stage, "*", action, reply) for stage in stages]

    def _plain(self, letter: str, value: str, offer: Offer) -> None:  # one branch an option, in the manual's order
        sink = self.sink
        if letter == "help":
            raise FatalError(USAGE, 0)
        if letter in "46":
            self.family = socket.AF_INET if letter == "4" else socket.AF_INET6
        elif letter == "A":
            offer.abort_after_data = _seconds(value, letter)
        elif letter == "b":
            self.soft = value
        elif letter == "B":
            self.hard = value
        elif letter == "c":
            sink.on_count = _show_counters
        elif letter == "d":
            sink.dump_single = value
        elif letter == "D":
            sink.dump_shared = value
        elif letter in ("e", "P"):
            offer.esmtp, offer.pix = False, letter == "P"
        elif letter == "h":
            offer.hostname = value
        elif letter == "H":
            offer.content_delay = _seconds(value, letter)
        elif letter == "L":
            offer.lmtp = True
        elif letter in ("m", "M", "n"):
            name = {"m": "max_clients", "M": "max_messages", "n": "max_sessions"}[letter]
            setattr(sink, name, int(_seconds(value, letter)))
        elif letter == "R":
            self.root = value
        elif letter == "S":
            sink.dump_prefix = value.encode("latin-1", "backslashreplace").decode("unicode_escape")
        elif letter == "t":
            sink.timeout = _seconds(value, letter)
        elif letter == "u":
            self.user = value
        elif letter in ("v", "s"):
            sink.trace = _show_line
        elif letter == "w":
            offer.data_reply_delay = _seconds(value, letter)
        elif letter == "offer":
            offer.keywords.append(value)
        elif letter == "journal":
            sink.journal = open(value, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        elif letter == "journal-content":
            sink.journal_content = True
        elif letter == "print-port":
            self.print_port = True
        elif letter == "tls-cert":
            self.certificate = value
        elif letter == "tls-key":
            self.key = value
        elif letter == "tls-wrapper":
            sink.tls_first = True


def _show_counters(sink: Sink) -> None:
    """On a terminal each line takes the place of the one before."""
    end = "\r" if sys.stdout.isatty() else "\n"
    sys.stdout.write(f"sess={sink.sessions} quit={sink.quits} mesg={sink.messages}{end}")
    sys.stdout.flush()


def _show_line(line: str) -> None:
    sys.stderr.write(line + "\n")


def _drop_privileges(options: _Options) -> None:
    import pwd

    if options.user:
        try:
            entry = pwd.getpwnam(options.user)
        except KeyError:
            raise FatalError(f"unknown user: {options.user}") from None
    if options.root:
        os.chroot(options.root)
        os.chdir("/")
    if options.user:
        os.initgroups(options.user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _listen(options: _Options) -> socket.socket:
    """Raises FatalError."""
    endpoint = options.endpoint.removeprefix("inet:")
    if endpoint.startswith("unix:"):
        path = endpoint.removeprefix("unix:")
        try:
            return listen_unix(path, options.backlog)
        except OSError as error:
            raise FatalError(f"bind: {path}: {_reason(error)}") from None
    host, _, service = endpoint.rpartition(":")
    host = host.strip("[]")
    port = _port(endpoint, service)
    try:
        return listen_tcp(host, port, options.backlog, options.family)
    except socket.gaierror as error:
        raise FatalError(f"{endpoint}: {error.strerror}") from None
    except OSError as error:
        raise FatalError(f"bind {host or '*'} port {port}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    """What the system says; asyncio and socket put words of their own around it."""
    return os.strerror(error.errno) if error.errno else str(error)


def _port(endpoint: str, service: str) -> int:
    if service.isascii() and service.isdigit():
        if int(service) <= 65535:
            return int(service)
        raise FatalError(f"{endpoint}: port out of range: {service}")
    try:
        return socket.getservbyname(service, "tcp")
    except OSError:
        raise FatalError(f"{endpoint}: Servname not supported for ai_socktype") from None


def main(argv: list[str]) -> int:
    """The command. Raises FatalError for bad options; runs until its limits or a signal end it."""
    try:
        options = _Options(argv)
    except FatalError as error:
        if error.status in (0, 64):
            (sys.stderr if error.status else sys.stdout).write(f"{error}\n")
            return error.status
        raise
    listener = _listen(options)
    if options.print_port:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
    _drop_privileges(options)
    try:
        asyncio.run(options.sink.serve(listener))
    except KeyboardInterrupt:
        return 130
    finally:
        if options.sink.on_count is not None and sys.stdout.isatty():
            sys.stdout.write("\n")
    return 0
