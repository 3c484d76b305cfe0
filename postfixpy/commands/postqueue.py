"""postqueue(1): list the queue, or have it delivered.

    postqueue [-v] [-c config_dir] -p | -j | -f | -i queue_id | -s site

-p lists in the form of Sendmail's mailq, -j one JSON object a line. -f has all mail tried now, -i one message, -s
the mail for one domain (fast_flush_domains). authorized_mailq_users and authorized_flush_users say who may.

The list comes from showq(8). When the mail system is down, the superuser's command reads the queue itself, as the
owner of the queue; so does that of a user who owns a queue that is run without root.

The exit status is 0, or 69 (EX_UNAVAILABLE) for every error, as in Postfix.

Differs from Postfix: understands a showq of every release since 3.5.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.commands.queue_tools import (
    become_owner,
    command_view,
    enter_queue,
    give_up_output,
    group_hint,
    log_as,
    owns_queue,
    read_options,
    run_command,
)
from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import ProtocolError, decode_long, decode_text

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.ipc.blocking import Client
    from postfixpy.mail.listing import Message, Recipient
    from postfixpy.mail.queue import Queue

EX_UNAVAILABLE = 69
"""The exit status of every error, as in Postfix."""

_USAGE = "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"
_LETTERS = "c:fi:jps:v"
_PROTOCOL = "mail_queue_list_protocol"
_FLUSH = b"FADI"  # dead hosts and transports, all time stamps, the deferred queue, the incoming queue
_DOWN = "Cannot flush mail queue - mail system is down"


def main(argv: list[str]) -> int:
    """Run the command; argv[0] is not used: the user may have chosen it. Returns the exit status."""
    return EX_UNAVAILABLE if run_command(["postqueue", *argv[1:]], _main) else 0


def _main(argv: list[str]) -> int:
    log_as("postqueue", None, fallback=False)
    found, words = read_options(argv, _LETTERS, _USAGE)
    modes = [(letter, value) for letter, value in found if letter not in "cv"]
    if len(modes) > 1 or words:
        raise FatalError(_USAGE)
    view = command_view(dict(found).get("c", ""), "postqueue")
    log_as("postqueue", view, fallback=False)
    queue = enter_queue(view)
    if not modes:
        raise FatalError(_USAGE)
    mode, value = modes[0]
    if mode in "jp":
        _authorize(view, "authorized_mailq_users", "view")
        show_queue(view, queue, JsonForm if mode == "j" else ListForm)
    elif mode == "f":
        _authorize(view, "authorized_flush_users", "flush")
        flush_queue(view)
    elif mode == "s":
        _check_site(value)
        _authorize(view, "authorized_flush_users", "flush")
        flush_site(view, value)
    else:
        _check_id(value)
        _authorize(view, "authorized_flush_users", "flush")
        flush_file(view, value)
    return 0


def _authorize(view: "View", parameter: str, action: str) -> None:
    """Raises FatalError when this user may not."""
    users: str = view.text(parameter)
    uid = os.getuid()
    if uid == 0 or users.startswith("static:"):
        return
    import pwd

    try:
        if uid == pwd.getpwnam(view.mail_owner).pw_uid:
            return
    except KeyError:
        pass  # no such owner: then nobody is it
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "unknown"
    from postfixpy.lookup.matching import StringList

    if not StringList(parameter, users, view).match(name):
        raise FatalError(f"User {name}({uid}) is not allowed to {action} the mail queue")


def _tell_group(view: "View") -> None:
    """Say what helps when the queue is open to a group only."""
    hint = group_hint(view)
    if hint:
        log.warning(hint)


# Listing


class Show:
    """How a list is written: `text` renders a message, `end` what comes last. Output is bytes."""

    def __init__(self, view: "View") -> None:
        self.long_ids: bool = view.enable_long_queue_ids
        self.release = view.release
        self.count = 0
        self.size = 0

    def message(self, message: "Message") -> Iterator[str]:
        """The text of one message."""
        raise NotImplementedError

    def end(self) -> str:
        """The text behind the last message."""
        raise NotImplementedError


class ListForm(Show):
    """The form of mailq."""

    def _row(self, first: str, second: str, third: str, last: str) -> str:
        if self.long_ids:
            return f"{first:<17} {second:>8} {third:<19.19} {last}\n"
        return f"{first:<11} {second:>7} {third:<20.20} {last}\n"

    def message(self, message: "Message") -> Iterator[str]:
        """See `Show`."""
        if self.count:
            yield "\n"
        elif self.long_ids:
            yield self._row("----Queue ID-----", "--Size--", "---Arrival Time----", "--Sender/Recipient------")
        else:
            yield self._row("-Queue ID-", "--Size--", "----Arrival Time----", "-Sender/Recipient-------")
        self.count += 1
        self.size += message.size
        mark = {"active": "*", "hold": "!"}.get(message.queue, "") + ("#" if message.expire else "")
        when = time.asctime(time.localtime(message.arrival)) + "\n"
        when = when[:19] if self.long_ids else when[:20]
        yield self._row(message.id + mark, str(message.size), when, message.sender)
        said = ""
        for recipient in message.recipients:
            if recipient.reason != said:
                said = recipient.reason
                reason = said or "reason unavailable"
                padding = max(0, 76 - len(reason.encode("utf-8", "surrogateescape")))
                yield f"{'':{padding}}({reason})\n"
            yield self._row("", "", "", recipient.address)

    def end(self) -> str:
        """See `Show`."""
        if not self.count:
            return "Mail queue is empty\n"
        return f"\n-- {self.size // 1024} Kbytes in {self.count} Request{'' if self.count == 1 else 's'}.\n"


class JsonForm(Show):
    """One JSON object a line."""

    def message(self, message: "Message") -> Iterator[str]:
        """See `Show`."""
        yield (
            f'{{"queue_name": "{_quoted(message.queue)}", "queue_id": "{_quoted(message.id)}", '
            f'"arrival_time": {message.arrival}, "message_size": {message.size}, '
            f'"forced_expire": {"true" if message.expire else "false"}, '
            f'"sender": "{_quoted(message.sender)}", "recipients": ['
        )
        separator = ""
        for recipient in message.recipients:
            yield separator + "{"
            separator = ", "
            if recipient.original and self.release >= (3, 11):
                yield f'"orig_address": "{_quoted(recipient.original)}", '
            yield f'"address": "{_quoted(recipient.address)}"'
            if recipient.reason:
                name = {"defer": "delay_reason", "bounce": "bounce_reason"}.get(recipient.log, "other_reason")
                yield f', "{name}": "{_quoted(recipient.reason)}"'
            yield "}"
        yield "]}\n"

    def end(self) -> str:
        """See `Show`."""
        return ""


def _quoted(text: str) -> str:
    """`text`, which is printable, inside a JSON string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def show_queue(view: "View", queue: "Queue", form: type[Show]) -> None:
    """Write the list of the queue to standard output. Raises FatalError."""
    from postfixpy.ipc.blocking import connect

    service: str = view.showq_service_name
    try:
        client = connect(f"public/{service}", view.ipc_timeout)
    except PermissionError as error:
        _tell_group(view)
        text = f"Connect to the {view.mail_name} {service} service: {error.strerror}"
        raise FatalError(text) from None
    except OSError as error:
        why = f"(Connect to the {view.mail_name} {service} service: {error.strerror})"
        if not owns_queue(view):
            text = f"Queue report unavailable - mail system is down {why}"
            raise FatalError(text) from None
        log.warning(f"Mail system is down -- accessing queue directly {why}")
        write_list(form(view), read_directly(view, queue))
        return
    with client:
        try:
            client.read_announcement(_PROTOCOL)
            write_list(form(view), read_messages(client, utf8=view.smtputf8_enable))
        except ProtocolError:
            raise FatalError("malformed showq server response") from None


