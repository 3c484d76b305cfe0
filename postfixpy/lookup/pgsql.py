"""pgsql: tables (pgsql_table(5)), with the package psycopg (``postfixpy[pgsql]``), which is libpq, as in Postfix."""

import errno
import os
import re
from typing import Any

from postfixpy.lookup.network import load_driver
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.sql import CONNECT_TIMEOUT, INET, UNIX, URI, Host, ServerError, SqlTable
from postfixpy.lookup.table import Flags, OpenError, Settings, release
from postfixpy.lookup.template import sql_query

psycopg = load_driver("psycopg", "pgsql")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class PgsqlConnection:
    """One connection."""

    def __init__(self, connection: Any, host: Host) -> None:
        self.connection, self.host = connection, host
        self.escaping = psycopg.pq.Escaping(connection.pgconn)

    def quote(self, text: str) -> str:
        try:
            escaped = self.escaping.escape_string(text.encode("utf-8", "surrogateescape"))
        except psycopg.Error as error:
            why = str(error).removeprefix("escape_string failed: ")
            raise ServerError(f"dict pgsql: (host {self.host.text}) cannot escape input string: {why}\n") from None
        return bytes(escaped).decode("utf-8", "surrogateescape")

    async def query(self, sql: str) -> list[list[str | None]]:
        try:
            cursor = await self.connection.execute(sql.encode("utf-8", "surrogateescape"))
        except psycopg.Error as error:
            result = getattr(error, "pgresult", None)
            reason = bytes(result.error_message).decode("utf-8", "replace") if result is not None else str(error)
            raise ServerError(f"pgsql query failed: fatal error from host {self.host.text}: {reason}") from None
        while cursor.nextset():
            pass  # of several statements the last one's result counts
        result = cursor.pgresult
        if result is None:
            return []
        return [
            [_text(result.get_value(row, column)) for column in range(result.nfields)] for row in range(result.ntuples)
        ]

    def close(self) -> None:
        self.connection.pgconn.finish()


def _text(data: bytes | None) -> str | None:
    """A value; for Postfix a null is an empty text, which is not used."""
    return "" if data is None else data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class Pgsql(SqlTable):
    """``pgsql:/path/of/settings``."""

    kind = "pgsql"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        self.any_uri = release(settings) >= (3, 10)
        super().__init__(name, settings, flags)
        self.database = self.config.text("dbname", minimum=0 if release(settings) >= (3, 10) else 1)
        self.encoding = self.config.text("encoding", "UTF8", 1) if release(settings) >= (3, 8) else "LATIN1"
        hosts = [self.parse_host(text) for text in self.host_names]
        plain = [host.name for host in hosts if host.kind != URI]
        if plain and not self.database:
            raise OpenError(f"pgsql:{name} host target '{plain[-1]}' requires dbname setting")

    def query_template(self, config: SourceConfig) -> str:
        function = config.text("select_function")
        if function and not config.text("query"):
            return f"SELECT {function}('%s')"
        return sql_query(config)

    def parse_host(self, text: str) -> Host:
        if _URI.match(text) if self.any_uri else text.startswith(("postgresql:", "postgres:")):
            return Host(text, URI, text)
        name = text.removeprefix("unix:") if text.startswith("unix:") else text.removeprefix("inet:")
        if not name or name.startswith("/"):
            return Host(text, UNIX, name)
        address, colon, port = name.rpartition(":")
        return Host(text, INET, address if colon else name, port if colon else "")

    async def connect(self, host: Host) -> PgsqlConnection:
        settings: dict[str, Any] = {"connect_timeout": int(CONNECT_TIMEOUT), "autocommit": True}
        if host.kind != URI:
            named = {"host": host.name, "port": host.port, "dbname": self.database}
            named |= {"user": self.user, "password": self.password}
            settings |= {name: value for name, value in named.items() if value}
        try:
            connection = await psycopg.AsyncConnection.connect(host.name if host.kind == URI else "", **settings)
        except psycopg.Error as error:
            why = str(error).removeprefix("connection failed: ").removeprefix("connection is bad: ").rstrip("\n")
            left = {errno.ENOENT: errno.ENOENT, errno.EACCES: errno.EACCES, errno.ECONNREFUSED: errno.EINPROGRESS}
            away = next((os.strerror(code) for number, code in left.items() if os.strerror(number) in why), "")
            raise ServerError(f"connect to pgsql server {host.text}: {why}\n", away) from None
        try:
            await connection.execute(f"SET client_encoding TO '{self.encoding}'".encode())
        except psycopg.Error:
            connection.pgconn.finish()
            text = f"dict_pgsql: cannot set the encoding to {self.encoding}, skipping {host.text}"
            raise ServerError(text) from None
        return PgsqlConnection(connection, host)
