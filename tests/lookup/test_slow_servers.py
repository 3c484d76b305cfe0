"""Servers that fall silent at any step: a temporary error within the time limit, and recovery without a new table.

The real servers of test_databases, behind a wire that passes on so many bytes of theirs and then nothing.
"""

import asyncio
import socket
import threading
import time

import pytest
import table_servers

from postfixpy.lookup import Maps, TableError, open_table, proxy, registry, sql, tcp
from tests.lookup import test_databases as databases
from tests.lookup import test_network as network
from tests.lookup.servers import Server

postgres, mariadb, slapd = databases.postgres, databases.mariadb, databases.slapd
open_directory, open_with = databases.open_directory, databases.open_with
closed_afterwards = databases.closed_afterwards
TIME_LIMIT = 1.0
STEPS = 6


class Wire:
    """A port of loopback that leads to a UNIX-domain socket, or to another port.

    `limit` bytes from the server pass, and then nothing.
    """

    def __init__(self, path, listen=""):
        self.target = path
        self.limit = 1 << 40
        self.most = 0
        """The most bytes that a connection has brought from the server."""
        self.open = []
        if listen:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(listen)
            self.listener.listen()
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            inet = isinstance(self.target, int)
            server = socket.socket(socket.AF_INET if inet else socket.AF_UNIX)
            try:
                server.connect(("127.0.0.1", self.target) if inet else str(self.target))
            except OSError:
                client.close()
                continue
            self.open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source, target, counted):
        passed = 0
        try:
            while data := source.recv(65536):
                if counted:
                    data = data[: max(0, self.limit - passed)]
                    passed += len(data)
                    self.most = max(self.most, passed)
                target.sendall(data)
            if not counted:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of them has hung up

    def close(self):
        self.listener.close()
        for one in self.open:
            one.close()


@pytest.fixture
def wire():
    made = []

    def make(path, listen=""):
        made.append(Wire(path, listen))
        return made[-1]

    yield make
    for one in made:
        one.close()


def silent_at_every_step(wire, make, key, value):
    """`make` opens a table behind the wire; its value of `key` is `value`."""
    table = make()
    assert table.lookup(key) == value
    table.close()
    whole = wire.most
    for step in range(STEPS):
        wire.limit = whole * step // STEPS
        table = make()
        started = time.monotonic()
        with pytest.raises(TableError):
            table.lookup(key)
        assert time.monotonic() - started < 4 * TIME_LIMIT + 3, f"after {wire.limit} of {whole} bytes"
        wire.limit = 1 << 40
        forgive(table)
        assert table.lookup(key) == value, f"after {step} of {STEPS}"
        table.close()


def forgive(table):
    """Time passes: hosts that failed may be asked again."""
    for cluster in table._per_loop.values():
        for host in getattr(cluster, "hosts", ()):
            host.down_until = 0


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sql, "CONNECT_TIMEOUT", TIME_LIMIT)
    monkeypatch.setattr(sql, "QUERY_TIMEOUT", TIME_LIMIT)


def test_pgsql(postgres, wire, open_with, impatient, logged):
    line = wire(postgres.socket)
    text = f"hosts = 127.0.0.1:{line.port}\nuser = test\ndbname = postgres\nquery = SELECT v FROM t WHERE k = '%s'\n"
    silent_at_every_step(line, lambda: open_with("pgsql", text), "o'b", "quote")


def test_mysql(mariadb, wire, open_with, impatient, logged):
    line = wire(mariadb.socket)
    text = f"hosts = inet:127.0.0.1:{line.port}\nuser = root\ndbname = d\nquery = SELECT v FROM t WHERE k = '%s'\n"
    silent_at_every_step(line, lambda: open_with("mysql", text), "o'b", "quote")


def test_ldap(slapd, wire, open_with, logged):
    line = wire(slapd.socket)
    text = f"server_host = ldap://127.0.0.1:{line.port}\nversion = 3\nsearch_base = dc=example\ntimeout = 1\n"
    text += "query_filter = (uid=%s)\nresult_attribute = host\n"
    silent_at_every_step(line, lambda: open_with("ldap", text), "ann", "box1,box2")


