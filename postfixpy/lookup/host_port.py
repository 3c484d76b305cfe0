"""``host:port`` and its other forms, taken apart and checked as in Postfix (host_port(3))."""

from collections.abc import Callable


def host_port(text: str, valid: Callable[[str], object], *, host: str = "", service: str = "") -> tuple[str, str, str]:
    """The host and the service in `text`, and what is wrong with it, or "".

    Forms: ``[host]:service``, ``[host]``, ``host:service``; without a colon `text` is the one of the two that has no
    default, `host` or `service`. An IPv6 address in brackets may begin with ``IPv6:``, which the result has still.
    `valid` judges a host that is not the default.
    """
    if text.startswith("["):
        found, bracket, rest = text[1:].partition("]")
        if not bracket:
            return "", "", 'missing "]"'
        if rest and not rest.startswith(":"):
            return "", "", 'garbage after "]"'
        if found[:5].lower() == "ipv6:" and not (":" in found[5:] and valid(found[5:])):
            return "", "", "malformed IPv6 address"
        named = rest[1:]
    elif ":" in text:
        found, _, named = text.rpartition(":")
    else:
        found, named = ("" if host else text), ("" if service else text)
    literal = text.startswith("[")
    where, port = found if literal else found or host, named or service
    if not where and not literal:
        return "", "", "missing host information"
    if not port:
        return "", "", "missing service information"
    if (found or literal) and not valid(found[5:] if literal and found[:5].lower() == "ipv6:" else found):
        return "", "", "valid hostname or network address required"
    if named[:1].isdigit() and not (named.isascii() and named.isdigit()):
        return "", "", "garbage after numerical service"
    return where, port, ""
