"""mysql: tables (mysql_table(5)), with the package aiomysql (``postfixpy[mysql]``)."""

import errno
import socket
from typing import Any

from postfixpy.errors import FatalError
from postfixpy.lookup.network import load_driver
from postfixpy.lookup.sql import CONNECT_TIMEOUT, INET, UNIX, Host, ServerError, SqlTable
from postfixpy.lookup.table import Flags, OpenError, Settings

aiomysql = load_driver("aiomysql", "mysql")
pymysql = load_driver("pymysql", "mysql")
load_driver("pymysql.charset", "mysql")
_MULTI_RESULTS = 1 << 17  # a flag of the protocol: the client takes several results, as stored procedures give

DEFAULT_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
"""Where "localhost" listens, in the order in which they are looked for: the C library has one of them built in."""


def _reason(error: Exception) -> str:
    """The server's or the library's text of an error."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def _connect_reason(error: Exception, where: dict[str, Any]) -> str:
    """The text of a failed connection, in the words of the C library."""
    cause = error.__cause__ or error.__context__
    number = getattr(cause, "errno", None) or errno.EINPROGRESS
    if error.args[:1] != (2003,):
        return _reason(error)
    if "unix_socket" in where:
        return f"Can't connect to local server through socket '{where['unix_socket']}' ({number})"
    return f"Can't connect to server on '{where.get('host', 'localhost')}' ({errno.EINPROGRESS})"


class MysqlConnection:
    """One connection."""

    def __init__(self, connection: Any, table: "Mysql") -> None:
        self.connection, self.table = connection, table

    def quote(self, text: str) -> str:
        escaped: str = self.connection.escape_string(text)
        return escaped

    async def query(self, sql: str) -> list[list[str | None]]:
        start = f"{self.table.name}: query failed"
        found: list[list[str | None]] | None = None
        try:
            async with self.connection.cursor() as cursor:
                await cursor.execute(sql)
                while True:
                    if cursor.description is not None:
                        if found is not None:
                            text = "multiple result sets returning data are not supported"
                            raise ServerError(f"{start}: {text}")
                        found = [[_text(value) for value in row] for row in await cursor.fetchall()]
                    if not await cursor.nextset():
                        break
        except (pymysql.Error, UnicodeEncodeError) as error:
            raise ServerError(f"{start}: {_reason(error)}") from None
        if found is None and self.table.require_result_set:
            raise ServerError(f"{start}: query returned no result set(require_result_set = yes)")
        return found or []

    def close(self) -> None:
        self.connection.close()


def _text(value: object) -> str | None:
    if value is None:
        return None
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class Mysql(SqlTable):
    """``mysql:/path/of/settings``."""

    kind = "mysql"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        config = self.config
        self.database = config.text("dbname", minimum=1)
        self.charset = config.text("charset", "utf8mb4", 1)
        self.option_file = config.text("option_file")
        self.option_group = config.text("option_group", "client")
        self.require_result_set = config.boolean("require_result_set", True)
        self.tls = self._tls()

    def _tls(self) -> Any:
        """The TLS context that the ``tls_`` settings ask for, None if they do not."""
        config = self.config
        files = {name: config.text(f"tls_{name}") for name in ("key_file", "cert_file", "CAfile", "CApath", "ciphers")}
        if not any(files.values()) and not config.given("tls_verify_cert"):
            return None
        import ssl

        context = ssl.create_default_context(cafile=files["CAfile"] or None, capath=files["CApath"] or None)
        if not config.boolean("tls_verify_cert", False):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if files["cert_file"]:
                context.load_cert_chain(files["cert_file"], files["key_file"] or None)
            if files["ciphers"]:
                context.set_ciphers(files["ciphers"])
        except (OSError, ssl.SSLError) as error:
            raise OpenError(f"{self.name}: cannot use the TLS settings: {error}") from None
        return context

    def parse_host(self, text: str) -> Host:
        kind, name = (UNIX, text[5:]) if text.startswith("unix:") else (INET, text.removeprefix("inet:"))
        address, colon, port = name.rpartition(":")
        if colon:
            name = address
            try:
                port = port if port.isdigit() else str(socket.getservbyname(port, "tcp"))
            except OSError:
                raise FatalError(f"unknown service: {port}/tcp") from None
        if name.lower() == "localhost":
            kind, name = UNIX, ""
        return Host(text, kind, name, port if colon else "")

    async def connect(self, host: Host) -> MysqlConnection:
        if pymysql.charset.charset_by_name(self.charset) is None:
            raise ServerError(f"dict_mysql: mysql_set_character_set '{self.charset}' failed: unknown character set")
        last = ServerError(f"connect to mysql server {host.text}: no socket")
        for where in self._places(host):
            settings: dict[str, Any] = {
                "user": self.user or None,
                "password": self.password,
                "db": self.database,
                "charset": self.charset,
                "conv": {},
                "client_flag": _MULTI_RESULTS,
                "connect_timeout": CONNECT_TIMEOUT,
                "autocommit": True,
                "ssl": self.tls,
                **where,
            }
            if self.option_file:
                settings |= {"read_default_file": self.option_file, "read_default_group": self.option_group or "client"}
            try:
                return MysqlConnection(await aiomysql.connect(**settings), self)
            except (pymysql.Error, OSError, LookupError, ValueError) as error:
                last = ServerError(f"connect to mysql server {host.text}: {_connect_reason(error, where)}")
        raise last

    def _places(self, host: Host) -> list[dict[str, Any]]:
        if host.kind == INET:
            return [{"host": host.name, "port": int(host.port or 3306)}]
        if host.name:
            return [{"unix_socket": host.name}]
        if self.option_file:
            return [{}]
        return [{"unix_socket": path} for path in DEFAULT_SOCKETS]
