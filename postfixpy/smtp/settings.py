"""What the client knows from the configuration, for the life of a process: tables, own addresses, modes (spec 14, 17).

Parameters are read from the view where they are used; here is what must be opened, parsed or computed once. Bad values
are fatal, with Postfix's texts.
"""

import random
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from postfixpy import log
from postfixpy.config.known_ports import parse_known_ports
from postfixpy.dns.lookup import RES_DEFNAMES, RES_DNSRCH
from postfixpy.dns.record import AAAA
from postfixpy.errors import FatalError
from postfixpy.lookup.addresses import AddressContext, LocalDomains
from postfixpy.lookup.maps import Maps
from postfixpy.lookup.matching import NameAddressList, StringList, matches_parent
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, Table, TableError
from postfixpy.tls.level import LEVELS, Level
from postfixpy.tls.loglevel import log_mask

from . import requiretls, sts, tlsrpt
from .effects import Run, listed
from .parameters import any_release
from .policy import global_level
from .trace import PARAMETER as TRACE_PARAMETER

if TYPE_CHECKING:
    from postfixpy.config import View
    from postfixpy.tls.context import ClientContext

    from .dane import Found

_LIST = re.compile(r"[ \t\r\n,]+")


class Settings:
    """The client's configuration.

    `service` is the name in master.cf; `flags` are the letters of its flags= attribute; `interfaces` are
    the addresses of the machine's network interfaces in text form, by default what they are; `rng` orders equal
    addresses. Without `tls` the TLS engine is unavailable.
    """

    def __init__(
        self,
        view: "View",
        *,
        lmtp: bool = False,
        service: str = "smtp",
        words: Sequence[str] = (),
        interfaces: Iterable[str] | None = None,
        rng: random.Random | None = None,
        tls: bool = True,
    ) -> None:
        self.view = view = any_release(view)
        self.lmtp = lmtp
        self.service = service
        self.release: tuple[int, int] = tuple(view.release)[:2]  # type: ignore[assignment]  # at least two numbers
        self.joiner = ", " if self.release >= (3, 11) else " "
        self.log_tls: bool = self.release >= (3, 11) and view.smtp_log_tls_feature_status
        self.random = rng or random.Random()
        self.line_length_limit: int = view.line_length_limit
        self.auth_cache: Table | None = None
        self.password_delimiter: str = view.smtp_sasl_password_result_delimiter  # a bad value is fatal at the start
        self._open_debug_peers()
        self._set_sasl()
        self._notice_level()
        self.flags = parse_flags(words)
        self._obsolete_final()
        self.utf8: bool = view.smtputf8_enable
        self.notice_classes = parse_classes(view.notify_classes) & {"protocol", "data"}
        self.trace_directory: str = view.text(TRACE_PARAMETER)
        self.families = self._families()
        self._interfaces = interfaces
        self._own: frozenset[str] | None = None
        self._proxies: frozenset[str] = frozenset()
        self._set_dns()
        self._set_tls(tls)
        self._open_tables()
        self.tlsrpt = tlsrpt.available(self)
        name = "smtp_tlsrpt_skip_reused_handshakes"
        self.tlsrpt_old_default = (
            self.release >= (3, 11) and view.origin(name).kind != "main.cf" and view.compatibility() < (3, 11, 0)
        )
        self.tlsrpt_skip_reused: bool = view.smtp_tlsrpt_skip_reused_handshakes or self.tlsrpt_old_default
        self.verify_target: str = view.smtp_address_verify_target
        if self.verify_target not in ("rcpt", "data"):
            raise FatalError(f'bad protocol stage: "smtp_address_verify_target = {self.verify_target}"')
        self._ranks = self._family_ranks()
        self.known_ports = parse_known_ports(view.known_tcp_ports)

    def _open_debug_peers(self) -> None:
        view = self.view
        text = view.debug_peer_list if view.debug_peer_level > 0 else ""
        parent = bool(text) and matches_parent("debug_peer_list", view)
        self.debug_peers = NameAddressList("debug_peer_list", text, view, parent=parent) if text else None

    def _set_sasl(self) -> None:
        """Raises FatalError."""
        view = self.view
        self.sasl_memory: dict[str, Any] = {}
        if view.smtp_sasl_auth_enable:
            self._check_sasl()
        self.password_maps = self._maps("smtp_sasl_password_maps") if view.smtp_sasl_auth_enable else None
        text = view.smtp_sasl_mechanism_filter
        self.mechanism_filter = _MechanismFilter("smtp_sasl_mechanism_filter", text, view) if text else None

    def _check_sasl(self) -> None:
        """What is fatal at the start. Raises FatalError."""
        if not self.view.smtp_sasl_password_maps:
            name = self.name("smtp_sasl_password_maps")
            raise FatalError(f"specify a password table via the `{name}' configuration parameter")
        if self.view.smtp_sasl_type != "cyrus":
            log.warning(f"unsupported SASL client implementation: {self.view.smtp_sasl_type}")
            raise FatalError("SASL library initialization")
        if self.view.smtp_sasl_auth_cache_name:
            self.auth_cache = _open_auth_cache(self.view)

    def name(self, parameter: str) -> str:
        """The name of an ``smtp_`` parameter as texts show it: in LMTP mode that of its mirror."""
        found = self.view.parameter(parameter)
        return found.name if found is not None else parameter

    @property
    def final_delivery(self) -> bool:
        """LMTP delivers to mailboxes (flags=X): success is "delivered", not "relayed"."""
        return "X" in self.flags

    def _notice_level(self) -> None:
        """Tell that TLS is off only because compatibility_level is that of a release where off was the default."""
        view = self.view
        if self.release < (3, 11) or self.lmtp or view.compatibility() >= (3, 11, 0):
            return
        if view.origin("smtp_tls_security_level").kind == "compatibility":
            log.info("using backwards-compatible default setting smtp_tls_security_level=(empty)")

    def _obsolete_final(self) -> None:
        if self.lmtp and self.view.lmtp_assume_final and "X" not in self.flags:
            log.warning('lmtp_assume_final is obsolete; instead, specify "flags=X" in master.cf')
            self.flags += "X"

    def _set_tls(self, available: bool) -> None:
        """Raises FatalError."""
        view = self.view
        self.tls_level: Level = global_level(self)
        self._open_tls_policy()
        self.tls_context: ClientContext | None = None
        if available and (self.tls_level > Level.NONE or view.smtp_tls_per_site or view.smtp_tls_policy_maps):
            from postfixpy.tls.context import client_context

            self.tls_context = client_context(view)
        self.tls_log: int = log_mask(self.name("smtp_tls_loglevel"), str(view.smtp_tls_loglevel))
        self.tlsa_cache: dict[str, Found] = {}
        self.tlsrpt = False
        self.insecure_mx_level = Level.MAY
        if not self.lmtp:
            name = view.smtp_tls_dane_insecure_mx_policy
            self.insecure_mx_level = LEVELS.get(name.lower(), Level.INVALID)
            if self.insecure_mx_level not in (Level.MAY, Level.ENCRYPT, Level.DANE):
                raise FatalError(f'invalid smtp_tls_dane_insecure_mx_policy: "{name}"')

    def note_digest_default(self) -> None:
        """For a configuration from before 3.6: say that fingerprints are still of the old kind."""
        name = self.name("smtp_tls_fingerprint_digest")
        if self.view.origin(name).kind == "compatibility" and self.view.compatibility() < (3, 6, 0):
            log.info(f"using backwards-compatible default setting {name}=md5 to compute certificate fingerprints")

    def _families(self) -> tuple[int, ...]:
        import socket

        from postfixpy.config.host import protocol_families

        families = protocol_families(self.view.inet_protocols)
        return tuple(n for n, family in ((4, socket.AF_INET), (6, socket.AF_INET6)) if family in families)

    def _set_dns(self) -> None:
        view = self.view
        level = view.smtp_dns_support_level.lower()
        if level not in ("", "disabled", "enabled", "dnssec"):
            raise FatalError(f'invalid {self.name("smtp_dns_support_level")}: "{view.smtp_dns_support_level}"')
        if not level:
            level = "disabled" if view.disable_dns_lookups else "enabled"
        self.dns = level != "disabled"
        self.dnssec = level == "dnssec"
        words = [word for word in _LIST.split(view.smtp_host_lookup) if word]
        for word in words:
            if word not in ("dns", "native"):
                parameter = self.name("smtp_host_lookup")
                raise FatalError(f'unknown {parameter} value "{word}" in "{view.smtp_host_lookup}"')
        self.lookup_dns = self.dns and "dns" in words
        self.lookup_native = not self.dns or "native" in words
        self.resolver_options = 0
        bits = {"res_defnames": RES_DEFNAMES, "res_dnsrch": RES_DNSRCH}
        for word in _LIST.split(view.smtp_dns_resolver_options):
            if word and word.lower() not in bits:
                parameter = self.name("smtp_dns_resolver_options")
                raise FatalError(f'unknown {parameter} value "{word}" in "{view.smtp_dns_resolver_options}"')
            self.resolver_options |= bits.get(word.lower(), 0)

    def _maps(self, parameter: str, flags: Flags = Flags.MAPS) -> Maps | None:
        text = self.view.text(parameter)
        return Maps(self.name(parameter), text, self.view, flags) if text else None

    def _open_tables(self) -> None:
        view = self.view
        text = view.smtp_connection_cache_destinations
        self.cache_destinations = StringList("smtp_connection_cache_destinations", text, view) if text else None
        self.discard_maps = self._maps("smtp_discard_ehlo_keyword_address_maps")
        self.pix_maps = self._maps("smtp_pix_workaround_maps")
        self.generic_maps = self._maps("smtp_generic_maps")
        pattern = Flags.LOCK | Flags.UTF8_REQUEST
        self.header_checks = self._maps("smtp_header_checks", pattern)
        self.mime_header_checks = self._maps("smtp_mime_header_checks", pattern)
        self.nested_header_checks = self._maps("smtp_nested_header_checks", pattern)
        self.body_checks = self._maps("smtp_body_checks", pattern)
        self.reply_filter: Table | None = None
        if view.smtp_reply_filter:
            self.reply_filter = open_table(view.smtp_reply_filter, view, flags=Flags.MAPS)
        words = _LIST.split(view.propagate_unmatched_extensions.lower())
        self.propagate_generic = "generic" in words
        self.dns_reply_filter = self._maps("smtp_dns_reply_filter")
        text = view.use_srv_lookup
        self.srv_services = StringList("use_srv_lookup", text, view) if text else None
        self.requiretls_policy = requiretls.parse(view)
        self.addresses = AddressContext(view, LocalDomains(view, self.is_own))

    def _open_tls_policy(self) -> None:
        """smtp_tls_policy_maps; the word of MTA-STS among its tables is not a table."""
        name, words = "smtp_tls_policy_maps", list(tokens(self.view.smtp_tls_policy_maps))
        self.sts = sts.TABLE in words and sts.available(self)
        tables = " ".join(word for word in words if word != sts.TABLE)
        self.tls_policy = Maps(self.name(name), tables, self.view) if words else None
        self.tls_per_site = self._maps("smtp_tls_per_site") if self.tls_policy is None else None
        if self.tls_policy is not None and self.view.smtp_tls_per_site:
            log.warning(f"{self.name('smtp_tls_per_site')} ignored when {self.name(name)} is not empty.")

    def tables_changed(self) -> str | None:
        """The name of a table that was changed since it was opened, or None."""
        for value in vars(self).values():
            tables = value.tables if isinstance(value, Maps) else [value] if isinstance(value, Table) else []
            for table in tables:
                if table.changed():
                    return f"{table.kind}:{table.label}"
        return None

    def wants_srv(self, service: str) -> Run[bool]:
        """Whether destinations with this service are looked up by SRV records."""
        return bool(self.srv_services is not None and (yield from listed(self.srv_services.search(service))))

    def is_own(self, address: str) -> bool:
        """Whether an address is one of this system's: inet_interfaces, proxy_interfaces."""
        if self._own is None:
            self._find_own()
            assert self._own is not None
        return address in self._own or address in self._proxies

    def _find_own(self) -> None:
        """Raises FatalError."""
        from socket import inet_ntop

        from postfixpy.config import host

        view = self.view
        families = host.protocol_families(view.inet_protocols)
        interfaces = None if self._interfaces is None else host.interfaces_of(self._interfaces)
        own = host.own_addresses(view.inet_interfaces, families, interfaces)
        self._own = frozenset(inet_ntop(found.family, found.address) for found in own)
        proxies = host.proxy_addresses(view.proxy_interfaces, families)
        self._proxies = frozenset(inet_ntop(family, address) for family, address in proxies)

    def own_single(self, family: int) -> str:
        """The system's only address of a family, to connect from; "" when there is no single one, or it is loopback."""
        self.is_own("")
        assert self._own is not None
        found = [address for address in self._own if (":" in address) == (family == 6)]
        if len(found) != 1 or found[0].startswith("127.") or found[0] == "::1":
            return ""
        return found[0]

    def _family_ranks(self) -> tuple[int, int]:
        value = self.view.smtp_address_preference
        ranks = {"any": (0, 0), "ipv4": (0, 1), "ipv6": (1, 0)}
        if value not in ranks:
            raise FatalError(f"bad {self.name('smtp_address_preference')} value: {value}")
        return ranks[value]

    def family_rank(self, rtype: int) -> int:
        """Where a record type stands in the order of smtp_address_preference."""
        return self._ranks[rtype == AAAA]


