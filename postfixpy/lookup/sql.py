"""What mysql: and pgsql: have in common: settings, the choice among several hosts, queries, results.

As in Postfix: a host with a connection is preferred to one without, a UNIX-domain socket to the network; among equals
the choice is random. A host that fails is left alone for ``retry_interval`` seconds, a connection that is not used for
``idle_interval`` seconds is closed. A lookup tries one host after another; when none is left, it fails, temporarily.

Postfix leaves time limits to the libraries, which have none; here a server has `CONNECT_TIMEOUT` and `QUERY_TIMEOUT`.
"""

import asyncio
import errno
import os
import random
import time
from typing import Protocol

from postfixpy import log
from postfixpy.lookup.network import NetworkTable, Pool
from postfixpy.lookup.search import arun
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, Settings, TableError, release
from postfixpy.lookup.template import Results, Templates, sql_query

CONNECT_TIMEOUT = 10.0
QUERY_TIMEOUT = 60.0
UNIX, INET, URI = range(3)


class ServerError(Exception):
    """A server refused, failed or did not answer.

    str(error) is the warning that is due, `reason` the system's error text that the library leaves behind.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class Connection(Protocol):
    """A connection to a database."""

    def quote(self, text: str) -> str:
        """`text` for a place inside single quotes. Raises ServerError."""

    async def query(self, sql: str) -> list[list[str | None]]:
        """The rows of the result. Raises ServerError."""

    def close(self) -> object: ...


class Host:
    """One element of ``hosts``."""

    def __init__(self, text: str, kind: int, name: str, port: str = "") -> None:
        self.text, self.kind, self.name, self.port = text, kind, name, port
        self.down_until = 0.0
        """Not to be tried before this time (monotonic seconds)."""


class Cluster:
    """The hosts of one table in one event loop, with their connections."""

    def __init__(self, table: "SqlTable") -> None:
        self.hosts = [table.parse_host(text) for text in table.host_names]
        self.pools = [Pool(_Connector(table, host), float(table.idle_interval)) for host in self.hosts]

    def choose(self, now: float) -> int | None:
        """The index of the host to try next; None when all are down."""
        up = [index for index, host in enumerate(self.hosts) if host.down_until <= now]
        if not up:
            return None
        return min(up, key=lambda index: (not self.pools[index].idle, self.hosts[index].kind, random.random()))

    def drop_idle(self) -> None:
        """Close what is idle."""
        for pool in self.pools:
            pool.drop_idle()


class _Connector:
    def __init__(self, table: "SqlTable", host: Host) -> None:
        self.table, self.host = table, host

    async def __call__(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self.table.connect(self.host)
        except TimeoutError:
            raise ServerError(f"connect to {self.table.kind} server {self.host.text}: Connection timed out") from None


class SqlTable(NetworkTable):
    """A table in a database server. Subclasses parse hosts and connect."""

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, secure=True)
        config = self.config = SourceConfig(name, settings)
        self.user, self.password = config.text("user"), config.text("password")
        configurable = release(settings) >= (3, 9)
        self.retry_interval = config.integer("retry_interval", 60, 1) if configurable else 60
        self.idle_interval = config.integer("idle_interval", 60, 1) if configurable else 60
        self.result_format = config.text("result_format", "%s", 1)
        self.limit = config.integer("expansion_limit", 0)
        self.template = self.query_template(config)
        self.templates = Templates(self.kind, name)
        self.templates.parse(self.template, query=True)
        self.templates.parse(self.result_format, query=False)
        self.templates.parse_domain(config, settings)
        self.host_names = list(tokens(config.text("hosts"), braces=False)) or ["localhost"]
        for text in self.host_names:
            self.parse_host(text)  # a bad one is fatal now, not at the first lookup
        if len(self.host_names) == 1 and release(settings) >= (3, 10):
            self.host_names *= 2  # a load balancer: one failure behind it is no reason to leave it alone

    def query_template(self, config: SourceConfig) -> str:
        """The query."""
        return sql_query(config)

    def parse_host(self, text: str) -> Host:
        """What an element of ``hosts`` means."""
        raise NotImplementedError

    async def connect(self, host: Host) -> Connection:
        """A new connection. Raises ServerError."""
        raise NotImplementedError

    def down(self, host: Host) -> None:
        """Leave the host alone for a while."""
        host.down_until = time.monotonic() + self.retry_interval

    async def aget(self, key: str) -> str | None:
        if not await self._wanted(key):
            return None
        if self.templates.query(self.template, key) is None:
            return None
        rows = await self._rows(key)
        results = Results(self.templates, self.result_format, self.limit, key)
        for row in rows:
            for value in row:
                if not results.add(value):
                    log.warning(f"dict_{self.kind}_lookup: {self.label}: Expansion limit exceeded for key: '{key}'")
                    raise TableError(f"{self.name}: expansion limit exceeded")
        return results.text()

    async def _wanted(self, key: str) -> bool:
        try:
            return await arun(self.templates.wants(key))
        except TableError:
            if self.kind == "mysql":
                log.warning(f"{self.name} 'domain' pattern match failed for '{key}'")
            raise

    async def _rows(self, key: str) -> list[list[str | None]]:
        cluster = self.per_loop(lambda: Cluster(self))
        reason = unknown = os.strerror(errno.ENOTSUP) if self.kind == "mysql" else "Application error"
        while (index := cluster.choose(time.monotonic())) is not None:
            try:
                async with cluster.pools[index].borrow() as connection:
                    sql = self.templates.query(self.template, key, connection.quote)
                    assert sql is not None
                    async with asyncio.timeout(QUERY_TIMEOUT):
                        return await connection.query(sql)
            except TimeoutError:
                log.warning(f"{self.name}: query failed: no answer from {cluster.hosts[index].text}")
            except ServerError as error:
                log.warning(str(error))
                reason = error.reason or unknown
            cluster.pools[index].drop_idle()
            self.down(cluster.hosts[index])
        raise TableError(f"{self.name}: no server answers", reason=reason)
