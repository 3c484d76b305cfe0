"""The system resolver's configuration, resolv.conf(5): what the C library reads, as values."""

import os
from dataclasses import dataclass, field

_MAX_SERVERS = 3
"""MAXNS of the C library: further servers are ignored."""

RESOLV_CONF = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """Name servers as (address, port), search domains, and the options that matter here.

    timeout    seconds to wait for one server at the first attempt
    attempts   how often to go through the list of servers
    """

    servers: tuple[tuple[str, int], ...] = (("127.0.0.1", 53),)
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 5.0
    attempts: int = 2
    rotate: bool = False
    edns: bool = False
    use_tcp: bool = False


@dataclass(slots=True)
class _Draft:
    servers: list[tuple[str, int]] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def parse(text: str, host_name: str = "") -> ResolverConfig:
    """The configuration in `text`. Lines that make no sense are ignored, as the C library does. Without a list, the
    domain of the host is searched.

    An address may have a port, ``[127.0.0.1]:5353``: an extension of ours, for tests.
    """
    draft = _Draft()
    for line in text.splitlines():
        words = line.partition(";")[0].partition("#")[0].split()
        if len(words) < 2:
            continue
        keyword, values = words[0], words[1:]
        if keyword == "nameserver" and len(draft.servers) < _MAX_SERVERS:
            server = _server(values[0])
            if server:
                draft.servers.append(server)
        elif keyword in ("domain", "search"):  # the last one wins
            draft.search = values[:1] if keyword == "domain" else values
        elif keyword == "options":
            for option in values:
                name, _, value = option.partition(":")
                draft.options[name] = value
    options = draft.options
    return ResolverConfig(
        servers=tuple(draft.servers) or (("127.0.0.1", 53),),
        search=tuple(domain.rstrip(".") for domain in draft.search or [host_name.partition(".")[2]] if domain),
        ndots=_number(options.get("ndots"), 1, 15),
        timeout=max(1, _number(options.get("timeout"), 5, 30)),
        attempts=max(1, _number(options.get("attempts"), 2, 5)),
        rotate="rotate" in options,
        edns="edns0" in options,
        use_tcp="use-vc" in options,
    )


def read(path: str = RESOLV_CONF) -> ResolverConfig:
    """The configuration in the file `path`; the C library's defaults when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read(), os.uname().nodename)
    except OSError:
        return ResolverConfig()


def _server(text: str) -> tuple[str, int] | None:
    from .names import family_of

    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
        if family_of(address) and port.isdigit():
            return address, int(port)
        return None
    address = text.partition("%")[0]
    return (text, 53) if family_of(address) else None


def _number(text: str | None, default: int, limit: int) -> int:
    if text is None or not text.isdigit():
        return default
    return min(int(text), limit)
