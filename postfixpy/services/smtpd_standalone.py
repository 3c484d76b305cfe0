"""``sendmail -bs``: an SMTP conversation on standard input and output, as smtpd(8) in stand-alone mode.

The client is the local user, so there are no access restrictions; what it sends is posted like other local mail.
Replies, order of checks and limits are Postfix's: SIZE, 8BITMIME, DSN, SMTPUTF8, pipelining, error limits with pauses.

`Session` is pure: `command` takes a line and gives the reply; `line` takes a line of content. `converse` does the
reading, writing, waiting and logging.

Differs from Postfix: BDAT (CHUNKING) and ETRN are not offered. As in Postfix, BODY, RET and ENVID are checked and then
dropped in this mode, because postdrop does not get them.
"""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.headers import is_header, mail_date
from postfixpy.mail.records import Kind

from .smtpd_words import Path, is_utf8, notify_mask, original_recipient, printable_xtext, split

if TYPE_CHECKING:
    from postfixpy.config import View

CLIENT_NAME, CLIENT_ADDRESS = "localhost", "127.0.0.1"
CLIENT = f"{CLIENT_NAME}[{CLIENT_ADDRESS}]"

COMMANDS = (
    *("HELO", "EHLO", "XCLIENT", "XFORWARD", "STARTTLS", "AUTH", "MAIL", "RCPT"),
    *("DATA", "BDAT", "RSET", "NOOP", "VRFY", "ETRN", "QUIT", "HELP"),
)
_JUNK = {"HELO", "EHLO", "RSET", "NOOP", "VRFY", "ETRN"}
_SMTPUTF8_HINT = "553 5.6.7 Must declare SMTPUTF8 to send unicode address"


class Drop(Protocol):
    """Where a message goes: see postfixpy.commands.submission."""

    queue_id: str
    reason: str

    def add(self, kind: str, payload: bytes) -> None: ...
    def finish(self) -> int: ...
    def cancel(self) -> None: ...


