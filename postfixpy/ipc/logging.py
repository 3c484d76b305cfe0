"""Where log records go, and their form: Postfix's ``Nov 23 14:00:00 host postfix/smtp[123]: text`` (maillog_client(3)).

Policy, as in Postfix: with maillog_file, to postlogd(8) over the datagram socket public/postlog (its path is in
$POSTLOG_SERVICE for programs that have not read main.cf yet), else to syslog's /dev/log. A command or the master writes
to the file itself when postlogd does not answer.

Two things are ours. A foreground master whose log would go nowhere writes to standard output, and so do the programs
that it starts ($POSTFIXPY_LOG=stdout). And $POSTFIXPY_LOG_FORMAT=json makes what goes to standard output one JSON
object a line. A socket that has gone away is connected again, where Postfix drops the record.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from postfixpy import log
from postfixpy.errors import FatalError

if TYPE_CHECKING:
    import socket

DEV_LOG = "/dev/log"
PATIENCE = 10.0
"""Seconds to wait for a log service that does not read its socket, before the record goes elsewhere."""

_STANDARD = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp"
FACILITIES = {name: number for number, name in enumerate(_STANDARD.split())}
FACILITIES |= {"security": FACILITIES["auth"]} | {f"local{n}": 16 + n for n in range(8)}
SEVERITIES = {"info": 6, "warning": 4, "error": 3, "fatal": 2, "panic": 2}
"""Severities, and their numbers for syslog."""


class Parameters(Protocol):
    """What of a configuration's view the log needs."""

    myhostname: str
    syslog_name: str
    syslog_facility: str
    maillog_file: str
    maillog_file_prefixes: str
    smtputf8_enable: bool
    queue_directory: str
    postlog_service_name: str


def task(program: str, view: Parameters | None = None) -> str:
    """The tag of a program: ``postfix/smtp``. $MAIL_LOGTAG is for the time before main.cf is read (mail_task(3))."""
    tag = view.syslog_name if view is not None else os.environ.get("MAIL_LOGTAG") or "postfix"
    return f"{tag}/{os.path.basename(program) or program}"


def severity_prefix(severity: str) -> str:
    """``warning: `` and so on; nothing for info."""
    return "" if severity == "info" else severity + ": "


def record(now: float, host: str, tag: str, pid: int, severity: str, text: str) -> str:
    """One line without its end, as msg_logger(3) writes it and postlogd(8) expects it. `now` is epoch seconds."""
    stamp = time.strftime("%b %d %H:%M:%S", time.localtime(now))
    shown = log.printable(text[: log.MAX_RECORD])
    return f"{stamp} {host.partition('.')[0]} {tag}[{pid}]: {severity_prefix(severity)}{shown}"


def json_record(now: float, host: str, tag: str, pid: int, severity: str, text: str) -> str:
    """The same facts as one JSON object; the time is ISO 8601 in UTC with milliseconds."""
    import json

    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    fields = {"time": stamp, "host": host, "program": tag, "pid": pid, "severity": severity, "text": text}
    return json.dumps(fields, ensure_ascii=True)


def wants_json() -> bool:
    """Whether what goes to standard output is to be JSON."""
    return os.environ.get("POSTFIXPY_LOG_FORMAT") == "json"


def encode(line: str) -> bytes:
    """The bytes of a line; what was not UTF-8 is restored."""
    return line.encode("utf-8", "surrogateescape")


def connect_datagram(path: str) -> "socket.socket | None":
    """A socket to a datagram service, or None. Paths too long for a socket address go through their directory."""
    import socket

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    directory = -1
    try:
        if len(os.fsencode(path)) > 100:
            directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            path = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        sock.connect(path)
    except OSError:
        sock.close()
        return None
    finally:
        if directory >= 0:
            os.close(directory)
    sock.settimeout(PATIENCE)
    return sock


