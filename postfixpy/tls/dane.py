"""Fingerprints and trust anchors as TLSA records, which is how Postfix gives them to the TLS library."""

from collections.abc import Sequence

from .handshake import TLSA


class TrustAnchorError(Exception):
    """A file of trust anchors cannot be used; the warning has been logged."""


def fingerprint_records(values: Sequence[str], key_only: bool, log_bits: int) -> tuple[TLSA, ...]:
    """TLSA records for `values`, hexadecimal with or without colons, each for a certificate and for a public key
    (`key_only`: only the latter, as with smtp_tls_enable_rpk). Malformed ones are dropped, with a warning."""
    raise NotImplementedError


def trust_anchors(path: str) -> tuple[TLSA, ...]:
    """TLSA records for the certificates and public keys of a PEM file (tafile). Raises TrustAnchorError."""
    raise NotImplementedError