def test_memcached(wire, open_directory, open_with, logged):
    server = databases.started(table_servers.Memcached, open_directory)
    try:
        line = wire(server.port)
        text = f"memcache = inet:127.0.0.1:{line.port}\ntimeout = 1\nmax_try = 1\n"
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"set k 0 0 5\r\nvalue\r\n")
            assert sock.recv(100) == b"STORED\r\n"
        silent_at_every_step(line, lambda: open_with("memcache", text), "k", "value")
    finally:
        server.stop()


def test_ldap_that_changes_to_tls(slapd, wire, open_with, logged):
    line = wire(slapd.port)
    text = f"server_host = ldap://127.0.0.1:{line.port}\nversion = 3\nsearch_base = dc=example\ntimeout = 1\n"
    text += "query_filter = (uid=%s)\nresult_attribute = host\nstart_tls = yes\n"
    silent_at_every_step(line, lambda: open_with("ldap", text), "ann", "box1,box2")


def test_ldap_that_begins_with_tls(slapd, wire, open_with, logged):
    line = wire(slapd.tls_port)
    text = f"server_host = ldaps://127.0.0.1:{line.port}\nversion = 3\nsearch_base = dc=example\ntimeout = 1\n"
    text += "query_filter = (uid=%s)\nresult_attribute = host\nbind = no\n"
    silent_at_every_step(line, lambda: open_with("ldap", text), "ann", "box1,box2")


def test_tcp(wire, settings, monkeypatch, logged):
    monkeypatch.setattr(tcp, "TIMEOUT", 0.2)
    monkeypatch.setattr(tcp, "MAX_TRIES", 2)
    monkeypatch.setattr(tcp.Tcp, "pause", 0.0)
    server = Server(network.lines(network.tcp_answer))
    line = wire(server.port)
    silent_at_every_step(line, lambda: fresh(f"tcp:127.0.0.1:{line.port}", settings), "a b", "x y")
    server.close()


def test_socketmap(wire, settings, monkeypatch, logged):
    monkeypatch.setattr("postfixpy.lookup.socketmap.TIMEOUT", 0.2)
    server = Server(network.netstrings(lambda query: network.netstring(b"OK value")))
    line = wire(server.port)
    silent_at_every_step(line, lambda: fresh(f"socketmap:inet:127.0.0.1:{line.port}:m", settings), "a", "value")
    server.close()


def test_proxy(wire, settings, monkeypatch, tmp_path, logged):
    monkeypatch.setattr(proxy.Proxy, "pause", 0.0)
    monkeypatch.setattr(proxy, "TRIES", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private").mkdir()
    settings.proxymap_service_name, settings.ipc_timeout, settings.queue_directory = "proxymap", 0.2, str(tmp_path)
    server = Server(network.proxymap({"t:x": {"a": "1"}}), str(tmp_path / "server"))
    line = wire(tmp_path / "server", str(tmp_path / "private/proxymap"))
    silent_at_every_step(line, lambda: fresh("proxy:t:x", settings), "a", "1")
    server.close()


def fresh(spec, settings):
    """A table that is opened anew."""
    registry._open_tables.clear()
    return open_table(spec, settings)


def test_a_service_goes_on_while_one_table_waits(postgres, wire, open_with, impatient, logged, settings):
    """Lookups in other tables do not wait for a server that is silent."""
    line = wire(postgres.socket)
    line.limit = 0
    text = f"hosts = 127.0.0.1:{line.port}\nuser = test\ndbname = postgres\nquery = SELECT 'x'\n"
    silent = open_with("pgsql", text)
    other = Maps("x", "inline:{a=b}", settings)

    async def main():
        waiting = asyncio.create_task(silent.find("a"))
        await asyncio.sleep(0)
        started = time.monotonic()
        for _ in range(100):
            assert await other.afind("a") == "b"
            await asyncio.sleep(0)
        assert time.monotonic() - started < TIME_LIMIT / 2 and not waiting.done()
        with pytest.raises(TableError):
            await waiting
        await silent._close_own()

    asyncio.run(main())
