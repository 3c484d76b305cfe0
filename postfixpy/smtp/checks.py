"""smtp_header_checks and its relatives: actions on headers and body lines as they go out (spec 7.4, 7.5).

The client knows WARN, INFO, REPLACE, PREPEND, STRIP, IGNORE, DUNNO and OK; the other actions of header_checks(5) make
no sense once a message is on its way.
"""

from collections.abc import Callable

from postfixpy import log
from postfixpy.lookup.maps import Maps
from postfixpy.lookup.table import TableError
from postfixpy.mail.headers import MIME, Header, is_header
from postfixpy.mail.mime import MULTIPART, NESTED

from .delivery import Delivery
from .effects import LocalDataError, Run, find

HEADER, BODY = "header", "body"


def header_maps(d: Delivery, block: int, known: Header | None) -> Maps | None:
    """The table for a header: of its block, or the one for MIME headers, wherever they are."""
    settings = d.settings
    if block == NESTED:
        return settings.nested_header_checks
    if block == MULTIPART or (known is not None and known.roles & MIME):
        return settings.mime_header_checks
    return settings.header_checks


def check(d: Delivery, maps: Maps, where: str, text: str, prepend: Callable[[str], None]) -> Run[str | None]:
    """What becomes of a header or body line: itself, a replacement, or None for nothing.

    `prepend` puts a line before it. Raises LocalDataError when the table cannot answer.
    """
    try:
        action = yield from find(maps, text.partition("\0")[0])
    except TableError:
        log.warning(f"{d.request.queue_id}: smtp {where} checks lookup error")
        raise LocalDataError from None
    if action is None:
        return text
    word, _, argument = action.replace("\t", " ", 1).partition(" ")
    command, argument = word.upper(), argument.lstrip()
    if command in ("WARN", "INFO"):
        _log(d, "warning" if command == "WARN" else "info", where, text, argument)
    elif command in ("REPLACE", "PREPEND"):
        if not _usable(command, where, argument, maps.title):
            return text
        _log(d, command.lower(), where, text, argument)
        if command == "REPLACE":
            return argument
        prepend(argument)
    elif command == "STRIP":
        _log(d, "strip", where, text, argument)
        return None
    elif command == "IGNORE":
        return None
    elif command not in ("DUNNO", "OK"):
        log.warning(f"unsupported command in {maps.title} map: {action}")
    return text


def _usable(command: str, where: str, argument: str, title: str) -> bool:
    if not argument:
        log.warning(f"{command} action without text in {title} map")
    elif where == HEADER and not is_header(argument):
        log.warning(f'bad {command} header text "{argument}" in {title} map -- need "headername: headervalue"')
    else:
        return True
    return False


def _log(d: Delivery, action: str, where: str, text: str, more: str) -> None:
    limit = 200 if d.settings.release >= (3, 10) else 60
    shown = text.partition("\0")[0].encode("utf-8", "surrogateescape")[:limit].decode("utf-8", "surrogateescape")
    line = f"{d.request.queue_id}: {action}: {where} {shown}"
    log.info(f"{line}: {more}" if more else line)
