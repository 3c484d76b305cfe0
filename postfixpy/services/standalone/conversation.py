"""The edge of a stand-alone session: descriptors 0 and 1, time limits, pauses after errors, the log."""

import os
import select
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfixpy import log

from .lines import Lines
from .message import CLIENT, Drop, encode
from .session import Session

if TYPE_CHECKING:
    from postfixpy.config import View

_BLOCK = 65536


class Input:
    """What comes from a descriptor: lines, or bytes, with a time limit in seconds for each read."""

    def __init__(self, fd: int, limit: int, timeout: float) -> None:
        self._fd, self._timeout = fd, timeout
        self._lines = Lines(limit)

    @property
    def more(self) -> bool:
        """Whether a whole line is there already."""
        return b"\n" in self._lines.buffer

    @property
    def waiting(self) -> int:
        """How many bytes of a line that is not complete are there."""
        return len(self._lines.buffer)

    def _read(self) -> None:
        """Wait for more. Raises TimeoutError, EOFError."""
        if not select.select([self._fd], [], [], self._timeout)[0]:
            raise TimeoutError
        data = os.read(self._fd, _BLOCK)
        if not data:
            raise EOFError
        self._lines.feed(data)

    def line(self) -> tuple[str, bytes]:
        """("N", line without its end) or ("L", part). Raises TimeoutError, EOFError."""
        while (found := self._lines.next()) is None:
            self._read()
        return found

    def take(self, most: int) -> bytes:
        """At least one byte, at most `most`. Raises TimeoutError, EOFError."""
        if not self._lines.buffer:
            self._read()
        data, self._lines.buffer = self._lines.buffer[:most], self._lines.buffer[most:]
        return data


def converse(view: "View", opener: Callable[[], Drop], *, pause: Callable[[float], None] = time.sleep) -> int:
    """Hold the conversation on descriptors 0 and 1. The exit status."""
    from postfixpy.ipc import logging

    previous = log.set_sink(logging.install("smtpd", view))
    session = Session(view, opener)
    source = Input(0, view.line_length_limit, view.smtpd_timeout)
    output = sys.stdout.buffer

    def say(reply: str) -> None:
        if reply[0] in "45" and session.errors >= view.smtpd_soft_error_limit:
            output.flush()
            pause(view.smtpd_error_sleep_time)
        output.write(encode(reply.replace("\n", "\r\n")) + b"\r\n")
        if not source.more:
            output.flush()

    log.info(f"connect from {CLIENT}")
    say(session.greeting())
    try:
        while not session.over:
            reply = _step(session, source)
            if reply is not None:
                say(reply)
    except TimeoutError:
        say(f"421 4.4.2 {view.myhostname} Error: timeout exceeded")
        log.info(f"{session.prefix}timeout after {session.where_lost(source.waiting)} from {CLIENT}")
    except EOFError:
        if session.where != "END-OF-MESSAGE":  # who leaves without QUIT
            log.info(f"{session.prefix}lost connection after {session.where_lost(source.waiting)} from {CLIENT}")
    finally:
        session.close()
        log.info(session.summary())
        log.set_sink(previous)
    output.flush()
    return 0


def _step(session: Session, source: Input) -> str | None:
    """Take one line, or a piece of a chunk; the reply, if there is one."""
    if session.chunk_left:
        return session.chunk(source.take(min(session.chunk_left, _BLOCK)))
    kind, line = source.line()
    if session.receiving:
        return session.content(kind, line)
    if kind == "L":
        start = line.decode("utf-8", "surrogateescape")
        log.warning(f"{CLIENT}: request longer than {len(line)}: {start:.30}...")
        while kind == "L":
            kind, _ = source.line()
    return session.command(line.partition(b"\0")[0].decode("utf-8", "surrogateescape"))
