"""What each setting of a database table changes, on real servers: TLS, log-ins, option files, LDAP's ways.

The expected results are those of the real postmap on the same servers (tools/compare_tables.py --kind ldap ...).
"""

import socket
import struct
import subprocess
import threading

import pytest

from postfixpy.lookup import TableError, libldap
from tests.lookup import test_databases as databases

postgres, mariadb, slapd = databases.postgres, databases.mariadb, databases.slapd
open_directory, open_with, closed_afterwards = (
    databases.open_directory,
    databases.open_with,
    databases.closed_afterwards,
)

OPTION_FILE = """\
# of the C library
[client]
user = secret
password = "pw"
[other]
user=test
[tls]
user = tls
ssl-ca = {here}/ca.pem
[cert]
user = cert
ssl_ca = {here}/ca.pem
ssl-cert = {here}/client.pem
ssl-key = '{here}/client.key'
[verify]
user = tls
ssl-ca = {here}/otherca.pem
ssl-verify-server-cert
[mysqld]
user = nosuch
"""


@pytest.fixture(scope="module")
def here(open_directory):
    """The directory of certificates and of an option file; the authority's certificate is under its hash, too."""
    (open_directory / "options").write_text(OPTION_FILE.format(here=open_directory))
    (open_directory / "more").write_text(f"!include {open_directory}/options\n")
    folder = open_directory / "hashed"
    folder.mkdir(exist_ok=True)
    words = ["openssl", "x509", "-noout", "-hash", "-in", str(open_directory / "ca.pem")]
    name = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    (folder / f"{name}.0").write_bytes((open_directory / "ca.pem").read_bytes())
    return open_directory


def answer(table, key):
    """The value, or "error"."""
    try:
        return table.lookup(key)
    except TableError:
        return "error"
    finally:
        table.close()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("user = test", "quote"),
        ("user = nosuch", "error"),
        ("user = secret", "error"),
        ("user = secret; password = pw", "quote"),
        ("user = tls", "error"),
        ("user = tls; tls_CAfile = {here}/ca.pem", "quote"),
        ("user = tls; tls_CApath = {here}/hashed", "quote"),
        ("user = tls; tls_ciphers = DEFAULT", "quote"),
        ("user = tls; tls_ciphers = nosuch", "error"),
        ("user = tls; tls_CAfile = {here}/otherca.pem", "error"),  # an authority that is named is one that counts
        ("user = tls; tls_CAfile = {here}/none.pem", "error"),
        ("user = tls; tls_CAfile = {here}/ca.pem; tls_verify_cert = yes", "quote"),
        ("user = tls; tls_CAfile = {here}/otherca.pem; tls_verify_cert = yes", "error"),
        ("user = cert; tls_CAfile = {here}/ca.pem", "error"),
        ("user = cert; tls_cert_file = {here}/client.pem; tls_key_file = {here}/client.key", "quote"),
        ("user = cert; tls_cert_file = {here}/other.pem; tls_key_file = {here}/other.key", "error"),
        ("user = cert; tls_cert_file = {here}/client.pem; tls_key_file = {here}/none.key", "error"),
        ("option_file = {here}/options", "error"),  # the password in it does not count
        ("option_file = {here}/options; password = pw", "quote"),
        ("option_file = {here}/options; option_group = other", "quote"),
        ("option_file = {here}/more; option_group = other", "quote"),
        ("option_file = {here}/options; option_group = tls", "quote"),
        ("option_file = {here}/options; option_group = cert", "quote"),
        ("option_file = {here}/options; option_group = verify", "error"),
        ("option_file = {here}/options; option_group = verify; tls_CAfile = {here}/ca.pem", "error"),  # the file wins
        ("option_file = {here}/options; user = test", "quote"),
        ("user = test; charset = latin1", "quote"),
        ("user = test; charset = nosuch", "error"),
        ("user = test; query = CALL one('%s')", "quote"),
        ("user = test; query = CALL none()", "error"),
        ("user = test; query = CALL none(); require_result_set = no", None),
        ("user = test; query = CALL two()", "error"),
        ("user = test; query = SELECT v FROM t WHERE k = '%s' AND 1 = '1' UNION SELECT 'x'", "quote,x"),
    ],
)
def test_mysql(mariadb, here, open_with, logged, lines, expected):
    text = f"hosts = 127.0.0.1:{mariadb.port}\ndbname = d\nquery = SELECT v FROM t WHERE k = '%s'\n"
    table = open_with("mysql", text + lines.format(here=here).replace("; ", "\n") + "\n")
    assert answer(table, "o'b") == expected


