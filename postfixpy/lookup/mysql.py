"""mysql: tables (mysql_table(5)), with the package aiomysql (``postfixpy[mysql]``).

It is made to behave as the C library that Postfix uses: text is bytes whatever the character set, and is quoted
accordingly; one statement a query; option files; TLS that was asked for and is not there is an error. As in Postfix,
the password of an option file does not count.
"""

import contextlib
import errno
import os
import pwd
import socket
import ssl
from typing import Any

from postfixpy.errors import FatalError
from postfixpy.lookup import mysql_options
from postfixpy.lookup.network import load_driver
from postfixpy.lookup.sql import CONNECT_TIMEOUT, INET, UNIX, Host, ServerError, SqlTable
from postfixpy.lookup.table import Flags, Settings, release

aiomysql = load_driver("aiomysql", "mysql")
pymysql = load_driver("pymysql", "mysql")
load_driver("pymysql.charset", "mysql")
_MULTI_STATEMENTS, _MULTI_RESULTS, _SSL = 1 << 16, 1 << 17, 1 << 11  # flags of the protocol
_BACKSLASH_IN_CHARACTERS = {"big5": "big5", "cp932": "cp932", "gb18030": "gb18030", "gbk": "gbk", "sjis": "shift_jis"}
"""Character sets in which the second byte of a character may be a backslash, and Python's codec of each."""

DEFAULT_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
"""Where "localhost" listens, in the order in which they are looked for: the C library has one of them built in."""
_AGAIN = os.strerror(errno.EAGAIN)
"""What the C library leaves in errno when the server has refused something."""


def _reason(error: Exception) -> str:
    """The server's or the library's text of an error."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def _connect_failure(error: Exception, where: dict[str, Any]) -> tuple[str, str]:
    """The text of a failed connection, in the words of the C library, and the system's text that it leaves behind."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"TLS/SSL error: {cause.verify_message}", "Application error"
    if isinstance(cause, ssl.SSLError):
        return f"TLS/SSL error: {getattr(cause, 'reason', None) or cause}", "Application error"
    if error.args[:1] != (2003,):
        return _reason(error), _AGAIN
    number = getattr(cause, "errno", None) or errno.EINPROGRESS
    if "unix_socket" in where:
        text = f"Can't connect to local server through socket '{where['unix_socket']}' ({number})"
        return text, os.strerror(number)
    text = f"Can't connect to server on '{where.get('host', 'localhost')}' ({errno.EINPROGRESS})"
    return text, os.strerror(errno.EINPROGRESS)


_Connection: Any = aiomysql.Connection


