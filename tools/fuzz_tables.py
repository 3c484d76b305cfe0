"""Fuzz targets of lookup tables: any bytes as a source, an index file, a name, a key, a server's reply, settings.

    python tools/fuzz_tables.py [SECONDS [SEED [TARGET...]]]

What may happen, whatever the bytes: an answer, or one of Postfix's errors (TableError, FatalError, OpenError), within
the time limit of tools/fuzz.py. Never another exception, a hang, or a crash of a C library.
"""

import asyncio
import contextlib
import io
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz

from postfixpy import log
from postfixpy.commands import postalias
from postfixpy.errors import FatalError
from postfixpy.lookup import (
    TableError,
    bdb_write,
    build,
    cdb,
    memcache,
    open_table,
    proxy,
    registry,
    socketmap,
    source,
    tcp,
)
from postfixpy.lookup.network import Stream
from postfixpy.lookup.table import Flags, OpenError, Table

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-tables."))
MAX_ITEMS = 5000


class Settings:
    """What tables read of main.cf."""

    smtputf8_enable = True
    lmdb_map_size = 1 << 20
    myhostname = "here.example"
    ipc_timeout = 1
    ipc_idle = 1


SETTINGS = Settings()
ALLOWED = (FatalError, TableError, OpenError)


def text(data: bytes) -> str:
    """Bytes as the programs see them."""
    return data.replace(b"\0", b"").decode("utf-8", "surrogateescape")


def opened(spec: str, flags: Flags = Flags.MAPS | Flags.DUP_WARN) -> Table:
    """The table, newly opened."""
    registry._open_tables.clear()
    return open_table(spec, SETTINGS, flags=flags, surrogates=False)


def answers(table: Table, keys: list[str]) -> None:
    """Look up keys and list the table: text, or one of Postfix's errors."""
    for key in keys:
        with contextlib.suppress(*ALLOWED):
            value = table.lookup(key)
            assert value is None or isinstance(value, str)
    with contextlib.suppress(*ALLOWED):
        for number, (key, value) in enumerate(table.items()):
            assert isinstance(key, str) and isinstance(value, str)
            if number > MAX_ITEMS:
                break
    table.close()


# Index files.

PAIRS = [(b"k%d\0" % i, b"v%d\0" % (i * i)) for i in range(300)]
LONG = [*PAIRS[:40], (b"long\0", b"x" * 20_000 + b"\0"), (b"y" * 3000 + b"\0", b"long key\0")]
KEYS = ["k1", "k299", "none", "", "long", "y" * 3000, "k\udcff", "K1"]


def written(writer: Callable[..., object], pairs: list[tuple[bytes, bytes]]) -> bytes:
    """What a writer of .db files makes."""
    file = io.BytesIO()
    writer(file, pairs)
    return file.getvalue()


def indexed(kind: str, data: bytes) -> None:
    """Open an index file that holds `data`."""
    suffix = {"cdb": ".cdb", "lmdb": ".lmdb"}.get(kind, ".db")
    (FOLDER / f"t{suffix}").write_bytes(data)
    with contextlib.suppress(*ALLOWED):
        answers(opened(f"{kind}:{FOLDER}/t"), KEYS)


def hash_file(data: bytes) -> None:
    """Any bytes as a .db file of type hash: answers, or Postfix's errors."""
    indexed("hash", data)


def btree_file(data: bytes) -> None:
    """Any bytes as a .db file of type btree: answers, or Postfix's errors."""
    indexed("btree", data)


def cdb_file(data: bytes) -> None:
    """Any bytes as a .cdb file: answers, or Postfix's errors."""
    indexed("cdb", data)


def lmdb_file(data: bytes) -> None:
    """Any bytes as a .lmdb file: answers, or Postfix's errors."""
    indexed("lmdb", data)


