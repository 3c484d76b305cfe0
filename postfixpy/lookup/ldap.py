"""ldap: tables (ldap_table(5)), with the system's OpenLDAP library (see libldap).

Lookups run in threads, for the library blocks; the time limit of each operation is ``timeout``. The default of
``version`` is 3, as in Debian's Postfix; with upstream's 2 today's servers refuse to talk. ``sasl_minssf`` does what
the manual says; Postfix hands the library something else.
"""

import asyncio
import errno
import os
from collections.abc import Iterator

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.network import NetworkTable, Pool
from postfixpy.lookup.search import arun
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, OpenError, Settings, TableError, is_utf8
from postfixpy.lookup.template import Results, Templates

try:
    from postfixpy.lookup import libldap
except Exception as error:  # the module's own error class cannot be named before the import
    raise OpenError(f"unsupported dictionary type: ldap ({error})") from None

_SCOPES = {"one": libldap.ONE_LEVEL, "base": libldap.BASE, "sub": libldap.SUBTREE}
_TLS_FILES = {
    "tls_random_file": libldap.TLS_RANDOM_FILE,
    "tls_ca_cert_file": libldap.TLS_CACERTFILE,
    "tls_ca_cert_dir": libldap.TLS_CACERTDIR,
    "tls_cert": libldap.TLS_CERTFILE,
    "tls_key": libldap.TLS_KEYFILE,
    "tls_cipher_suite": libldap.TLS_CIPHER_SUITE,
}


def quote_filter(text: str) -> str:
    """For a value in a search filter (RFC 4515)."""
    return "".join(f"\\{ord(char):02X}" if char in "*()\\" else char for char in text)


def quote_dn(text: str) -> str:
    """For a value in a distinguished name (RFC 4514); spaces and "#" are quoted wherever they are."""
    return "".join(f"\\{ord(char):02X}" if char in ' \t"#+,;<>\\' else char for char in text)


def subtype(general: str, special: str) -> int:
    """1 if `special` is `general` or an option of it (``cn;lang-de``), -1 for the reverse, else 0."""
    general, special = general.lower(), special.lower()
    if special == general or special.startswith(general + ";"):
        return 1
    return -1 if general.startswith(special + ";") else 0


