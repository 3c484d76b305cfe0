"""Protocol lists, cipher lists and options in main.cf's words."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config import View
from postfixpy.tls import options
from postfixpy.tls.options import CipherError, Protocols, cipher_list, option_bits, protocols

SSL3, TLS1, TLS11, TLS12, TLS13 = 1 << 25, 1 << 26, 1 << 28, 1 << 27, 1 << 29


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Protocols(0, 0, 0)),
        ("!SSLv2, !SSLv3", Protocols(SSL3, 0, 0)),
        (">=TLSv1.2", Protocols(0, 0x303, 0)),
        (">=TLSv1:<=TLSv1.2", Protocols(0, 0x301, 0x303)),
        (">=0301 <=0x304", Protocols(0, 0x301, 0x304)),
        (">=None", Protocols(0, 0, 0)),
        ("TLSv1.2 tlsv1.3", Protocols(SSL3 | TLS1 | TLS11, 0, 0)),
        ("TLSv1.2,!TLSv1.2", Protocols(SSL3 | TLS1 | TLS11 | TLS13 | TLS12, 0, 0)),
        ("TLSv9", None),
        (">=TLSv9", None),
        ("!", None),
    ],
)
def test_protocols(text: str, found: Protocols | None) -> None:
    assert protocols(text) == found


def test_limits_are_of_36() -> None:
    assert protocols(">=TLSv1", (3, 5)) is None


@given(st.text(alphabet="TLSvV123.!<>=:, 0x_+-", max_size=30))
def test_any_text_is_a_list_or_none(text: str) -> None:
    found = protocols(text)
    assert found is None or (0 <= found.floor < 1 << 31 and 0 <= found.ceiling < 1 << 31)


def test_cipher_lists(view: Callable[..., View]) -> None:
    assert cipher_list(view("tls_high_cipherlist = HIGH\n"), "High", "aNULL, MD5:RC4") == "HIGH:!aNULL:!MD5:!RC4"
    assert cipher_list(view(), "low", "") == cipher_list(view(), "medium", "")
    old = view(release="3.7")
    assert cipher_list(old, "low", "") == old.tls_low_cipherlist != cipher_list(old, "medium", "")
    with pytest.raises(CipherError, match='invalid cipher grade: "best"'):
        cipher_list(view(), "best", "")
    with pytest.raises(CipherError, match="invalid unary"):
        cipher_list(view(), "high", "+RC4")


def test_options(view: Callable[..., View], lines: list[str]) -> None:
    plain = option_bits(view())
    assert plain & options.SSL_OP_ALL == options.SSL_OP_ALL
    assert plain & options.SSL_OP_NO_RENEGOTIATION
    assert not option_bits(view(release="3.7")) & options.SSL_OP_NO_RENEGOTIATION
    assert option_bits(view("tls_ssl_options = no_ticket\n")) == plain | options.SSL_OP_NO_TICKET
    assert option_bits(view("tls_ssl_options = 0x4000\n")) == plain | options.SSL_OP_NO_TICKET
    managed = view("tls_ssl_options = 0x2000000\n")  # SSL_OP_NO_SSLv3 is for smtp_tls_protocols to say
    assert option_bits(managed) == plain
    assert not option_bits(view("tls_disable_workarounds = TLSEXT_PADDING\n")) & options.SSL_OP_TLSEXT_PADDING
    assert not lines
    option_bits(view("tls_ssl_options = nonsense\n"))
    assert lines == ['warning: unknown tls_ssl_options value "nonsense" in "nonsense"']
