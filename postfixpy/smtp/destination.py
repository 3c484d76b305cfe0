"""Destinations: what a nexthop names (spec 2).

``example.com`` by MX, ``[host]`` by address, each with ``:service``; several of them separated by blanks or commas,
with the fallback relays behind; LMTP also ``unix:path`` and ``inet:host``. What makes no sense is a configuration error
and fatal, as in Postfix.
"""

import re
from dataclasses import dataclass

from postfixpy.dns.names import family_of, valid_hostname
from postfixpy.errors import FatalError
from postfixpy.lookup.host_port import host_port

_SEPARATORS = re.compile(r"[ \t\r\n,]+")


@dataclass(frozen=True, slots=True)
class Site:
    """One destination.

    text      as written; the key of TLS policies and passwords
    host      domain, host name or address without brackets
    service   as written or defaulted
    port      its number
    literal   in brackets: no MX lookup
    """

    text: str
    host: str
    service: str
    port: int
    literal: bool


def split_list(text: str) -> list[str]:
    """The destinations in a list."""
    return [word for word in _SEPARATORS.split(text) if word]


def parse_site(text: str, default_service: str, ports: dict[str, str], *, utf8: bool = False) -> Site:
    """One destination of an SMTP or LMTP nexthop. `ports` is known_tcp_ports. Raises FatalError."""
    literal = text.startswith("[")
    host, service, problem = host_port(
        text, lambda name: valid_hostname(name, utf8=utf8) or family_of(name), service=default_service
    )
    if problem:
        raise FatalError(f"{problem} in server description: {text}")
    if host[:5].lower() == "ipv6:":
        host = host[5:]
    return Site(text, host, service, find_port(service, text, ports), literal)


def find_port(service: str, site: str, ports: dict[str, str]) -> int:
    """The port number of a service. Raises FatalError."""
    import socket

    service = ports.get(service, service)
    if service.isascii() and service.isdigit():
        port = int(service) if len(service) < 6 else 0
        if not 0 < port <= 65535:
            raise FatalError(f"bad network port: {service} for destination: {site}")
        return port
    try:
        return socket.getservbyname(service, "tcp")
    except (OSError, ValueError):
        raise FatalError(f"unknown service: {service}/tcp") from None
