"""What sendmail(1) and postdrop(1) share: where they log, who may submit mail (authorized_submit_users), and with which
sender addresses (local_login_sender_maps)."""

from typing import TYPE_CHECKING

from postfixpy import log

if TYPE_CHECKING:
    from postfixpy.config import View


class _Both:
    """A sink: standard error under the command's own name, and where the mail system logs."""

    def __init__(self, program: str, view: "View") -> None:
        from postfixpy.ipc import logging

        self.logger = logging.install(program, view)
        self._stderr = log.stderr_sink(program)

    def __call__(self, severity: str, text: str) -> None:
        self._stderr(severity, text)
        self.logger(severity, text)


def log_as(program: str, view: "View") -> None:
    """Log to standard error under the command's own name, and where the mail system logs."""
    log.set_sink(_Both(program, view))


def log_to(sink: "log.Sink") -> None:
    """Log to `sink` from now on, and disconnect what `log_as` has made."""
    previous = log.set_sink(sink)
    if isinstance(previous, _Both):
        previous.logger.close()


def user_name(uid: int) -> str:
    """The login name of `uid`, or ""."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def forbidden_user(view: "View", uid: int) -> str:
    """The name of the user when authorized_submit_users does not let `uid` submit mail, or ""."""
    allowed = view.authorized_submit_users
    if allowed.startswith("static:"):
        return ""
    from postfixpy.lookup.matching import StringList

    name = user_name(uid) or "unknown"
    return "" if StringList("authorized_submit_users", allowed, view).match(name) else name


def sender_allowed(view: "View", login: str, sender: str) -> bool:
    """Whether user `login` may use `sender` (internal form), by local_login_sender_maps. Raises TableError.

    The table has, for a login name, patterns: an address without extension, ``@domain``, ``*`` for any, and
    empty_address_local_login_sender_maps_lookup_key for the empty sender.
    """
    if view.local_login_sender_maps == "static:*":
        return True
    from postfixpy.lookup.addresses import strip_addr
    from postfixpy.lookup.maps import Maps
    from postfixpy.lookup.table import casefold
    from postfixpy.mail.addresses import quote_822_local

    def fold(text: str) -> str:
        return casefold(text, view.smtputf8_enable)

    patterns = Maps("local_login_sender_maps", view.local_login_sender_maps, view).find(login)
    stripped = strip_addr(sender, view.recipient_delimiter, view)
    literal = fold(quote_822_local(stripped[0] if stripped else sender)) if sender else ""
    at_domain = fold("@" + sender.rpartition("@")[2]) if "@" in sender else None
    empty = view.empty_address_local_login_sender_maps_lookup_key.lower()
    for pattern in _words(patterns or ""):
        if pattern.startswith("@"):
            matches = fold(pattern) == at_domain
        elif pattern == "*":
            matches = True
        elif pattern.lower() == empty:
            matches = not sender
        else:
            matches = bool(sender) and fold(pattern) == literal
        if matches:
            return True
    return False


def _words(text: str) -> list[str]:
    """The words of a list; blanks and commas in double quotes do not separate."""
    words: list[str] = []
    word, quoted = "", False
    for char in text:
        if char == '"':
            quoted = not quoted
        if char in ", \t\r\n" and not quoted:
            if word:
                words.append(word)
            word = ""
        else:
            word += char
    return [*words, word] if word else words
