"""The words of main.cf for protocols, ciphers and options, as what the TLS library wants (spec 8.12). Pure."""

from typing import TYPE_CHECKING, NamedTuple

from postfixpy import log

if TYPE_CHECKING:
    from postfixpy.config.view import View

SSL_OP_TLSEXT_PADDING = 1 << 4
SSL_OP_SAFARI_ECDHE_ECDSA_BUG = 1 << 6
SSL_OP_IGNORE_UNEXPECTED_EOF = 1 << 7
SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS = 1 << 11
SSL_OP_NO_TICKET = 1 << 14
SSL_OP_CIPHER_SERVER_PREFERENCE = 1 << 22
SSL_OP_NO_RENEGOTIATION = 1 << 30
SSL_OP_CRYPTOPRO_TLSEXT_BUG = 1 << 31
SSL_OP_ALL = (
    SSL_OP_TLSEXT_PADDING
    | SSL_OP_SAFARI_ECDHE_ECDSA_BUG
    | SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS
    | SSL_OP_CRYPTOPRO_TLSEXT_BUG
)
"""As in OpenSSL 3; of the other workarounds nothing is left but their names."""

_PROTOCOLS = {
    "sslv2": 0,
    "sslv3": 1 << 25,
    "tlsv1": 1 << 26,
    "tlsv1.1": 1 << 28,
    "tlsv1.2": 1 << 27,
    "tlsv1.3": 1 << 29,
}
"""Protocols and the option that excludes each."""
_VERSIONS = {"none": 0, "sslv3": 0x300, "tlsv1": 0x301, "tlsv1.1": 0x302, "tlsv1.2": 0x303, "tlsv1.3": 0x304}
_MANAGED = SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF | sum(_PROTOCOLS.values())
_SEPARATORS = str.maketrans(",:", "  ")
_MAX_INT = 0x7FFFFFFF

WITHOUT_SSL3 = _PROTOCOLS["sslv3"]
"""What DANE excludes."""


class Protocols(NamedTuple):
    """The option bits that exclude protocols, and the least and the greatest version, 0 for no limit."""

    excluded: int
    floor: int
    ceiling: int


def protocols(text: str, release: tuple[int, int] = (3, 11)) -> Protocols | None:
    """What ``!SSLv2``, ``TLSv1.2``, ``>=TLSv1.2`` or ``<=0304`` say, or None for a word that does not exist."""
    floor = ceiling = excluded = 0
    included: set[str] = set()
    for word in text.translate(_SEPARATORS).split():
        if word[:2] in (">=", "<=") and release >= (3, 6):
            version = _version(word[2:])
            if version is None:
                return None
            if word[0] == ">":
                floor = version
            else:
                ceiling = version
        else:
            name = word.removeprefix("!").lower()
            if name not in _PROTOCOLS:
                return None
            if word[0] == "!":
                excluded |= _PROTOCOLS[name]
            else:
                included.add(name)
    if included:
        excluded |= sum(bit for name, bit in _PROTOCOLS.items() if name not in included)
    return Protocols(excluded, floor, ceiling)


def _version(word: str) -> int | None:
    """A version by name or in hexadecimal."""
    found = _VERSIONS.get(word.lower())
    if found is not None:
        return found
    digits = word.removeprefix("+")
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if "_" not in digits and 0 <= number <= _MAX_INT else None


class CipherError(Exception):
    """No cipher list can be made. str() is Postfix's warning, without the server's name."""


def cipher_list(view: "View", grade: str, exclusions: str) -> str:
    """The cipher list for TLS 1.2 and below of a grade, without `exclusions`. Raises CipherError."""
    kind = grade.lower()
    if kind in ("low", "export") and tuple(view.release)[:2] >= (3, 8):
        kind = "medium"
    if kind not in ("high", "medium", "low", "export", "null"):
        raise CipherError(f'invalid cipher grade: "{grade}"')
    base: str = getattr(view, f"tls_{kind}_cipherlist")
    for word in exclusions.translate(_SEPARATORS).split():
        if word[0] in "!+-@":
            raise CipherError(f"invalid unary '!+-@' in cipher exclusion: {word}")
        base += f":!{word}"
    return base


_WORKAROUNDS = {
    "MICROSOFT_SESS_ID_BUG": 0,
    "NETSCAPE_CHALLENGE_BUG": 0,
    "LEGACY_SERVER_CONNECT": 1 << 2,
    "NETSCAPE_REUSE_CIPHER_CHANGE_BUG": 0,
    "CVE-2010-4180": 0,
    "SSLREF2_REUSE_CERT_TYPE_BUG": 0,
    "MICROSOFT_BIG_SSLV3_BUFFER": 0,
    "MSIE_SSLV2_RSA_PADDING": 0,
    "CVE-2005-2969": 0,
    "SSLEAY_080_CLIENT_DH_BUG": 0,
    "TLS_D5_BUG": 0,
    "TLS_BLOCK_PADDING_BUG": 0,
    "TLS_ROLLBACK_BUG": 1 << 23,
    "DONT_INSERT_EMPTY_FRAGMENTS": SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS,
    "CRYPTOPRO_TLSEXT_BUG": SSL_OP_CRYPTOPRO_TLSEXT_BUG,
    "TLSEXT_PADDING": SSL_OP_TLSEXT_PADDING,
}
_OPTIONS = {
    "LEGACY_SERVER_CONNECT": 1 << 2,
    "NO_TICKET": SSL_OP_NO_TICKET,
    "NO_COMPRESSION": 1 << 17,
    "NO_RENEGOTIATION": SSL_OP_NO_RENEGOTIATION,
    "NO_SESSION_RESUMPTION_ON_RENEGOTIATION": 1 << 16,
    "PRIORITIZE_CHACHA": 1 << 21,
    "ENABLE_MIDDLEBOX_COMPAT": 1 << 20,
}


def option_bits(view: "View") -> int:
    """The option bits that tls_disable_workarounds and tls_ssl_options leave and add, with warnings."""
    bits = SSL_OP_ALL
    if view.tls_disable_workarounds:
        disabled = _mask("tls_disable_workarounds", _WORKAROUNDS, view.tls_disable_workarounds)
        bits &= ~(disabled | SSL_OP_SAFARI_ECDHE_ECDSA_BUG)
    if view.tls_ssl_options:
        bits |= _mask("tls_ssl_options", _OPTIONS, view.tls_ssl_options) & ~(SSL_OP_ALL | _MANAGED)
    if tuple(view.release)[:2] >= (3, 8):
        bits |= SSL_OP_NO_RENEGOTIATION
    return bits


def _mask(parameter: str, table: dict[str, int], text: str) -> int:
    """The bits of the words in `text`: names, or hexadecimal numbers with 0x."""
    bits = 0
    for word in text.replace(",", " ").split():
        found = table.get(word.upper())
        if found is None:
            try:
                found = int(word, 16) if word[:2].lower() == "0x" else -1
            except ValueError:
                found = -1
            if not 0 <= found < 1 << 64:
                log.warning(f'unknown {parameter} value "{word}" in "{text}"')
                continue
        bits |= found
    return bits
