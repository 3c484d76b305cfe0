"""One conversation of the sink, without input or output: bytes in, actions out.

`feed` takes what the client sent; `step` gives the next action, None when it waits for input. The driver must carry
out an action, its delay included, before it asks for the next one, so that a slow reply holds up pipelined commands
too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from .rules import Rule, Script

MAX_LINE = 16384
"""Bytes a command line may have; a client that sends more is cut off."""


@dataclass(slots=True)
class Offer:
    """What the server says it can do. The defaults are smtp-sink's."""

    hostname: str = "smtp-sink"
    lmtp: bool = False
    esmtp: bool = True
    pix: bool = False
    keywords: list[str] = field(
        default_factory=lambda: [
            "PIPELINING",
            "8BITMIME",
            "AUTH PLAIN LOGIN",
            "XCLIENT NAME HELO",
            "XFORWARD NAME ADDR PROTO HELO",
            "ENHANCEDSTATUSCODES",
            "DSN",
        ]
    )
    data_reply_delay: float = 0.0
    content_delay: float = 0.0
    abort_after_data: float | None = None
    starttls: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """Wait `delay` seconds, write, then hang up or start TLS. `counts` is "quit" or "message", for -c and -M."""

    write: bytes = b""
    delay: float = 0.0
    close: bool = False
    counts: str = ""
    start_tls: bool = False


@dataclass(slots=True)
class Delivery:
    """One accepted transaction, as the journal and the dump files tell it."""

    client: str
    protocol: str
    helo: str
    mail: str
    recipients: list[str]
    size: int
    content: bytes = b""
    tls: str = ""