def changed_file(data: bytes) -> None:
    """Any bytes as an index file that postmap -i and -d change: done or refused; no library dies of it."""
    kind = ("lmdb", "hash", "btree")[data[:1] > b"\x55" and 1 + (data[:1] > b"\xaa")]
    suffix = ".lmdb" if kind == "lmdb" else ".db"
    (FOLDER / f"w{suffix}").write_bytes(data[1:])
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(*ALLOWED):
            for action in ("put", "delete"):
                writer = build.open_writer(kind, f"{FOLDER}/w", SETTINGS, Flags.DUP_REPLACE, create=False)
                assert writer is not None
                writer.update("k1", "new") if action == "put" else writer.remove("k299")
                writer.finish()
        status = 0
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"{kind}: exit status {status}"


# Sources, names, keys.

RULES = b"""\
/^(a)(b)?/i $1${2}
if /x/
!/y/!/z/ r
endif
/[[:digit:]]{2,}/ d
10.0.0.0/8 a
![::1] b
if 1.2.3.4
k v
 "q k" w
"""
ALIASES = b'root: a, "|cmd b"\nl: :include:/x\n"a b": c (d) <e@f>\n x\n#\ng: h, i;\n'
TOKENS = [b"\n", b"\n ", b" ", b"\xff", b"\xc3\xa9", b"\0"]
TOKENS += b'/ ! $1 ${ } ( ) [ ] \\ | if endif # * + ? {1,2} 10.0.0.0/8 ::1 a " : = , { ^ $ @ < > ;'.split()
TOKENS += b"inline:{a=b} static: fail:x unionmap:{ pipemap:{ randmap:{ debug:".split()


def source_file(data: bytes) -> None:
    """Any bytes as the source of texthash, regexp, pcre, cidr, and of a table made by postmap: answers or errors."""
    (FOLDER / "source").write_bytes(data)
    keys = ["a", "ab", "10.1.2.3", "::1", text(data[:40]), "é", ""]
    for kind in ("texthash", "regexp", "pcre", "cidr"):
        with contextlib.suppress(*ALLOWED):
            answers(opened(f"{kind}:{FOLDER}/source"), keys)
    for _, key, value in source.entries(data, "source", utf8=bool(len(data) % 2)):
        assert key and value


def alias_file(data: bytes) -> None:
    """Any text as a line of an alias file: a name and a value, or a warning."""
    entry = postalias.entry(text(data), "x", utf8=bool(len(data) % 2))
    assert entry is None or all(isinstance(part, str) for part in entry)


def table_name(data: bytes) -> None:
    """Any text as a table's name, and as a key in it: answers, or Postfix's errors."""
    name = text(data)
    if "/" in name or any(kind in name for kind in ("tcp:", "socketmap:", "proxy:", "sql:", "ldap:", "mongodb:")):
        return  # files and servers
    with contextlib.suppress(*ALLOWED):
        answers(opened(name), ["a", name, "é\udcff"])


def any_key(data: bytes) -> None:
    """Any text as a key: an answer or none, from every local type."""
    for table in STANDING:
        with contextlib.suppress(TableError):
            value = table.lookup(text(data))
            assert value is None or isinstance(value, str)


def standing() -> Iterator[Table]:
    """A table of each local type."""
    (FOLDER / "rules").write_bytes(RULES)
    (FOLDER / "h.db").write_bytes(written(bdb_write.write_hash, LONG))
    (FOLDER / "b.cdb").write_bytes(cdb.build(LONG))
    (FOLDER / "b.db").write_bytes(written(bdb_write.write_btree, LONG))
    for kind in ("texthash", "regexp", "pcre", "cidr"):
        yield opened(f"{kind}:{FOLDER}/rules")
    names = ("hash:{}/h", "btree:{}/b", "cdb:{}/b", "environ:x", "unix:passwd.byname", "unix:group.byname", "static:x")
    for name in names:
        yield opened(name.format(FOLDER))
    yield opened("pipemap:{regexp:{{/(.*)/ $1}}, unionmap:{static:a, inline:{a=b}}}")