def test_mysql_executes_one_statement(mariadb, open_with, logged):
    text = f"hosts = 127.0.0.1:{mariadb.port}\nuser = test\ndbname = d\nquery = SELECT 1; DELETE FROM t\n"
    assert answer(open_with("mysql", text), "a") == "error"
    assert "You have an error in your SQL syntax" in logged[-1]


def test_mysql_of_two_byte_characters(mariadb, open_with, logged):
    """A character whose second byte is a backslash hides no quote."""
    text = f"hosts = 127.0.0.1:{mariadb.port}\nuser = test\ndbname = d\ncharset = gbk\nquery = SELECT '%s'\n"
    table = open_with("mysql", text)
    table.utf8 = False
    assert table.lookup("a'b\\") == "a'b\\"
    with pytest.raises(TableError):
        table.lookup("\udcbf' OR 1=1 -- ")
    assert logged[-1] == "warning: dict_mysql: host (127.0.0.1) cannot escape input string: not gbk"
    table.close()


def test_mysql_server_that_takes_tls_away(here, open_with, logged):
    """Where TLS was asked for, a server (or somebody in between) that does not offer it learns nothing."""
    capabilities = 0xF7FF & ~0x800
    greeting = b"\x0a5.5.5-x\0" + struct.pack("<I", 1) + b"12345678\0" + struct.pack("<HBH", capabilities, 33, 2)
    greeting += struct.pack("<H", 0x000F) + b"\x15" + bytes(10) + b"123456789012\0" + b"mysql_native_password\0"
    received = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.sendall(struct.pack("<I", len(greeting)) + greeting)
                received.append(client.recv(1000))

    thread = threading.Thread(target=serve)
    thread.start()
    text = f"hosts = 127.0.0.1:{listener.getsockname()[1]}\nuser = u\npassword = pw\ndbname = d\nquery = SELECT 1\n"
    assert answer(open_with("mysql", f"{text}tls_CAfile = {here}/ca.pem\n"), "a") == "error"
    assert logged[-1].endswith("TLS/SSL error: SSL is required, but the server does not support it")
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    assert set(received) == {b""}


@pytest.mark.parametrize(
    ("hosts", "lines", "expected"),
    [
        ("{at}", "user = test; dbname = postgres", "quote"),
        ("inet:{at}", "user = test; dbname = postgres", "quote"),
        ("unix:/nowhere, {at}", "user = test; dbname = postgres", "quote"),
        ("{at}", "user = secret; password = pw; dbname = postgres", "quote"),
        ("{at}", "user = secret; password = wrong; dbname = postgres", "error"),
        ("postgresql://test@{at}/postgres", "", "quote"),
        ("postgresql://secret:pw@{at}/postgres?sslmode=require", "user = ignored; dbname = ignored", "quote"),
        ("postgresql://test@{at}/postgres?sslmode=verify-full&sslrootcert={here}/ca.pem", "", "quote"),
        ("postgresql://test@{at}/postgres?sslmode=verify-full&sslrootcert={here}/otherca.pem", "", "error"),
        ("postgresql://test@{at}/nosuch", "", "error"),
        ("{at}", "user = test; dbname = postgres; query = SELECT 1; SELECT 'last'", "last"),
        ("{at}", "user = test; dbname = postgres; query = CREATE TEMP TABLE x (y int)", None),
        ("{at}", "user = test; dbname = postgres; query = SELECT 1/0", "error"),
        ("{at}", "user = test; dbname = postgres; query = SELECT v, k FROM t WHERE k = '%s'", "quote,o'b"),
    ],
)
def test_pgsql(postgres, here, open_with, logged, hosts, lines, expected):
    text = f"hosts = {hosts}\nquery = SELECT v FROM t WHERE k = '%s'\n".format(
        at=f"127.0.0.1:{postgres.port}", here=here
    )
    lines = lines.replace("1; SELECT", "1;SELECT").replace("; ", "\n")
    assert answer(open_with("pgsql", text + lines + "\n"), "o'b") == expected


VERIFIED = "tls_require_cert = yes; tls_ca_cert_file = {here}/ca.pem"
DIGEST = "bind = sasl; sasl_mechs = DIGEST-MD5; bind_dn = ann; bind_pw = secret"
EXTERNAL = "bind = sasl; sasl_mechs = EXTERNAL; tls_ca_cert_file = {here}/ca.pem"


