"""TLSA records and the TLS library: fingerprints and trust anchors in their form, digests, what has matched.

Postfix gives fingerprints and trust anchors to the library as TLSA records of its own making (since 3.6), so that one
piece of code verifies all. Matching type 255, for private use, is the digest of smtp_tls_fingerprint_digest.
"""

import ctypes
import re
from collections.abc import Sequence
from ctypes import c_size_t, c_uint8, c_void_p
from typing import TYPE_CHECKING

from postfixpy import log

from . import libssl
from .certificates import PEM, PEMError
from .handshake import TLSA
from .level import Level
from .loglevel import DANE, VERBOSE

if TYPE_CHECKING:
    from .channel import Channel
    from .libssl import Library, Pointer

TRUST_ANCHOR, END_ENTITY = 2, 3
CERTIFICATE, PUBLIC_KEY = 0, 1
PRIVATE = 255
_MAX_DIGEST = 64


class TrustAnchorError(Exception):
    """A file of trust anchors cannot be used; the warning has been logged."""


def shown(data: bytes) -> str:
    """Data in hexadecimal; of more than 64 bytes the first and the last 32."""
    if len(data) > 64:
        return f"{data[:32].hex().upper()}...{data[-32:].hex().upper()}"
    return data.hex().upper()


def _tell(tag: str, text: str, record: TLSA, bits: int) -> None:
    if bits & (VERBOSE | DANE):
        log.info(f"{tag}: {text}: {record.usage} {record.selector} {record.mtype} {shown(record.data) or '...'}")


def fingerprint_records(values: Sequence[str], key_only: bool, log_bits: int) -> tuple[TLSA, ...]:
    """TLSA records for `values`, hexadecimal with or without colons, each for a certificate and for a public key
    (`key_only`: only the latter, as with smtp_tls_enable_rpk). Malformed ones are dropped, with a warning."""
    records: list[TLSA] = []
    for value in values:
        if len(value) > 3 * _MAX_DIGEST:
            log.warning(f"malformed fingerprint value: {value[:100]}...")
            continue
        data = unhex(value)
        if data is None:
            log.warning(f"malformed fingerprint value: {value}")
            continue
        for selector in (PUBLIC_KEY,) if key_only else (CERTIFICATE, PUBLIC_KEY):
            record = TLSA(END_ENTITY, selector, PRIVATE, data)
            _tell("fingerprint", "digest as private-use TLSA record", record, log_bits)
            records.append(record)
    return tuple(reversed(records))


def unhex(text: str) -> bytes | None:
    """The bytes of hexadecimal digits, with or without a colon between bytes; None for anything else."""
    if not re.fullmatch(r"[0-9a-fA-F]{2}(?::?[0-9a-fA-F]{2})*", text):
        return None
    return bytes.fromhex(text.replace(":", ""))


def trust_anchors(path: str, log_bits: int = 0) -> tuple[TLSA, ...]:
    """TLSA records for the certificates and public keys of a PEM file (tafile); each may also be the server's own.

    Raises TrustAnchorError.
    """
    lib = libssl.available()
    if lib is None:
        raise TrustAnchorError
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        log.warning(f"error opening trust anchor file: {path}: {error.strerror}")
        raise TrustAnchorError from None
    lib.ERR_clear_error()
    records: list[TLSA] = []
    objects = 0
    try:
        with PEM(lib, text) as pem:
            while (found := pem.next()) is not None:
                objects += 1
                kind, data = found
                if kind in ("CERTIFICATE", "X509 CERTIFICATE"):
                    selector, tag = CERTIFICATE, "TA cert as TLSA record"
                elif kind == "PUBLIC KEY":
                    selector, tag = PUBLIC_KEY, "TA pkey as TLSA record"
                else:
                    continue
                anchor = TLSA(TRUST_ANCHOR, selector, 0, data)
                _tell(tag, path, anchor, log_bits)
                records += [anchor, TLSA(END_ENTITY, selector, 0, data)]
    except PEMError:
        libssl.print_errors(lib)
        raise TrustAnchorError from None
    if not objects:
        raise TrustAnchorError
    return tuple(reversed(records))