class Session:
    """One conversation. `opener` gives a new `Drop`; `clock` the time in seconds.

    `receiving`: lines go to `content` until it gives a reply. `over`: the last reply has been given. `errors`: how many
    replies were refusals since the last message. `where`: what the client did last, for the log.
    """

    def __init__(self, view: "View", opener: Callable[[], Drop], clock: Callable[[], float] = time.time) -> None:
        self.view = view
        self.receiving = self.over = False
        self.errors = 0
        self.where = "CONNECT"
        self.counts: dict[str, list[int]] = {}
        self._opener = opener
        self._clock = clock
        self._discard = {word.lower() for word in view.smtpd_discard_ehlo_keywords.replace(",", " ").split()}
        self._client_helo = ""
        self._protocol = "SMTP"
        self._junk = 0
        self._drop: Drop | None = None
        self._reset()

    def _reset(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
        self._drop = None
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._utf8 = False
        self._arrival = 0.0
        self._size = self._announced = 0
        self._auth = False
        self._first = True
        self._continued = False
        self._too_big = False
        self._broken = False
        self._overshoot = 0

    def close(self) -> None:
        """Forget the message that is not complete."""
        self._reset()

    def greeting(self) -> str:
        """What the server says first."""
        return f"220 {self.view.smtpd_banner}"

    # Commands

    def command(self, line: str) -> str:
        """The reply to one command line (several lines have newlines between them)."""
        if self.errors >= self.view.smtpd_hard_error_limit:
            self.over = True
            return f"421 4.7.0 {self.view.myhostname} Error: too many errors"
        if self.view.smtputf8_enable and not is_utf8(line):
            return self._unknown("500 5.5.2 Error: bad UTF-8 syntax")
        words = split(line)
        if not words:
            return self._unknown("500 5.5.2 Error: bad syntax")
        name = words[0].upper()
        if name not in COMMANDS or (name == "HELP" and self.view.release < (3, 9)):
            return self._not_a_command(line, words[0])
        self.where = name
        reply = getattr(self, f"_do_{name.lower()}")(words)
        count = self.counts.setdefault(name, [0, 0])
        count[1] += 1
        if reply[0] in "45":
            self.errors += 1
        elif not self.receiving:
            count[0] += 1
        if name in _JUNK:
            self._junk += 1
            self.errors += self._junk > self.view.smtpd_junk_command_limit + 1
        return str(reply)

    def _unknown(self, reply: str) -> str:
        self.errors += 1
        self.where = "UNKNOWN"
        self.counts.setdefault("unknown", [0, 0])[1] += 1
        return reply

    def _not_a_command(self, line: str, word: str) -> str:
        from postfixpy.lookup.matching import StringList

        view = self.view
        if view.smtpd_noop_commands and StringList("smtpd_noop_commands", view.smtpd_noop_commands, view).match(word):
            return "250 2.0.0 Ok"
        forbidden = view.smtpd_forbidden_commands
        if is_header(word) or (forbidden and StringList("smtpd_forbidden_commands", forbidden, view).match(word)):
            self.over = True
            self.counts.setdefault("unknown", [0, 0])[1] += 1
            log.warning(f"non-SMTP command from {CLIENT}: {line:.100}")
            return "221 2.7.0 Error: I can break rules, too. Goodbye."
        return self._unknown("500 5.5.2 Error: command not recognized")

    def _helo_name(self, words: list[str]) -> None:
        self._reset()
        self._client_helo = re.sub(r"[ <>()\\\";@]", "?", log.printable(" ".join(words[1:])))

    def _do_helo(self, words: list[str]) -> str:
        if len(words) < 2:
            return "501 Syntax: HELO hostname"
        self._helo_name(words)
        self._protocol = "SMTP"
        return f"250 {self.view.myhostname}"

    def _do_ehlo(self, words: list[str]) -> str:
        if len(words) < 2:
            return "501 Syntax: EHLO hostname"
        self._helo_name(words)
        self._protocol = "ESMTP"
        view = self.view
        limit = view.message_size_limit
        offered = [
            ("pipelining", "PIPELINING"),
            ("size", f"SIZE {limit}" if limit > 0 else "SIZE"),
            *([] if view.disable_vrfy_command else [("vrfy", "VRFY")]),
            ("enhancedstatuscodes", "ENHANCEDSTATUSCODES"),
            ("8bitmime", "8BITMIME"),
            ("dsn", "DSN"),
            *([("smtputf8", "SMTPUTF8")] if view.smtputf8_enable else []),
        ]
        lines = [view.myhostname, *(text for keyword, text in offered if keyword not in self._discard)]
        return "\n".join([f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"])

    def _do_mail(self, words: list[str]) -> str:
        view = self.view
        if view.smtpd_helo_required and not self._client_helo:
            return "503 5.5.1 Error: send HELO/EHLO first"
        if self._sender is not None:
            return "503 5.5.1 Error: nested MAIL command"
        if len(words) < 3 or words[1].lower() != "from:":
            return "501 5.5.4 Syntax: MAIL FROM:<address>"
        path = Path(words[2])
        utf8 = self._may_utf8 and any(word.upper() == "SMTPUTF8" for word in words[3:])
        if path.open or not self._acceptable(path, "MAIL", empty=True):
            return "501 5.1.7 Bad sender address syntax"
        seen: set[str] = set()
        for word in words[3:]:
            complaint = self._mail_option(word, seen)
            if complaint:
                return complaint
            if word[:5].upper() == "SIZE=":
                self._announced = int(word[5:])  # which is remembered until the next message, as in Postfix
        if 0 < view.message_size_limit < self._announced:
            refusal = "552 5.3.4 Message size exceeds fixed limit"
            helo = f" helo=<{self._client_helo}>" if self._client_helo else ""
            log.info(
                f"NOQUEUE: reject: MAIL from {CLIENT}: {refusal}; from=<{path.address}> proto={self._protocol}{helo}"
            )
            return refusal
        if view.strict_smtputf8 and not utf8 and not path.address.isascii():
            return _SMTPUTF8_HINT
        self._reset()
        self._sender = path.address
        self._utf8 = utf8
        self._arrival = self._clock()
        return "250 2.1.0 Ok"

    @property
    def _may_utf8(self) -> bool:
        return self.view.smtputf8_enable and "smtputf8" not in self._discard

    def _acceptable(self, path: Path, where: str, *, empty: bool) -> bool:
        strict = self.view.strict_rfc821_envelopes
        bad = path.addresses > 1 or (strict and (path.noise or not path.text.startswith("<")))
        bad = bad or (not path.address and not empty) or (strict and path.address.startswith("@"))
        if bad:
            shown = log.printable(path.text)
            log.warning(f"Illegal address syntax from {CLIENT} in {where} command: {shown}")
        return not bad

    def _mail_option(self, word: str, seen: set[str]) -> str:
        """The complaint about an ESMTP parameter of MAIL, or ""."""
        name, equals, value = word.partition("=")
        name = name.upper()
        if name == "BODY" and value.upper() in ("8BITMIME", "7BIT"):
            return ""
        if name == "SIZE" and equals:
            if not (value.isascii() and value.isdigit()):
                return "501 5.5.4 Bad message size syntax"
            return "552 5.3.4 Message size exceeds file system imposed limit" if int(value[:30]) >= 1 << 63 else ""
        if word.upper() == "SMTPUTF8" and self._may_utf8:
            return ""
        if name == "AUTH" and equals:
            if self._auth:
                return "503 5.5.4 Error: multiple AUTH= options"
            self._auth = value != "<>"
            return ""
        if name in ("RET", "ENVID") and equals:
            if "dsn" in self._discard:
                return "501 5.7.1 DSN support is disabled"
            good = value.upper() in ("FULL", "HDRS") if name == "RET" else printable_xtext(value)
            if name in seen or not good:
                return f"501 5.5.4 Bad {name} parameter syntax"
            seen.add(name)
            return ""
        return f"555 5.5.4 Unsupported option: {word}"

    def _do_rcpt(self, words: list[str]) -> str:
        view = self.view
        if self._sender is None:
            return "503 5.5.1 Error: need MAIL command"
        if len(words) < 3 or words[1].lower() != "to:":
            return "501 5.5.4 Syntax: RCPT TO:<address>"
        path = Path(words[2])
        if path.open or not self._acceptable(path, "RCPT", empty=False):
            return "501 5.1.3 Bad recipient address syntax"
        notify, orcpt = 0, ""
        for word in words[3:]:
            name, equals, value = word.partition("=")
            if name.upper() not in ("NOTIFY", "ORCPT") or not equals:
                return f"555 5.5.4 Unsupported option: {word}"
            if "dsn" in self._discard:
                return "501 5.7.1 DSN support is disabled"
            if name.upper() == "NOTIFY":
                notify = 0 if notify else notify_mask(value)
                if not notify:
                    return "501 5.5.4 Error: Bad NOTIFY parameter syntax"
            else:
                orcpt = "" if orcpt else original_recipient(value)
                if not orcpt:
                    return "501 5.5.4 Error: Bad ORCPT parameter syntax"
        if 0 < view.smtpd_recipient_limit <= len(self._recipients):
            self._overshoot += 1
            self.errors -= self._overshoot <= view.smtpd_recipient_overshoot_limit
            return "452 4.5.3 Error: too many recipients"
        if view.strict_smtputf8 and not self._utf8 and not path.address.isascii():
            return _SMTPUTF8_HINT
        return self._add_recipient(path, notify, orcpt)

    def _add_recipient(self, path: Path, notify: int, orcpt: str) -> str:
        try:
            drop = self._drop or self._open()
            if notify:
                drop.add(Kind.ATTRIBUTE, f"notify_flags={notify}".encode())
            drop.add(Kind.ATTRIBUTE, _bytes(f"dsn_orig_rcpt={orcpt or self._made_orcpt(path)}"))
            drop.add(Kind.RECIPIENT, _bytes(path.address))
        except (FatalError, TemporaryError) as error:
            log.warning(str(error))
            self._reset()
            return "451 4.3.0 Error: queue file write error"
        self._recipients.append(path.address)
        return "250 2.1.5 Ok"

    def _made_orcpt(self, path: Path) -> str:
        kind = "utf-8" if self._utf8 and not path.address.isascii() else "rfc822"
        text = path.text[1:-1] if path.text.startswith("<") and path.text.endswith(">") else path.text
        return f"{kind};{text}"

    def _open(self) -> Drop:
        """Begin the queue file, with the first recipient."""
        drop = self._drop = self._opener()
        log.info(f"{drop.queue_id}: client={CLIENT}")
        drop.add(Kind.FROM, _bytes(self._sender or ""))
        return drop

    def _do_data(self, words: list[str]) -> str:
        if not self._recipients:
            if self._sender is None:
                return "503 5.5.1 Error: need RCPT command"
            return "554 5.5.1 Error: no valid recipients"
        if len(words) != 1:
            return "501 5.5.4 Syntax: DATA"
        self.receiving = True
        self.where = "DATA"
        self._write(Kind.MESSAGE, b"")
        for line in self._received():
            self._write(Kind.NORMAL, _bytes(line))
        return "354 End data with <CR><LF>.<CR><LF>"

    def _received(self) -> list[str]:
        view = self.view
        assert self._drop is not None
        protocol = "UTF8SMTP" if self._utf8 else self._protocol
        by = f"\tby {view.myhostname} ({view.mail_name}) with {protocol} id {self._drop.queue_id}"
        date = mail_date(self._arrival)
        lines = [f"Received: from {self._client_helo or CLIENT_NAME} ({CLIENT_NAME} [{CLIENT_ADDRESS}])"]
        if len(self._recipients) == 1:
            return [*lines, by, f"\tfor <{quote_822_local(self._recipients[0])}>; {date}"]
        return [*lines, f"{by};", f"\t{date}"]

    def _do_rset(self, words: list[str]) -> str:
        if len(words) != 1:
            return "501 5.5.4 Syntax: RSET"
        self._reset()
        return "250 2.0.0 Ok"

    def _do_noop(self, words: list[str]) -> str:
        return "250 2.0.0 Ok"

    def _do_vrfy(self, words: list[str]) -> str:
        view = self.view
        if view.disable_vrfy_command:
            return "502 5.5.1 VRFY command is disabled"
        utf8 = self._may_utf8 and words[-1].upper() == "SMTPUTF8" and len(words) > 1
        arguments = words[1 : len(words) - utf8]
        if not arguments:
            return f"501 5.5.4 Syntax: VRFY address{' [SMTPUTF8]' if view.smtputf8_enable else ''}"
        text = " ".join(arguments)
        path = Path(text)
        if path.addresses > 1 or not path.address:
            return "501 5.1.3 Bad recipient address syntax"
        if view.strict_smtputf8 and not utf8 and not path.address.isascii():
            return _SMTPUTF8_HINT
        return f"252 2.0.0 {text}"

    def _do_quit(self, words: list[str]) -> str:
        self.over = True
        return "221 2.0.0 Bye"

    def _do_help(self, words: list[str]) -> str:
        offered = sorted(set(COMMANDS) - {"BDAT", "ETRN", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD"})
        return f"214 2.0.0 Commands: {' '.join(offered)}"

    def _do_etrn(self, words: list[str]) -> str:
        log.warning('do not use ETRN in "sendmail -bs" mode')
        return "458 Unable to queue messages"

    def _do_auth(self, words: list[str]) -> str:
        return "503 5.5.1 Error: authentication not enabled"

    def _do_bdat(self, words: list[str]) -> str:
        return "502 5.5.1 Error: command not implemented"

    _do_starttls = _do_bdat

    def _do_xclient(self, words: list[str]) -> str:
        return "550 5.7.0 Error: insufficient authorization"

    _do_xforward = _do_xclient

    # Content

    def _write(self, kind: str, text: bytes) -> None:
        if self._broken or self._too_big or self._drop is None:
            return
        try:
            self._drop.add(kind, text)
        except FatalError as error:
            log.warning(str(error))
            self._broken = True

    def content(self, kind: str, line: bytes) -> str | None:
        """Take a line of content ("N"), or a part of one ("L"). The reply, after the last line."""
        if self._first:
            self._first = False
            if line.lstrip(b">").startswith(b"From "):
                self._write(Kind.CONTINUED, b"X-Mailbox-Line: ")
            if line[:1] in (b" ", b"\t"):
                self._write(Kind.NORMAL, b"")  # or it would continue our Received: header
        if not self._continued and line.startswith(b"."):
            line = line[1:]
            if not line and kind == Kind.NORMAL:
                return self._end_of_data()
        self._size += len(line) + 2
        if 0 < self.view.message_size_limit < self._size:
            self._too_big = True
        self._write(kind, line)
        self._continued = kind == Kind.CONTINUED
        return None

    def _end_of_data(self) -> str:
        self.receiving = False
        self.where = "END-OF-MESSAGE"
        drop = self._drop
        assert drop is not None
        reply = ""
        if self._too_big:
            reply = "552 5.3.4 Error: message file too big"
        else:
            self._write(Kind.EXTRACTED, b"")
            self._write(Kind.END, b"")
            if self._broken:
                reply = "451 4.3.0 Error: internal error 1"
        if not reply:
            reply = _verdict(drop, drop.finish())
            self._drop = None
        self._reset()
        if reply.startswith("2"):
            self.errors = self._junk = 0
            self.counts["DATA"][0] += 1
        else:
            self.errors += 1
        return reply

    def where_lost(self, waiting: int) -> str:
        """What the client was at when the connection ended, with `waiting` bytes of a line received."""
        return f"DATA ({self._size + waiting} bytes)" if self.receiving else self.where

    def summary(self) -> str:
        """The log line at the end: what was asked, and how often it was granted."""
        out = []
        good = asked = 0
        for name in (*COMMANDS, "unknown"):
            if name in self.counts:
                granted, count = self.counts[name]
                out.append(f"{name.lower()}={granted}" if granted == count else f"{name.lower()}={granted}/{count}")
                good, asked = good + granted, asked + count
        out.append(f"commands={good}" if good == asked > 0 else f"commands={good}/{asked}")
        return f"disconnect from {CLIENT} {' '.join(out)}"


def _verdict(drop: Drop, status: int) -> str:
    if not status:
        return f"250 2.0.0 Ok: queued as {drop.queue_id}"
    if status & 1:
        return f"451 4.3.0 Error: internal error {status}"
    if status & 4:
        return "552 5.3.4 Error: message file too big"
    if status & 512:
        return f"550 5.7.1 Error: {drop.reason or 'service denied'}"
    return "451 4.3.0 Error: queue file write error"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# The edge


class _Input:
    """Lines from a descriptor, with a time limit for each read."""

    def __init__(self, fd: int, limit: int, timeout: float) -> None:
        self._fd, self._limit, self._timeout = fd, limit, timeout
        self._buffer = b""

    @property
    def more(self) -> bool:
        """Whether a whole line is there already."""
        return b"\n" in self._buffer

    @property
    def waiting(self) -> int:
        """How many bytes of a line that is not complete are there."""
        return len(self._buffer)

    def line(self) -> tuple[str, bytes] | None:
        """("N", line without its end) or ("L", part); None at the end. Raises TimeoutError."""
        import os
        import select

        while True:
            end = self._buffer.find(b"\n", 0, self._limit)
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                return "N", line.rstrip(b"\r")
            if len(self._buffer) >= self._limit:
                line, self._buffer = self._buffer[: self._limit], self._buffer[self._limit :]
                return "L", line
            if not select.select([self._fd], [], [], self._timeout)[0]:
                raise TimeoutError
            data = os.read(self._fd, 65536)
            if not data:
                return None
            self._buffer += data


def converse(view: "View", opener: Callable[[], Drop], *, pause: Callable[[float], None] = time.sleep) -> int:
    """Hold the conversation on descriptors 0 and 1. The exit status."""
    import sys

    from postfixpy.ipc import logging

    previous = log.set_sink(logging.install("smtpd", view))
    session = Session(view, opener)
    source = _Input(0, view.line_length_limit, view.smtpd_timeout)
    output = sys.stdout.buffer

    def say(reply: str) -> None:
        if reply[0] in "45" and session.errors >= view.smtpd_soft_error_limit:
            output.flush()
            pause(view.smtpd_error_sleep_time)
        output.write(_bytes(reply.replace("\n", "\r\n")) + b"\r\n")
        if not source.more:
            output.flush()

    log.info(f"connect from {CLIENT}")
    say(session.greeting())
    try:
        while not session.over:
            _one_line(session, source, say)
    except TimeoutError:
        say(f"421 4.4.2 {view.myhostname} Error: timeout exceeded")
        log.info(f"timeout after {session.where_lost(source.waiting)} from {CLIENT}")
    except EOFError:
        if session.where != "END-OF-MESSAGE":  # who leaves without QUIT
            log.info(f"lost connection after {session.where_lost(source.waiting)} from {CLIENT}")
    finally:
        session.close()
        log.info(session.summary())
        log.set_sink(previous)
    output.flush()
    return 0


def _one_line(session: Session, source: _Input, say: Callable[[str], None]) -> None:
    found = source.line()
    if found is None:
        raise EOFError
    kind, line = found
    if session.receiving:
        reply = session.content(kind, line)
        if reply is not None:
            say(reply)
    elif kind == "L":
        while found is not None and found[0] == "L":
            found = source.line()
        session.errors += 1
        say(f"500 5.5.2 {session.view.myhostname} Error: command too long")
    else:
        say(session.command(line.partition(b"\0")[0].decode("utf-8", "surrogateescape")))