class Ldap(NetworkTable):
    """``ldap:/path/of/settings``."""

    kind = "ldap"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, secure=True)
        config = self.config = SourceConfig(name, settings)
        self.version = config.integer("version", 3, 2)
        if self.version not in (2, 3):
            log.warning(f"dict_ldap_open: {name} Unknown version {self.version}, using 3.")
            self.version = 3
        self.ldaps = False
        self.urls = " ".join(self._urls(config))
        scope = config.text("scope", "sub", 1)
        if scope.lower() not in _SCOPES:
            log.warning(f"dict_ldap_open: {name}: Unrecognized value {scope} specified for scope; using sub")
        self.scope = _SCOPES.get(scope.lower(), libldap.SUBTREE)
        self.timeout = config.integer("timeout", 10)
        self._read_templates(config, settings)
        self._read_attributes(config)
        self._read_bind(config)
        self._read_limits(config)
        self._read_tls(config)

    # Settings.

    def _urls(self, config: SourceConfig) -> list[str]:
        port = config.integer("server_port", 389)
        urls = []
        for host in tokens(config.text("server_host", "localhost", 1), braces=False):
            if not libldap.is_url(host):
                urls.append(f"ldap://{host}" if ":" in host else f"ldap://{host}:{port}")
                continue
            try:
                scheme = libldap.parse_url(host).scheme.lower()
            except libldap.LdapError as error:
                log.error(f"dict_ldap_open: error parsing URL {host}: {error.code}: {error}; skipping")
                continue
            if scheme != "ldap" and self.version != 3:
                log.warning(f"dict_ldap_open: URL scheme {scheme} requires protocol version 3")
                self.version = 3
            self.ldaps = self.ldaps or scheme == "ldaps"
            urls.append(host)
        return urls

    def _read_templates(self, config: SourceConfig, settings: Settings) -> None:
        self.base = config.text("search_base")
        self.query = config.text("query_filter", "(mailacceptinggeneralid=%s)")
        self.result_format = config.text("result_format") or config.text("result_filter", "%s", 1)
        self.templates = Templates(self.kind, self.label)
        self.dynamic_base = self.templates.parse(self.base, query=True)
        if not self.templates.parse(self.query, query=True):
            log.warning(f"dict_ldap_open: {self.label}: Fixed query_filter {self.query} is probably useless")
        self.templates.parse(self.result_format, query=False)
        self.templates.parse_domain(config, settings)

    def _read_attributes(self, config: SourceConfig) -> None:
        """Four kinds of attributes, asked for in this order: the index in the list tells the kind."""
        defaults = {"terminal": "", "leaf": "", "": "maildrop", "special": ""}
        kinds = []
        for kind, default in defaults.items():
            name = f"{kind}_result_attribute" if kind else "result_attribute"
            kinds.append(list(tokens(config.text(name, default), braces=False)))
        terminal, leaf, plain, special = kinds
        self.attributes = terminal + leaf + plain + special
        self.terminal_end = len(terminal)
        self.leaf_end = len(terminal + leaf)
        self.plain_end = len(terminal + leaf + plain)

    def _read_bind(self, config: SourceConfig) -> None:
        bind = config.text("bind", "yes", 1)
        if bind.lower() not in ("yes", "no", "none", "simple", "sasl"):
            raise FatalError(f"{config.name}: unsupported parameter value: bind = {bind}")
        self.bind = bind.lower() not in ("no", "none")
        self.sasl = bind.lower() == "sasl"
        self.sasl_mechanisms, self.sasl_realm = config.text("sasl_mechs"), config.text("sasl_realm")
        self.sasl_authorization = config.text("sasl_authz_id")
        self.sasl_minimum = config.integer("sasl_minssf", 0, 0, 4096)
        self.bind_dn, self.bind_password = config.text("bind_dn"), config.text("bind_pw")

    def _read_limits(self, config: SourceConfig) -> None:
        numbers = ("cache_expiry", "cache_size")
        ignored = ["cache"] if config.boolean("cache", False) else []
        for name in [*ignored, *(name for name in numbers if config.integer(name, -1) >= 0)]:
            log.warning(f"dict_ldap_open: {self.label} ignoring {name}")
        self.recursion_limit = config.integer("recursion_limit", 1000, 1)
        self.limit = config.integer("expansion_limit", 0)
        self.size_limit = config.integer("size_limit", self.limit)
        self.dereference = config.integer("dereference", 0)
        if not 0 <= self.dereference <= 3:
            where = f"dict_ldap_open: {self.label}"
            log.warning(f"{where} Unrecognized value {self.dereference} specified for dereference; using 0")
            self.dereference = 0
        self.chase_referrals = config.boolean("chase_referrals", False)

    def _read_tls(self, config: SourceConfig) -> None:
        self.start_tls = config.boolean("start_tls", False)
        if self.start_tls and self.version < 3:
            log.warning(f"dict_ldap_open: {self.label} start_tls requires protocol version 3")
            self.version = 3
        self.require_cert = libldap.TLS_DEMAND if config.boolean("tls_require_cert", False) else libldap.TLS_NEVER
        self.tls_files = {name: config.text(name) for name in _TLS_FILES}
        self.debug_level = config.integer("debuglevel", 0)

    # Connections.

    async def _connect(self) -> libldap.Connection:
        return await asyncio.to_thread(self.connect)

    def connect(self) -> libldap.Connection:
        """A new connection, logged in. Blocks. Raises TableError."""
        libldap.set_debug_level(self.debug_level)
        try:
            connection = libldap.Connection(self.urls, self.timeout)
        except libldap.LdapError:
            raise self._problem(f"dict_ldap_connect: Unable to init LDAP server {self.urls}") from None
        try:
            connection.set_integer(libldap.OPT_PROTOCOL_VERSION, self.version)
            connection.set_integer(libldap.OPT_SIZELIMIT, self.size_limit)
            connection.set_integer(libldap.OPT_DEREF, self.dereference)
            connection.set_switch(libldap.OPT_REFERRALS, self.chase_referrals)
            self._set_tls(connection)
            if self.bind:
                self._log_in(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_tls(self, connection: libldap.Connection) -> None:
        if not (self.start_tls or self.ldaps):
            return
        for name, path in self.tls_files.items():
            if path:
                try:
                    connection.set_text(_TLS_FILES[name], path)
                except libldap.LdapError as error:
                    text = f"dict_ldap_set_tls_options: Unable to set {name} to {path}: {error.code}: {error}"
                    raise self._problem(text) from None
        try:
            connection.set_integer(libldap.TLS_REQUIRE_CERT, self.require_cert)
            connection.set_integer(libldap.TLS_NEWCTX, 0)
        except libldap.LdapError as error:
            text = f"dict_ldap_set_tls_options: Unable to allocate new TLS context {error.code}: {error}"
            missing = any(path and not os.path.exists(path) for path in self.tls_files.values())
            raise self._problem(text, os.strerror(errno.ENOENT) if missing else "Application error") from None
        if self.start_tls:
            try:
                connection.start_tls()
            except libldap.LdapError as error:
                log.error(f"dict_ldap_connect: Unable to set STARTTLS: {error.code}: {error}")
                raise TableError(f"{self.name}: no TLS") from None

    def _log_in(self, connection: libldap.Connection) -> None:
        try:
            if self.sasl:
                connection.bind_sasl(
                    self.sasl_mechanisms,
                    self.bind_dn,
                    self.bind_password,
                    self.sasl_realm,
                    self.sasl_authorization,
                    self.sasl_minimum,
                )
            else:
                connection.bind(self.bind_dn, self.bind_password)
        except libldap.LdapError as error:
            who = self.bind_dn or "empty or implicit"
            text = f"Unable to bind to server {self.urls} with dn {who}: {error.code} ({error})"
            away = error.code == libldap.SERVER_DOWN
            reason = os.strerror(errno.ENOTCONN) if away else "Application error"
            raise self._problem(f"dict_ldap_connect: {text}", reason) from None

    def _problem(self, text: str, reason: str = "Application error") -> TableError:
        log.warning(text)
        return TableError(f"{self.name}: {text}", reason=reason)

    # Lookup.

    async def aget(self, key: str) -> str | None:
        if not is_utf8(key) or not await arun(self.templates.wants(key)):
            return None
        base = self.templates.query(self.base, key, quote_dn) if key else None
        query = self.templates.query(self.query, key, quote_filter)
        if base is None or query is None:
            return None
        pool = self.per_loop(lambda: Pool(self._connect, 60.0))
        for attempt in (0, 1):
            try:
                async with pool.borrow() as connection:
                    return await asyncio.to_thread(self._ask, connection, base, query, key)
            except libldap.LdapError as error:
                pool.drop_idle()
                if error.code == libldap.SERVER_DOWN and attempt == 0:
                    continue  # the connection was lost since its last use
                raise self._problem(f"dict_ldap_lookup: Search error {error.code}: {error} ") from None
        raise AssertionError("two attempts end in an answer or an error")

    def _ask(self, connection: libldap.Connection, base: str, query: str, key: str) -> str | None:
        """Search, and follow what the entries refer to. Blocks. LdapError: the connection is no longer good."""
        try:
            entries = connection.search(base, self.scope, query, self.attributes)
        except libldap.LdapError as error:
            if error.code != libldap.NO_SUCH_OBJECT:
                raise
            if self.dynamic_base:
                return None
            where = f"dict_ldap_lookup: {self.config.name}: Search base '{base}' not found"
            raise self._problem(f"{where}: {error.code}: {error}") from None
        results = Results(self.templates, self.result_format, self.limit, key)
        last = [libldap.SUCCESS]
        # Not recursive: recursion_limit is 1000 by default, which is the depth of Python's stack.
        levels = [self._collect(connection, entries, results, 1, last)]
        try:
            while levels:
                found = next(levels[-1], None)
                if found is None:
                    levels.pop()
                else:
                    levels.append(self._collect(connection, found, results, len(levels) + 1, last))
        finally:
            if last[0] != libldap.SUCCESS:
                reason = libldap.error_text(last[0])
                log.warning(f"dict_ldap_lookup: Had some trouble with entries returned by search: {reason}")
        return results.text()

    def _collect(
        self,
        connection: libldap.Connection,
        entries: list[libldap.Attributes],
        results: Results,
        depth: int,
        last: list[int],
    ) -> Iterator[list[libldap.Attributes]]:
        """Take in the values of entries; yield the entries that they refer to, to be collected before the rest."""
        where = f"dict_ldap_get_values[{depth}]"
        if self.size_limit and len(entries) > self.size_limit:
            raise self._problem(f"{where}: {self.config.name}: Query size limit ({self.size_limit}) exceeded")
        for entry in entries:
            present = {self._index(name) for name, values in entry if values}
            terminal = any(index < self.terminal_end for index in present)
            leaf = not any(self.plain_end <= index < len(self.attributes) for index in present)
            for name, values in entry:
                index = self._index(name)
                if not values:
                    continue
                if index < self.plain_end or terminal:
                    skipped = index >= self.terminal_end if terminal else not leaf and index < self.leaf_end
                    if not skipped:
                        self._add(values, results, where)
                elif index < len(self.attributes):
                    if depth >= self.recursion_limit:
                        text = f"Recursion limit exceeded for special attribute {name}={values[0]}"
                        raise self._problem(f"{where}: {self.config.name}: {text}")
                    for value in values:
                        found = self._follow(connection, value, where, last)
                        if found:
                            yield found

    def _index(self, name: str) -> int:
        """Which of the attributes that were asked for this is; their number if none."""
        for index, wanted in enumerate(self.attributes):
            if subtype(wanted, name) > 0:
                return index
        return len(self.attributes)

    def _add(self, values: list[str], results: Results, where: str) -> None:
        for value in values:
            if not results.add(value):
                raise self._problem(f"{where}: {self.config.name}: Expansion limit exceeded for key: '{results.key}'")

    def _follow(
        self, connection: libldap.Connection, value: str, where: str, last: list[int]
    ) -> list[libldap.Attributes]:
        """The entries that a special attribute, an LDAP URL or a distinguished name, refers to."""
        try:
            if libldap.is_url(value):
                try:
                    url = libldap.parse_url(value)
                except libldap.LdapError as error:
                    raise self._problem(f"{where}: malformed URL {value}: {error}({error.code})") from None
                attributes = self._url_attributes(url)
                if not attributes:
                    return []
                found = connection.search(url.dn, url.scope, url.filter, attributes)
            else:
                found = connection.search(value, libldap.BASE, "objectclass=*", self.attributes)
        except libldap.LdapError as error:
            last[0] = error.code
            if error.code == libldap.NO_SUCH_OBJECT:
                log.warning(f"{where}: DN {value} not found, skipping ")
                return []
            raise self._problem(f"{where}: search error {error.code}: {error} ") from None
        last[0] = libldap.SUCCESS
        return found

    def _url_attributes(self, url: libldap.Url) -> list[str]:
        """What to ask for: what the URL names of what we want; the narrower of two descriptions."""
        if not url.attributes:
            return self.attributes
        chosen = []
        for named in url.attributes:
            for wanted in self.attributes:
                relation = subtype(named, wanted)
                if relation:
                    chosen.append(wanted if relation > 0 else named)
        return chosen
