"""Fingerprints and trust anchors as TLSA records; DANE with the records at hand."""

import hashlib
import ssl
from collections.abc import Callable

import pytest

from postfixpy.tls import loglevel
from postfixpy.tls.certificates import describe
from postfixpy.tls.context import ClientContext
from postfixpy.tls.dane import TrustAnchorError, fingerprint_records, shown, trust_anchors, unhex
from postfixpy.tls.handshake import TLSA
from postfixpy.tls.level import Level
from postfixpy.tls.libssl import library

from .conftest import CERTIFICATES
from .wire import LOWER, Talk, server

Make = Callable[..., ClientContext]
HOST = "mx.server.example"


def der(name: str) -> bytes:
    """A certificate, DER."""
    text = (CERTIFICATES / name).read_text()
    return ssl.PEM_cert_to_DER_cert(
        text[text.index("-----BEGIN CERTIFICATE") : text.index("END CERTIFICATE-----") + 20]
    )


def key_of(name: str) -> bytes:
    """Its public key, DER."""
    return describe(library(), der(name)).key


def test_fingerprints(lines: list[str]) -> None:
    records = fingerprint_records(["AB:cd", "0102"], False, loglevel.DANE)
    assert set(records) == {TLSA(3, s, 255, data) for s in (0, 1) for data in (b"\xab\xcd", b"\x01\x02")}
    assert lines[0] == "fingerprint: digest as private-use TLSA record: 3 0 255 ABCD"
    assert fingerprint_records(["abcd"], True, 0) == (TLSA(3, 1, 255, b"\xab\xcd"),)
    lines.clear()
    assert fingerprint_records(["xyz", "a" * 200], False, 0) == ()
    assert lines == [
        "warning: malformed fingerprint value: xyz",
        f"warning: malformed fingerprint value: {'a' * 100}...",
    ]


@pytest.mark.parametrize("text", ["a", "ab:", ":ab", "ab::cd", "a:b", "ab cd"])
def test_malformed_hexadecimal(text: str) -> None:
    assert unhex(text) is None


def test_long_data_is_abridged() -> None:
    assert shown(bytes(range(65))) == f"{bytes(range(32)).hex().upper()}...{bytes(range(33, 65)).hex().upper()}"


def test_trust_anchor_files(lines: list[str]) -> None:
    assert set(trust_anchors(str(CERTIFICATES / "root-ca.pem"))) == {TLSA(u, 0, 0, der("root-ca.pem")) for u in (2, 3)}
    assert {(r.usage, r.selector) for r in trust_anchors(str(CERTIFICATES / "root-pub.pem"))} == {(2, 1), (3, 1)}
    with pytest.raises(TrustAnchorError):
        trust_anchors(str(CERTIFICATES / "empty.pem"))
    with pytest.raises(TrustAnchorError):
        trust_anchors("/nonexistent")
    assert lines == ["warning: error opening trust anchor file: /nonexistent: No such file or directory"]


DIGESTS = {0: lambda data: data, 1: lambda data: hashlib.sha256(data).digest(), 2: lambda d: hashlib.sha512(d).digest()}


@pytest.mark.parametrize("mtype", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize(
    ("usage", "certificate", "record"),
    [(3, "good", "good.pem"), (3, "expired", "expired.pem"), (3, "wrong", "wrong.pem"), (2, "deep", "deep.pem")],
)
def test_dane(context: Make, usage: int, selector: int, mtype: int, certificate: str, record: str) -> None:
    data = der("middle-ca.pem") if usage == 2 else der(record)
    key = key_of("middle-ca.pem") if usage == 2 else key_of(record)
    tlsa = TLSA(usage, selector, mtype, DIGESTS[mtype](key if selector else data))
    options = {"names": (HOST,), "base": HOST}
    state = Talk(server(certificate)).shake(context(), Level.DANE, tlsa=(tlsa,), **options)
    assert (state.matched, state.secured, state.sni) == (True, True, HOST)
    half = Talk(server(certificate)).shake(context(), Level.HALFDANE, tlsa=(tlsa,), **options)
    assert (half.matched, half.secured) == (True, False)
    other = tlsa._replace(data=bytes(len(tlsa.data))) if mtype else tlsa._replace(data=der("other-ca.pem"), selector=0)
    wrong = Talk(server(certificate)).shake(context(), Level.DANE_ONLY, tlsa=(other,), **options)
    assert not wrong.matched


def test_usage_2_checks_names_and_dates_and_usage_3_does_not(context: Make) -> None:
    anchor = (TLSA(2, 0, 0, der("root-ca.pem")),)
    for certificate in ("wrong", "expired"):
        state = Talk(server(certificate)).shake(context(""), Level.DANE, tlsa=anchor, names=(HOST,), base=HOST)
        assert not state.matched
    state = Talk(server("cn-only")).shake(context(""), Level.DANE, tlsa=anchor, names=(HOST,), base=HOST)
    assert state.matched


def test_no_usable_record(context: Make, lines: list[str]) -> None:
    unusable = (TLSA(3, 1, 7, b"x" * 32),)
    state = Talk(server("good")).shake(context(), Level.DANE, tlsa=unusable, names=(HOST,), base=HOST)
    assert (state.level, state.matched) == (Level.ENCRYPT, False)
    assert f"warning: {LOWER}: all TLSA records unusable, fallback to unauthenticated TLS" in lines
    state = Talk(server("good")).shake(context(), Level.DANE_ONLY, tlsa=unusable, names=(HOST,), base=HOST)
    assert (state.level, state.matched, state.trusted) == (Level.DANE_ONLY, False, False)
    state = Talk(server("good")).shake(context(), Level.FINGERPRINT, tlsa=fingerprint_records(["00"], False, 0))
    assert not state.matched


def test_trust_anchors_replace_the_authorities(context: Make) -> None:
    anchors = trust_anchors(str(CERTIFICATES / "other-ca.pem"))
    for certificate, matched in (("good", False), ("other", True)):
        state = Talk(server(certificate)).shake(context(), Level.SECURE, tlsa=anchors, names=(HOST,))
        assert state.matched is matched
    none = Talk(server("good")).shake(context(), Level.SECURE, tlsa=(), names=(HOST,))
    assert not none.matched
