"""The listening sockets of master(8): names, addresses, modes and owners as Postfix's.

Sockets in the queue directory have mode 0666 (a FIFO 0622) and belong to the mail owner; access is governed by the
directories public and private. Names are relative to the queue directory, which is the working directory.

All functions raise FatalError with master's text; NotAllowed for a port that needs root.
"""

import os
import socket
import stat
from collections.abc import Callable

from postfixpy.config import MasterEntry
from postfixpy.config.host import protocol_families
from postfixpy.errors import FatalError


class NotAllowed(FatalError):
    """The user who runs master may not bind this port."""


Address = tuple[int, str]
"""Address family and numeric address."""


def internal_name(entry: MasterEntry) -> str:
    """How master's texts name a service: ``private/smtp``, or for inet the port, or ``[host]:port``, in numbers."""
    if entry.type != "inet":
        return f"{'private' if entry.private else 'public'}/{entry.name}"
    host, port = host_port(entry.name)
    try:
        number = str(_port_number(port))
    except OSError:
        return entry.name
    return f"[{host}]:{number}" if host else number


def host_port(name: str) -> tuple[str, str]:
    """The host ("" when there is none) and the port of an inet service's name."""
    if name.startswith("["):
        host, bracket, rest = name[1:].partition("]")
        if not bracket:
            raise FatalError(f'missing "]" in "{name}"')
        if not rest.startswith(":") or len(rest) < 2:
            raise FatalError(f'missing service name or port number in "{name}"')
        return host, rest[1:]
    host, _, port = name.rpartition(":")
    if not port:
        raise FatalError(f'missing service name or port number in "{name}"')
    return host, port


def _port_number(port: str) -> int:
    return int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")


def families(protocols: str) -> list[int]:
    """The address families that inet_protocols allows, and that the system has; IPv4 first."""
    return sorted(protocol_families(protocols))


def addresses(entry: MasterEntry, interfaces: str, protocols: str) -> list[Address]:
    """Where an inet service listens, from its name, inet_interfaces and inet_protocols."""
    allowed = families(protocols)
    host, _ = host_port(entry.name)
    if host:
        found = _resolve([host], allowed)
        if not found:
            raise FatalError(f"bad hostname or network address: {entry.name}")
    elif interfaces.strip().lower() == "all":
        found = [(f, "0.0.0.0" if f == socket.AF_INET else "::") for f in allowed]
    elif interfaces.strip().lower() == "loopback-only":
        found = [(f, "127.0.0.1" if f == socket.AF_INET else "::1") for f in allowed if _bindable(f)]
    else:
        found = _resolve(interfaces.replace(",", " ").split(), allowed)
        if not found:
            raise FatalError(
                "service definition requires valid host name or address, or non-empty inet_interfaces setting"
            )
    if not found:
        raise FatalError(f"no valid IP address found: {entry.name}")
    return list(dict.fromkeys(found))


def _bindable(family: int) -> bool:
    """Whether the loopback interface has an address of this family."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError:
            return False
    return True


def _resolve(hosts: list[str], allowed: list[int]) -> list[Address]:
    found: list[Address] = []
    for host in hosts:
        bare = host.strip("[]")
        try:
            answers = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FatalError(f"config variable inet_interfaces: host not found: {host}") from None
        found += [(int(family), str(address[0])) for family, _, _, _, address in answers if int(family) in allowed]
    return found


def loopback_only(found: list[Address]) -> bool:
    """Whether only clients on this machine can connect."""
    return all(address.startswith("127.") or address == "::1" for _, address in found)


def open_sockets(
    entry: MasterEntry, interfaces: str, protocols: str, backlog: int, owner: tuple[int, int] | None
) -> tuple[list[int], bool]:
    """The listening descriptors of a service, and whether only programs on this machine that may enter can connect.

    `interfaces` and `protocols` are inet_interfaces and inet_protocols; `owner` is as for `as_owner`.
    """
    if entry.type == "inet":
        found = addresses(entry, interfaces, protocols)
        port = host_port(entry.name)[1]
        return [listen_inet(address, port, backlog).detach() for address in found], loopback_only(found)
    path = internal_name(entry)
    if entry.type == "fifo":
        return [as_owner(owner, lambda: listen_fifo(path))], True
    kind = socket.SOCK_DGRAM if entry.type == "unix-dgram" else socket.SOCK_STREAM
    return [as_owner(owner, lambda: listen_unix(path, backlog, kind).detach())], entry.type != "pass"


def listen_inet(address: Address, port: str, backlog: int) -> socket.socket:
    """A TCP socket that listens."""
    family, host = address
    try:
        number = _port_number(port)
    except OSError:
        raise FatalError(f"{host}:{port}: Servname not supported for ai_socktype") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, number))
        sock.listen(backlog)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "Invalid argument"
        kind = NotAllowed if isinstance(error, PermissionError) else FatalError
        raise kind(f"bind {host} port {number}: {reason}") from None
    sock.setblocking(False)
    return sock


def listen_unix(path: str, backlog: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A UNIX-domain socket of `kind` at `path`, in place of what was there."""
    if len(os.fsencode(path)) > 107:
        raise FatalError(f"unix-domain name too long: {path}")
    _remove(path)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.bind(path)
        os.chmod(path, 0o666)
        if kind == socket.SOCK_STREAM:
            sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise FatalError(f"bind: {path}: {os.strerror(error.errno or 0)}") from None
    sock.setblocking(False)
    return sock


def listen_fifo(path: str) -> int:
    """A FIFO at `path`, open for reading and writing, so that it never reports end of input."""
    _remove(path)
    try:
        os.mkfifo(path, 0o622)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FatalError(f"fifo_listen: create fifo {path}: {os.strerror(error.errno or 0)}") from None
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise FatalError(f"fifo_listen: not a fifo: {path}")
    os.fchmod(fd, 0o622)
    return fd


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FatalError(f"remove {path}: {os.strerror(error.errno or 0)}") from None


def as_owner(owner: tuple[int, int] | None, action: Callable[[], int]) -> int:
    """Do something with the mail owner's effective (user id, group id); None: we are that user."""
    if owner is None:
        return action()
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        return action()
    finally:
        os.seteuid(0)
        os.setegid(0)
