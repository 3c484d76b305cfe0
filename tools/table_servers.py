"""The database servers that tables ask, for tests and compare_tables.py: Debian's, started in a folder of their own.

Each listens on a UNIX-domain socket and on a port of loopback, with TLS where the program has it; each has the same
few rows or entries. The programs are looked for in the usual places and under $POSTFIXPY_SERVERS, a folder into which
the packages were unpacked (dpkg -x).
"""

import getpass
import glob
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

UNPACKED = os.environ.get("POSTFIXPY_SERVERS", "")

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
"""The rows of the table t of the SQL servers, columns k and v."""


class Missing(Exception):
    """A server cannot be started here. str(error) says why."""


def program(*patterns: str) -> str:
    """The path of a program. Raises Missing."""
    for pattern in patterns:
        for root in ("", UNPACKED):
            found = sorted(glob.glob(root + pattern)) if root or pattern.startswith("/") else []
            if found:
                return found[-1]
    raise Missing(f"no {patterns[0]}")


def environment() -> dict[str, str]:
    """The environment of the servers."""
    libraries = f"{UNPACKED}/usr/lib/x86_64-linux-gnu" if UNPACKED else ""
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "LC_ALL": "C.UTF-8"}


def accepts(path: object) -> bool:
    """Whether a server takes connections on the socket `path`: it may be there before."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def certificates(folder: Path) -> None:
    """An authority ``ca.pem``, and ``server``, ``client`` and ``other`` (of another authority), each .pem and .key.

    Raises Missing.
    """
    openssl = program("/usr/bin/openssl")

    def make(name: str, subject: str, issuer: str = "", *more: str) -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
        signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
        words = [openssl, "req", "-x509", *key, "-out", f"{name}.pem", "-subj", subject, "-days", "30", *signed, *more]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)

    make("ca", "/CN=Test CA")
    make("otherca", "/CN=Other CA")
    end = ("-addext", "basicConstraints=critical,CA:FALSE")
    make("server", "/CN=localhost", "ca", *end, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    make("elsewhere", "/CN=elsewhere.example", "ca", *end, "-addext", "subjectAltName=DNS:elsewhere.example")
    make("client", "/CN=client", "ca", *end)
    make("other", "/CN=other", "otherca", *end)
    for path in folder.glob("*.key"):
        path.chmod(0o644)  # they protect nothing, and the servers have users of their own
    for path in folder.glob("*.pem"):
        path.chmod(0o644)


def unprivileged() -> list[str]:
    """How to run a server that refuses root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []


class Process:
    """A server that runs until `stop`. Raises Missing when it does not start."""

    def __init__(self, command: list[str], ready: Callable[[], bool], log: Path) -> None:
        self.command, self.ready, self.log = command, ready, log
        self.start()

    def start(self) -> None:
        """Start it, again after `stop`."""
        self.output = open(self.log, "ab")  # noqa: SIM115  # closed by stop(), when the server is gone
        self.process = subprocess.Popen(self.command, env=environment(), stdout=self.output, stderr=self.output)
        limit = time.monotonic() + 60
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise Missing(f"{self.command[0]} does not start: {self.log.read_text()[-300:]}")
            time.sleep(0.05)

    def stop(self, sign: int = signal.SIGINT) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()