def set_digests(lib: "Library", context: "Pointer", digests: str, fingerprint_digest: "Pointer") -> None:
    """Configure the matching types of tls_dane_digests, with Postfix's warnings. The first named is preferred."""
    known: dict[int, tuple[Pointer | None, int]] = {1: (None, 0), 2: (None, 0)}
    order = 0
    greatest = 2
    for word in digests.replace(",", " ").split():
        name, _, number = word.partition("=")
        code = _matching_type(name, number)
        if code is None:
            continue
        greatest = max(greatest, code)
        if not name:
            if code > 0:
                known[code] = (None, 0)
            continue
        if code < 0:
            code = {"sha256": 1, "sha512": 2}.get(name.lower(), 0)
            if not code:
                log.warning(f"tls_dane_digests: digest algorithm {name} needs an explicit number")
                continue
        elif code <= 2:
            wanted = ("sha256", "sha512")[code - 1]
            if name.lower() != wanted:
                log.warning(f"tls_dane_digests: matching type {code} can only be {wanted}")
                continue
            name = wanted
        if known.get(code, (None, 0))[1]:
            log.warning(f"tls_dane_digests: matching type {code} specified more than once")
            continue
        order += 1
        algorithm = digest_algorithm(lib, name)
        known[code] = (algorithm, order)
        if not algorithm:
            log.warning(f'tls_dane_digests: digest algorithm "{name}"({code}) unknown')
    for code in [*range(1, greatest + 1), PRIVATE]:
        algorithm, rank = (fingerprint_digest, 0) if code == PRIVATE else known.get(code, (None, 0))
        if lib.SSL_CTX_dane_mtype_set(context, algorithm, code, order - rank + 1) <= 0:
            log.warning(f"tls_dane_digests: error configuring matching type {code}")
            libssl.print_errors(lib)


def _matching_type(name: str, number: str) -> int | None:
    """The explicit number, -1 if there is none, None after a warning."""
    if not number:
        return -1
    if not number.isascii() or not number.isdigit() or int(number) > PRIVATE - 1:
        log.warning(f"Invalid matching type number in tls_dane_digests: {name}={number}")
        return None
    if int(number) == 0:
        log.warning(f"Reserved matching type number in tls_dane_digests: {name}={number}")
        return None
    return int(number)


def digest_algorithm(lib: "Library", name: str) -> "Pointer | None":
    """The library's handle of a digest that can be used now."""
    algorithm = lib.EVP_get_digestbyname(name.encode("utf-8", "surrogateescape"))
    if not algorithm or lib.EVP_MD_get_size(algorithm) > _MAX_DIGEST or digest(lib, algorithm, b"") is None:
        lib.ERR_clear_error()
        return None
    return int(algorithm)


def digest(lib: "Library", algorithm: "Pointer", data: bytes) -> bytes | None:
    """The digest of `data`, None when the library cannot."""
    buffer = ctypes.create_string_buffer(_MAX_DIGEST)
    size = ctypes.c_uint()
    if lib.EVP_Digest(data, len(data), buffer, ctypes.byref(size), algorithm, None) != 1:
        return None
    return buffer.raw[: size.value]


def add_records(channel: "Channel", records: Sequence[TLSA]) -> tuple[int, bool]:
    """Give `records` to the library; returns how many it can use (-1: it failed), and whether a raw public key will do
    because they all are for servers' public keys."""
    lib = channel.library
    usable, keys = 0, True
    for record in records:
        done = lib.SSL_dane_tlsa_add(
            channel.ssl, record.usage, record.selector, record.mtype, record.data, len(record.data)
        )
        if done > 0:
            usable += 1
            keys = keys and (record.usage, record.selector) == (END_ENTITY, PUBLIC_KEY)
            continue
        text = "unusable TLSA RR" if done == 0 else "error loading trust settings"
        numbers = f"{record.usage} {record.selector} {record.mtype}"
        log.warning(f"{channel.namaddr}: {text}: {numbers} {shown(record.data) or '...'}")
        if done < 0:
            libssl.print_errors(lib)
            return -1, keys
    return usable, keys


def tell_match(channel: "Channel", level: Level) -> None:
    """Log which record has matched."""
    lib = channel.library
    certificate, key = c_void_p(), c_void_p()
    depth = lib.SSL_get0_dane_authority(channel.ssl, ctypes.byref(certificate), ctypes.byref(key))
    if depth < 0:
        return
    if level in (Level.VERIFY, Level.SECURE):
        log.info(f"{channel.namaddr}: Matched trust anchor at depth {depth}")
        return
    usage, selector, mtype = c_uint8(), c_uint8(), c_uint8()
    data, size = c_void_p(), c_size_t()
    arguments = [ctypes.byref(part) for part in (usage, selector, mtype, data, size)]
    lib.SSL_get0_dane_tlsa(channel.ssl, *arguments)
    text = shown(ctypes.string_at(data.value, size.value) if data.value else b"")
    if level == Level.FINGERPRINT:
        log.info(f"{channel.namaddr}: Matched fingerprint: {text}")
        return
    numbers = f"{usage.value} {selector.value} {mtype.value} {text}"
    if lib.SSL_get0_peer_rpk and lib.SSL_get0_peer_rpk(channel.ssl):
        log.info(f"{channel.namaddr}: Matched DANE raw public key: {numbers}")
        return
    kind = "TA public key verified certificate" if key.value else "TA certificate" if depth else "EE certificate"
    log.info(f"{channel.namaddr}: Matched DANE {kind} at depth {depth}: {numbers}")
