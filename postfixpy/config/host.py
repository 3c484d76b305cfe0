"""What Postfix asks the machine for: its host name, its network addresses, and the defaults computed from them.

mynetworks is computed from the interfaces that are up, in the kernel's order, under inet_interfaces, inet_protocols and
mynetworks_style (mynetworks(3)). The addresses come from Linux's rtnetlink, because the standard library has no
getifaddrs(3) and only that gives secondary addresses and their masks.

``_socket`` is the module socket without its enumerations. Every command asks for the protocols that the kernel has, and
the import of the whole module takes twice as long as all that a command checks at its start.
"""

from __future__ import annotations

import os
from functools import cache

from postfixpy.config.lines import split_list
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEFAULT_DOMAIN = "localdomain"
_RTM_GETLINK, _RTM_NEWLINK, _RTM_GETADDR, _RTM_NEWADDR = 18, 16, 22, 20
_NLM_F_DUMP_REQUEST = 0x301
_NLMSG_DONE, _NLMSG_ERROR = 3, 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP = 1


def host_name() -> str:
    """gethostname(2)."""
    return os.uname().nodename


class InterfaceAddress:
    """An address of a local network interface that is up: family, packed address, prefix length in bits."""

    __slots__ = ("address", "family", "prefix")

    def __init__(self, family: int, address: bytes, prefix: int) -> None:
        self.family = family
        self.address = address
        self.prefix = prefix

    @property
    def is_loopback(self) -> bool:
        """127.0.0.0/8 or ::1."""
        return self.address[0] == 127 if len(self.address) == 4 else self.address == b"\0" * 15 + b"\1"


def _dump(request: int, reply: int) -> Iterator[bytes]:
    """The payloads of an rtnetlink dump."""
    import _socket as socket
    import struct

    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    try:
        link.settimeout(5)
        link.send(struct.pack("=IHHIIB3x", 20, request, _NLM_F_DUMP_REQUEST, 1, 0, socket.AF_UNSPEC))
        while True:
            data = link.recv(1 << 17)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < 16:
                    return
                if kind == reply:
                    yield data[16:length]
                data = data[(length + 3) & ~3 :]
    finally:
        link.close()


def _attributes(data: bytes) -> dict[int, bytes]:
    import struct

    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found.setdefault(kind, data[4:length])
        data = data[(length + 3) & ~3 :]
    return found


def interface_addresses() -> list[InterfaceAddress]:
    """The IPv4 and IPv6 addresses of all interfaces that are up, in the kernel's order. Raises FatalError."""
    import _socket as socket
    import struct

    addresses = []
    try:
        up = set()
        for payload in _dump(_RTM_GETLINK, _RTM_NEWLINK):
            index, flags = struct.unpack_from("=iI", payload, 4)
            if flags & _IFF_UP:
                up.add(index)
        for payload in _dump(_RTM_GETADDR, _RTM_NEWADDR):
            family, prefix, _, _, index = struct.unpack_from("=BBBBI", payload)
            if family not in (socket.AF_INET, socket.AF_INET6) or index not in up:
                continue
            attributes = _attributes(payload[8:])
            address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
            if any(address):
                addresses.append(InterfaceAddress(family, address, prefix))
    except OSError as error:
        raise FatalError(f"inet_addr_local[getifaddrs]: getifaddrs: {error.strerror}") from None
    return addresses


def interfaces_of(addresses: Iterable[str]) -> list[InterfaceAddress]:
    """Network interfaces with these addresses, each a network of its own."""
    import _socket as socket

    found = []
    for text in addresses:
        family, prefix = (socket.AF_INET6, 128) if ":" in text else (socket.AF_INET, 32)
        found.append(InterfaceAddress(family, socket.inet_pton(family, text), prefix))
    return found


@cache
def protocol_families(inet_protocols: str) -> frozenset[int]:
    """Address families for an inet_protocols value, without those that the kernel lacks, of which it warns once.

    Raises FatalError.
    """
    import _socket as socket

    from postfixpy import log

    names = {"all": (socket.AF_INET, socket.AF_INET6), "ipv4": (socket.AF_INET,), "ipv6": (socket.AF_INET6,)}
    families: set[int] = set()
    for word in split_list(inet_protocols):
        if word not in names:
            raise FatalError(f'unknown inet_protocols value "{word}" in "{inet_protocols}"')
        families.update(map(int, names[word]))
    for family, label in ((socket.AF_INET6, "IPv6"), (socket.AF_INET, "IPv4")):
        if family in families:
            try:
                socket.socket(family, socket.SOCK_STREAM).close()
            except OSError as error:
                log.warning(f"inet_protocols: disabling {label} name/address support: {error.strerror}")
                families.discard(family)
    return frozenset(families)


