"""Cases for compare_tables.py: tables in databases."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from table_case import Case, Step, encoded, options, setting

DATABASES = r"""
hosts = x
dbname = d
user = u
query = SELECT 'x'
query = SELECT '%s'
query = SELECT '%u', '%d'
query = SELECT '%1.%2'
query = SELECT %s
query = SELECT "%s"
query = SELECT v FROM t WHERE k = '%s'
query = SELECT v FROM t
query = SELECT
query = SELECT '%q'
query = SELECT NULL
query = SELECT ''
query = SELECT 1 UNION SELECT 2
table = t
select_field = v
where_field = k
additional_conditions = AND 1
result_format = <%s>
result_format = %u at %d
result_format = %S %U %D
result_format = %1
result_format = %
result_format =
domain = example.com
domain = !example.com, x
domain = fail:x
expansion_limit = 1
expansion_limit = 0
expansion_limit = -1
expansion_limit = x
junk
= x
a b = c
""".strip("\n").split("\n")


def sqlite(rng: random.Random, release: str) -> Case:
    """Cases of sqlite:, the one database that needs no server."""
    import sqlite3

    with tempfile.NamedTemporaryFile() as file:
        database = sqlite3.connect(file.name)
        database.execute("CREATE TABLE t (k text, v text)")
        rows = [
            ("a", "1"),
            ("a", "2"),
            ("o'b", "q"),
            ("user@example.com", "box@host"),
            ("é", "ü"),
            ("n", None),
            ("e", ""),
        ]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.commit()
        database.close()
        data = Path(file.name).read_bytes()
    lines = ["dbpath = db", rng.choice(DATABASES[3:16])] + [rng.choice(DATABASES) for _ in range(rng.randrange(5))]
    stdin = "a\no'b\nuser@example.com\né\nn\ne\nx@y\n@example.com\nuser@sub.example.com\n%s\nx' OR '1'='1\n".encode()
    stdin += rng.choice([b"", b"\n", b"\xff\n"])
    steps = [Step("postmap", [*options(rng, "fu"), "-q", "-", "sqlite:./c"], stdin)]
    return Case("sqlite", {"db": data, "c": "\n".join(lines).encode() + b"\n"}, steps, setting(rng))


def settings(rng: random.Random, first: list[str], more: list[str]) -> bytes:
    """The settings of a table: `first`, and a few others, some of which contradict them."""
    lines = [*first, *(rng.choice(more) for _ in range(rng.choice((0, 1, 1, 2, 3))))]
    return encoded("\n".join(lines) + "\n")


def queried(kind: str, rng: random.Random, config: bytes, stdin: bytes) -> Case:
    """A case that asks the table of the settings `config` some keys."""
    flags = options(rng, "fu")
    lines = [line for line in stdin.split(b"\n") if line]
    rng.shuffle(lines)
    steps = [
        Step("postmap", [*flags, "-q", "-", f"{kind}:./c"], b"\n".join(lines[:6]) + b"\n"),
        Step("postmap", [*flags, "-q", lines[0].decode("utf-8", "surrogateescape"), f"{kind}:./c"]),
    ]
    return Case(kind, {"c": config}, steps, setting(rng), served=True)


SQL_KEYS = (
    """\
