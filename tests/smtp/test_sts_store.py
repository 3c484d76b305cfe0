"""Keeping MTA-STS policies, and fetching them from a real HTTPS server."""

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from postfixpy.dns.lookup import Resolver
from postfixpy.smtp import policy, sts_store
from postfixpy.smtp.delivery import Server
from postfixpy.smtp.edge import Edge, policies_of
from postfixpy.smtp.memory import Clock, finish
from postfixpy.smtp.names import Zone
from postfixpy.smtp.sts_policy import Found, STSPolicy
from postfixpy.smtp.sts_store import FetchError, Policies, fetch
from postfixpy.tls.level import Level

TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.server.example\r\nmax_age: 864000\r\n"
POLICY = STSPolicy("enforce", 864000, ("mx.server.example",))


class Site:
    """What domains have: `answer` is a policy or the kind of a failure; `asked` are the fetches."""

    def __init__(self, answer: Any = POLICY) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.clock = Clock()

    async def __call__(self, domain: str) -> STSPolicy:
        self.asked.append(domain)
        if isinstance(self.answer, str):
            raise FetchError(self.answer, "as the test has it")
        policy: STSPolicy = self.answer
        return policy

    def store(self, directory: Path | str = "") -> Policies:
        return Policies(str(directory), clock=self.clock, fetch=self)


def get(store: Policies, ident: str = "1", domain: str = "server.example") -> Found:
    return finish(store.get(domain, ident))


def test_kept_and_renewed() -> None:
    site = Site()
    store = site.store()
    start = site.clock.now
    assert get(store) == (POLICY, start + 864000, "")
    site.clock.now += 80000
    assert get(store).expires == start + 864000 and len(site.asked) == 1
    site.clock.now += 10000  # a day has passed
    assert get(store).expires == start + 90000 + 864000 and len(site.asked) == 2
    get(store, "2")
    assert len(site.asked) == 3
    get(store, "2")
    assert len(site.asked) == 3


def test_a_short_max_age_is_renewed_at_half() -> None:
    site = Site(STSPolicy("testing", 100, ("a.example",)))
    store = site.store()
    get(store)
    site.clock.now += 49
    get(store)
    assert len(site.asked) == 1
    site.clock.now += 1
    get(store)
    assert len(site.asked) == 2


def test_a_kept_policy_outlives_record_and_server(log_lines: list[str]) -> None:
    site = Site()
    store = site.store()
    end = get(store).expires
    site.answer = "sts-policy-fetch-error"
    assert get(store, "") == get(store, "2") == (POLICY, end, "")
    assert len(site.asked) == 2
    assert "warning: MTA-STS policy of server.example: as the test has it (sts-policy-fetch-error)" in log_lines
    site.clock.now = end - 1
    assert get(store, "").policy == get(store, "2").policy == POLICY
    site.clock.now = end
    assert get(store, "") == Found()
    assert get(store, "2") == Found(failure="sts-policy-fetch-error")


def test_a_failure_is_not_tried_again_at_once(log_lines: list[str]) -> None:
    site = Site("sts-webpki-invalid")
    store = site.store()
    for _ in range(3):
        assert get(store) == Found(failure="sts-webpki-invalid")
    assert len(site.asked) == 1
    get(store, "2")  # another id: at once
    assert len(site.asked) == 2
    site.clock.now += 300
    site.answer = POLICY
    assert get(store, "2").policy == POLICY


def test_without_record_nothing_is_fetched() -> None:
    site = Site()
    assert get(site.store(), "") == Found()
    assert site.asked == []


def test_processes_share_files(tmp_path: Path, log_lines: list[str]) -> None:
    site = Site()
    end = get(site.store(tmp_path)).expires
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert get(site.store(tmp_path)) == (POLICY, end, "")
    assert get(site.store(tmp_path), "") == (POLICY, end, "")
    assert len(site.asked) == 1
    text = path.read_text()
    for bad in ("", "{", "[]", "[" * 100000, text.replace("enforce", "none\\nmx"), text.replace("864000", "1e999")):
        path.write_text(bad)
        assert get(site.store(tmp_path), "") == Found()
    assert log_lines[-1].endswith(f"cannot read {path.name} in data_directory; ignoring it")
    path.write_text(text.replace('"server.example"', '"other.example"'))
    assert get(site.store(tmp_path), "") == Found()


def test_no_more_than_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sts_store, "_ON_DISK", 3)
    monkeypatch.setattr(sts_store, "_IN_MEMORY", 2)
    site = Site()
    store = site.store(tmp_path)
    for number in range(6):
        get(store, domain=f"d{number}.example")
    assert len(list(tmp_path.iterdir())) == 3
    assert len(store._entries) == 2


def test_a_directory_that_is_not_there(log_lines: list[str]) -> None:
    assert get(Site().store("/no/such")).policy == POLICY
    assert log_lines == ["warning: MTA-STS policies are not kept in /no/such: No such file or directory"]


