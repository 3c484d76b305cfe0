"""known_tcp_ports: names of TCP services with their port numbers, which come before /etc/services.

``lmtp=24, smtp=25, smtps=submissions=465``: entries between commas, one or more names and a number.
"""

from collections.abc import Callable


def parse_known_ports(text: str, warn: Callable[[str], object] | None = None) -> dict[str, str]:
    """A map from each name to the number. `warn` gets a text for each entry that is wrong, which ends there."""
    ports: dict[str, str] = {}
    for entry in filter(None, text.split(",")):
        problem = _add(entry, ports)
        if problem and warn is not None:
            warn(f'known_tcp_ports: in "{entry}"{problem}')
    return ports


def _add(entry: str, ports: dict[str, str]) -> str:
    *names, port = (word.strip() for word in entry.split("="))
    if not names:
        return ' is not in "name = value" form'
    if not port:
        return ': missing port value after "="'
    for name in names:
        if not name:
            return ': missing service name before "="'
        if _number(name):
            return ": numerical service name"
        if len(name.split()) > 1:
            return ": whitespace in service name"
        if not _number(port):
            return ": non-numerical service port"
        if name in ports:
            return ": duplicate service name"
        ports[name] = port
    return ""


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit()
