"""postlogd(8): writes the records that programs send to public/postlog into maillog_file.

A datagram is one record, already in its final form (`postfixpy.ipc.logging.record`). The file is opened once, before a
chroot; ``postfix reload`` ends this process, and the next one opens the file anew, which is how rotation works. When
maillog_file has been emptied, records of programs that do not know yet go to syslog, under their sender's name.

On standard output with $POSTFIXPY_LOG_FORMAT=json, records are written as JSON, those of real Postfix programs too.
"""

import os
import time

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import logging
from postfixpy.ipc.service import Context, Service


class Postlogd(Service):
    """The service `postlog` of type unix-dgram, with a process limit of 1."""

    single = True
    datagrams = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._file = -1
        self._json = False
        self._syslog: logging.Logger | None = None

    def watchdog_time(self) -> int:
        return int(self.view.postlogd_watchdog_timeout)

    async def pre_jail(self) -> None:
        if self.context.words:
            raise FatalError(f"unexpected command-line argument: {self.context.words[0]}")
        if not self.view.maillog_file:
            self._syslog = logging.Logger("", "")
            self._syslog.to_syslog(self.view.syslog_facility)
            return
        self._file = logging.open_logfile(self.view.maillog_file)
        logger = logging.Logger(logging.task(self.context.program, self.view), self.view.myhostname)
        self._json = logging.wants_json() and self.view.maillog_file == "/dev/stdout"
        logger.to_stream(self._file, as_json=self._json)
        log.set_sink(logger)  # never to our own socket: that would be a loop

    def datagram(self, data: bytes) -> None:
        if self._file >= 0:
            try:
                logging.write_all(self._file, (self._as_json(data) if self._json else data) + b"\n")
            except OSError:
                pass  # the disk is full; there is nobody to tell
            return
        parts = split_record(data.decode("utf-8", "surrogateescape"))
        if parts is not None and self._syslog is not None:
            self._syslog.tag, bracket, pid = parts[0].partition("[")
            self._syslog.send_text(parts[1], pid.rstrip("]") if bracket else str(os.getpid()))

    def _as_json(self, data: bytes) -> bytes:
        """A record as JSON, with the present time, because its own has no year."""
        line = data.decode("utf-8", "surrogateescape")
        name, text = split_record(line) or ("unknown", line)
        tag, _, pid = name.partition("[")
        severity, colon, rest = text.partition(": ")
        if not colon or severity not in logging.SEVERITIES:
            severity, rest = "info", text
        number = int(pid.rstrip("]")) if pid.rstrip("]").isdecimal() else 0
        return logging.json_record(time.time(), self.view.myhostname, tag, number, severity, rest).encode()

    async def stop(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        if self._syslog is not None:
            self._syslog.close()


def split_record(line: str) -> tuple[str, str] | None:
    """The ``name[pid]`` and the text of a record; None when it is not one."""
    fields = line.split(None, 4)
    if len(fields) < 5:
        return None
    name, colon, text = fields[4].partition(":")
    return (name, text.lstrip(" ")) if colon else None