# Servers.


class Sink:
    """The writing side of a connection: takes everything."""

    transport = property(lambda self: self)

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...
    async def drain(self) -> None: ...


def reply_of(kind: str, data: bytes) -> None:
    """A server that answers every connection with `data` and hangs up."""

    async def main() -> None:
        async def connect(*arguments: object) -> Stream:
            reader = asyncio.StreamReader(limit=1 << 17)
            reader.feed_data(data)
            reader.feed_eof()
            return Stream(reader, Sink(), 1.0)  # type: ignore[arg-type]  # all that is used of a writer

        table: tcp.Tcp | socketmap.Socketmap | memcache.Memcache | proxy.Proxy
        match kind:
            case "tcp":
                table = tcp.Tcp("127.0.0.1:1", SETTINGS, Flags.NONE)
                table._connect, table.pause = connect, 0  # type: ignore[method-assign]
            case "socketmap":
                table = socketmap.Socketmap("inet:127.0.0.1:1:m", SETTINGS, Flags.NONE)
                table.connect = connect
            case "memcache":
                (FOLDER / "mc").write_text("max_try = 1\n")
                table = memcache.Memcache(f"{FOLDER}/mc", SETTINGS, Flags.NONE, False)
                table.connect = connect
            case _:
                table = proxy.Proxy.__new__(proxy.Proxy)
                table._first_contact = lambda: None  # type: ignore[method-assign]
                table.__init__("static:x", SETTINGS, Flags.NONE, "proxymap", "/nowhere")  # type: ignore[misc]
                table.pause, table.idle = 0, 0
                table._connect = _announced(connect)  # type: ignore[method-assign]
        with contextlib.suppress(*ALLOWED):
            value = await table.find("key")
            assert value is None or isinstance(value, str)
        await table._close_own()

    asyncio.run(main())


def _announced(connect: Callable[[], object]) -> Callable[[], object]:
    async def made() -> object:
        stream = await connect()  # type: ignore[misc]
        try:
            announced = await proxy.read_attributes(stream)
        except BaseException:
            stream.close()
            raise
        if announced.get("protocol") != "proxymap_protocol":
            raise proxy.ProxyError("no announcement of the protocol")
        return stream

    return made


def tcp_reply(data: bytes) -> None:
    """Any bytes from the server of a tcp: table: an answer, or a temporary error."""
    reply_of("tcp", data)


def socketmap_reply(data: bytes) -> None:
    """Any bytes from the server of a socketmap: table: an answer, or a temporary error."""
    reply_of("socketmap", data)


def memcache_reply(data: bytes) -> None:
    """Any bytes from a memcached: an answer, or a temporary error."""
    reply_of("memcache", data)


def proxy_reply(data: bytes) -> None:
    """Any bytes from a proxymap service: an answer, or an error."""
    reply_of("proxy", data)


# Databases.


def sqlite_settings(data: bytes) -> None:
    """Any settings of a sqlite: table, and any key: answers or errors; the key never changes the query."""
    (FOLDER / "sqlite.cf").write_bytes(f"dbpath = {FOLDER}/db\n".encode() + data)
    keys = ["a", "o'b", "x' OR '1'='1", "user@example.com", text(data[-30:])]
    with contextlib.suppress(*ALLOWED):
        answers(opened(f"sqlite:{FOLDER}/sqlite.cf"), keys)


def sqlite_key(data: bytes) -> None:
    """Any key in a sqlite: table finds the row of that key or nothing."""
    found = opened(f"sqlite:{FOLDER}/safe.cf", Flags.NONE).lookup(text(data))
    assert found is None or found in ("1", "2"), found