def own_addresses(
    inet_interfaces: str, families: frozenset[int], interfaces: list[InterfaceAddress] | None = None
) -> list[InterfaceAddress]:
    """The addresses that this mail system receives mail on (own_inet_addr(3)), of those of its network interfaces, by
    default the machine's. Raises FatalError."""
    import _socket as socket

    if not families:
        return []
    if interfaces is None:
        interfaces = interface_addresses()
    local = [address for address in interfaces if address.family in families]
    if not local:
        raise FatalError("could not find any active network interfaces")
    if inet_interfaces == "all":
        return local
    if inet_interfaces == "loopback-only":
        return [address for address in local if address.is_loopback]
    hosts = split_list(inet_interfaces)
    chosen: list[InterfaceAddress] = []
    for family, packed in dict.fromkeys(found for host in hosts for found in _resolve(host, families)):
        match = [address for address in local if (address.family, address.address) == (family, packed)]
        if not match:
            shown = socket.inet_ntop(family, packed)
            raise FatalError(f"parameter inet_interfaces: no local interface found for {shown}")
        chosen.append(match[0])
    return chosen


def proxy_addresses(proxy_interfaces: str, families: frozenset[int]) -> list[tuple[int, bytes]]:
    """The addresses (family, packed) of a proxy or NAT that brings us mail (proxy_inet_addr(3)). Raises FatalError."""
    hosts = split_list(proxy_interfaces)
    return [found for host in hosts for found in _resolve(host, families, "proxy_interfaces")]


def _resolve(host: str, families: frozenset[int], parameter: str = "inet_interfaces") -> list[tuple[int, bytes]]:
    import _socket as socket

    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        answers = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        answers = []
    found = []
    for family, _, _, _, address in answers:
        packed = socket.inet_pton(family, str(address[0]).partition("%")[0])
        if family in families and (family, packed) not in found:
            found.append((int(family), packed))
    if not found:
        raise FatalError(f"config variable {parameter}: host not found: {host}")
    return found


def networks(inet_interfaces: str, inet_protocols: str, style: str, trace: Callable[[str], None] | None = None) -> str:
    """The default of mynetworks: patterns, each followed by a blank, for `style` (class, subnet or host).

    `trace` gets what a verbose Postfix program says on the way. Raises FatalError.
    """
    import _socket as socket

    families = protocol_families(inet_protocols)
    if not families:
        return ""
    words = split_list(style)
    unknown = [word for word in words if word not in ("class", "subnet", "host")]
    if unknown:
        raise FatalError(f'unknown mynetworks mask style value "{unknown[0]}" in "{style}"')
    if len(set(words)) != 1:
        raise FatalError(f"bad mynetworks_style value: {style}; specify exactly one value")
    if trace is not None:
        for word in (*split_list(inet_protocols), *words):
            trace(f"name_mask: {word}")
    own = own_addresses(inet_interfaces, families)
    if trace is not None:
        for family, label in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
            count = sum(address.family == family for address in own)
            trace(f"inet_addr_local: configured {count} {label} addresses")
    patterns: list[str] = []
    for address in own:
        pattern = _pattern(address, words[0])
        if trace is not None:
            trace(f"been_here: {pattern}: {int(pattern in patterns)}")
        if pattern not in patterns:
            patterns.append(pattern)
    result = "".join(f"{pattern} " for pattern in patterns)
    if trace is not None:
        trace(result)
    return result


def _pattern(own: InterfaceAddress, style: str) -> str:
    import _socket as socket

    size = len(own.address) * 8
    prefix = size if style == "host" else own.prefix
    if style == "class" and own.family == socket.AF_INET:
        first = own.address[0]
        prefix = 8 if first < 128 else 16 if first < 192 else 24 if first < 224 else 4
    number = int.from_bytes(own.address, "big") >> (size - prefix) << (size - prefix)
    network = socket.inet_ntop(own.family, number.to_bytes(size // 8, "big"))
    return f"[{network}]/{prefix}" if own.family == socket.AF_INET6 else f"{network}/{prefix}"
