"""pgsql, mysql, memcache, ldap: against real servers, where their programs are installed.

The programs are looked for in the usual places and under $POSTFIXPY_SERVERS, a folder into which the packages were
unpacked (dpkg -x). What a server is asked is checked against what the manuals promise.
"""

import asyncio
import getpass
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table, registry

UNPACKED = os.environ.get("POSTFIXPY_SERVERS", "")


def program(*patterns):
    """The path of a program, or None."""
    for pattern in patterns:
        for root in ("", UNPACKED):
            found = sorted(glob.glob(root + pattern)) if root or pattern.startswith("/") else []
            if found:
                return found[-1]
    return None


def environment():
    libraries = f"{UNPACKED}/usr/lib/x86_64-linux-gnu" if UNPACKED else ""
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "LC_ALL": "C.UTF-8"}


def accepts(path):
    """Whether a server takes connections on the socket `path`: it may be there before."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def unprivileged():
    """How to run a server that refuses root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []


class Process:
    """A server that runs during the tests of a module."""

    def __init__(self, command, ready, log):
        self.log = open(log, "wb")  # noqa: SIM115  # closed by stop(), when the server is gone
        self.process = subprocess.Popen(command, env=environment(), stdout=self.log, stderr=self.log)
        limit = time.monotonic() + 60
        while not ready():
            if self.process.poll() is not None or time.monotonic() > limit:
                self.stop()
                pytest.skip(f"{command[0]} does not start: {Path(log).read_text()[-300:]}")
            time.sleep(0.05)

    def stop(self, sign=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


@pytest.fixture(autouse=True)
def closed_afterwards():
    yield
    for table in list(registry._open_tables.values()):
        table.close()


@pytest.fixture
def open_with(settings, tmp_path):
    """Opens a table of a type with the settings in a text."""

    tables = []

    def make(kind, text):
        path = tmp_path / f"{kind}{len(os.listdir(tmp_path))}.cf"
        path.write_text(text)
        tables.append(open_table(f"{kind}:{path}", settings, surrogates=False))
        return tables[-1]

    yield make
    for table in tables:
        table.close()


ROWS = [
    ("a", "1"),
    ("a", "2"),
    ("o'b", "quote"),
    ("back\\slash", "backslash"),
    ("user@example.com", "box@host"),
    ("é", "ü"),
    ("empty", ""),
    ("null", None),
]


def check_common(open_with, kind, base):
    """What the manuals promise for every SQL type."""
    table = open_with(kind, f"{base}query = SELECT v FROM t WHERE k = '%s' ORDER BY v\n")
    expected = {
        "a": "1,2",
        "A": "1,2",
        "o'b": "quote",
        "back\\slash": "backslash",
        "é": "ü",
        "empty": None,
        "null": None,
    }
    assert {key: table.lookup(key) for key in expected} == expected
    for evil in ("' OR '1'='1", "\\' OR 1=1 -- ", "x'; DROP TABLE t; -- ", "a\\"):
        assert table.lookup(evil) is None
    assert table.lookup("a\udcff") is None
    assert table.lookup("") is None
    legacy = open_with(kind, f"{base}table = t\nselect_field = v\nwhere_field = k\n")
    assert legacy.lookup("user@example.com") == "box@host"
    parts = "query = SELECT v FROM t WHERE k = '%u@%2.%1'\nresult_format = <%u %d %S %U %D>\ndomain = example.com\n"
    table = open_with(kind, base + parts)
    assert table.lookup("user@example.com") == "<box host user@example.com user example.com>"
    assert [table.lookup(key) for key in ("user", "@example.com", "user@example.org", "x@example.com")] == [None] * 4
    limited = open_with(kind, f"{base}query = SELECT v FROM t WHERE k = '%s'\nexpansion_limit = 1\n")
    with pytest.raises(TableError):
        limited.lookup("a")
    broken = open_with(kind, f"{base}query = SELECT v FRM t WHERE k = '%s'\n")
    with pytest.raises(TableError):
        broken.lookup("a")

    async def together():
        one = open_with(kind, f"{base}query = SELECT v FROM t WHERE k = '%s' ORDER BY v\n")
        answers = await asyncio.gather(*(one.find("a") for _ in range(60)))
        await one._close_own()
        return answers

    assert asyncio.run(together()) == ["1,2"] * 60


# PostgreSQL


@pytest.fixture(scope="module")
def open_directory():
    """A directory that a server without root's rights can use: pytest's own are closed to others."""
    base = Path(tempfile.mkdtemp(prefix="postfixpy-test-"))
    base.chmod(0o777)
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres(open_directory):
    initdb = program("/usr/lib/postgresql/*/bin/initdb")
    if not initdb:
        pytest.skip("no PostgreSQL")
    pytest.importorskip("psycopg")
    base = open_directory
    bin = os.path.dirname(initdb)
    command = [*unprivileged(), initdb, "-D", f"{base}/data", "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    server = [*unprivileged(), f"{bin}/postgres", "-D", f"{base}/data", "-k", str(base), "-c", "listen_addresses="]
    psql = [f"{bin}/psql", "-h", str(base), "-U", "test", "postgres", "-qc"]

    def run(sql):
        return subprocess.run([*psql, sql], capture_output=True, env=environment())

    process = Process([*server, "-F"], lambda: run("select 1").returncode == 0, base / "log")
    run("CREATE TABLE t (k text, v text)")
    for key, value in ROWS:
        literal = "NULL" if value is None else "'" + value + "'"
        assert run(f"INSERT INTO t VALUES ('{key.replace(chr(39), chr(39) * 2)}', {literal})").returncode == 0
    run("CREATE FUNCTION f(text) RETURNS text AS $$ SELECT 'f' || $1 $$ LANGUAGE sql")
    yield base, lambda: Process([*server, "-F"], lambda: run("select 1").returncode == 0, base / "log"), process
    process.stop()


def test_pgsql(postgres, open_with, logged):
    base = postgres[0]
    settings = f"hosts = unix:{base}\nuser = test\ndbname = postgres\n"
    check_common(open_with, "pgsql", settings)
    assert open_with("pgsql", f"{settings}select_function = f\n").lookup("x") == "fx"
    uri = f"hosts = postgresql://test@/postgres?host={base}\nquery = SELECT 'u'\n"
    assert open_with("pgsql", uri).lookup("x") == "u"
    bad = open_with("pgsql", f"{settings}encoding = NOSUCH\nquery = SELECT 1\n")
    with pytest.raises(TableError):
        bad.lookup("x")
    assert f"warning: dict_pgsql: cannot set the encoding to NOSUCH, skipping unix:{base}" in logged
    latin = open_with("pgsql", f"{settings}encoding = LATIN1\nquery = SELECT 'x'\n")
    assert latin.lookup("x") == "x"
    with pytest.raises(FatalError, match="requires dbname setting"):
        open_with("pgsql", "hosts = a\nquery = x\n")


def test_pgsql_server_that_comes_back(postgres, open_with, logged, tmp_path):
    base, start, process = postgres
    settings = f"hosts = unix:{base} unix:{tmp_path}\nuser = test\ndbname = postgres\nretry_interval = 1\n"
    table = open_with("pgsql", f"{settings}query = SELECT v FROM t WHERE k = '%s'\n")
    assert table.lookup("o'b") == "quote"
    process.stop()
    with pytest.raises(TableError):
        table.lookup("o'b")
    again = start()
    try:
        with pytest.raises(TableError):
            table.lookup("o'b")  # the hosts are still left alone
        for host in next(iter(table._per_loop.values())).hosts:
            host.down_until = 0
        assert table.lookup("o'b") == "quote"
    finally:
        again.stop()


# MariaDB


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory):
    mariadbd = program("/usr/sbin/mariadbd", "/usr/sbin/mysqld")
    if not mariadbd:
        pytest.skip("no MariaDB")
    aiomysql = pytest.importorskip("aiomysql")
    base = tmp_path_factory.mktemp("my")
    (base / "data").mkdir()
    root = mariadbd.removesuffix("/usr/sbin/mariadbd")
    command = [
        *(mariadbd, "--no-defaults", f"--datadir={base}/data", f"--socket={base}/s", "--skip-networking"),
        *("--skip-grant-tables", f"--lc-messages-dir={root}/usr/share/mysql", f"--user={getpass.getuser()}"),
        *(f"--pid-file={base}/pid", "--innodb-buffer-pool-size=16M", "--innodb-fast-shutdown=2"),
    ]

    async def prepare():
        connection = await aiomysql.connect(unix_socket=f"{base}/s", charset="utf8mb4", autocommit=True)
        async with connection.cursor() as cursor:
            await cursor.execute("CREATE DATABASE d CHARACTER SET utf8mb4")
            await cursor.execute("CREATE TABLE d.t (k varchar(100) COLLATE utf8mb4_bin, v varchar(100))")
            await cursor.executemany("INSERT INTO d.t VALUES (%s, %s)", ROWS)
        connection.close()

    process = Process(command, lambda: accepts(base / "s"), base / "log")
    asyncio.run(prepare())
    yield base
    process.stop(signal.SIGTERM)


def test_mysql(mariadb, open_with, logged):
    settings = f"hosts = unix:{mariadb}/s\nuser = root\npassword =\ndbname = d\n"
    check_common(open_with, "mysql", settings)
    nothing = open_with("mysql", f"{settings}query = SET @a = 1\n")
    with pytest.raises(TableError):
        nothing.lookup("x")
    assert logged[-1].endswith("query failed: query returned no result set(require_result_set = yes)")
    assert open_with("mysql", f"{settings}require_result_set = no\nquery = SET @a = 1\n").lookup("x") is None
    away = open_with("mysql", f"hosts = unix:{mariadb}/none\ndbname = d\nquery = SELECT 1\n")
    with pytest.raises(TableError):
        away.lookup("x")
    assert logged[-1].startswith(f"warning: connect to mysql server unix:{mariadb}/none: ")


# memcached


def test_memcached(open_with, tmp_path, settings):
    memcached = program("/usr/bin/memcached")
    if not memcached:
        pytest.skip("no memcached")
    path = tmp_path / "socket"
    process = Process(
        [memcached, "-s", str(path), "-u", getpass.getuser(), "-t", "1"], lambda: accepts(path), tmp_path / "log"
    )
    try:
        (tmp_path / "mc.cf").write_text(f"memcache = unix:{path}\nbackup = inline:{{b=2}}\n")
        table = open_table(f"memcache:{tmp_path}/mc.cf", settings, surrogates=False)
        assert [table.lookup("a"), table.lookup("b")] == [None, "2"]
        (tmp_path / "mc2.cf").write_text(f"memcache = unix:{path}\n")
        table = open_table(f"memcache:{tmp_path}/mc2.cf", settings, surrogates=False, writable=True)
        assert table.lookup("b") == "2"  # put there by the other table
        assert table.update("k", "v w")
        assert [table.lookup("k"), table.remove("k"), table.lookup("k")] == ["v w", True, None]
        table.close()
    finally:
        process.stop(signal.SIGTERM)


# OpenLDAP

LDIF = """\
dn: dc=example
objectClass: domain
dc: example

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: uid=ann,ou=people,dc=example
objectClass: account
objectClass: simpleSecurityObject
userPassword: secret
uid: ann
host: box1
host: box2
description: ann@example.com

dn: uid=bob(x*),ou=people,dc=example
objectClass: account
uid: bob(x*)
host: bobbox

dn: uid=all,ou=people,dc=example
objectClass: account
uid: all
seeAlso: uid=ann,ou=people,dc=example
seeAlso: uid=gone,ou=people,dc=example
l: own
host: hidden

dn: uid=url,ou=people,dc=example
objectClass: account
uid: url
description: ldap:///ou=people,dc=example?host?one?(uid=bob*)

dn: uid=loop,ou=people,dc=example
objectClass: account
uid: loop
seeAlso: uid=loop,ou=people,dc=example

dn: uid=end,ou=people,dc=example
objectClass: account
uid: end
l: last
seeAlso: uid=ann,ou=people,dc=example
host: box

dn: dc=sub,dc=example
objectClass: domain
dc: sub
"""


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    slapd = program("/usr/sbin/slapd")
    if not slapd:
        pytest.skip("no slapd")
    base = tmp_path_factory.mktemp("ldap")
    etc, modules = ("/etc/ldap", "/usr/lib/ldap")
    if UNPACKED and slapd.startswith(UNPACKED):
        etc, modules = UNPACKED + etc, UNPACKED + modules
    (base / "data").mkdir()
    (base / "slapd.conf").write_text(
        "".join(f"include {etc}/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson", "nis"))
        + f"modulepath {modules}\nmoduleload back_mdb\npidfile {base}/pid\nallow bind_v2\n"
        + "authz-regexp uid=([^,]*),cn=.*,cn=auth uid=$1,ou=people,dc=example\n"
        + f"database mdb\nsuffix dc=example\ndirectory {base}/data\nrootdn cn=root,dc=example\nrootpw top\n"
        + "maxsize 10485760\ndbnosync\n"
    )
    (base / "data.ldif").write_text(LDIF)
    add = shutil.which("slapadd") or slapd
    first = ["-T", "a"] if add == slapd else []
    command = [add, *first, "-f", f"{base}/slapd.conf", "-l", f"{base}/data.ldif"]
    done = subprocess.run(command, env=environment(), capture_output=True)
    if done.returncode:
        pytest.skip(f"slapadd: {done.stderr.decode()[-300:]}")
    url = "ldapi://" + str(base / "socket").replace("/", "%2F")
    server = [slapd, "-f", f"{base}/slapd.conf", "-h", url, "-d", "0"]
    process = Process(server, lambda: accepts(base / "socket"), base / "log")
    yield url
    process.stop(signal.SIGTERM)