class _Datagrams:
    """A datagram socket that is connected at once, because a chroot may follow, and again when it is lost."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock = connect_datagram(path)

    def send(self, data: bytes) -> bool:
        for _ in range(2):
            if self._sock is None:
                self._sock = connect_datagram(self._path)
            if self._sock is None:
                return False
            try:
                self._sock.send(data)
                return True
            except TimeoutError:
                return False
            except OSError:
                self.close()
        return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def open_logfile(path: str) -> int:
    """A descriptor that appends to `path`; the standard streams are used as they are. Raises FatalError."""
    standard = {"/dev/stdout": 1, "/dev/stderr": 2}.get(path)
    try:
        if standard is not None:
            try:
                return os.dup(standard)
            except OSError:
                pass  # closed: let open() say what is wrong
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as error:
        raise FatalError(f"open logfile '{path}': cannot open file: {os.strerror(error.errno or 0)}") from None


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]


class Logger:
    """A sink for postfixpy.log with Postfix's choice of place. Make one with `install`."""

    def __init__(self, tag: str, host: str, now: Callable[[], float] = time.time) -> None:
        self.tag, self.host = tag, host
        self._now = now
        self._postlog: _Datagrams | None = None
        self._syslog: _Datagrams | None = None
        self._facility = FACILITIES["mail"]
        self._stream = -1
        self._json = False
        self._stderr = False
        self._fallback = ""
        self._bypass = False

    def close(self) -> None:
        """Disconnect; the next record connects again."""
        for service in (self._postlog, self._syslog):
            if service is not None:
                service.close()

    def to_stream(self, fd: int, *, as_json: bool) -> None:
        """Write to a descriptor."""
        self._stream, self._json = fd, as_json

    def to_postlog(self, path: str, fallback: str = "") -> None:
        """Send to postlogd; write to the file `fallback` when it does not answer ("": nowhere)."""
        self._postlog = _Datagrams(path)
        self._fallback = fallback

    def without_postlogd(self) -> None:
        """From now on write to the file that `to_postlog` got: postlogd is about to end."""
        self._bypass = True

    def to_syslog(self, facility: str) -> None:
        """Send to the local syslog."""
        self._syslog = _Datagrams(DEV_LOG)
        self._facility = FACILITIES[facility]

    def also_to_stderr(self) -> None:
        """Copy every record to standard error as ``tag: text`` (-V, and commands at a terminal)."""
        self._stderr = True

    def __call__(self, severity: str, text: str) -> None:
        """Log one record. Never raises: a log that fails must not lose mail."""
        try:
            self._write(severity, text)
        except OSError:
            pass
        if self._stderr:
            log.stderr_sink(self.tag)(severity, text)

    def _write(self, severity: str, text: str) -> None:
        now, pid = self._now(), os.getpid()
        if self._stream >= 0:
            form = json_record if self._json else record
            write_all(self._stream, encode(form(now, self.host, self.tag, pid, severity, text) + "\n"))
        elif self._postlog is not None:
            line = encode(record(now, self.host, self.tag, pid, severity, text))
            if (self._bypass or not self._postlog.send(line)) and self._fallback:
                fd = open_logfile(self._fallback)
                try:
                    write_all(fd, line + b"\n")
                finally:
                    os.close(fd)
        elif self._syslog is not None:
            shown = severity_prefix(severity) + log.printable(text[: log.MAX_RECORD])
            self.send_text(shown, str(pid), SEVERITIES.get(severity, 6))

    def send_text(self, text: str, pid: str, priority: int = 6) -> None:
        """Send a text to syslog under the tag and a process id; `priority` is syslog's, 6 is info."""
        if self._syslog is not None:
            stamp = time.strftime("%b %e %H:%M:%S", time.localtime(self._now()))
            self._syslog.send(encode(f"<{self._facility * 8 + priority}>{stamp} {self.tag}[{pid}]: {text}"))


def check_prefixes(maillog_file: str, prefixes: str) -> None:
    """Raises FatalError when maillog_file does not start with one of maillog_file_prefixes."""
    if not any(maillog_file.startswith(prefix) for prefix in prefixes.replace(",", " ").split()):
        raise FatalError(f"maillog_file value '{maillog_file}' does not match any prefix in maillog_file_prefixes")


def install(program: str, view: Parameters | None = None, *, fallback: bool = False, tag: str = "") -> Logger:
    """Make this process log as `program`; once at start without `view`, and again when main.cf has been read.

    `fallback`: a command or the master, which may write to the log file itself. `tag` replaces the usual one. Exports
    $POSTLOG_SERVICE, $POSTLOG_HOSTNAME and $MAIL_LOGTAG for child processes. Raises FatalError for a bad maillog_file
    or syslog_facility.
    """
    tag = tag or task(program, view)
    environ = os.environ
    service, host = environ.get("POSTLOG_SERVICE", ""), environ.get("POSTLOG_HOSTNAME", "")
    maillog_file = ""
    if view is not None:
        log.set_utf8(view.smtputf8_enable)
        maillog_file, host = view.maillog_file, view.myhostname
        environ["MAIL_LOGTAG"] = view.syslog_name
        service = f"{view.queue_directory}/public/{view.postlog_service_name}" if maillog_file else ""
        if maillog_file:
            check_prefixes(maillog_file, view.maillog_file_prefixes)
    logger = Logger(tag, host or "amnesiac")
    if environ.get("POSTFIXPY_LOG") == "stdout":
        logger.to_stream(1, as_json=wants_json())
    elif service:
        logger.to_postlog(service, maillog_file if fallback else "")
    else:
        facility = view.syslog_facility if view is not None else "mail"
        if facility not in FACILITIES:
            raise FatalError(f"file main.cf: parameter syslog_facility: unrecognized value: {facility}")
        logger.to_syslog(facility)
    if service:
        environ["POSTLOG_SERVICE"], environ["POSTLOG_HOSTNAME"] = service, host or "amnesiac"
    elif view is not None:
        environ.pop("POSTLOG_SERVICE", None)
        environ.pop("POSTLOG_HOSTNAME", None)
    previous = log.set_sink(logger)
    if isinstance(previous, Logger):
        previous.close()
    return logger