a
A
o'b
back\\slash
user@example.com
é
É
n
empty
null
x@y
@example.com
user@
user@sub.example.com
%s
x' OR '1'='1
\\' OR 1=1 --
user@example.org
""".encode()
    + b"a\xff\n"
)
SQL_QUERIES = [line for line in DATABASES if line.startswith("query") and '"' not in line and "'%s'" in line]
SQL_MORE = [
    line for line in DATABASES if not line.startswith(("hosts", "dbname", "user", "query", "junk", "= x", "a b"))
]


def pgsql(rng: random.Random, release: str) -> Case:
    """Cases of pgsql:."""
    more = [
        *SQL_MORE,
        *DATABASES[3:14],
        "hosts = inet:@pgsql@",
        "hosts = 127.0.0.1:9",
        "hosts = unix:/nowhere, @pgsql@",
        "hosts = unix:/nowhere",
        "hosts = postgresql://test@@pgsql@/postgres",
        "hosts = postgresql://test@@pgsql@/nosuch",
        "hosts = postgresql://secret:pw@@pgsql@/postgres?sslmode=require",
        "hosts = postgresql://test@@pgsql@/postgres?sslmode=verify-full&sslrootcert=ca.pem",
        "hosts = postgresql://test@@pgsql@/postgres?sslmode=verify-full&sslrootcert=otherca.pem",
        "hosts = postgresql://tls@@pgsql@/postgres",
        "hosts = x://y",
        "dbname =",
        "dbname = nosuch",
        "user = nosuch",
        "user = secret",
        "user = secret\npassword = pw",
        "user = secret\npassword = wrong",
        "encoding = LATIN1",
        "encoding = NOSUCH",
        "encoding = SQL_ASCII",
        "query =\nselect_function = f",
        "select_function = f",
        "query = SELECT f('%s')",
        "query = SELECT v, k FROM t WHERE k = '%s'",
        "query = SELECT 1/0",
        "query = SELECT v FROM t WHERE k = E'%s'",
        "query = CREATE TEMP TABLE x (y int)",
        "query = SELECT 1; SELECT 2",
        "retry_interval = 0",
        "idle_interval = 5",
    ]
    first = ["hosts = @pgsql@", "dbname = postgres", "user = test", rng.choice(SQL_QUERIES)]
    return queried("pgsql", rng, settings(rng, first, more), SQL_KEYS)


def mysql(rng: random.Random, release: str) -> Case:
    """Cases of mysql:."""
    more = [
        *SQL_MORE,
        *DATABASES[3:14],
        "hosts = inet:@mysql@",
        "hosts = 127.0.0.1:9",
        "hosts = unix:/nowhere, @mysql@",
        "hosts = unix:/nowhere",
        "hosts = 127.0.0.1:nosuch",
        "dbname = nosuch",
        "user = nosuch",
        "user = secret",
        "user = secret\npassword = pw",
        "user = secret\npassword = wrong",
        "user = tls",
        "user = tls\ntls_CAfile = ca.pem",
        "user = tls\ntls_CApath = .",
        "user = tls\ntls_ciphers = DEFAULT",
        "user = tls\ntls_ciphers = nosuch",
        "user = tls\ntls_CAfile = ca.pem\ntls_verify_cert = yes",
        "user = tls\ntls_CAfile = otherca.pem\ntls_verify_cert = yes",
        "user = tls\ntls_CAfile = otherca.pem",
        "user = tls\ntls_CAfile = none.pem",
        "user = tls\ntls_verify_cert = no",
        "user = cert\ntls_CAfile = ca.pem",
        "user = cert\ntls_CAfile = ca.pem\ntls_cert_file = client.pem\ntls_key_file = client.key",
        "user = cert\ntls_cert_file = client.pem\ntls_key_file = client.key",
        "user = cert\ntls_cert_file = other.pem\ntls_key_file = other.key",
        "user = cert\ntls_cert_file = client.pem\ntls_key_file = none.key",
        "user =\noption_file = options",
        "user =\noption_file = options\noption_group = other",
        "user =\noption_file = options\noption_group =",
        "user =\noption_file = options\noption_group = tls",
        "user =\noption_file = options\noption_group = cert",
        "user =\noption_file = options\noption_group = nosuch",
        "user =\noption_file = options\noption_group = verify",
        "user =\noption_file = none",
        "option_file = options",
        "user = secret\npassword = wrong\noption_file = options",
        "tls_verify_cert = junk",
        "charset = latin1",
        "charset = nosuch",
        "query = CALL one('%s')",
        "query = CALL none()",
        "query = CALL none()\nrequire_result_set = no",
        "query = CALL two()",
        "query = SET @a = 1",
        "query = SET @a = 1\nrequire_result_set = no",
        "require_result_set = no",
        "query = SELECT v, k FROM t WHERE k = '%s'",
        "query = SELECT nosuch('%s')",
        "query = SELECT 1; SELECT 2",
        "query = SELECT CONNECTION_ID() > 0",
        "query = SELECT 1.50, x'6162', NOW() > 0, TRUE",
        "retry_interval = 0",
        "idle_interval = 5",
    ]
    first = ["hosts = @mysql@", "dbname = d", "user = test", rng.choice(SQL_QUERIES)]
    case = queried("mysql", rng, settings(rng, first, more), SQL_KEYS)
    case.files["options"] = OPTION_FILE
    return case


OPTION_FILE = b"""\
# of the C library
[client]
user = secret
password = "pw"
[other]
user=test
password=
[tls]
user = tls
ssl-ca = ca.pem
[cert]
user = cert
ssl_ca = ca.pem
ssl-cert = client.pem
ssl-key = 'client.key'
[verify]
user = tls
ssl-ca = otherca.pem
ssl-verify-server-cert
[mysqld]
user = nosuch
"""

LDAP_KEYS = (
    """\
