"""Handshakes of our engine with the standard library's TLS."""

from collections.abc import Callable

import pytest

from postfixpy.tls import loglevel
from postfixpy.tls.context import ClientContext
from postfixpy.tls.handshake import HandshakeError
from postfixpy.tls.level import Level

from .conftest import CERTIFICATES
from .wire import LOWER, Talk, server

Make = Callable[..., ClientContext]
HOST = "mx.server.example"


def test_the_log_line_follows_the_release(context: Make, lines: list[str]) -> None:
    for release, group in (("3.7", "X25519"), ("3.11", "x25519")):
        state = Talk(server("good")).shake(context(release=release), log=loglevel.SUMMARY)
        assert lines.pop() == state.line
        assert state.line == (
            f"Trusted TLS connection established to {LOWER}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) "
            f"key-exchange {group} server-signature RSA-PSS (2048 bits) server-digest SHA256"
        )


@pytest.mark.parametrize(
    ("certificate", "names", "matched"),
    [
        ("good", (HOST,), True),
        ("good", ("other.example",), False),
        ("good", (".server.example",), True),
        ("wildcard", (HOST,), True),
        ("wildcard", ("server.example",), False),
        ("partial-wildcard", (HOST,), False),
        ("cn-only", (HOST,), True),
        ("cn-ignored", (HOST,), False),
        ("below", (".server.example",), True),
        ("several", ("server.example",), True),
        ("idna", ("müller.example",), True),
        ("chained", (HOST,), True),
        ("incomplete", (HOST,), False),
        ("self-signed", (HOST,), False),
        ("expired", (HOST,), False),
        ("future", (HOST,), False),
        ("other", (HOST,), False),
        ("client-purpose", (HOST,), False),
        ("deep", (HOST,), True),
        ("good", (".",), False),
        ("good", (), False),
    ],
)
def test_names_and_chains(context: Make, certificate: str, names: tuple[str, ...], matched: bool) -> None:
    state = Talk(server(certificate)).shake(context(), Level.SECURE, names=names)
    assert (state.matched, state.secured) == (matched, matched)


def test_a_wrong_name_is_trusted_since_310(context: Make) -> None:
    for release, trusted in (("3.7", False), ("3.11", True)):
        state = Talk(server("wrong")).shake(context(release=release), Level.VERIFY, names=(HOST,))
        assert (state.trusted, state.matched, state.error) == (trusted, False, 62)


def test_data_passes_and_the_server_knows_our_name_for_it(context: Make) -> None:
    talk = Talk(server("good"))
    state = talk.shake(context(), sni="mx.müller.example")
    assert talk.seen == [b"[TLSv1.3, SNI mx.xn--mller-kva.example]\r\n", b"HELLO\r\n"]
    assert set(state.bindings) == {"tls-exporter", "tls-server-end-point"}


def test_sessions_are_resumed(context: Make) -> None:
    for version in ("TLSv1.2", "TLSv1.3"):
        talk = Talk(server(f"good protocols={version}"))
        ours = context()
        first = talk.shake(ours, session_id="x")
        assert first.session and not first.reused
        assert talk.shake(ours, session_id="x", session=first.session).reused
        assert talk.seen[0] == f"[{version}, resumed]\r\n".encode()
        assert talk.shake(ours, session_id="x", session=b"nonsense").reused is False


def test_anonymous(context: Make) -> None:
    state = Talk(server("anonymous")).shake(context(), exclusions="")
    assert state.line.startswith("Anonymous TLS connection established")
    with pytest.raises(HandshakeError):
        Talk(server("anonymous")).shake(context(), Level.SECURE, names=(HOST,), exclusions="aNULL")


def test_a_request_that_cannot_be_carried_out(context: Make, lines: list[str]) -> None:
    talk = Talk(server("good"))
    for options, text in (
        ({"protocols": "!nonsense"}, 'Invalid TLS protocol list "!nonsense": aborting TLS session'),
        ({"grade": "nonsense"}, 'invalid cipher grade: "nonsense"'),
        ({"exclusions": "!aNULL"}, "invalid unary '!+-@' in cipher exclusion: !aNULL"),
        ({"sni": "x" * 256}, f"ignoring too long SNI hostname: {'x' * 100}"),
    ):
        with pytest.raises(HandshakeError) as failed:
            talk.shake(context(), **options)
        assert failed.value.report is None
        assert lines[-1].endswith(text)


def test_failures_tell_why(context: Make, lines: list[str]) -> None:
    with pytest.raises(HandshakeError):
        Talk(server("good protocols=TLSv1.2")).shake(context(), protocols=">=TLSv1.3")
    assert lines[0] == "SSL_connect error to MX.server.example[127.0.0.1]:25: -1"
    assert lines[1].startswith("warning: TLS library problem: error:")
    for script, text in (
        (["hello", "close"], "lost connection"),
        (["hello", "reset"], "Connection reset by peer"),
        (["hello", "stall"], "Connection timed out"),
    ):
        lines.clear()
        with pytest.raises(HandshakeError):
            Talk(script).shake(context())
        assert lines == [f"SSL_connect error to MX.server.example[127.0.0.1]:25: {text}"]


@pytest.mark.parametrize("size", [1, 100, 500, 1000])
def test_a_server_that_hangs_up_in_the_middle(context: Make, size: int) -> None:
    with pytest.raises(HandshakeError):
        Talk(server(f"good cut={size}")).shake(context())


def test_the_systems_authorities_are_trusted_when_asked(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "root-ca.pem"))  # where OpenSSL has those of the system
    for value, trusted in (("yes", True), ("no", False)):
        found = context(f"smtp_tls_CAfile = $certificates/other-ca.pem\ntls_append_default_CA = {value}\n")
        assert Talk(server("good")).shake(found, Level.SECURE, names=(HOST,)).trusted is trusted