def test_one_fetch_at_a_time() -> None:
    count = 0

    async def slow(domain: str) -> STSPolicy:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        return POLICY

    async def main() -> None:
        store = Policies(fetch=slow)
        found = await asyncio.gather(*(store.get("server.example", "1") for _ in range(5)))
        assert {one.policy for one in found} == {POLICY}

    asyncio.run(main())
    assert count == 1


# A real server


class Handler(BaseHTTPRequestHandler):
    status, kind, body = 200, "text/plain; charset=utf-8", TEXT
    asked: tuple[str, str] = ("", "")

    def do_GET(self) -> None:
        type(self).asked = self.path, self.headers["Host"]
        self.send_response(self.status)
        if self.kind:
            self.send_header("Content-Type", self.kind)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


class WebServer(HTTPServer):
    """Over TLS; a client that hangs up is no news."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def get_request(self) -> tuple[Any, Any]:
        plain, address = super().get_request()
        connection = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        try:
            connection.do_handshake()
        except OSError:
            connection.close()
            raise
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("https") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-out"]
    names = ["-addext", "subjectAltName=DNS:mta-sts.server.example"]
    key = path.with_name("key.pem")
    subprocess.run([*command, str(path), "-keyout", str(key), *names], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


@pytest.fixture
def port(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server on loopback, where every name leads."""
    server = WebServer(("127.0.0.1", 0), Handler)
    server.context.load_cert_chain(certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    where = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: where)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_fetch(port: int, trusting: ssl.SSLContext) -> None:
    assert fetch("server.example", trusting, port) == POLICY
    assert Handler.asked == ("/.well-known/mta-sts.txt", f"mta-sts.server.example:{port}")
    assert asyncio.run(Policies(fetch=sts_store.fetcher(trusting, port)).get("server.example", "1")).policy == POLICY


def test_a_real_process(port: int, trusting: ssl.SSLContext, make_settings: Any, tmp_path: Path) -> None:
    """From the TXT record over HTTPS to the level, and what is left for the next process."""
    data = tmp_path / "data"
    data.mkdir()
    maps = f"smtp_tls_policy_maps = mta-sts:\nsmtp_tls_CApath = /etc/ssl/certs\ndata_directory = {data}\n"
    settings = make_settings(maps)
    server = Server("server.example", "mx.server.example", "127.0.0.11", 25, "server.example")
    resolver = Resolver(Zone(['_mta-sts.server.example TXT "v=STSv1; id=1;"']))
    edge = Edge(resolver, policies=Policies(str(data), fetch=sts_store.fetcher(trusting, port)))
    found = asyncio.run(edge.run(policy.evaluate(settings, server, 0, time.time())))
    assert (found.level, found.match, found.sni, found.match_mx) == (Level.SECURE, ["hostname"], "hostname", True)
    edge.close()
    store = policies_of(settings)
    assert store is not None
    edge = Edge(Resolver(Zone([])), policies=store)  # the record is gone
    assert asyncio.run(edge.run(policy.evaluate(settings, server, 0, time.time()))).level == Level.SECURE
    edge.close()
    assert policies_of(make_settings()) is None


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ({"status": 404}, "sts-policy-fetch-error", "status 404"),
        ({"status": 302}, "sts-policy-fetch-error", "status 302"),
        ({"status": 204}, "sts-policy-fetch-error", "status 204"),
        ({"kind": "text/html"}, "sts-policy-fetch-error", "another type"),
        ({"kind": "nonsense"}, "sts-policy-fetch-error", "another type"),
        ({"kind": ""}, "sts-policy-fetch-error", "another type"),
        ({"body": b"x" * 70000}, "sts-policy-fetch-error", "more than 65536 bytes"),
        ({"body": b"<html>"}, "sts-policy-invalid", "line 1 is not a field"),
    ],
)
def test_failures(
    port: int,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    kind: str,
    text: str,
) -> None:
    for name, value in values.items():
        monkeypatch.setattr(Handler, name, value)
    with pytest.raises(FetchError, match=text) as caught:
        fetch("server.example", trusting, port)
    assert caught.value.kind == kind


def test_certificates(port: int, trusting: ssl.SSLContext) -> None:
    with pytest.raises(FetchError, match=r"certificate of mta-sts\.other\.example: Hostname mismatch") as caught:
        fetch("other.example", trusting, port)
    assert caught.value.kind == "sts-webpki-invalid"
    with pytest.raises(FetchError, match="self-signed certificate") as caught:
        fetch("server.example", ssl.create_default_context(), port)
    assert caught.value.kind == "sts-webpki-invalid"


def test_nobody_there(port: int, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: where)
    with pytest.raises(FetchError, match=r"mta-sts\.server\.example: Connection refused") as caught:
        fetch("server.example", trusting, port)
    assert caught.value.kind == "sts-policy-fetch-error"