def write_list(form: Show, messages: Iterator["Message"]) -> None:
    """Write `messages` to standard output, each as soon as it is complete. Raises FatalError when that fails."""
    terminal = sys.stdout.isatty()
    for message in messages:
        for text in form.message(message):
            _write(text)
        if terminal:
            _write("", flush=True)
    _write(form.end(), flush=True)


def _write(text: str, *, flush: bool = False) -> None:
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        if flush:
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise FatalError(f"output write error: {error.strerror}") from None


def read_directly(view: "View", queue: "Queue") -> Iterator["Message"]:
    """The messages of the queue itself, read with the rights of its owner. Raises FatalError for a directory that
    cannot be read, as after a showq that died of it; its text is a warning of ours."""
    from postfixpy.mail.listing import Lister

    lister = Lister.of(view, queue)
    import postfixpy.mail.bounce_log  # noqa: F401 - now: the owner of the queue may not be able to read the interpreter

    become_owner(view)
    try:
        yield from lister.messages()
    except FatalError as error:
        log.warning(str(error))
        raise FatalError("malformed showq server response") from None


class _Words:
    """The names and values of a showq's answer, one by one."""

    def __init__(self, client: "Client", utf8: bool) -> None:
        self._client = client
        self._utf8 = utf8
        self._ready: list[bytes] = []
        self._rest = b""

    def next(self) -> str:
        """Raises ProtocolError at the end of input."""
        while not self._ready:
            data = self._client.read_bytes()
            if not data:
                raise ProtocolError("premature end-of-input")
            *words, self._rest = (self._rest + data).split(b"\0")
            self._ready = words[::-1]
        word = self._ready.pop()
        if word.isascii() and word.decode().isprintable():
            return word.decode()
        from postfixpy.mail.printable import printable

        return printable(decode_text(word), utf8=self._utf8)

    def value(self, name: str) -> str:
        """The value of the next attribute, which must be `name`. Raises ProtocolError."""
        if self.next() != name:
            raise ProtocolError("unexpected attribute")
        return self.next()


