"""pgsql, mysql, memcache, ldap: against real servers, where their programs are installed (tools/table_servers.py).

What a server is asked is checked against what the manuals promise; tools/compare_tables.py compares with the real
postmap.
"""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import table_servers

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table, registry


def started(kind, folder):
    """A server, if it can be started here."""
    try:
        return kind(folder)
    except table_servers.Missing as error:
        pytest.skip(str(error))


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


@pytest.fixture(scope="module")
def open_directory():
    """A directory that servers without root's rights can use (pytest's own are closed to others), with certificates."""
    base = Path(tempfile.mkdtemp(prefix="postfixpy-test-"))
    base.chmod(0o777)
    try:
        table_servers.certificates(base)
    except table_servers.Missing as error:
        pytest.skip(str(error))
    yield base
    shutil.rmtree(base, ignore_errors=True)


# PostgreSQL


@pytest.fixture(scope="module")
def postgres(open_directory):
    pytest.importorskip("psycopg")
    server = started(table_servers.Postgres, open_directory)
    yield server
    server.stop()


def test_pgsql(postgres, open_with, logged):
    settings = f"hosts = 127.0.0.1:{postgres.port}\nuser = test\ndbname = postgres\n"
    check_common(open_with, "pgsql", settings)
    assert open_with("pgsql", f"{settings}select_function = f\n").lookup("x") == "fx"
    uri = f"hosts = postgresql://test@/postgres?host={postgres.folder}&port={postgres.port}\nquery = SELECT 'u'\n"
    assert open_with("pgsql", uri).lookup("x") == "u"
    bad = open_with("pgsql", f"{settings}encoding = NOSUCH\nquery = SELECT 1\n")
    with pytest.raises(TableError):
        bad.lookup("x")
    assert f"warning: dict_pgsql: cannot set the encoding to NOSUCH, skipping 127.0.0.1:{postgres.port}" in logged
    latin = open_with("pgsql", f"{settings}encoding = LATIN1\nquery = SELECT 'x'\n")
    assert latin.lookup("x") == "x"
    with pytest.raises(FatalError, match="requires dbname setting"):
        open_with("pgsql", "hosts = a\nquery = x\n")


def test_pgsql_server_that_comes_back(postgres, open_with, logged, tmp_path):
    settings = (
        f"hosts = 127.0.0.1:{postgres.port} unix:{tmp_path}\nuser = test\ndbname = postgres\nretry_interval = 1\n"
    )
    table = open_with("pgsql", f"{settings}query = SELECT v FROM t WHERE k = '%s'\n")
    assert table.lookup("o'b") == "quote"
    postgres.stop()
    with pytest.raises(TableError):
        table.lookup("o'b")
    postgres.start()
    with pytest.raises(TableError):
        table.lookup("o'b")  # the hosts are still left alone
    for host in next(iter(table._per_loop.values())).hosts:
        host.down_until = 0
    assert table.lookup("o'b") == "quote"


# MariaDB


@pytest.fixture(scope="module")
def mariadb(open_directory):
    pytest.importorskip("aiomysql")
    server = started(table_servers.Mariadb, open_directory)
    yield server
    server.stop()


def test_mysql(mariadb, open_with, logged):
    settings = f"hosts = unix:{mariadb.socket}\nuser = root\npassword =\ndbname = d\n"
    check_common(open_with, "mysql", settings)
    nothing = open_with("mysql", f"{settings}query = SET @a = 1\n")
    with pytest.raises(TableError):
        nothing.lookup("x")
    assert logged[-1].endswith("query failed: query returned no result set(require_result_set = yes)")
    assert open_with("mysql", f"{settings}require_result_set = no\nquery = SET @a = 1\n").lookup("x") is None
    away = open_with("mysql", f"hosts = unix:{mariadb.folder}/none\ndbname = d\nquery = SELECT 1\n")
    with pytest.raises(TableError):
        away.lookup("x")
    assert logged[-1].startswith(f"warning: connect to mysql server unix:{mariadb.folder}/none: ")


# memcached


def test_memcached(open_directory, tmp_path, settings):
    server = started(table_servers.Memcached, open_directory)
    try:
        (tmp_path / "mc.cf").write_text(f"memcache = inet:127.0.0.1:{server.port}\nbackup = inline:{{b=2}}\n")
        table = open_table(f"memcache:{tmp_path}/mc.cf", settings, surrogates=False)
        assert [table.lookup("a"), table.lookup("b")] == [None, "2"]
        (tmp_path / "mc2.cf").write_text(f"memcache = inet:127.0.0.1:{server.port}\n")
        table = open_table(f"memcache:{tmp_path}/mc2.cf", settings, surrogates=False, writable=True)
        assert table.lookup("b") == "2"  # put there by the other table
        assert table.update("k", "v w")
        assert [table.lookup("k"), table.remove("k"), table.lookup("k")] == ["v w", True, None]
        table.close()
    finally:
        server.stop()


def test_memcached_before_a_file(open_directory, tmp_path, settings):
    """A change goes to the server and to the file behind it; what the server has forgotten the file still has."""
    from postfixpy.lookup import Flags, build

    writer = build.open_writer("hash", f"{tmp_path}/t", settings, Flags.DUP_REPLACE, create=True)
    writer.finish()
    server = started(table_servers.Memcached, open_directory)
    try:
        (tmp_path / "mc.cf").write_text(f"memcache = inet:127.0.0.1:{server.port}\nbackup = hash:{tmp_path}/t\n")
        table = open_table(f"memcache:{tmp_path}/mc.cf", settings, surrogates=False, writable=True)
        assert table.update("k", "v")
        server.clear()
        assert [table.lookup("k"), list(table.items())] == ["v", [("k", "v")]]
        assert [table.remove("k"), table.remove("k"), table.lookup("k")] == [True, False, None]
        table.close()
    finally:
        server.stop()


# OpenLDAP


@pytest.fixture(scope="module")
def slapd(open_directory):
    server = started(table_servers.Slapd, open_directory)
    yield server
    server.stop()


def test_ldap(slapd, open_with, logged):
    base = f"server_host = {slapd.url}\nversion = 3\nsearch_base = ou=people,dc=example\ntimeout = 5\n"
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
    start = f"server_host = {slapd.url}\nversion = 3\ntimeout = 5\n"
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
        assert f"Unable to bind to server {slapd.url} with dn ann: " in logged[-1]
    for text in ("bind = maybe\n", "query_filter = %q\n"):
        with pytest.raises(FatalError):
            open_with("ldap", start + text)

    async def together():
        table = open_with("ldap", bound)
        answers = await asyncio.gather(*(table.find("ann") for _ in range(40)))
        await table._close_own()
        return answers

    assert asyncio.run(together()) == ["box1,box2"] * 40
