"""The server's side: our server with our client, and with the standard library's."""

import ssl
from collections.abc import Callable

import pytest

from postfixpy.config import View
from postfixpy.tls.client import ClientHandshake
from postfixpy.tls.context import ClientContext
from postfixpy.tls.handshake import HandshakeError, TLSRequest, TLSState
from postfixpy.tls.level import Level
from postfixpy.tls.server import ServerContext, ServerHandshake, ServerRequest, server_context

from .conftest import CERTIFICATES

Client = Callable[..., ClientContext]
HOST = "mx.server.example"
BASE = (
    "smtpd_tls_loglevel = 1\nsmtpd_tls_fingerprint_digest = sha256\n"
    "smtpd_tls_CAfile = $certificates/root-ca.pem\nsmtpd_tls_chain_files = $certificates/good.pem\n"
)


@pytest.fixture
def server(view: Callable[..., View]) -> Callable[..., ServerContext]:
    def make(main_cf: str = BASE, **options: bool) -> ServerContext:
        found = server_context(view(main_cf), **options)
        assert found is not None
        return found

    return make


def talk(ours: ServerContext, request: TLSRequest, **options: object) -> tuple[TLSState, TLSState]:
    """Both sides' states after a handshake, in which each has said a word to the other."""
    client = ClientHandshake(request)
    shake = ServerHandshake(ServerRequest(ours, "Client.example[192.0.2.1]", **options))  # type: ignore[arg-type]
    of_client = of_server = None
    for _ in range(10):
        of_client = of_client or client.step()
        shake.channel.feed(client.channel.output())
        of_server = of_server or shake.step()
        client.channel.feed(shake.channel.output())
    assert of_client is not None and of_server is not None
    shake.channel.write(b"hello")
    client.channel.feed(shake.channel.output())
    assert client.channel.read() == b"hello"
    client.channel.write(b"HELLO")
    shake.channel.feed(client.channel.output())
    assert shake.channel.read() == b"HELLO"
    return of_client, of_server


def request(context: ClientContext, **options: object) -> TLSRequest:
    return TLSRequest(context, "server[192.0.2.2]:25", Level.SECURE, names=(HOST,), **options)  # type: ignore[arg-type]


def test_the_log_line(context: Client, server: Callable[..., ServerContext], lines: list[str]) -> None:
    client, ours = talk(server(), request(context()))
    assert client.matched
    assert lines[-1] == ours.line
    assert ours.line == (
        "Anonymous TLS connection established from client.example[192.0.2.1]: TLSv1.3 with cipher "
        "TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519 server-signature RSA-PSS (2048 bits) "
        "server-digest SHA256"
    )
    assert client.bindings["tls-exporter"] == ours.bindings["tls-exporter"]


def test_client_certificates(context: Client, server: Callable[..., ServerContext]) -> None:
    ca = "smtp_tls_CAfile = $certificates/root-ca.pem\n"
    _, ours = talk(server(ask=True), request(context(f"{ca}smtp_tls_cert_file = $certificates/client.pem\n")))
    assert (ours.trusted, ours.subject, ours.issuer) == (True, "client.example", "Test Root")
    assert "client-signature RSA-PSS (2048 bits) client-digest SHA256" in ours.line
    _, ours = talk(server(ask=True), request(context(f"{ca}smtp_tls_cert_file = $certificates/self-signed.pem\n")))
    assert (ours.certificate, ours.trusted) == (True, False)
    _, ours = talk(server(ask=True), request(context(ca)))
    assert not ours.certificate


def test_resumption_by_ticket(context: Client, server: Callable[..., ServerContext]) -> None:
    ours, theirs = server(BASE + "smtpd_tls_session_cache_database = btree:x\n"), context()
    first, _ = talk(ours, request(theirs, session_id="x"))
    again, seen = talk(ours, request(theirs, session_id="x", session=first.session))
    assert again.reused and seen.reused
    plain, _ = talk(server(), request(theirs, session_id="x"))
    assert not plain.session


def test_both_sides_have_the_same_bindings(context: Client, server: Callable[..., ServerContext]) -> None:
    """Also in TLS 1.2, where they depend on who has finished first: another in a session that is resumed."""
    ours, theirs = server(BASE + "smtpd_tls_session_cache_database = btree:x\n"), context()
    old = {"session_id": "x", "protocols": "<=TLSv1.2"}
    first, seen = talk(ours, request(theirs, **old))
    again, also = talk(ours, request(theirs, **old, session=first.session))
    assert again.reused
    for client, there in ((first, seen), (again, also)):
        assert client.protocol == "TLSv1.2"
        for name in ("tls-unique", "tls-exporter"):
            assert client.bindings[name] == there.bindings[name]
    assert first.bindings["tls-unique"] != again.bindings["tls-unique"]


def test_the_name_chooses_the_chain(context: Client, server: Callable[..., ServerContext], lines: list[str]) -> None:
    ours = server()
    chains = {".server.example": (CERTIFICATES / "ecdsa.pem").read_bytes(), "bad.example": b"nonsense"}
    ours.find_chain = chains.get
    client, seen = talk(ours, request(context(), sni=HOST))
    assert (seen.sni, client.signature.name) == (HOST, "ECDSA")
    assert f"from client.example[192.0.2.1] to {HOST}: TLSv1.3" in seen.line
    client, seen = talk(ours, request(context(), sni="other.example"))
    assert (seen.sni, client.signature.name) == ("", "RSA-PSS")
    assert "TLS SNI other.example from client.example[192.0.2.1] not matched, using default chain" in lines
    with pytest.raises(HandshakeError):
        talk(ours, request(context(), sni="bad.example"))
    assert "warning: No PEM data in SNI data for bad.example" in lines


def test_protocols_and_failures(server: Callable[..., ServerContext], context: Client, lines: list[str]) -> None:
    only = server(BASE + "smtpd_tls_protocols = TLSv1.2\n")
    client, _ = talk(only, request(context()))
    assert client.protocol == "TLSv1.2"
    shake = ServerHandshake(ServerRequest(only, "Client.example[192.0.2.1]"))
    shake.channel.feed(b"EHLO client.example\r\n" * 3)
    with pytest.raises(HandshakeError):
        shake.step()
    assert lines[-2] == "SSL_accept error from Client.example[192.0.2.1]: -1"
    assert "wrong version number" in lines[-1] or "http request" in lines[-1]


def test_what_cannot_be_loaded(view: Callable[..., View], lines: list[str]) -> None:
    assert server_context(view("smtpd_tls_chain_files = $certificates/mismatch.pem\n")) is None
    assert lines[-1].endswith("mismatch.pem: disabling TLS support")
    assert server_context(view("smtpd_tls_protocols = nonsense\n")) is None
    assert lines[-1] == 'warning: Invalid TLS protocol list "nonsense": disabling TLS support'
    lines.clear()
    assert server_context(view("smtpd_tls_dh1024_param_file = /nonexistent\n")) is not None
    assert "/nonexistent" in lines[0]


def test_the_standard_library_as_client(server: Callable[..., ServerContext]) -> None:
    shake = ServerHandshake(ServerRequest(server(), "client[192.0.2.1]"))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_verify_locations(CERTIFICATES / "root-ca.pem")
    peer = theirs.wrap_bio(there, back, server_hostname=HOST)
    state = None
    while state is None:
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            pass
        shake.channel.feed(back.read())
        state = shake.step()
        there.write(shake.channel.output())
    peer.do_handshake()
    peer.write(b"hello")
    shake.channel.feed(back.read())
    assert shake.channel.read() == b"hello"
