"""Defaults that depend on the machine."""

import socket

import pytest

from postfixpy.config import host
from postfixpy.config.host import InterfaceAddress
from postfixpy.errors import FatalError

ADDRESSES = [
    InterfaceAddress(socket.AF_INET, bytes((127, 0, 0, 1)), 8),
    InterfaceAddress(socket.AF_INET, bytes((192, 0, 2, 130)), 25),
    InterfaceAddress(socket.AF_INET, bytes((192, 0, 2, 131)), 25),
    InterfaceAddress(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "::1"), 128),
    InterfaceAddress(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "2001:db8::5"), 64),
]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "interface_addresses", lambda: ADDRESSES)


@pytest.mark.parametrize(
    ("interfaces", "protocols", "style", "expected"),
    [
        ("all", "ipv4", "subnet", "127.0.0.0/8 192.0.2.128/25 "),
        ("all", "ipv4", "host", "127.0.0.1/32 192.0.2.130/32 192.0.2.131/32 "),
        ("all", "ipv4", "class", "127.0.0.0/8 192.0.2.0/24 "),
        ("all", "all", "subnet", "127.0.0.0/8 192.0.2.128/25 [::1]/128 [2001:db8::]/64 "),
        ("loopback-only", "all", "host", "127.0.0.1/32 [::1]/128 "),
        ("192.0.2.131, [::1]", "all", "subnet", "192.0.2.128/25 [::1]/128 "),
        ("all", "", "bogus", ""),
    ],
)
def test_networks(interfaces: str, protocols: str, style: str, expected: str) -> None:
    assert host.networks(interfaces, protocols, style) == expected


@pytest.mark.parametrize(
    ("interfaces", "protocols", "style", "message"),
    [
        ("all", "foo", "host", 'unknown inet_protocols value "foo" in "foo"'),
        ("all", "ipv4", "foo", 'unknown mynetworks mask style value "foo" in "foo"'),
        ("all", "ipv4", "", "bad mynetworks_style value: ; specify exactly one value"),
        ("all", "ipv4", "host subnet", "bad mynetworks_style value: host subnet; specify exactly one value"),
        ("192.0.2.9", "ipv4", "host", "parameter inet_interfaces: no local interface found for 192.0.2.9"),
    ],
)
def test_refused(interfaces: str, protocols: str, style: str, message: str) -> None:
    with pytest.raises(FatalError) as error:
        host.networks(interfaces, protocols, style)
    assert str(error.value) == message


def test_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert any(address.is_loopback for address in host.interface_addresses())
