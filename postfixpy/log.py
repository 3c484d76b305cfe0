"""Logging in Postfix's form: a severity and a text, rendered by one sink per process.

A record is ``[SEVERITY: ]TEXT``; `info` has no prefix. The commands use `stderr_sink`, which prefixes the program name
as typed; services install a sink that writes to postlogd, a file, or syslog (postfixpy.ipc.logging). Library users may
install their own. The default drops info and writes the rest to standard error, so that a library call is quiet.

Text is written as one record: control characters become "?", as in msg_output(3).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[[str, str], None]
    """Called with the severity ("info", "warning", "error", "fatal" or "panic") and the text without prefix."""

MAX_RECORD = 2000
"""Postfix's log clients cut records at about this many bytes (spec/smtp-client.md 1.8)."""


_utf8 = True


def set_utf8(enabled: bool) -> None:
    """Whether records may hold UTF-8 (smtputf8_enable), from now on in this process."""
    global _utf8
    _utf8 = enabled


def printable(text: str, utf8: bool | None = None, *, lenient: bool = False) -> str:
    """`text` with every control character, and every byte that is not UTF-8, replaced by "?".

    Without `utf8` (by default what `set_utf8` said) every byte that is not ASCII is. `lenient`: as before Postfix 3.9,
    which took a first byte with any number of continuation bytes for UTF-8; what is not stays a lone surrogate.
    """
    if not (_utf8 if utf8 is None else utf8) and not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("ascii", "replace").replace("\ufffd", "?")
    if text.isprintable():
        return text
    if lenient:
        return _lenient(text)
    return "".join(c if c >= " " and c != "\x7f" and not "\ud800" <= c <= "\udfff" else "?" for c in text)


def _lenient(text: str) -> str:
    import re

    shown = re.sub(
        rb"([\xc2-\xfe][\x80-\xbf]+)|[^\x20-\x7e]",
        lambda match: match[1] or b"?",
        text.encode("utf-8", "surrogateescape"),
    )
    return shown.decode("utf-8", "surrogateescape")


def stderr_sink(program: str, utf8: bool | None = None, *, lenient: bool = False) -> Sink:
    """A sink that writes ``program: severity: text`` lines to standard error, as the commands do.

    `utf8` and `lenient` are those of `printable`.
    """

    def write(severity: str, text: str) -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        line = f"{program}: {prefix}{printable(text, utf8, lenient=lenient)}\n"
        if lenient and any("\ud800" <= c <= "\udfff" for c in line):
            sys.stderr.flush()
            os.write(2, line.encode("utf-8", "surrogateescape"))
        else:
            sys.stderr.write(line)
        sys.stderr.flush()

    return write


def _default_sink(severity: str, text: str) -> None:
    if severity != "info":
        stderr_sink("postfixpy")(severity, text)


_sink: Sink = _default_sink


def set_sink(sink: Sink) -> Sink:
    """Install `sink` for this process; returns the previous one."""
    global _sink
    previous = _sink
    _sink = sink
    return previous


def info(text: str) -> None:
    """Log at severity info."""
    _sink("info", text)


def warning(text: str) -> None:
    """Log with the prefix ``warning: ``."""
    _sink("warning", text)


def error(text: str) -> None:
    """Log with the prefix ``error: ``."""
    _sink("error", text)


def fatal(text: str) -> None:
    """Log with the prefix ``fatal: ``. Does not exit: only the edge calls this, from a FatalError."""
    _sink("fatal", text)


def panic(text: str) -> None:
    """Log with the prefix ``panic: ``: a bug of ours was met."""
    _sink("panic", text)