class _MechanismFilter(StringList):
    """A list whose tables must answer: what cannot be filtered is fatal, as in Postfix."""

    def _problem(self, text: str) -> TableError:
        raise FatalError(f"{self.title}: {text}")


def _open_auth_cache(view: "View") -> Table:
    """The table of smtp_sasl_auth_cache_name. Raises FatalError.

    Where no proxymap service runs, and the table is of a type that one process cannot update while others read it, the
    refusals are remembered in the process.
    """
    name = view.smtp_sasl_auth_cache_name
    if re.search(r"[, \t\r\n]", name):
        raise FatalError(f'SASL authentication cache name "{name}" contains multiple values')
    if not name.startswith("proxy:"):
        raise FatalError(f'SASL authentication cache name "{name}" must start with "proxy:')
    flags = Flags.DUP_REPLACE | Flags.SYNC_UPDATE | Flags.UTF8_REQUEST
    try:
        return open_table(name, view, flags=flags, surrogates=False, writable=True)
    except FatalError as error:
        if "requires O_RDONLY access mode" not in str(error):
            raise
    return open_table(f"internal:{name}", view, flags=flags, surrogates=False, writable=True)


_CLASSES = frozenset(("bounce", "2bounce", "data", "delay", "policy", "protocol", "resource", "software"))


def parse_classes(text: str) -> set[str]:
    """The words of notify_classes. Raises FatalError, at the start; Postfix does at the end of the first session."""
    words = {word.lower() for word in _LIST.split(text) if word}
    for word in words - _CLASSES:
        raise FatalError(f'unknown notify_classes value "{word}" in "{text}"')
    return words


def parse_flags(words: Sequence[str]) -> str:
    """The letters of the ``flags=`` attribute in the arguments of a master.cf command. Raises FatalError."""
    flags = ""
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name.lower() != "flags":
            raise FatalError(f"unknown attribute name: {word}")
        for letter in value:
            if letter not in "DORX":
                raise FatalError(f'unknown flags={value} value "{letter}" in "{value}"')
        flags = value
    return flags
