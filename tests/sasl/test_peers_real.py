"""Two other implementations of SASL: our client with the server side of Cyrus SASL's library, by every mechanism that
its modules have; and GNU SASL's client, on GnuTLS, with our server side and our TLS engine: `tls-exporter` is computed
by GnuTLS there and by OpenSSL here."""

import asyncio
import base64
import ctypes
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postfixpy import config
from postfixpy.sasl.choice import choose
from postfixpy.sasl.mechanism import Credentials, SASLError
from postfixpy.sasl.passwords import Passwords
from postfixpy.sasl.server import Challenge, Local, Peer, Refused
from postfixpy.tls.server import ServerHandshake, ServerRequest, server_context
from tests.tls.conftest import CERTIFICATES

pytestmark = pytest.mark.real

OK, CONTINUE = 0, 1
_GETOPT, _CHANNEL_BINDING = 1, 21
USER, PASSWORD = "alice", "wonderland"


# Cyrus SASL


class Callback(ctypes.Structure):
    _fields_ = [("id", ctypes.c_ulong), ("proc", ctypes.c_void_p), ("context", ctypes.c_void_p)]


class Binding(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("critical", ctypes.c_int), ("len", ctypes.c_ulong), ("data", ctypes.c_char_p),
    ]  # fmt: skip


GETOPT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p),
    ctypes.POINTER(ctypes.c_uint),
)  # fmt: skip


class Cyrus:
    """The library's server side, with a password file of its own. One connection for each `Connection`."""

    def __init__(self, directory: Path) -> None:
        self.library = ctypes.CDLL("libsasl2.so.2")
        values = {
            b"sasldb_path": str(directory / "sasldb2").encode(), b"auxprop_plugin": b"sasldb",
            b"pwcheck_method": b"auxprop", b"reauth_timeout": b"10", b"log_level": b"0",
        }  # fmt: skip

        def option(_: Any, plugin: bytes, name: bytes, result: Any, length: Any) -> int:
            if name not in values:
                return -1
            result[0] = values[name]
            if length:
                length[0] = len(values[name])
            return OK

        self._option = GETOPT(option)
        self._callbacks = (Callback * 2)(
            Callback(_GETOPT, ctypes.cast(self._option, ctypes.c_void_p), None), Callback()
        )
        assert self.library.sasl_server_init(self._callbacks, b"postfixpy-test") == OK
        connection = self.connection()
        assert self.library.sasl_setpass(connection, USER.encode(), PASSWORD.encode(), len(PASSWORD), None, 0, 1) == OK
        self.library.sasl_dispose(ctypes.byref(connection))

    def connection(self) -> ctypes.c_void_p:
        found = ctypes.c_void_p()
        made = self.library.sasl_server_new(
            b"smtp", b"mail.example", b"mail.example", None, None, None, 0, ctypes.byref(found)
        )
        assert made == OK
        return found

    def talk(self, credentials: Credentials, offered: str, binding: bytes = b"") -> tuple[str, str]:
        """One exchange with our client: who the server says that is ("" when it refuses), and the mechanism."""
        connection = self.connection()
        if binding:
            keep = Binding(b"tls-exporter", 0, len(binding), binding)
            assert self.library.sasl_setprop(connection, _CHANNEL_BINDING, ctypes.byref(keep)) == OK
        name, mechanism = choose(offered, (), credentials)
        initial = mechanism.initial()
        out, length = ctypes.c_void_p(), ctypes.c_uint()
        result = self.library.sasl_server_start(
            connection, name.encode(), initial, len(initial or b""), ctypes.byref(out), ctypes.byref(length)
        )
        while result == CONTINUE:
            challenge = ctypes.string_at(out, length.value) if length.value else b""
            answer = mechanism.step(challenge)
            result = self.library.sasl_server_step(
                connection, answer, len(answer), ctypes.byref(out), ctypes.byref(length)
            )
        who = ctypes.c_char_p()
        if result == OK:
            assert self.library.sasl_getprop(connection, 0, ctypes.byref(who)) == OK
        user = (who.value or b"").decode()
        self.library.sasl_dispose(ctypes.byref(connection))
        return user.partition("@")[0], name


@pytest.fixture(scope="module")
def cyrus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cyrus]:
    found = Cyrus(tmp_path_factory.mktemp("sasldb"))
    yield found
    found.library.sasl_done()


PLAIN = ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]
BOUND = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"]


@pytest.mark.parametrize("name", PLAIN)
def test_cyrus(cyrus: Cyrus, name: str) -> None:
    assert cyrus.talk(Credentials(USER, PASSWORD, host="mail.example"), name) == (USER, name)
    try:
        assert cyrus.talk(Credentials(USER, "wrong", host="mail.example"), name) == ("", name)
    except SASLError as error:  # the server's last message says so
        assert "e=" in str(error) or "failure" in str(error)


@pytest.mark.parametrize("name", BOUND)
def test_cyrus_with_channel_binding(cyrus: Cyrus, name: str) -> None:
    bound = Credentials(USER, PASSWORD, host="mail.example", bindings={"tls-exporter": b"e" * 32})
    assert cyrus.talk(bound, name, b"e" * 32) == (USER, name)
    assert cyrus.talk(bound, name, b"f" * 32)[0] == ""  # somebody in between


