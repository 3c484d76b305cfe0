"""Destinations, good and bad."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config.known_ports import parse_known_ports
from postfixpy.errors import FatalError
from postfixpy.smtp.destination import parse_site, split_list

PORTS = parse_known_ports("lmtp=24, smtp=25, smtps=submissions=465, submission=587")


@pytest.mark.parametrize(
    ("text", "host", "port", "literal"),
    [
        ("example.com", "example.com", 25, False),
        ("example.com:", "example.com", 25, False),
        ("example.com:2525", "example.com", 2525, False),
        ("[mail.example]", "mail.example", 25, True),
        ("[mail.example]:submission", "mail.example", 587, True),
        ("[mail.example]:", "mail.example", 25, True),
        ("[192.0.2.1]:submissions", "192.0.2.1", 465, True),
        ("[IPv6:2001:db8::1]:26", "2001:db8::1", 26, True),
        ("[2001:db8::1]", "2001:db8::1", 25, True),
        ("192.0.2.1", "192.0.2.1", 25, False),
    ],
)
def test_good(text: str, host: str, port: int, literal: bool) -> None:
    site = parse_site(text, "smtp", PORTS)
    assert (site.host, site.port, site.literal, site.text) == (host, port, literal, text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[a.example", 'missing "]" in server description: [a.example'),
        ("[a.example]x", 'garbage after "]" in server description: [a.example]x'),
        ("[ipv6:nonsense]", "malformed IPv6 address in server description: [ipv6:nonsense]"),
        (":25", "missing host information in server description: :25"),
        ("a..b", "valid hostname or network address required in server description: a..b"),
        ("a.example:25x", "garbage after numerical service in server description: a.example:25x"),
        ("a.example:0", "bad network port: 0 for destination: a.example:0"),
        ("a.example:65536", "bad network port: 65536 for destination: a.example:65536"),
        ("a.example:no-such", "unknown service: no-such/tcp"),
        ("bücher.example", "valid hostname or network address required in server description: bücher.example"),
    ],
)
def test_bad(text: str, error: str) -> None:
    with pytest.raises(FatalError) as caught:
        parse_site(text, "smtp", PORTS)
    assert str(caught.value) == error


def test_names_that_are_not_ascii() -> None:
    assert parse_site("bücher.example", "smtp", PORTS, utf8=True).host == "bücher.example"


def test_lists() -> None:
    assert split_list("a, b\t[c]:25\r\n,d ") == ["a", "b", "[c]:25", "d"]
    assert split_list(" , ") == []


@given(st.text(max_size=40))
def test_any_text_is_a_site_or_fatal(text: str) -> None:
    try:
        parse_site(text, "smtp", PORTS, utf8=True)
    except FatalError:
        pass