class Session:
    """One client's conversation. `deliver` is called for every accepted transaction before the reply is written."""

    def __init__(
        self, offer: Offer, script: Script, client: str, deliver: Callable[[Delivery], None], keep: bool
    ) -> None:
        self.offer = offer
        self.script = script
        self.client = client
        self.deliver = deliver
        self.keep = keep
        self._buffer = bytearray()
        self._pending: list[Action] = []
        self._content: bytearray | None = None
        self._helo = self._mail = ""
        self._protocol = "LMTP" if offer.lmtp else "SMTP"
        self._in_mail = False
        self._recipients: list[str] = []
        self._size = 0
        self._tls = ""
        self._greet()

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._buffer += data

    def enter_tls(self, description: str) -> None:
        """TLS is up: what was said before does not count."""
        self._tls = description
        self._buffer.clear()
        self._reset()
        self._helo = ""

    def step(self) -> Action | None:
        """The next thing to do; None: wait for input."""
        while not self._pending:
            if self._content is not None:
                if not self._read_content():
                    return None
            elif not self._read_command():
                return None
        return self._pending.pop(0)

    # Commands

    def _greet(self) -> None:
        greeting = f"220 {self.offer.hostname} ESMTP" if self.offer.esmtp else f"220 {self.offer.hostname}"
        if self.offer.pix:
            greeting = "220 ********"
        self._answer("connect", greeting, self.client)

    def _read_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                self._pending.append(Action(b"500 5.5.2 Error: line too long\r\n", close=True))
                return True
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r").decode("utf-8", "surrogateescape")
        del self._buffer[: end + 1]
        verb, _, argument = line.strip().partition(" ")
        handler: Callable[[str], None] | None = getattr(self, f"_do_{verb.lower()}", None)
        if not verb:
            self._say("500 5.5.2 Error: unknown command")
        elif handler is None or not verb.isalpha():
            self._say("500 5.5.1 Error: unknown command")
        else:
            handler(argument.strip())
        return True

    def _do_ehlo(self, argument: str, stage: str = "ehlo") -> None:
        if not self.offer.esmtp or self.offer.lmtp != (stage == "lhlo"):
            self._say("500 5.5.1 Error: unknown command")
            return
        self._reset()
        self._helo = argument
        if not self.offer.lmtp:
            self._protocol = "ESMTPS" if self._tls else "ESMTP"
        tls = ["STARTTLS"] if self.offer.starttls and not self._tls else []
        lines = [self.offer.hostname, *self.offer.keywords, *tls, ""]
        text = "\r\n".join(f"250-{line}" for line in lines[:-1]) + "\r\n250 "
        self._answer(stage, text, argument.lower())

    def _do_lhlo(self, argument: str) -> None:
        self._do_ehlo(argument, "lhlo")

    def _do_helo(self, argument: str) -> None:
        self._reset()
        self._helo, self._protocol = argument, "SMTP"
        self._answer("helo", f"250 {self.offer.hostname}", argument.lower())

    def _do_starttls(self, argument: str) -> None:
        if not self.offer.starttls or self._tls:
            self._say("502 5.5.1 Error: command not implemented")
        elif argument:
            self._say("501 5.5.4 Syntax: STARTTLS")
        elif self._answer("starttls", "220 2.0.0 Ready to start TLS"):
            self._pending.append(Action(start_tls=True))

    def _do_mail(self, argument: str) -> None:
        if self._in_mail:
            self._say("503 5.5.1 Error: nested MAIL command")
            return
        text = argument.partition(":")[2].strip()
        if self._answer("mail", "250 2.1.0 Ok", *_keys([text])):
            self._in_mail, self._mail, self._recipients = True, text, []

    def _do_rcpt(self, argument: str) -> None:
        if not self._in_mail:
            self._say("503 5.5.1 Error: need MAIL command")
            return
        text = argument.partition(":")[2].strip()
        if self._answer("rcpt", "250 2.1.5 Ok", *_keys([text])):
            self._recipients.append(text)

    def _do_data(self, argument: str) -> None:
        if not self._recipients:
            self._say("503 5.5.1 Error: need RCPT command")
            return
        reply = "354 End data with <CR><LF>.<CR><LF>"
        if not self._answer("data", reply, *_keys(self._recipients), delay=self.offer.data_reply_delay):
            return
        if self.offer.abort_after_data is not None:
            self._pending.append(Action(b"550 This violates SMTP\r\n", self.offer.abort_after_data, close=True))
            return
        if self.offer.content_delay:
            self._pending.append(Action(delay=self.offer.content_delay))
        self._content, self._size = bytearray(), 0

    def _do_rset(self, argument: str) -> None:
        self._reset()
        self._answer("rset", "250 2.1.0 Ok")

    def _do_noop(self, argument: str) -> None:
        self._answer("noop", "250 2.0.0 Ok")

    def _do_vrfy(self, argument: str) -> None:
        self._answer("vrfy", "250 2.0.0 Ok", argument.lower())

    def _do_xclient(self, argument: str) -> None:
        self._say("250 2.0.0 Ok")

    _do_xforward = _do_xclient

    def _do_auth(self, argument: str) -> None:
        self._say("235 2.7.0 Authentication successful")

    def _do_quit(self, argument: str) -> None:
        self._answer("quit", "221 Bye", close=True)

    # Content

    def _read_content(self) -> bool:
        """Take content up to the final dot. Returns whether there is something to do."""
        assert self._content is not None
        if not self._buffer:
            return False
        if not self._size and not self._content:
            rule = self.script.decide("body", *_keys(self._recipients))
            if rule.action != "ok":
                reply = _reply_bytes(rule.reply) if rule.reply else b""
                self._pending.append(Action(reply, rule.delay, close=True))
                return True
        # The end may straddle two blocks: the last bytes seen are kept in front.
        start = max(0, len(self._content) - 4)
        self._content += self._buffer
        self._buffer.clear()
        empty = self._size == 0 and self._content.startswith(b".\r\n")
        end = 0 if empty else self._content.find(b"\r\n.\r\n", start)
        if end < 0:
            if not self.keep and len(self._content) > 4:
                self._size += len(self._content) - 4
                del self._content[:-4]
            return False
        stop = 3 if empty else end + 5
        self._buffer += self._content[stop:]
        body = bytes(self._content[: stop - 3])
        self._content = None
        self._finish(body)
        return True

    def _finish(self, body: bytes) -> None:
        size = self._size + len(body)
        recipients, self._in_mail = self._recipients, False
        if not self.offer.lmtp:
            rule = self.script.decide("dot", *_keys(recipients))
            self._conclude(rule, recipients, size, body, "250 2.0.0 Ok")
            return
        for recipient in recipients:
            rule = self.script.decide("dot", *_keys([recipient]))
            self._conclude(rule, [recipient], size, body, "250 2.2.0 Ok")

    def _conclude(self, rule: Rule, recipients: list[str], size: int, body: bytes, reply: str) -> None:
        """Accept or refuse a received message for `recipients`."""
        accepted = rule.action in ("ok", "lose") or (rule.action == "reply" and rule.reply[0] == "2")
        if accepted:
            content = body.replace(b"\r\n..", b"\r\n.") if self.keep else b""
            if content.startswith(b".."):
                content = content[1:]
            mail, helo = self._mail, self._helo
            self.deliver(Delivery(self.client, self._protocol, helo, mail, recipients, size, content, self._tls))
        if rule.action == "ok":
            self._pending.append(Action(reply.encode() + b"\r\n", rule.delay, counts="message"))
        elif accepted and rule.action == "reply":
            self._pending.append(Action(_reply_bytes(rule.reply), rule.delay, counts="message"))
        else:
            self._refuse(rule)

    # Replies

    def _answer(self, stage: str, reply: str, *keys: str, delay: float = 0.0, close: bool = False) -> bool:
        """Say `reply`, or what the script says instead. Returns whether the command was accepted."""
        rule = self.script.decide(stage, *keys)
        if rule.action == "ok":
            counts = "quit" if stage == "quit" else ""
            self._pending.append(Action(_reply_bytes(reply), delay + rule.delay, close=close, counts=counts))
            return True
        self._refuse(rule)
        return rule.action == "reply" and rule.reply[0] in "23"

    def _refuse(self, rule: Rule) -> None:
        if rule.action == "reply":
            self._pending.append(Action(_reply_bytes(rule.reply), rule.delay))
        elif rule.action == "close":
            self._pending.append(Action(_reply_bytes(rule.reply), rule.delay, close=True))
        else:
            self._pending.append(Action(delay=rule.delay, close=True))

    def _say(self, reply: str) -> None:
        self._pending.append(Action(_reply_bytes(reply)))

    def _reset(self) -> None:
        self._in_mail, self._mail = False, ""
        self._recipients = []


def _reply_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\r\n"


def bare(path: str) -> str:
    """The address in a MAIL or RCPT argument."""
    return path[1:].partition(">")[0] if path.startswith("<") else path.partition(" ")[0]


def _keys(paths: list[str]) -> list[str]:
    """The addresses as the script matches them."""
    return [bare(path).lower() for path in paths]