class Postgres(Process):
    """PostgreSQL: the database "postgres", the user "test"; "secret" needs the password "pw"; "tls" a certificate."""

    def __init__(self, folder: Path) -> None:
        initdb = program("/usr/lib/postgresql/*/bin/initdb")
        bin = os.path.dirname(initdb)
        self.folder, self.port = folder, free_port()
        self.socket = folder / f".s.PGSQL.{self.port}"
        command = [
            *unprivileged(),
            initdb,
            "-D",
            f"{folder}/data",
            "-U",
            "test",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run([*command, "--locale=C.UTF-8"], check=True, capture_output=True, env=environment())
        data = folder / "data"
        copied = ("cp", f"{folder}/server.key", f"{folder}/server.pem", f"{folder}/ca.pem", str(data))
        subprocess.run([*unprivileged(), *copied], check=True)
        subprocess.run([*unprivileged(), "chmod", "600", str(data / "server.key")], check=True)
        rules = (
            "local all all trust\nhost all secret all scram-sha-256\nhostssl all tls all cert\nhost all all all trust\n"
        )
        hba = data / "pg_hba.conf"
        subprocess.run([*unprivileged(), "tee", str(hba)], input=rules.encode(), check=True, capture_output=True)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "ssl": "on",
            "ssl_cert_file": "server.pem",
            "ssl_key_file": "server.key",
            "ssl_ca_file": "ca.pem",
        }
        server = [*unprivileged(), f"{bin}/postgres", "-D", str(data), "-k", str(folder), "-F"]
        for name, value in options.items():
            server += ["-c", f"{name}={value}"]
        self.psql = [f"{bin}/psql", "-h", str(folder), "-p", str(self.port), "-U", "test", "postgres", "-qc"]
        super().__init__(server, lambda: self.run("select 1") == 0, folder / "postgres.log")
        self.run("CREATE TABLE t (k text, v text)")
        for key, value in ROWS:
            quoted, literal = key.replace("'", "''"), "NULL" if value is None else f"'{value}'"
            self.run(f"INSERT INTO t VALUES ('{quoted}', {literal})")
        self.run("CREATE FUNCTION f(text) RETURNS text AS $$ SELECT 'f' || $1 $$ LANGUAGE sql")
        self.run("CREATE ROLE secret LOGIN PASSWORD 'pw'")
        self.run("CREATE ROLE client LOGIN")
        self.run("CREATE ROLE tls LOGIN")
        self.run("GRANT SELECT ON t TO PUBLIC")

    def run(self, sql: str) -> int:
        """Execute `sql`; the exit status."""
        return subprocess.run([*self.psql, sql], capture_output=True, env=environment()).returncode