@pytest.mark.parametrize(
    ("key", "lines", "expected"),
    [
        ("ann", "start_tls = yes", "box1,box2"),
        ("ann", "server_host = ldaps://127.0.0.1:{tls}", "box1,box2"),
        (
            "ann",
            "server_host = ldaps://127.0.0.1:{tls}; " + VERIFIED,
            "box1,box2",
        ),
        (
            "ann",
            "server_host = ldaps://127.0.0.1:{tls}; " + VERIFIED.replace("/ca", "/otherca"),
            "error",
        ),
        ("ann", "start_tls = yes; tls_require_cert = yes; tls_ca_cert_file = {here}/ca.pem", "box1,box2"),
        ("ann", "start_tls = yes; tls_require_cert = yes; tls_ca_cert_file = {here}/otherca.pem", "error"),
        ("ann", "start_tls = yes; tls_require_cert = yes; tls_ca_cert_dir = {here}/hashed", "box1,box2"),
        ("ann", "start_tls = yes; tls_ca_cert_file = {here}/none.pem", "error"),
        ("ann", "start_tls = yes; tls_cipher_suite = NOSUCH", "error"),
        ("secret", "search_base = ou=hidden,dc=example; start_tls = yes", "error"),
        (
            "secret",
            "search_base = ou=hidden,dc=example; start_tls = yes; tls_cert = {here}/client.pem; "
            "tls_key = {here}/client.key; " + EXTERNAL,
            "hiddenbox",
        ),
        (
            "secret",
            "search_base = ou=hidden,dc=example; start_tls = yes; tls_cert = {here}/other.pem; "
            "tls_key = {here}/other.key; " + EXTERNAL,
            "error",
        ),
        ("alias", "search_base = ou=more,dc=example", None),
        ("ann", "search_base = ou=more,dc=example; dereference = 3", "box1,box2"),
        ("ann", "search_base = ou=more,dc=example; dereference = 1", "box1,box2"),
        ("ann", "search_base = ou=more,dc=example; dereference = 2", None),
        ("ann", "search_base = uid=alias,ou=more,dc=example; dereference = 2", "box1,box2"),
        ("ann", "search_base = ou=more,dc=example; chase_referrals = yes", "box1,box2"),
        ("ann", "search_base = ou=more,dc=example; chase_referrals = no", None),
        ("ann", "scope = one", "box1,box2"),
        ("ann", "scope = base", None),
        ("ann", "search_base = dc=example; scope = one", None),
        ("ann", "server_host = 127.0.0.1; server_port = {port}", "box1,box2"),
        ("ann", "server_host = ldap://127.0.0.1:9 ldap://127.0.0.1:{port}", "box1,box2"),
        ("ann", "result_filter = [%s]", "[box1],[box2]"),
        ("ann", "result_filter = [%s]; result_format = <%s>", "<box1>,<box2>"),
        ("ann", DIGEST, "box1,box2"),
        (
            "ann",
            DIGEST + "; sasl_authz_id = u:bob",
            "error",
        ),
        ("ann", DIGEST + "; sasl_minssf = 4000", "error"),
        ("ann", "version = 2; bind = simple", "box1,box2"),
        ("ann", "bind = NONE; cache_size = -1", "box1,box2"),
    ],
)
def test_ldap(slapd, here, open_with, logged, key, lines, expected):
    server = slapd
    text = f"server_host = 127.0.0.1:{server.port}\nversion = 3\nsearch_base = ou=people,dc=example\n"
    text += "query_filter = (uid=%s)\nresult_attribute = host\ntimeout = 10\n"
    lines = lines.format(here=here, tls=server.tls_port, port=server.port).replace("; ", "\n")
    assert answer(open_with("ldap", text + lines + "\n"), key) == expected


def test_ldap_debug_level(slapd, open_with, logged):
    """The library's own log, when it is asked for."""
    text = f"server_host = 127.0.0.1:{slapd.port}\nversion = 3\nsearch_base = dc=example\nquery_filter = (uid=%s)\n"
    try:
        assert answer(open_with("ldap", f"{text}result_attribute = host\ndebuglevel = 1\n"), "ann") == "box1,box2"
        assert any(line.startswith("info: dict_ldap_debug: ldap_search_ext") for line in logged)
    finally:
        libldap.set_debug_level(0)
    del logged[:]
    assert answer(open_with("ldap", f"{text}result_attribute = host\n"), "ann") == "box1,box2"
    assert logged == []
