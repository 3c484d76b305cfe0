"""Network addresses as mail writes them. The complaints are the warnings of Postfix 3.7.11."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.literals import (
    ipv4_complaint,
    ipv6_complaint,
    mailhost_address,
    valid_hostaddr,
    valid_mailhost_literal,
)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("1.2.3.4", ""),
        ("0.0.0.0", ""),
        ("1.2.3", "invalid octet count: 1.2.3"),
        ("1.2.3.4.5", "invalid octet count: 1.2.3.4.5"),
        ("1.2.3.256", "invalid octet value: 1.2.3.256"),
        ("1..2.3", "misplaced dot: 1..2.3"),
        ("1.2.3.4.", "misplaced dot: 1.2.3.4."),
        ("0.1.2.3", "bad initial octet value: 0.1.2.3"),
        ("host", "invalid character 104(decimal): host"),
        ("é", "invalid character 195(decimal): é"),
    ],
)
def test_ipv4(address: str, complaint: str) -> None:
    assert ipv4_complaint(address) == (complaint and f"valid_ipv4_hostaddr: {complaint}")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("::1", ""),
        ("1:2:3:4:5:6:7:8", ""),
        ("::ffff:1.2.3.4", ""),
        ("1:2", "too few `:' in IPv6 address: 1:2"),
        ("1:2:3:", "bad null last field in IPv6 address: 1:2:3:"),
        ("1::2::3", "too many `::' in IPv6 address: 1::2::3"),
        ("1:2:3:4:5:6:7:8:9", "too many `:' in IPv6 address: 1:2:3:4:5:6:7:8:9"),
        (":1:2", "bad null first field in IPv6 address: :1:2"),
        ("12345::", "malformed IPv6 address: 12345::"),
        ("::g", "invalid character 103(decimal) in IPv6 address: ::g"),
        ("1:1.2.3.4", "malformed IPv4-in-IPv6 address: 1:1.2.3.4"),
    ],
)
def test_ipv6(address: str, complaint: str) -> None:
    assert ipv6_complaint(address) == (complaint and f"valid_ipv6_hostaddr: {complaint}")


def test_mail_form_needs_the_tag_for_ipv6_only() -> None:
    assert mailhost_address("IPv6:::1") == ("::1", "")
    assert mailhost_address("ipv6:::1") == ("::1", "")
    assert mailhost_address("1.2.3.4") == ("1.2.3.4", "")
    assert mailhost_address("::1")[1] == "valid_ipv4_hostaddr: invalid character 58(decimal): ::1"
    assert mailhost_address("IPv6:1.2.3.4")[1].startswith("valid_ipv6_hostaddr: ")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("[1.2.3.4]", True),
        ("[IPv6:::1]", True),
        ("[]", False),
        ("[1.2.3.4", False),
        ("1.2.3.4]", False),
        ("[1.2.3.4]x", False),
        ("[1.2.3.4]]", False),
        (f"[{'1' * 46}]", False),
    ],
)
def test_literal(text: str, valid: bool) -> None:
    assert valid_mailhost_literal(text) is valid


@given(st.one_of(st.text(), st.text("0123456789abcdef:.", max_size=40)))
def test_any_text_is_judged(text: str) -> None:
    if valid_hostaddr(text):
        assert set(text) <= set("0123456789abcdefABCDEF:.")
    assert ipv4_complaint(text).startswith("valid_ipv4_hostaddr: ") or not ipv4_complaint(text)
    assert valid_mailhost_literal(f"[{text}]") in (True, False)


def test_too_few_fields_are_left_to_the_system() -> None:
    assert valid_hostaddr("0:0:0")  # as in Postfix


@given(st.ip_addresses())
def test_every_address_but_network_zero_is_accepted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    text = str(address)
    assert valid_hostaddr(text) or (text.startswith("0.") and text != "0.0.0.0")