def prepare_sqlite() -> None:
    """The database, and settings with a query that must not be changed by a key."""
    database = sqlite3.connect(FOLDER / "db")
    database.execute("CREATE TABLE t (k text, v text)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [("a", "1"), ("o'b", "2"), ("secret", "3")])
    database.commit()
    database.close()
    (FOLDER / "safe.cf").write_text(f"dbpath = {FOLDER}/db\nquery = SELECT v FROM t WHERE k = '%s' AND k != 'secret'\n")


def lmdb_bytes() -> list[bytes]:
    """Files made by the library; none if it is not there."""
    try:
        import lmdb  # noqa: F401  # only whether it is there
    except ImportError:
        return [b""]
    out = []
    for pairs in (PAIRS, LONG[:-1], []):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(FOLDER / "made.lmdb")
        writer = build.open_writer("lmdb", f"{FOLDER}/made", SETTINGS, Flags.DUP_REPLACE, create=True)
        assert writer is not None
        for key, value in pairs:
            writer.store(key, value)
        writer.finish()
        out.append((FOLDER / "made.lmdb").read_bytes()[: fuzz.LONGEST])
    return out


if __name__ == "__main__":
    log.set_sink(lambda severity, message: None)
    prepare_sqlite()
    STANDING = list(standing())
    files = {
        "hash": [written(bdb_write.write_hash, PAIRS), written(bdb_write.write_hash, LONG)],
        "btree": [written(bdb_write.write_btree, PAIRS), written(bdb_write.write_btree, LONG)],
        "cdb": [bytes(cdb.build(PAIRS)), bytes(cdb.build(LONG)), bytes(cdb.build([]))],
        "lmdb": lmdb_bytes(),
    }
    starts = {"lmdb": b"\0", "hash": b"\x60", "btree": b"\xff"}
    changed = [starts[kind] + data for kind in starts for data in files[kind]]
    announced = b"protocol\0proxymap_protocol\0\0"
    proxied = [announced + b"status\0" + b"0\0flags\0" + b"64\0value\0v\0\0", announced + b"status\0" + b"1\0\0"]
    settings = [b"query = SELECT v FROM t WHERE k = '%s'\nresult_format = <%u %d>\n", b"table=t\nselect_field=v\n"]
    words = [*b"%s %u %d %1 %% ' %".split(), b"\n", b"domain = a, b\n", b"expansion_limit = 1\n"]
    quotes = [b"'", b"''", b"\\'", b" OR ", b"--", b";", b"%s"]
    targets = [
        fuzz.Target(hash_file, files["hash"]),
        fuzz.Target(btree_file, files["btree"]),
        fuzz.Target(cdb_file, files["cdb"]),
        fuzz.Target(lmdb_file, files["lmdb"]),
        fuzz.Target(changed_file, changed),
        fuzz.Target(source_file, [RULES, b"a b\nc d\n"], TOKENS),
        fuzz.Target(alias_file, ALIASES.split(b"\n"), TOKENS),
        fuzz.Target(table_name, [b"inline:{{a = b} c=d}", b"pipemap:{static:x,pcre:{{/a/ b}}}"], TOKENS),
        fuzz.Target(any_key, [b"a", b"user@example.com", b"10.1.2.3", b"2001:db8::1"], TOKENS),
        fuzz.Target(tcp_reply, [b"200 a%20b\n", b"500 x\n", b"400 y\n"], [b"%", b"\n", b"200 "]),
        fuzz.Target(socketmap_reply, [b"4:OK x,", b"9:NOTFOUND ,", b"6:TEMP y,"], [b":", b",", b"999999999:"]),
        fuzz.Target(memcache_reply, [b"VALUE key 0 3\r\nabc\r\nEND\r\n", b"END\r\n"], [b"\r\n", b"VALUE "]),
        fuzz.Target(proxy_reply, proxied, [b"\0", b"\0\0", b"status\0", b"flags\0", b"value\0"]),
        fuzz.Target(sqlite_settings, settings, words),
        fuzz.Target(sqlite_key, [b"a", b"o'b", b"x' OR '1'='1"], quotes),
    ]
    sys.exit(fuzz.main(targets))
