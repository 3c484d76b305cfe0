"""tcp, socketmap, memcache, proxy: against scripted servers, good and bad."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.errors import FatalError
from postfixpy.lookup import Flags, Maps, TableError, open_table, proxy, registry, tcp
from tests.lookup.servers import Server


@pytest.fixture(autouse=True)
def closed_afterwards():
    """Connections are closed, so that none is left to the garbage collector, which complains."""
    yield
    for table in list(registry._open_tables.values()):
        table.close()


@pytest.fixture
def server():
    """Starts servers that are stopped after the test."""
    started = []

    def start(serve, path=""):
        started.append(Server(serve, str(path)))
        return started[-1]

    yield start
    for one in started:
        one.close()


def lines(answer, end=b"\n"):
    """Serves line by line; an answer of None hangs up."""

    def serve(file):
        for line in file:
            reply = answer(line.rstrip(b"\r\n"))
            if reply is None:
                return
            file.write(reply + end)

    return serve


@pytest.fixture
def impatient(monkeypatch):
    """No pauses and short time limits."""
    monkeypatch.setattr(tcp.Tcp, "pause", 0.0)
    monkeypatch.setattr(tcp, "TIMEOUT", 0.2)
    monkeypatch.setattr("postfixpy.lookup.socketmap.TIMEOUT", 0.2)
    monkeypatch.setattr(proxy.Proxy, "pause", 0.0)


# tcp


def tcp_answer(line):
    return {
        b"get a%20b": b"200 x%20y",
        b"get %C3%A9": b"200 %C3%A9",
        b"get later": b"400 busy",
        b"get odd": b"900 what",
        b"get bad": b"200 %zz",
    }.get(line, b"500 not here")


def test_tcp(server, settings, logged):
    one = server(lines(tcp_answer))
    table = open_table(f"tcp:127.0.0.1:{one.port}", settings)
    assert table.pattern
    assert [table.lookup(key) for key in ("a b", "é", "none")] == ["x y", "é", None]
    assert one.connections == 1
    for key in ("later", "odd", "bad"):
        with pytest.raises(TableError):
            table.lookup(key)
    name = f"127.0.0.1:{one.port}"
    assert logged == [
        f"warning: read TCP map reply from {name}: bad status code: 900 what",
        f"warning: read TCP map reply from {name}: malformed reply: 200 %zz",
    ]


def test_tcp_server_that_comes_back(server, settings, impatient, logged):
    calls = []

    def answer(line):
        calls.append(line)
        return None if len(calls) < 4 else b"200 here"

    table = open_table(f"tcp:127.0.0.1:{server(lines(answer)).port}", settings)
    assert table.lookup("a") == "here"
    assert len(calls) == 4


def test_tcp_server_that_is_away(settings, impatient, logged):
    table = open_table("tcp:127.0.0.1:9", settings)
    with pytest.raises(TableError) as caught:
        table.lookup("a")
    assert caught.value.reason == "Connection refused"
    assert logged == ["warning: connect to TCP map 127.0.0.1:9: Connection refused"] * 10


def test_tcp_is_not_for_secrets(settings):
    with pytest.raises(FatalError, match="map is not allowed for security sensitive data"):
        open_table("tcp:x:1", settings, flags=Flags.NO_UNAUTH, surrogates=False)


@given(st.binary(max_size=50))
def test_tcp_quoting_survives_any_bytes(data):
    text = data.replace(b"\0", b"x").decode("utf-8", "surrogateescape")
    assert tcp.hex_unquote(tcp.hex_quote(text)) == text
    assert tcp.hex_unquote(data) is None or data.count(b"%") >= 0


def test_many_lookups_at_once(server, settings):
    one = server(lines(lambda line: b"200 " + line[4:]))

    async def main():
        table = open_table(f"tcp:127.0.0.1:{one.port}", settings)
        maps = Maps("x", f"tcp:127.0.0.1:{one.port}", settings)
        answers = await asyncio.gather(*(table.find(f"k{i}") for i in range(100)))
        assert answers == [f"k{i}" for i in range(100)]
        assert await maps.afind("x") == "x"
        assert table.lookup("sync") == "sync"  # from inside a loop, too
        await table._close_own()

    asyncio.run(main())
    assert one.connections <= 21


# socketmap


def netstrings(answer):
    def serve(file):
        while True:
            length = b""
            while (byte := file.read(1)) not in (b":", b""):
                length += byte
            if not length:
                return
            query = b""
            while len(query) < int(length) + 1:
                query += file.read(int(length) + 1 - len(query))
            reply = answer(query[:-1])
            if reply is None:
                return
            file.write(reply)

    return serve


def netstring(data):
    return b"%d:%s," % (len(data), data)


def test_socketmap(server, settings, logged, tmp_path):
    replies = {b"m a": b"OK b c", b"m t": b"TEMP  why", b"m p": b"PERM", b"m e": b"OK ", b"m x": b"HUH"}
    server(netstrings(lambda query: netstring(replies.get(query, b"NOTFOUND "))), tmp_path / "s")
    name = f"socketmap:unix:{tmp_path}/s:m"
    table = open_table(name, settings)
    assert [table.lookup(key) for key in ("a", "none", "e")] == ["b c", None, ""]
    for key, config in (("t", False), ("p", True), ("x", False)):
        with pytest.raises(TableError) as caught:
            table.lookup(key)
        assert caught.value.config == config
    assert logged == [
        f"warning: {name} socketmap server temporary error: why",
        f"warning: {name} socketmap server permanent error",
        f"warning: {name} socketmap server unknown error",
    ]


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("127.0.0.1", "garbage after numerical service"),
        ("[127.0.0.1:25", 'missing "]"'),
        ("[127.0.0.1]x:25", 'garbage after "]"'),
        ("[ipv6:1.2.3.4]:25", "malformed IPv6 address"),
        ("[::1]", "missing service information"),
        ("a b:25", "valid hostname or network address required"),
        ("host:25x", "garbage after numerical service"),
    ],
)
def test_endpoints_that_make_no_sense(settings, endpoint, problem):
    table = open_table(f"socketmap:inet:{endpoint}:m", settings)
    with pytest.raises(TableError) as caught:
        table.lookup("a")
    assert (str(caught.value), caught.value.fatal) == (f"{endpoint}: {problem}", True)


def test_a_host_that_is_not_there(settings, logged):
    table = open_table("socketmap:inet:127.0.0.1:nosuch:m", settings)
    with pytest.raises(TableError) as caught:
        table.lookup("a")
    assert caught.value.reason == "Cannot assign requested address"
    assert logged[0] == "warning: host or service 127.0.0.1:nosuch not found: Servname not supported for ai_socktype"


def test_connections_do_not_live_for_ever(server, settings, monkeypatch):
    """Another connection is made once one is old: a server behind it may have been replaced."""
    monkeypatch.setattr("postfixpy.lookup.socketmap.MAX_AGE", 0.0)
    one = server(netstrings(lambda query: b"4:OK v,"))
    table = open_table(f"socketmap:inet:127.0.0.1:{one.port}:m", settings)

    async def main():
        for _ in range(2):
            assert await table.find("a") == "v"
            await asyncio.sleep(0.001)  # timers run
        await table._close_own()

    asyncio.run(main())
    assert one.connections == 2


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"x", "input format error"),
        (b"999999:", "input exceeds size limit"),
        (b"5001:", "input exceeds size limit"),
        (b"99999999999999:", "input exceeds size limit"),
        (b"1" * 300, "input exceeds size limit"),
        (b"2:OK;", "input format error"),
        (b"1:ab", "input format error"),
        (None, "unexpected disconnect"),
        (b"5:ab", "time limit exceeded"),
    ],
)
def test_socketmap_servers_that_lie(server, settings, impatient, logged, reply, text):
    settings.socketmap_max_reply_size = 5000
    name = f"inet:127.0.0.1:{server(netstrings(lambda query: reply)).port}:m"
    table = open_table(f"socketmap:{name}", settings)
    with pytest.raises(TableError):
        table.lookup("a")
    assert logged == [f"warning: table socketmap:{name} lookup error: {text}"]


def test_a_restarted_socketmap_server_goes_unnoticed(server, settings, logged, tmp_path):
    dying = iter([netstring(b"OK 1"), None, netstring(b"OK 2")])
    server(netstrings(lambda query: next(dying)), tmp_path / "s")
    table = open_table(f"socketmap:unix:{tmp_path}/s:m", settings)
    assert [table.lookup("a"), table.lookup("a")] == ["1", "2"]
    assert logged == []


def test_socketmap_names(settings):
    for name, text in {
        "m": "socketmap requires server:socketmap argument",
        "x:y": 'need service transport:endpoint instead of "x"',
        "ftp:h:m": "invalid transport name: ftp in service: ftp:h",
    }.items():
        with pytest.raises(FatalError) as caught:
            open_table(f"socketmap:{name}", settings, surrogates=False)
        assert str(caught.value) == text


# memcache


class Memory:
    """A memcached: get, set, delete."""

    def __init__(self):
        self.values = {}

    def serve(self, file):
        while line := self.line(file):
            command, key, *rest = line.split()
            if command == b"get":
                value = self.values.get(key)
                head = b"" if value is None else b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(value), value)
                file.write(head + b"END\r\n")
            elif command == b"set":
                size = int(rest[2]) + 2
                data = b""
                while len(data) < size:
                    data += file.read(size - len(data))
                self.values[key] = data[:-2]
                file.write(b"STORED\r\n")
            else:
                file.write(b"DELETED\r\n" if self.values.pop(key, None) is not None else b"NOT_FOUND\r\n")

    @staticmethod
    def line(file):
        line = b""
        while not line.endswith(b"\n"):
            byte = file.read(1)
            if not byte:
                return b""
            line += byte
        return line


@pytest.fixture
def memcache(server, settings, tmp_path):
    memory = Memory()
    port = server(memory.serve).port

    def make(more="", writable=False, serve=None):
        where = server(serve).port if serve else port
        path = tmp_path / f"{len(os.listdir(tmp_path))}.cf"
        path.write_text(f"memcache = inet:127.0.0.1:{where}\nretry_pause = 1\nmax_try = 1\n{more}")
        return open_table(f"memcache:{path}", settings, surrogates=False, writable=writable)

    make.memory = memory
    return make


def test_memcache(memcache):
    memcache.memory.values[b"a"] = b"1"
    table = memcache(writable=True)
    assert [table.lookup("A"), table.lookup("b"), table.lookup("a b"), table.lookup("")] == ["1", None, None, None]
    assert table.update("b", "two words\r\nx")
    assert table.lookup("b") == "two words\r\nx"
    assert [table.remove("b"), table.remove("b")] == [True, False]


def test_memcache_key_format_digest_and_domain(memcache):
    table = memcache("key_format = pre-%u-%d\ndomain = example.com\n")
    memcache.memory.values[b"pre-user-example.com"] = b"x"
    keys = ["user@example.com", "user@example.org", "user", "other@example.com"]
    assert [table.lookup(key) for key in keys] == ["x", None, None, None]
    table = memcache("key_digest = sha256\n")
    memcache.memory.values[b"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"] = b"digested"
    assert table.lookup("a") == "digested"
    with pytest.raises(FatalError, match="key digest nosuch is not available"):
        memcache("key_digest = nosuch\n")


def test_what_memcache_does_not_know_comes_from_behind(memcache):
    table = memcache("backup = inline:{a=1}\n")
    assert table.lookup("a") == "1"
    assert memcache.memory.values == {b"a": b"1"}
    memcache.memory.values[b"a"] = b"cached"
    assert table.lookup("a") == "cached"
    assert list(table.items()) == [("a", "1")]


@pytest.mark.parametrize("reply", [b"VALUE a 0 99999999", b"VALUE a 0 x", b"ERROR", b"VALUE a 0 3\r\nxyzzy", b""])
def test_memcache_servers_that_lie(memcache, reply, logged):
    table = memcache(serve=lines(lambda line: reply, b"\r\n"))
    with pytest.raises(TableError):
        table.lookup("a")


def test_a_memcache_server_that_is_away_or_slow(memcache, logged):
    table = memcache("memcache = inet:127.0.0.1:9\n")
    with pytest.raises(TableError):
        table.lookup("a")
    slow = memcache("timeout = 1\n", serve=lambda file: file.read(10_000))
    with pytest.raises(TableError):
        slow.lookup("a")
    assert memcache("memcache = inet:127.0.0.1:9\nbackup = static:x\n").lookup("a") == "x"


# proxy


def proxymap(tables, seen=None, old=False):
    """A proxymap service: `tables` is name -> {key: value}."""

    def read(file):
        fields = b""
        while not fields.endswith(b"\0\0"):
            byte = file.read(1)
            if not byte:
                return None
            fields += byte
        return proxy.decode(fields[:-2].split(b"\0"))

    def serve(file):
        file.write(proxy.encode(("protocol", "proxymap_protocol")))
        while (request := read(file)) is not None:
            if seen is not None:
                seen.append(request)
            values = tables.get(request["table"])
            flags = int(Flags.PATTERN if request["table"].startswith("regexp:") else Flags.FIXED)
            if values is None:
                file.write(proxy.encode(("status", proxy.DENY), ("flags", 0), ("value", "")))
            elif request["request"] == "open" and old and "instance_flags" in request:
                file.write(proxy.encode(("status", proxy.BAD), ("flags", 0)))
                return
            elif request["request"] == "open":
                file.write(proxy.encode(("status", proxy.OK), ("flags", flags)))
            elif request["key"] == "retry":
                file.write(proxy.encode(("status", proxy.RETRY), ("flags", flags), ("value", "")))
            else:
                value = values.get(request["key"])
                status = proxy.OK if value is not None else proxy.NO_KEY
                file.write(proxy.encode(("status", status), ("flags", flags), ("value", value or "")))

    return serve


@pytest.fixture
def queue_directory(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q/private").mkdir(parents=True)
    settings.queue_directory = str(tmp_path / "q")
    settings.proxymap_service_name = "proxymap"
    return tmp_path / "q"


def test_proxy(server, settings, queue_directory, impatient):
    seen = []
    tables = {"mysql:/x": {"a": "1", "é": "2"}, "regexp:/y": {}}
    server(proxymap(tables, seen), queue_directory / "private/proxymap")
    table = open_table("proxy:mysql:/x", settings)
    assert [table.lookup(key) for key in ("a", "é", "none")] == ["1", "2", None]
    assert table.fixed
    assert open_table("proxy:regexp:/y", settings).pattern
    assert seen[0] == {"request": "open", "table": "mysql:/x", "instance_flags": str(int(Flags.MAPS))}
    assert seen[1]["request"] == "lookup"
    with pytest.raises(TableError):
        table.lookup("retry")
    with pytest.raises(FatalError, match='proxymap service is not configured for table "mysql:/z"'):
        open_table("proxy:mysql:/z", settings, surrogates=False)


def test_proxy_of_older_releases(server, settings, queue_directory):
    seen = []
    server(proxymap({"t:x": {"a": "1"}}, seen, old=True), queue_directory / "private/proxymap")
    table = open_table("proxy:t:x", settings)
    assert table.lookup("a") == "1"
    assert list(seen[-1]) == ["request", "table", "flags", "key"]


def test_proxy_service_that_is_away(server, settings, queue_directory, impatient, logged):
    one = server(lambda file: None, queue_directory / "private/proxymap")
    table = open_table("proxy:static:x", settings)
    with pytest.raises(TableError):
        table.lookup("a")
    assert one.connections == 11


def test_without_a_proxy_service_tables_are_opened_directly(settings, queue_directory):
    assert open_table("proxy:static:x", settings).lookup("a") == "x"
    assert open_table("proxy:static:x", settings).name == "static:x"