class Mariadb(Process):
    """MariaDB: the database "d"; the users "root" and "test" without a password, "secret" with the password "pw", and
    "tls" and "cert" for whom TLS, or a certificate, is a must.
    """

    def __init__(self, folder: Path) -> None:
        import pymysql  # a part of the extra

        mariadbd = program("/usr/sbin/mariadbd", "/usr/sbin/mysqld")
        root = mariadbd.removesuffix("/usr/sbin/mariadbd")
        self.folder, self.port, self.socket = folder, free_port(), folder / "my.sock"
        (folder / "mydata").mkdir()
        users = ("'test'@'%'", "'secret'@'%' IDENTIFIED BY 'pw'", "'tls'@'%' REQUIRE SSL", "'cert'@'%' REQUIRE X509")
        statements = ["CREATE DATABASE d CHARACTER SET utf8mb4"]
        statements.append("CREATE TABLE d.t (k varchar(100) COLLATE utf8mb4_bin, v varchar(100)) CHARACTER SET utf8mb4")
        for key, value in ROWS:
            literal = "NULL" if value is None else "'" + value + "'"
            quoted = key.replace("\\", "\\\\").replace("'", "''")
            statements.append(f"INSERT INTO d.t VALUES ('{quoted}', {literal})")
        statements.append("CREATE PROCEDURE d.one(IN p varchar(100)) SELECT v FROM d.t WHERE k = p")
        statements.append("CREATE PROCEDURE d.none() SET @a = 1")
        statements.append("CREATE PROCEDURE d.two() BEGIN SELECT 1; SELECT 2; END")
        for user in users:
            statements.append(f"CREATE USER {user}")
            statements.append(f"GRANT ALL ON d.* TO {user.split()[0]}")
        common = [f"--datadir={folder}/mydata", f"--user={getpass.getuser()}", "--innodb-buffer-pool-size=16M"]
        common.append(f"--lc-messages-dir={root}/usr/share/mysql")
        install = [program("/usr/bin/mariadb-install-db"), "--no-defaults", *common, "--skip-name-resolve"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db", f"--tmpdir={folder}"]
        done = subprocess.run(install, env=environment(), capture_output=True)
        if done.returncode:
            raise Missing(f"mariadb-install-db: {done.stderr.decode()[-300:]}")
        command = [mariadbd, "--no-defaults", *common, f"--socket={self.socket}", f"--port={self.port}"]
        command += ["--bind-address=127.0.0.1", f"--pid-file={folder}/my.pid", "--innodb-fast-shutdown=2"]
        command += [f"--ssl-ca={folder}/ca.pem", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key"]
        super().__init__([*command, "--skip-name-resolve"], lambda: accepts(self.socket), folder / "mariadb.log")
        with pymysql.connect(unix_socket=str(self.socket), user="root", charset="utf8mb4", autocommit=True) as client:
            for statement in statements:
                client.cursor().execute(statement)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """See `Process`."""
        super().stop(sign)


class Memcached(Process):
    """memcached, which begins empty."""

    def __init__(self, folder: Path, name: str = "memcached") -> None:
        self.port = free_port()
        command = [program("/usr/bin/memcached"), "-l", "127.0.0.1", "-p", str(self.port), "-u", getpass.getuser()]
        super().__init__([*command, "-t", "1"], self._listens, folder / f"{name}.log")

    def clear(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"flush_all\r\n")
            client.recv(10)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """See `Process`."""
        super().stop(sign)


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


class Slapd(Process):
    """OpenLDAP's server: ``dc=example``; the entry of ann has the password "secret", the root's is "top".

    Beside `LDIF` there are entries below ``ou=more`` that are an alias, a referral to the server itself, and visible
    only to the owner of the client certificate.
    """

    def __init__(self, folder: Path) -> None:
        slapd = program("/usr/sbin/slapd")
        etc, modules = ("/etc/ldap", "/usr/lib/ldap")
        if UNPACKED and slapd.startswith(UNPACKED):
            etc, modules = UNPACKED + etc, UNPACKED + modules
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self.socket = folder / "ldapi"
        self.url = "ldapi://" + str(self.socket).replace("/", "%2F")
        (folder / "ldapdata").mkdir()
        (folder / "slapd.conf").write_text(
            "".join(f"include {etc}/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson", "nis"))
            + f"modulepath {modules}\nmoduleload back_mdb\npidfile {folder}/slapd.pid\nallow bind_v2\n"
            + f"TLSCACertificateFile {folder}/ca.pem\nTLSCertificateFile {folder}/server.pem\n"
            + f"TLSCertificateKeyFile {folder}/server.key\nTLSVerifyClient allow\n"
            + "authz-policy to\nauthz-regexp uid=([^,]*),cn=.*,cn=auth uid=$1,ou=people,dc=example\n"
            + f"database mdb\nsuffix dc=example\ndirectory {folder}/ldapdata\nrootdn cn=root,dc=example\nrootpw top\n"
            + "maxsize 10485760\ndbnosync\n"
            + 'access to dn.subtree="ou=hidden,dc=example" by dn="cn=client" read by * none\n'
            + "access to * by * read\n"
        )
        (folder / "data.ldif").write_text(LDIF + self._more())
        add = shutil.which("slapadd") or slapd
        first = ["-T", "a"] if add == slapd else []
        command = [add, *first, "-f", f"{folder}/slapd.conf", "-l", f"{folder}/data.ldif"]
        done = subprocess.run(command, env=environment(), capture_output=True)
        if done.returncode:
            raise Missing(f"slapadd: {done.stderr.decode()[-300:]}")
        urls = f"{self.url} ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        server = [slapd, "-f", f"{folder}/slapd.conf", "-h", urls, "-d", "0"]
        super().__init__(server, lambda: accepts(self.socket), folder / "slapd.log")

    def _more(self) -> str:
        return f"""
dn: ou=more,dc=example
objectClass: organizationalUnit
ou: more

dn: uid=alias,ou=more,dc=example
objectClass: alias
objectClass: extensibleObject
uid: alias
aliasedObjectName: uid=ann,ou=people,dc=example

dn: cn=ref,ou=more,dc=example
objectClass: referral
objectClass: extensibleObject
cn: ref
ref: ldap://127.0.0.1:{self.port}/ou=people,dc=example??sub

dn: ou=hidden,dc=example
objectClass: organizationalUnit
ou: hidden

dn: uid=secret,ou=hidden,dc=example
objectClass: account
uid: secret
host: hiddenbox
"""

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """See `Process`."""
        super().stop(sign)


class Script:
    """A server on a port of loopback that answers a request with the bytes whose hexadecimal form is in it.

    What stands between "<" and ">" is sent and the connection stays open; behind a "!" it is closed.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            pending = b""
            try:
                while data := client.recv(65536):
                    pending += data
                    while (end := pending.find(b">")) >= 0:
                        request, pending = pending[:end], pending[end + 1 :]
                        answer = request.rpartition(b"<")[2]
                        client.sendall(bytes.fromhex(answer.strip(b"!").decode()))
                        if answer.endswith(b"!"):
                            return
            except (OSError, ValueError):
                return

    def stop(self) -> None:
        """Stop listening."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