class _Client(_Connection):  # type: ignore[misc]  # Any: the package is optional
    """A connection that executes one statement at a time, and does without TLS only if it may."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.client_flag &= ~_MULTI_STATEMENTS

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self._ssl_context and not self.server_capabilities & _SSL:
            text = "TLS/SSL error: SSL is required, but the server does not support it"
            raise pymysql.OperationalError(2026, text)

    async def _request_authentication(self) -> None:
        raw = self._writer.get_extra_info("socket").dup()
        try:
            await super()._request_authentication()
        except BaseException:
            self.hang_up()
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)  # a TLS handshake that is given up keeps the connection else
            raise
        finally:
            raw.close()

    def hang_up(self) -> None:
        """Close the connection without the exchange of goodbyes that TLS has."""
        if self._writer is not None:
            self._writer.transport.abort()


class MysqlConnection:
    """One connection."""

    def __init__(self, connection: Any, table: "Mysql") -> None:
        self.connection, self.table = connection, table
        self.codec = _BACKSLASH_IN_CHARACTERS.get(table.charset, "")

    def quote(self, text: str) -> str:
        if not self.codec or text.isascii():
            escaped: str = self.connection.escape_string(text)
            return escaped
        try:
            characters = text.encode("utf-8", "surrogateescape").decode(self.codec)
        except UnicodeDecodeError:
            start = f"dict_mysql: host ({self.connection.host}) cannot escape input string"
            raise ServerError(f"{start}: not {self.table.charset}", _AGAIN) from None
        data: bytes = self.connection.escape_string(characters).encode(self.codec)
        return data.decode("utf-8", "surrogateescape")

    async def query(self, sql: str) -> list[list[str | None]]:
        start = f"{self.table.name}: query failed"
        found: list[list[str | None]] | None = None
        try:
            async with self.connection.cursor() as cursor:
                await cursor.execute(sql.encode("utf-8", "surrogateescape"))
                while True:
                    if cursor.description is not None:
                        if found is not None:
                            text = "multiple result sets returning data are not supported"
                            raise ServerError(f"{start}: {text}", _AGAIN)
                        found = [[_text(value) for value in row] for row in await cursor.fetchall()]
                    if not await cursor.nextset():
                        break
        except pymysql.Error as error:
            raise ServerError(f"{start}: {_reason(error)}", _AGAIN) from None
        if found is None and self.table.require_result_set:
            raise ServerError(f"{start}: query returned no result set(require_result_set = yes)", _AGAIN)
        return found or []

    def close(self) -> None:
        self.connection.hang_up()
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
        self.charset = config.text("charset", "utf8mb4", 1) if release(settings) >= (3, 9) else "utf8mb4"
        self.option_file = config.text("option_file")
        self.option_group = config.text("option_group", "client")
        self.require_result_set = config.boolean("require_result_set", True)
        self.verify = config.boolean("tls_verify_cert", False) if config.given("tls_verify_cert") else None
        self.files = {
            name: config.text(f"tls_{name}") for name in ("key_file", "cert_file", "CAfile", "CApath", "ciphers")
        }

    def _options(self) -> dict[str, str]:
        """What the option files say."""
        if self.option_file:
            return mysql_options.read(self.option_file, self.option_group)
        found: dict[str, str] = {}
        for path in mysql_options.default_files() if self.option_group else ():
            found |= mysql_options.read(path, self.option_group)
        return found

    def _tls(self, options: dict[str, str]) -> Any:
        """The TLS context that is asked for, None if none is. Raises ServerError.

        As in the C library, option files win; the certificate is verified as soon as an authority is named, its
        name only when that is asked for.
        """
        names = {"key_file": "key", "cert_file": "cert", "CAfile": "ca", "CApath": "capath", "ciphers": "cipher"}
        files = {name: options.get(f"ssl-{option}") or self.files[name] for name, option in names.items()}
        verify = bool(self.verify)
        if "ssl-verify-server-cert" in options:
            verify = options["ssl-verify-server-cert"].lower() not in ("0", "off", "false")
        if not any(files.values()) and not verify:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = verify
        context.verify_mode = ssl.CERT_REQUIRED if verify or files["CAfile"] or files["CApath"] else ssl.CERT_NONE
        try:
            if files["CAfile"] or files["CApath"]:
                context.load_verify_locations(files["CAfile"] or None, files["CApath"] or None)
            elif verify:
                context.set_default_verify_paths()
            for path in (files["key_file"], files["cert_file"]):
                if path and not os.path.exists(path):
                    raise ServerError(f"File '{path}' not found (Errcode: {errno.ENOENT})", os.strerror(errno.ENOENT))
            if files["cert_file"] or files["key_file"]:
                certificate = files["cert_file"] or files["key_file"]
                context.load_cert_chain(certificate, files["key_file"] or None)
            if files["ciphers"]:
                context.set_ciphers(files["ciphers"])
        except ssl.SSLError as error:
            why = getattr(error, "reason", None) or "no cipher match"
            raise ServerError(f"TLS/SSL error: {why}", "Application error") from None
        except OSError as error:
            text = f"TLS/SSL error: {error.strerror} ({error.errno})"
            raise ServerError(text, str(error.strerror)) from None
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
            text = f"Can't initialize character set {self.charset} (path: compiled_in)"
            raise ServerError(f"dict_mysql: mysql_set_character_set '{self.charset}' failed: {text}")
        start = f"connect to mysql server {host.text}"
        options = self._options()
        try:
            context = self._tls(options)
        except ServerError as error:
            raise ServerError(f"{start}: {error}", error.reason) from None
        last = ServerError(f"{start}: no socket")
        user = self.user or options.get("user") or pwd.getpwuid(os.geteuid()).pw_name
        for where in self._places(host, options):
            settings: dict[str, Any] = {
                "user": user.encode("utf-8", "surrogateescape"),
                "password": self.password.encode("utf-8", "surrogateescape").decode("latin-1"),
                "db": self.database.encode("utf-8", "surrogateescape"),
                "charset": self.charset,
                "use_unicode": False,
                "conv": {},
                "client_flag": _MULTI_RESULTS,
                "connect_timeout": CONNECT_TIMEOUT,
                "autocommit": True,
                "init_command": options.get("init-command"),
                "ssl": context,
                **where,
            }
            client = _Client(**settings)
            try:
                await client._connect()
            except (pymysql.Error, OSError, LookupError, ValueError) as error:
                text, reason = _connect_failure(error, where)
                last = ServerError(f"{start}: {text}", reason)
            except BaseException:
                client.hang_up()
                raise
            else:
                return MysqlConnection(client, self)
        raise last

    def _places(self, host: Host, options: dict[str, str]) -> list[dict[str, Any]]:
        port = host.port or options.get("port", "")
        where = {"port": int(port) if port.isascii() and port.isdigit() else 3306}
        if host.kind == INET:
            return [{"host": host.name, **where}]
        if host.name:
            return [{"unix_socket": host.name}]
        if options.get("host", "localhost").lower() != "localhost":
            return [{"host": options["host"], **where}]
        if "socket" in options:
            return [{"unix_socket": options["socket"]}]
        return [{"unix_socket": path} for path in DEFAULT_SOCKETS]