def test_ldap(slapd, open_with, logged):
    base = f"server_host = {slapd}\nversion = 3\nsearch_base = ou=people,dc=example\ntimeout = 5\n"
    by_uid = base + "query_filter = (uid=%s)\n"

    table = open_with("ldap", by_uid + "result_attribute = host\n")
    assert {key: table.lookup(key) for key in ("ann", "ANN", "bob(x*)", "*", "none", "")} == {
        "ann": "box1,box2",
        "ANN": "box1,box2",
        "bob(x*)": "bobbox",
        "*": None,
        "none": None,
        "": None,
    }
    assert table.lookup("x)(uid=*") is None
    assert table.lookup("a\udcff") is None

    members = by_uid + "result_attribute = host\nspecial_result_attribute = seeAlso\n"
    table = open_with("ldap", members + "leaf_result_attribute = l\n")
    assert table.lookup("all") in ("box1,box2,hidden", "hidden,box1,box2")
    assert any("DN uid=gone,ou=people,dc=example not found, skipping" in line for line in logged)
    urls = by_uid + "result_attribute = host\nspecial_result_attribute = description\n"
    assert open_with("ldap", urls).lookup("url") == "bobbox"
    assert open_with("ldap", members + "terminal_result_attribute = l\n").lookup("end") == "last"
    with pytest.raises(TableError):
        open_with("ldap", members + "recursion_limit = 5\n").lookup("loop")
    with pytest.raises(TableError):
        open_with("ldap", by_uid + "result_attribute = host\nexpansion_limit = 1\n").lookup("ann")

    everyone = base + "query_filter = (objectClass=%s)\nresult_attribute = uid\n"
    with pytest.raises(TableError):
        open_with("ldap", everyone + "size_limit = 2\n").lookup("account")
    formatted = by_uid + "result_attribute = description\nresult_format = <%u at %d>\n"
    assert open_with("ldap", formatted).lookup("ann") == "<ann at example.com>"


