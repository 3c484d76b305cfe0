"""The actions of header_checks, mime_header_checks, nested_header_checks and body_checks (header_checks(5))."""

from typing import Final

from postfixpy import log
from postfixpy.ipc.cleanup import (
    FLAG_DISCARD,
    FLAG_HOLD,
    FLAGS_FILTER_ALL,
    STAT_CONT,
    STAT_DEFER,
    STAT_WRITE,
    detail,
)
from postfixpy.lookup.maps import Maps, maps_find
from postfixpy.lookup.search import arun
from postfixpy.lookup.table import TableError
from postfixpy.mail.dsn import split_text
from postfixpy.mail.headers import is_header
from postfixpy.mail.records import Kind

from .output import put_header
from .state import Incoming

HEADER: Final = "header"
BODY: Final = "body"
CONTENT: Final = "content"
"""What an action is about, as the log calls it."""


async def check(mail: Incoming, maps: Maps, context: str, text: str) -> str | None:
    """What becomes of `text` (a header, a body line) by `maps`: itself, a replacement, or None for nothing."""
    try:
        action = await arun(maps_find(maps, text))
    except TableError:
        log.warning(f"{mail.queue_id}: {maps.title} map lookup problem -- message not accepted, try again later")
        mail.errors |= STAT_WRITE
        return text
    return text if action is None else act(mail, context, text, action, maps.title)


def act(mail: Incoming, context: str, text: str, action: str, table: str) -> str | None:
    """Do what `action`, the result of a lookup in `table`, says about `text`; the result as `check`."""
    end = next((i for i, c in enumerate(action) if c in " \t"), len(action))
    command = action[:end].upper()
    argument = action[end:].lstrip(" \t\n\v\f\r")
    simple = _ACTIONS.get(command)
    if simple is not None:
        simple(mail, context, text, argument, table)
        return text
    if command == "REPLACE":
        return _replace(mail, context, text, argument, table)
    if command == "STRIP":
        _log(mail, "strip", context, text, argument)
        return None
    if command == "IGNORE":
        return None
    if command not in ("DUNNO", "OK"):
        log.warning(f"unknown command in {table} map: {action}")
    return text


def _log(mail: Incoming, action: str, context: str, text: str, more: str) -> None:
    shown = text.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "surrogateescape")
    origin = mail.attributes.get("log_message_origin", "unknown")
    line = f"{mail.queue_id}: {action}: {context} {shown} from {origin};"
    if mail.sender is not None:
        line += f" from=<{mail.loggable(mail.sender)}>"
    if mail.recipient is not None:
        line += f" to=<{mail.loggable(mail.recipient)}>"
    if "log_protocol_name" in mail.attributes:
        line += f" proto={mail.attributes['log_protocol_name']}"
    if "log_helo_name" in mail.attributes:
        line += f" helo=<{mail.attributes['log_helo_name']}>"
    log.info(f"{line}: {more}" if more else line)


def _reject(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    words = detail(STAT_CONT)
    status, reason = split_text(argument, "5.7.1") if argument else (words.dsn, words.text)
    if status[0] not in "45":
        log.warning(f"bad DSN action in {argument} -- need 4.x.x or 5.x.x")
        status = "4" + status[1:]
    mail.reason = f"{status} {reason}"
    mail.errors |= STAT_DEFER if status[0] == "4" else STAT_CONT
    mail.flags &= ~FLAGS_FILTER_ALL
    _log(mail, "reject", context, text, mail.reason)


def _warn(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    _log(mail, "warning", context, text, argument)


def _info(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    _log(mail, "info", context, text, argument)


def _filter(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    if not argument:
        log.warning(f"missing FILTER command argument in {table} map")
    elif ":" not in argument:
        log.warning(f"bad FILTER command {argument} in {table} -- need transport:destination")
    else:
        mail.filter = argument
        _log(mail, "filter", context, text, argument)


def _pass(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    _log(mail, "pass", context, text, argument)
    mail.flags &= ~FLAGS_FILTER_ALL


def _discard(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    _log(mail, "discard", context, text, argument)
    mail.flags |= FLAG_DISCARD
    mail.flags &= ~FLAGS_FILTER_ALL


def _hold(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    if not mail.flags & (FLAG_HOLD | FLAG_DISCARD):
        _log(mail, "hold", context, text, argument)
        mail.flags |= FLAG_HOLD


def _prepend(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    if not argument:
        log.warning(f"PREPEND action without text in {table} map")
    elif context != HEADER:
        _log(mail, "prepend", context, text, argument)
        mail.put(Kind.NORMAL, argument)
    elif not is_header(argument):
        log.warning(f'bad PREPEND header text "{argument}" in {table} map -- need "headername: headervalue"')
    else:
        _log(mail, "prepend", context, text, argument)
        put_header(mail, argument)


def _replace(mail: Incoming, context: str, text: str, argument: str, table: str) -> str:
    if not argument:
        log.warning(f"REPLACE action without text in {table} map")
    elif context == HEADER and not is_header(argument):
        log.warning(f'bad REPLACE header text "{argument}" in {table} map -- need "headername: headervalue"')
    else:
        _log(mail, "replace", context, text, argument)
        return argument
    return text


def _redirect(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    if "@" not in argument:
        log.warning(f'bad REDIRECT target "{argument}" in {table} map -- need user@domain')
    else:
        mail.redirect = argument
        _log(mail, "redirect", context, text, argument)
        mail.flags &= ~FLAGS_FILTER_ALL


def _bcc(mail: Incoming, context: str, text: str, argument: str, table: str) -> None:
    if "@" not in argument:
        log.warning(f'bad BCC address "{argument}" in {table} map -- need user@domain')
    else:
        mail.bcc.append(argument)
        _log(mail, "bcc", context, text, argument)


_ACTIONS = {
    "REJECT": _reject,
    "WARN": _warn,
    "INFO": _info,
    "FILTER": _filter,
    "PASS": _pass,
    "DISCARD": _discard,
    "HOLD": _hold,
    "PREPEND": _prepend,
    "REDIRECT": _redirect,
    "BCC": _bcc,
}