ann
ANN
bob(x*)
all
url
loop
end
alias
secret
none
*
x)(uid=*
ann@x.sub
u@none
@sub
é
""".encode()
    + b"ann\xff\n"
)


def ldap(rng: random.Random, release: str) -> Case:
    """Cases of ldap:."""
    more = [
        "version = 2",
        "version = 4",
        "version = 1",
        "server_host = ldap://@ldap@",
        "server_host = ldaps://@ldaps@",
        "server_host = ldaps://@ldaps@\ntls_require_cert = yes",
        "server_host = ldaps://@ldaps@\ntls_require_cert = yes\ntls_ca_cert_file = ca.pem",
        "server_host = ldaps://@ldaps@\ntls_require_cert = yes\ntls_ca_cert_file = otherca.pem",
        "server_host = ldaps://@ldaps@\ntls_require_cert = yes\ntls_ca_cert_dir = .",
        "server_host = ldap://@ldap@\nstart_tls = yes",
        "server_host = @ldap@\nstart_tls = yes\ntls_require_cert = yes\ntls_ca_cert_file = ca.pem",
        "start_tls = yes\ntls_require_cert = yes\ntls_ca_cert_file = otherca.pem",
        "start_tls = yes\ntls_ca_cert_file = ca.pem\ntls_cert = client.pem\ntls_key = client.key\nbind = sasl\n"
        "sasl_mechs = EXTERNAL\nsearch_base = ou=hidden,dc=example",
        "start_tls = yes\ntls_ca_cert_file = ca.pem\ntls_cert = other.pem\ntls_key = other.key\nbind = sasl\n"
        "sasl_mechs = EXTERNAL\nsearch_base = ou=hidden,dc=example",
        "start_tls = yes\ntls_ca_cert_file = ca.pem\nsearch_base = ou=hidden,dc=example",
        "start_tls = yes\ntls_cipher_suite = SECURE256",
        "start_tls = yes\ntls_cipher_suite = NOSUCH",
        "start_tls = yes\ntls_random_file = /dev/urandom",
        "start_tls = yes\ntls_ca_cert_file = none.pem",
        "start_tls = yes\nversion = 2",
        "server_host = 127.0.0.1:9",
        "server_host = ldap://127.0.0.1:9 ldap://@ldap@",
        "server_host = 127.0.0.1\nserver_port = 9",
        "server_host = x://y",
        "server_host = ldap://[",
        "scope = one",
        "scope = BASE",
        "scope = nosuch",
        "timeout = 0",
        "timeout = x",
        "search_base = dc=example",
        "search_base = dc=none",
        "search_base = dc=%1,dc=example\nquery_filter = (dc=%1)\nresult_attribute = dc",
        "search_base = ou=more,dc=example",
        "search_base = ou=more,dc=example\ndereference = 3",
        "search_base = ou=more,dc=example\ndereference = 1",
        "search_base = uid=alias,ou=more,dc=example\ndereference = 2",
        "dereference = 4",
        "search_base = ou=more,dc=example\nchase_referrals = yes",
        "search_base = ou=more,dc=example\nchase_referrals = no",
        "search_base =",
        "query_filter = (uid=%u)",
        "query_filter = (&(uid=%s)(objectClass=account))",
        "query_filter = (objectClass=account)",
        "query_filter = uid=%s",
        "query_filter = (uid=%s",
        "query_filter = %q",
        "query_filter = (uid=%%s)",
        "query_filter = (objectClass=account)\nsize_limit = 2",
        "query_filter = (objectClass=account)\nexpansion_limit = 2",
        "query_filter = (objectClass=account)\nexpansion_limit = 2\nsize_limit = 0",
        "result_attribute = uid, l",
        "result_attribute =",
        "result_attribute = description",
        "result_attribute = host;x-option",
        "special_result_attribute = seeAlso",
        "special_result_attribute = seeAlso\nleaf_result_attribute = l",
        "special_result_attribute = seeAlso\nterminal_result_attribute = l",
        "special_result_attribute = seeAlso\nrecursion_limit = 3",
        "special_result_attribute = description",
        "special_result_attribute = description\nresult_attribute = uid",
        "recursion_limit = 0",
        "expansion_limit = 1",
        "size_limit = 1",
        "result_format = <%s>",
        "result_format = <%u at %d>\nresult_attribute = description",
        "result_format =",
        "result_filter = [%s]",
        "result_filter = [%s]\nresult_format = <%s>",
        "domain = x.sub",
        "bind = no",
        "bind = none",
        "bind = simple",
        "bind = YES",
        "bind = maybe",
        "bind_dn = uid=ann,ou=people,dc=example\nbind_pw = secret",
        "bind_dn = uid=ann,ou=people,dc=example\nbind_pw = wrong",
        "bind_dn = uid=ann,ou=people,dc=example",
        "bind = sasl\nsasl_mechs = DIGEST-MD5\nbind_dn = ann\nbind_pw = secret",
        "bind = sasl\nsasl_mechs = DIGEST-MD5\nbind_dn = ann\nbind_pw = wrong",
        "bind = sasl\nsasl_mechs = NOSUCH\nbind_dn = ann\nbind_pw = secret",
        "bind = sasl\nsasl_mechs = DIGEST-MD5\nbind_dn = ann\nbind_pw = secret\nsasl_authz_id = u:bob",
        "bind = sasl\nsasl_mechs = DIGEST-MD5\nbind_dn = ann\nbind_pw = secret\nsasl_realm = r",
        "cache = yes",
        "cache = no",
        "cache = x",
        "cache_expiry = 5",
        "cache_size = 5",
        "cache_size = -1",
        "debuglevel = 0",
        "debuglevel = x",
    ]
    first = ["server_host = @ldap@", "version = 3", "search_base = ou=people,dc=example", "query_filter = (uid=%s)"]
    first += ["result_attribute = host", "timeout = 10"]
    if rng.random() < 0.1:
        del first[1]
    return queried("ldap", rng, settings(rng, first, more), LDAP_KEYS)


def scripted(answer: bytes, *, close: bool = False) -> str:
    """A key that has table_servers.Script answer with these bytes."""
    return f"<{answer.hex()}{'!' if close else ''}>"


def memcache(rng: random.Random, release: str) -> Case:
    """Cases of memcache:, with a real server, and with one that says what it likes."""
    more = [
        "key_format = p-%s",
        "key_format = %u",
        "key_format = %1",
        "key_format = %q",
        "key_format = a b %s",
        "key_format = %%",
        "key_digest = sha256",
        "key_digest = nosuch",
        "domain = example.com",
        "domain = !example.com",
        "ttl = 5",
        "ttl = -1",
        "flags = 3",
        "backup = inline:{{b = 2}, {user@example.com = u}}",
        "backup = fail:x",
        "backup = static:v",
        "backup = hash:./t",
        "backup = nosuch:x",
        "line_size_limit = 5",
        "data_size_limit = 3",
        "max_try = 1",
        "max_try = 0",
        "retry_pause = 1",
        "timeout = 1",
        "timeout = x",
        "memcache = inet:127.0.0.1:9",
        "memcache = unix:/nowhere",
        "memcache = x",
        "memcache = tcp:a:1",
        "memcache = inet:127.0.0.1",
        "memcache = inet:nosuch.invalid:1",
    ]
    config = settings(rng, ["memcache = inet:@memcache@"], more)
    name = "memcache:./c"
    key = rng.choice(["a", "B", "user@example.com", "x y", "é", "none", "b"])
    value = rng.choice(["v", "two words", "é", "12345", "x" * 2000])
    steps = [
        Step("postmap", ["-q", "-", name], b"a\nB\nb\nx y\nuser@example.com\n\xc3\xa9\nnone\n"),
        Step("postmap", ["-d", key, name]),
        Step("postmap", ["-s", name], unordered=True),
    ]
    if release >= "3.8":  # before, there was no way to add to a table that postmap cannot make
        steps.insert(0, Step("postmap", ["-i", name], encoded(f"{key.replace(' ', '_')} {value}\n")))
    return Case("memcache", {"c": config, "t": b"h h\n"}, steps, setting(rng), served=True)


TCP_REPLIES = [
    b"200 v\n", b"200 a%20b\n", b"500 x\n", b"400 y\n", b"200 \n", b"200\n", b"2\n", b"\n", b"200 %4\n", b"200 %zz\n",
    b"300 x\n", b"abc def\n", b"200 v\r\n", b"200 \xff\n", b"200 %00x\n", b"2xx v\n", b"200\tv\n", b"200 v w\n",
    b"20 v\n", b"2000 v\n", b"500\n", b"400 %41%42\n", b"200 %C3%A9\n", b"200 %c3%a9\n",
]  # fmt: skip


def tcp(rng: random.Random, release: str) -> Case:
    """Cases of tcp:: a server that says what it likes."""
    keys = [scripted(rng.choice(TCP_REPLIES)) for _ in range(3)]
    name = rng.choice(["tcp:@script@"] * 9 + ["tcp:127.0.0.1", "tcp:", "tcp:x:nosuch"])
    flags = options(rng, "fu")
    steps = [Step("postmap", [*flags, "-q", key, name]) for key in keys[:2]]
    steps.append(Step("postmap", [*flags, "-q", "-", name], "\n".join(keys).encode() + b"\n"))
    return Case("tcp", {}, steps, setting(rng), served=True)


SOCKETMAP_REPLIES = [
    b"4:OK v,", b"3:OK ,", b"2:OK,", b"9:NOTFOUND ,", b"8:NOTFOUND,", b"4:TEMP,", b"8:TEMP why,", b"8:PERM why,",
    b"9:TIMEOUT x,", b"1:x,", b"0:,", b"x", b"4:OK v;", b"99999999:x", b"123456789012:", b":,", b"-1:x,", b"04:OK v,",
    b" 4:OK v,", b"5:OK \xc3\xa9,", b"4:OK \xff,", b"6:OK a\0b,", b"5:ok vv,", b"6:PERM  ,", b"9:OK two w,,",
    b"7:OKvalue,", b"9:TEMP a\tb\n,", b"11:TEMP \xc3\xa9\xff\x01 x,",
]  # fmt: skip
SOCKETMAP_NAMES = [
    "socketmap:inet:@script@:m",
    "socketmap:inet:@script@:",
    "socketmap:inet:@script@",
    "socketmap:inet:127.0.0.1:9:m",
    "socketmap:unix:/nowhere:m",
    "socketmap:unix::m",
    "socketmap:inet::m",
    "socketmap:inet:127.0.0.1:m",
    "socketmap:inet:nosuch.invalid:1:m",
    "socketmap:inet:x:nosuch:m",
    "socketmap:x:y:m",
    "socketmap::m",
    "socketmap:m",
    "socketmap:",
    "socketmap:local:/nowhere:m",
    "socketmap:inet:[::1]:9:m",
    "socketmap:inet:[127.0.0.1:9:m",
    "socketmap:inet::9:m",
    "socketmap:inet:127.0.0.1:99999:m",
]


def socketmap(rng: random.Random, release: str) -> Case:
    """Cases of socketmap:: names, and a server that says what it likes."""
    keys = [scripted(rng.choice(SOCKETMAP_REPLIES)) for _ in range(3)]
    name = rng.choice([SOCKETMAP_NAMES[0]] * 12 + SOCKETMAP_NAMES)
    flags = options(rng, "fu")
    steps = [Step("postmap", [*flags, "-q", key, name]) for key in keys[:2]]
    steps.append(Step("postmap", [*flags, "-q", "-", name], "\n".join(keys).encode() + b"\n"))
    main_cf = rng.choice(["", "", "socketmap_max_reply_size = 5\n"]) if release >= "3.10" else ""
    return Case("socketmap", {}, steps, setting(rng) + main_cf, served=True)


SERVED: dict[str, Callable[[random.Random, str], Case]] = {
    "pgsql": pgsql,
    "mysql": mysql,
    "ldap": ldap,
    "memcache": memcache,
    "tcp": tcp,
    "socketmap": socketmap,
}
"""Kinds of cases that need the servers of table_servers.py."""