def test_ldap_bases_and_binds(slapd, open_with, logged):
    start = f"server_host = {slapd}\nversion = 3\ntimeout = 5\n"
    dynamic = open_with(
        "ldap", start + "search_base = dc=%1,dc=example\nquery_filter = (dc=%1)\nresult_attribute = dc\n"
    )
    assert [dynamic.lookup(key) for key in ("u@x.sub", "u@none", "u")] == ["sub", None, None]
    missing = open_with("ldap", start + "search_base = dc=none\nquery_filter = (uid=%s)\n")
    with pytest.raises(TableError):
        missing.lookup("ann")
    assert "Search base 'dc=none' not found: 32: No such object" in logged[-1]
    bound = start + "search_base = dc=example\nquery_filter = (uid=%s)\nresult_attribute = host\n"
    who = "bind_dn = uid=ann,ou=people,dc=example\n"
    assert open_with("ldap", bound + who + "bind_pw = secret\n").lookup("ann") == "box1,box2"
    with pytest.raises(TableError):
        open_with("ldap", bound + who + "bind_pw = wrong\n").lookup("ann")
    assert logged[-1].endswith("with dn uid=ann,ou=people,dc=example: 49 (Invalid credentials)")
    assert open_with("ldap", bound + "bind = no\n").lookup("ann") == "box1,box2"
    away = open_with("ldap", "server_host = ldap://127.0.0.1:9\nversion = 3\nsearch_base = x\nquery_filter = (a=%s)\n")
    with pytest.raises(TableError):
        away.lookup("a")
    assert logged[-1].endswith(": -1 (Can't contact LDAP server)")
    by_sasl = bound + "bind = sasl\nsasl_mechs = DIGEST-MD5\nbind_dn = ann\n"
    assert open_with("ldap", by_sasl + "bind_pw = secret\n").lookup("ann") == "box1,box2"
    for more in (
        "bind_pw = wrong\n",
        "bind_pw = secret\nsasl_mechs = NOSUCH\n",
        "bind_pw = secret\nsasl_minssf = 4000\n",
    ):
        with pytest.raises(TableError):
            open_with("ldap", by_sasl + more).lookup("ann")
        assert f"Unable to bind to server {slapd} with dn ann: " in logged[-1]
    for text in ("bind = maybe\n", "query_filter = %q\n"):
        with pytest.raises(FatalError):
            open_with("ldap", start + text)

    async def together():
        table = open_with("ldap", bound)
        answers = await asyncio.gather(*(table.find("ann") for _ in range(40)))
        await table._close_own()
        return answers

    assert asyncio.run(together()) == ["box1,box2"] * 40
