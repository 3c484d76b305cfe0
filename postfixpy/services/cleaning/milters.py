"""Milters for mail that does not come from an SMTP client (postconf(5) non_smtpd_milters): none can be reached.

We do not speak the Milter protocol. So that nothing passes unfiltered in silence, each Milter counts as one whose
connection failed, when the sender of a message is known: a warning, and then what its default_action says
(milter_default_action, or that of ``{ inet:host:port, default_action=accept }``):

    tempfail, shutdown   the message stays with the client, which tries again
    reject               it is refused, and mail that was posted locally is returned
    quarantine           it is put on hold
    accept               it passes; this is what the administrator asked for

The first Milter that does not accept decides. A client whose own Milters have seen the message says so with an "m"
record, and smtpd_milters are for what comes by SMTP; neither is looked at here.

Source: milter(3), cleanup(8), behaviour of Postfix 3.7. The only text of our own is the reason in the warning.
"""

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from postfixpy import log
from postfixpy.config import split_name_value
from postfixpy.config.lines import COMMA_SPACE, extract_braces, split_quoted
from postfixpy.errors import FatalError
from postfixpy.ipc.cleanup import FLAG_DISCARD, FLAG_HOLD, FLAG_MILTER, STAT_CONT, STAT_DEFER

if TYPE_CHECKING:
    from postfixpy.config import View

    from .state import Incoming

_TRANSPORTS = ("inet", "unix", "local")
_OPTIONS = ("connect_timeout", "command_timeout", "content_timeout", "protocol", "default_action")
_REASON = os.strerror(errno.EPROTONOSUPPORT)
_HOLD = "H"
_UNREACHABLE = {
    "accept": "",
    "reject": "550 5.5.0 Service unavailable",
    "tempfail": "451 4.7.1 Service unavailable - try again later",
    "shutdown": "421 4.7.1 Service unavailable - try again later",
    "quarantine": _HOLD,
}
_MISCONFIGURED = {
    "accept": "",
    "shutdown": "421 4.3.5 Server configuration problem - try again later",
    "quarantine": _HOLD,
}
_PROBLEM = "451 4.3.5 Server configuration problem - try again later"


class Milter(NamedTuple):
    """The name, ``transport:endpoint``, and what is done when there is nobody."""

    name: str
    action: str


def parse_milters(text: str, action: str) -> list[Milter]:
    """The Milters of a list; `action` for those that do not have their own. Raises FatalError."""
    return [_milter(word, action, text) for word in split_quoted(text, COMMA_SPACE)]


def _milter(word: str, action: str, text: str) -> Milter:
    if not word.startswith("{"):
        return Milter(word, action)
    inside, problem = extract_braces(word)
    if problem is not None:
        raise FatalError(f"milter service syntax error: {problem}")
    name, *options = split_quoted(inside, COMMA_SPACE) or [""]
    if not name:
        raise FatalError(f'empty milter definition: "{text}"')
    for option in options:
        if option.startswith("{"):
            option, problem = extract_braces(option, strip=True)
            if problem is not None:
                raise FatalError(f'{problem} in "{option}"')
        try:
            key, value = split_name_value(option)
        except ValueError as error:
            raise FatalError(f'malformed option: {error}: "...{option}..."') from None
        if key not in _OPTIONS:
            raise FatalError(f'unknown option: "{key} = {value}"')
        if key == "default_action":
            action = value
    return Milter(name, action)


def inspect_sender(mail: "Incoming") -> None:
    """Ask the Milters about a message whose sender is known: nobody answers."""
    if not mail.flags & FLAG_MILTER or mail.errors or mail.flags & FLAG_DISCARD or mail.client_milters:
        return
    for milter in mail.settings.milters:
        reply = _reply(milter)
        if reply:
            _obey(mail, reply)
            return


def _reply(milter: Milter) -> str:
    """What a Milter that cannot be asked is taken to have said; "" for nothing."""
    name, action = milter.name, milter.action.lower()
    transport, _, endpoint = name.partition(":")
    if not transport or not endpoint:
        log.warning(f'Milter service needs transport:endpoint instead of "{name}"')
    elif transport not in _TRANSPORTS:
        log.warning(f"invalid transport name: {transport} in Milter service: {name}")
    else:
        log.warning(f"connect to Milter service {name}: {_REASON}")
        if action not in _UNREACHABLE:
            log.warning(f"milter {name}: unrecognized default action: {milter.action}")
        return _UNREACHABLE.get(action, _PROBLEM)
    return _MISCONFIGURED.get(action, _PROBLEM)


def _obey(mail: "Incoming", reply: str) -> None:
    if reply == _HOLD:
        if mail.flags & FLAG_HOLD:
            return
        mail.flags |= FLAG_HOLD
        new = mail.settings.view.release >= (3, 10)
        _log(mail, "milter-hold", "default_action" if new else "milter triggers HOLD action")
        return
    mail.reason = reply[4:]
    mail.errors |= STAT_DEFER if reply.startswith("4") else STAT_CONT
    _log(mail, "milter-reject", mail.reason)


def _log(mail: "Incoming", action: str, text: str) -> None:
    attributes = mail.attributes
    line = f"{mail.queue_id}: {action}: CONNECT from {_client(mail)}: {text};"
    if mail.sender is not None:
        line += f" from=<{mail.loggable(mail.sender)}>"
    if "log_protocol_name" in attributes:
        line += f" proto={attributes['log_protocol_name']}"
    if "log_helo_name" in attributes:
        line += f" helo=<{attributes['log_helo_name']}>"
    log.info(line)


def _client(mail: "Incoming") -> str:
    """The SMTP client that the message came from at some time, else this machine."""
    attributes = mail.attributes
    name, address = attributes.get("client_name"), attributes.get("client_address")
    if name and address and attributes.get("client_address_type", "").isdigit():
        return f"{name}[{address}]"
    only_ipv6 = mail.settings.view.inet_protocols.replace(",", " ").split() == ["ipv6"]
    return f"localhost[{'::1' if only_ipv6 else '127.0.0.1'}]"


def milters_of(view: "View") -> list[Milter]:
    """The Milters of the configuration for mail that does not come by SMTP. Raises FatalError."""
    return parse_milters(view.non_smtpd_milters, view.milter_default_action)
