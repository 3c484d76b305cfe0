"""The commands of a stand-alone session, and their replies. Pure: `command` takes a line and gives the reply; `content`
takes a line of DATA, `chunk` bytes of BDAT.
"""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.dns.names import valid_hostname
from postfixpy.errors import FatalError, TemporaryError
from postfixpy.mail.headers import is_header
from postfixpy.mail.literals import valid_mailhost_literal
from postfixpy.smtp.handshake import EHLO_WORDS

from .message import CLIENT, Drop, Message
from .options import Refused, mail_options, recipient_options
from .words import Path, is_utf8, split

if TYPE_CHECKING:
    from postfixpy.config import View

COMMANDS = (
    *("HELO", "EHLO", "XCLIENT", "XFORWARD", "STARTTLS", "AUTH", "MAIL", "RCPT"),
    *("DATA", "BDAT", "RSET", "NOOP", "VRFY", "ETRN", "QUIT", "HELP"),
)
_JUNK = {"HELO", "EHLO", "RSET", "NOOP", "VRFY", "ETRN"}
_SMTPUTF8_HINT = "553 5.6.7 Must declare SMTPUTF8 to send unicode address"
_LONGEST = 1 << 63
"""Sizes from here on are no sizes."""


class Session:
    """One conversation. `opener` gives a new `Drop`; `clock` the time in seconds.

    `receiving`: lines go to `content` until it gives a reply. `chunk_left`: so many bytes go to `chunk`, until it gives
    a reply. `over`: the last reply has been given. `errors`: how many replies were refusals since the last message.
    `where`: what the client did last, for the log.
    """

    def __init__(self, view: "View", opener: Callable[[], Drop], clock: Callable[[], float] = time.time) -> None:
        self.view = view
        self.receiving = self.over = False
        self.chunk_left = 0
        self.errors = 0
        self.where = "CONNECT"
        self.counts: dict[str, list[int]] = {}
        self._opener = opener
        self._clock = clock
        self._discard = {word.lower() for word in view.smtpd_discard_ehlo_keywords.replace(",", " ").split()}
        self._client_helo = ""
        self._protocol = "SMTP"
        self._junk = 0
        self._message: Message | None = None
        self._reset()

    def _reset(self) -> None:
        if self._message is not None:
            self._message.cancel()
        self._message = None
        self._announced = 0
        self._overshoot = 0
        self._chunks = ""  # "good" or "bad": a BDAT command has been seen
        self._last_chunk = False
        self._refusal = ""  # of the chunk that is being skipped
        self._chunk_size = 0

    def close(self) -> None:
        """Forget the message that is not complete."""
        self._reset()

    def greeting(self) -> str:
        """What the server says first."""
        return f"220 {self.view.smtpd_banner}"

    # Commands

    def command(self, line: str) -> str | None:
        """The reply to one command line (several lines have newlines between them); None when a chunk follows."""
        if self.errors >= self.view.smtpd_hard_error_limit:
            self.over = True
            return f"421 4.7.0 {self.view.myhostname} Error: too many errors"
        if self.view.smtputf8_enable and not is_utf8(line):
            return self._unknown("500 5.5.2 Error: bad UTF-8 syntax")
        words = split(line)
        if not words:
            return self._unknown("500 5.5.2 Error: bad syntax", counted=self.view.release >= (3, 9))
        name = words[0].upper()
        if name not in COMMANDS or (name == "HELP" and self.view.release < (3, 9)):
            return self._not_a_command(line, words[0])
        self.where = name
        try:
            reply = getattr(self, f"_do_{name.lower()}")(words)
        except Refused as refused:
            reply = str(refused)
        self.counts.setdefault(name, [0, 0])[1] += 1
        if reply is None:
            return None
        self._judge(name, reply)
        if name in _JUNK:
            self._junk += 1
            self.errors += self._junk > self.view.smtpd_junk_command_limit + 1
        return str(reply)

    def _judge(self, name: str, reply: str) -> None:
        """Count a command as granted, or as an error; 354 is neither yet."""
        if reply[0] in "45":
            self.errors += 1
        elif reply[0] == "2":
            self.counts[name][0] += 1

    def _unknown(self, reply: str, *, counted: bool = True) -> str:
        self.errors += 1
        self.where = "UNKNOWN"
        if counted:
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
            ("etrn", "ETRN"),
            ("enhancedstatuscodes", "ENHANCEDSTATUSCODES"),
            ("8bitmime", "8BITMIME"),
            ("dsn", "DSN"),
            *([("smtputf8", "SMTPUTF8")] if view.smtputf8_enable else []),
            *([("chunking", "CHUNKING")] if view.release >= (3, 4) else []),
        ]
        self._tell_discarded()
        lines = [view.myhostname, *(text for keyword, text in offered if keyword not in self._discard)]
        return "\n".join([f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"])

    def _tell_discarded(self) -> None:
        names = [word for word in EHLO_WORDS if word.lower() in self._discard]
        if names and "silent-discard" not in self._discard:
            joiner = ", " if self.view.release >= (3, 11) else " "
            log.info(f"discarding EHLO keywords: {joiner.join(names)}")

    def _do_mail(self, words: list[str]) -> str:
        view = self.view
        if view.smtpd_helo_required and not self._client_helo:
            return "503 5.5.1 Error: send HELO/EHLO first"
        if self._message is not None:
            self._message.utf8, self._message.body = False, ""  # as in Postfix
            return "503 5.5.1 Error: nested MAIL command"
        if self._chunks:
            return "503 5.5.1 Error: MAIL after BDAT"
        if len(words) < 3 or words[1].lower() != "from:":
            return "501 5.5.4 Syntax: MAIL FROM:<address>"
        path = Path(words[2])
        utf8 = self._may_utf8 and any(word.upper() == "SMTPUTF8" for word in words[3:])
        if path.open or not self._acceptable(path, "MAIL", empty=True):
            return "501 5.1.7 Bad sender address syntax"
        options = mail_options(words[3:], dsn="dsn" not in self._discard, smtputf8=self._may_utf8)
        if options.size is not None:
            self._announced = options.size  # which is remembered until the next message, as in Postfix
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
        arrival = self._clock()
        self._message = Message(view, self._opener, path.address, utf8=utf8, body=options.body, arrival=arrival)
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

    def _do_rcpt(self, words: list[str]) -> str:
        view, message = self.view, self._message
        if message is None:
            return "503 5.5.1 Error: need MAIL command"
        if self._chunks:
            return "503 5.5.1 Error: RCPT after BDAT"
        if len(words) < 3 or words[1].lower() != "to:":
            return "501 5.5.4 Syntax: RCPT TO:<address>"
        path = Path(words[2])
        if path.open or not self._acceptable(path, "RCPT", empty=False):
            return "501 5.1.3 Bad recipient address syntax"
        notify, orcpt = recipient_options(words[3:], dsn="dsn" not in self._discard)
        if 0 < view.smtpd_recipient_limit <= len(message.recipients):
            self._overshoot += 1
            self.errors -= self._overshoot <= view.smtpd_recipient_overshoot_limit
            return "452 4.5.3 Error: too many recipients"
        if view.strict_smtputf8 and not message.utf8 and not path.address.isascii():
            return _SMTPUTF8_HINT
        try:
            message.add_recipient(path, notify, orcpt)
        except (FatalError, TemporaryError) as error:
            log.warning(str(error))
            self._reset()
            return "451 4.3.0 Error: queue file write error"
        return "250 2.1.5 Ok"

    def _do_data(self, words: list[str]) -> str:
        if self._chunks:
            return "503 5.5.1 Error: DATA after BDAT"
        if problem := self._no_recipients():
            return problem
        if len(words) != 1:
            return "501 5.5.4 Syntax: DATA"
        assert self._message is not None
        self.receiving = True
        self._message.begin(self._client_helo, self._protocol)
        return "354 End data with <CR><LF>.<CR><LF>"

    def _no_recipients(self) -> str:
        if self._message is None:
            return "503 5.5.1 Error: need RCPT command"
        return "" if self._message.recipients else "554 5.5.1 Error: no valid recipients"

    def _do_bdat(self, words: list[str]) -> str | None:
        """Check the command; what follows it goes to `chunk`, or is skipped when the command is refused."""
        if "chunking" in self._discard or self.view.release < (3, 4):
            self.over = self.view.release >= (3, 4)
            return f"{'521' if self.over else '502'} 5.5.1 Error: command not implemented"
        queue_id = self._message.queue_id if self._message is not None else "NOQUEUE"
        last = len(words) == 3 and words[2].upper() == "LAST"
        if not (len(words) == 2 or last) or not _is_size(words[1]):
            shown = log.printable(" ".join(words))
            log.warning(f"{queue_id}: malformed BDAT command syntax from {CLIENT}: {shown:.100}")
            self.over = True
            return "521 5.5.4 Syntax: BDAT count [LAST]"
        size = int(words[1])
        refusal = ""
        if not size and not last:
            log.warning(f"{queue_id}: null BDAT request from {CLIENT}")
            refusal = "551 5.7.1 Null BDAT request"
        elif self._chunks == "bad":
            refusal = f"551 5.0.0 Discarded {size} bytes after earlier error"
        else:
            refusal = self._no_recipients()
        if not refusal:
            assert self._message is not None
            if 0 < self.view.message_size_limit < self._message.size + size:
                log.warning(f"{queue_id}: BDAT request from {CLIENT} exceeds message size limit")
                refusal = "552 5.3.4 Chunk exceeds message size limit"
                if self.view.release >= (3, 10):
                    log.warning(f"{queue_id}: too much BDAT content -- disabling further input from {CLIENT}")
                    self.over = True
                    return refusal
            elif not self._chunks:
                self._message.chunked = True
                self._message.begin(self._client_helo, self._protocol)
        self._chunks = "bad" if refusal else "good"
        self._refusal, self._last_chunk = refusal, last
        self._chunk_size = self.chunk_left = size
        return None if size else self._end_of_chunk()

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
        if not self._acceptable(path, "VRFY", empty=False):
            return "501 5.1.3 Bad recipient address syntax"
        if view.strict_smtputf8 and not utf8 and not path.address.isascii():
            return _SMTPUTF8_HINT
        return f"252 2.0.0 {text}"

    def _do_quit(self, words: list[str]) -> str:
        self.over = True
        return "221 2.0.0 Bye"

    def _do_help(self, words: list[str]) -> str:
        return f"214 2.0.0 Commands: {' '.join(sorted(COMMANDS))}"

    def _do_etrn(self, words: list[str]) -> str:
        if self._message is not None:
            return "503 Error: MAIL transaction in progress"
        if len(words) != 2:
            return "500 Syntax: ETRN domain"
        site = words[1][1:] if words[1][0] in "@#" else words[1]
        if not valid_hostname(site) and not valid_mailhost_literal(site):
            return "501 Error: invalid parameter syntax"
        log.warning('do not use ETRN in "sendmail -bs" mode')
        return "458 Unable to queue messages"

    def _do_auth(self, words: list[str]) -> str:
        return "503 5.5.1 Error: authentication not enabled"

    def _do_starttls(self, words: list[str]) -> str:
        return "502 5.5.1 Error: command not implemented"

    def _do_xclient(self, words: list[str]) -> str:
        return "550 5.7.0 Error: insufficient authorization"

    _do_xforward = _do_xclient

    # Content

    def content(self, kind: str, line: bytes) -> str | None:
        """Take a line of DATA ("N"), or a part of one ("L"). The reply, after the last line."""
        message = self._message
        assert message is not None
        if not message.line(kind, line):
            return None
        self.receiving = False
        reply = self._end_of_message(message)
        self._judge("DATA", reply)
        return reply

    def chunk(self, data: bytes) -> str | None:
        """Take bytes of a BDAT chunk, at most `chunk_left`. The reply, after the last byte."""
        self.chunk_left -= len(data)
        if not self._refusal:
            assert self._message is not None
            self._message.chunk(data)
        if self.chunk_left:
            return None
        reply = self._end_of_chunk()
        self._judge("BDAT", reply)
        return reply

    def _end_of_chunk(self) -> str:
        message = self._message
        reply = self._refusal
        if not reply and self._last_chunk:
            assert message is not None
            reply = self._end_of_message(message)
        elif not reply:
            assert message is not None
            reply = message.problem or f"250 2.0.0 Ok: {self._chunk_size} bytes"
            self._chunks = "bad" if message.problem else "good"
        if self._last_chunk:
            self._reset()
        return reply

    def _end_of_message(self, message: Message) -> str:
        self.where = "END-OF-MESSAGE"
        reply = message.finish()
        self._reset()
        if reply.startswith("2"):
            self.errors = self._junk = 0
        return reply

    @property
    def prefix(self) -> str:
        """What log lines about the end of the connection begin with."""
        queue_id = self._message.queue_id if self._message is not None else "NOQUEUE"
        return f"{queue_id}: " if self.view.release >= (3, 10) else ""

    def where_lost(self, waiting: int) -> str:
        """What the client was at when the connection ended, with `waiting` bytes of a line received."""
        message = self._message
        if message is not None and self.receiving:
            return f"DATA ({message.size + waiting} bytes)"
        if message is not None and self.chunk_left and not self._refusal:
            return f"BDAT ({message.size + message.waiting} bytes)"
        return self.where

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


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:30]) < _LONGEST