def read_messages(client: "Client", *, utf8: bool = True) -> Iterator["Message"]:
    """The messages that a showq sends. Raises ProtocolError."""
    from postfixpy.mail.listing import Message

    words = _Words(client, utf8)
    while name := words.next():
        if name != "queue_name":
            raise ProtocolError(f"unexpected attribute {name}")
        queue, queue_id = words.next(), words.value("queue_id")
        try:
            arrival, size = decode_long(words.value("time")), decode_long(words.value("size"))
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        expire = words.value("forced_expire") != "0"
        sender = words.value("sender")
        recipients = _recipients(words)
        yield Message(queue, queue_id, arrival, size, expire, sender, recipients)
        for _ in recipients:
            pass  # what the reader did not want


def _recipients(words: _Words) -> Iterator["Recipient"]:
    """The recipients of one message, in the form of 3.11, or without the first and third attribute, as before."""
    from postfixpy.mail.listing import Recipient

    while name := words.next():
        original, service = "", "defer"
        if name == "original_recipient":
            original = words.next()
            address, service = words.value("recipient"), words.value("log_class")
        elif name == "recipient":
            address = words.next()
        else:
            raise ProtocolError(f"unexpected attribute {name}")
        yield Recipient(original, address, service, words.value("reason"))


# Delivering


def _check_site(site: str) -> None:
    from postfixpy.dns.names import valid_hostname
    from postfixpy.mail.literals import valid_mailhost_literal

    if not (valid_mailhost_literal(site) if site.startswith("[") else valid_hostname(site)):
        text = f'Cannot flush mail queue - invalid destination: "{_short(site)}"'
        raise FatalError(text)


def _check_id(queue_id: str) -> None:
    from postfixpy.mail.queue_id import valid

    if not valid(queue_id):
        raise FatalError(f'Cannot flush queue ID - invalid name: "{_short(queue_id)}"')


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."


def flush_queue(view: "View") -> None:
    """Have all mail tried: wake up the queue manager and pickup. Raises FatalError."""
    for service, requests in ((view.queue_service_name, _FLUSH), (view.pickup_service_name, b"W")):
        path = f"public/{service}"
        from postfixpy.ipc.trigger import trigger_blocking

        try:
            trigger_blocking(path, requests, view.trigger_timeout)
        except (FileNotFoundError, PermissionError) as error:
            log.warning(f"unable to look up {path}: {error.strerror}")
            _tell_group(view)
            raise FatalError(_DOWN) from None
        except OSError:
            raise FatalError(_DOWN) from None


def flush_site(view: "View", site: str) -> None:
    """Have the mail for domain `site` tried. Raises FatalError."""
    from postfixpy.ipc import flush
    from postfixpy.lookup import TableError

    domains = flush.flush_domains(view)
    try:
        eligible = domains is not None and domains.match(site)
    except TableError:
        raise FatalError(_DOWN) from None
    answer = _ask_flush(view, ("request", "send_site"), ("site", site)) if eligible else flush.DENY
    if answer == flush.DENY:
        raise FatalError(f'Flush service is not configured for destination "{site}"')
    _check_answer(answer, site, "Unknown")


def flush_file(view: "View", queue_id: str) -> None:
    """Have one message tried. Raises FatalError."""
    _check_answer(_ask_flush(view, ("request", "send_file"), ("queue_id", queue_id)), queue_id, "Unexpected")


def _check_answer(answer: int, what: str, unknown: str) -> None:
    from postfixpy.ipc import flush

    if answer == flush.BAD:
        raise FatalError(f'Invalid request: "{what}"')
    if answer == flush.FAIL:
        raise FatalError(_DOWN)
    if answer != flush.OK:
        raise FatalError(f"{unknown} flush server reply status {answer}")


def _ask_flush(view: "View", *request: tuple[str, str]) -> int:
    """The flush service's answer; FAIL, after a warning, when it has none."""
    from postfixpy.ipc import flush
    from postfixpy.ipc.blocking import connect

    path = f"public/{view.flush_service_name}"
    try:
        client = connect(path, view.ipc_timeout)
    except OSError as error:
        log.warning(f"connect to {path}: {error.strerror}")
        _tell_group(view)
        return flush.FAIL
    with client:
        try:
            client.read_announcement(flush.PROTOCOL)
            client.send(*request)
            return client.read(flush.Status).status
        except ProtocolError as error:
            log.warning(str(error))
            return flush.FAIL