def test_cyrus_reauthenticates_fast(cyrus: Cyrus) -> None:
    memory: dict[str, Any] = {}
    for count in range(1, 4):
        credentials = Credentials(USER, PASSWORD, host="mail.example", memory=memory)
        assert cyrus.talk(credentials, "DIGEST-MD5") == (USER, "DIGEST-MD5")
        assert memory["mail.example"].count == count
    other = Credentials(USER, "wrong", host="mail.example", memory=memory)
    with pytest.raises(SASLError):
        cyrus.talk(other, "DIGEST-MD5")
        raise SASLError("refused")


# GNU SASL


class Submission:
    """Our server side for one client at a time: STARTTLS by our engine, then AUTH. `found` is who came, and how."""

    def __init__(self, directory: Path, spoil: bool) -> None:
        (directory / "main.cf").write_text(f"smtpd_tls_chain_files = {CERTIFICATES}/good.pem\n")
        context = server_context(config.load(str(directory), release="3.11").view(process_name="smtpd"))
        assert context is not None
        self.context, self.spoil = context, spoil
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.found: list[str] = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        sock, _ = self.listener.accept()
        with self.listener, sock:
            sock.settimeout(20)
            try:
                asyncio.run(self.talk(sock))
            except OSError:
                pass

    async def talk(self, sock: socket.socket) -> None:
        channel: Any = None
        bindings: dict[str, bytes] = {}
        buffer = b""

        def send(text: str) -> None:
            data = text.encode() + b"\r\n"
            if channel is not None:
                channel.write(data)
                data = channel.output()
            sock.sendall(data)

        async def line() -> bytes:
            nonlocal buffer
            while b"\n" not in buffer:
                data = channel.read() if channel is not None else b""
                if not data:
                    came = sock.recv(4096)
                    if not came:
                        raise ConnectionError
                    if channel is not None:
                        channel.feed(came)
                        continue
                    data = came
                buffer += data
            found, _, buffer = buffer.partition(b"\n")
            return found.rstrip(b"\r")

        send("220 mail.example ESMTP")
        while True:
            words = (await line()).split()
            verb = words[0].upper()
            if verb == b"EHLO":
                send("250-mail.example\r\n250 " + ("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256" if channel else "STARTTLS"))
            elif verb == b"STARTTLS":
                send("220 go")
                shake = ServerHandshake(ServerRequest(self.context, "client[127.0.0.1]"))
                while (state := shake.step()) is None:
                    sock.sendall(shake.channel.output())
                    shake.channel.feed(sock.recv(4096))
                sock.sendall(shake.channel.output())
                channel, bindings = shake.channel, dict(state.bindings)
                self.found.append(state.protocol)
                if self.spoil:
                    bindings = dict.fromkeys(bindings, b"x" * 32)
            elif verb == b"AUTH":
                try:
                    send(await self.authenticate(words, bindings, send, line))
                except Refused as error:
                    send(f"535 5.7.8 {error}")
            else:
                send("221 bye" if verb == b"QUIT" else "250 ok")

    async def authenticate(self, words: list[bytes], bindings: dict[str, bytes], send: Any, line: Any) -> str:
        async def find(user: str) -> str | None:
            return f"{{PLAIN}}{PASSWORD}" if user == USER else None

        name = words[1].decode()
        backend = Local(Passwords(find, ("SCRAM-SHA-256",)))
        exchange = backend.exchange(name, Peer(secured=True, bindings=bindings))
        answer = await exchange.respond(base64.b64decode(words[2]) if len(words) > 2 else None)
        while isinstance(answer, Challenge):
            send("334 " + base64.b64encode(answer.data).decode())
            answer = await exchange.respond(base64.b64decode(await line()))
        self.found.append(f"{name} {answer.user}")
        return "235 2.7.0 ok"


def gsasl(port: int, *options: str) -> "subprocess.CompletedProcess[str]":
    command = ["gsasl", "--client", "--smtp", "--starttls", f"--connect=127.0.0.1:{port}", "-a", USER, "-p", PASSWORD]
    command += ["--x509-ca-file=", "--quiet", *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "protocol"),
    [([], "TLSv1.3"), (["--priority=NORMAL:-VERS-TLS1.3"], "TLSv1.2")],
    ids=["tls-exporter", "TLSv1.2"],
)
def test_gnu_sasl_with_channel_binding(tmp_path: Path, options: list[str], protocol: str) -> None:
    assert shutil.which("gsasl"), "apt-get install gsasl"
    server = Submission(tmp_path, spoil=False)
    done = gsasl(server.listener.getsockname()[1], "-m", "SCRAM-SHA-256-PLUS", *options)
    assert server.found == [protocol, f"SCRAM-SHA-256-PLUS {USER}"], done.stderr


def test_gnu_sasl_with_somebody_in_between(tmp_path: Path) -> None:
    server = Submission(tmp_path, spoil=True)
    gsasl(server.listener.getsockname()[1], "-m", "SCRAM-SHA-256-PLUS")
    assert server.found == ["TLSv1.3"]
