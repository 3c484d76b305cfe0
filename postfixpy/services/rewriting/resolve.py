"""Resolving an envelope recipient to a route: delivery service, destination, recipient (trivial-rewrite(8)).

1. Local domains are stripped from the address, one after another, with the routing that they hide (``a%b@here`` becomes
   ``a@b``), until the domain is remote or nothing is left; no recipient is the empty_address_recipient.
2. The domain's class decides the service and destination (ADDRESS_CLASS_README), in this order: mydestination and own
   addresses; virtual_alias_domains; virtual_mailbox_domains; relay_domains; everything else. Off-host classes send to
   the (sender-dependent) relayhost; ``transport:nexthop`` values in main.cf override the destination.
3. The transport table overrides both, except for virtual alias domains, where every address is unknown by now.
4. relocated_maps bounces who has moved; a recipient that starts with "-" is an error (allow_min_user).

A table that cannot answer gives RESOLVE_FLAG_FAIL: the caller tries later. The text in the reply is then of no use.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from postfixpy import log
from postfixpy.dns.names import valid_hostname
from postfixpy.ipc.rewrite import (
    RESOLVE_CLASS_ALIAS,
    RESOLVE_CLASS_DEFAULT,
    RESOLVE_CLASS_LOCAL,
    RESOLVE_CLASS_RELAY,
    RESOLVE_CLASS_VIRTUAL,
    RESOLVE_FLAG_ERROR,
    RESOLVE_FLAG_FAIL,
    RESOLVE_FLAG_ROUTED,
    Resolved,
)
from postfixpy.lookup import Maps, Search, TableError
from postfixpy.lookup.addresses import AddressContext, LocalDomains, mail_addr_find
from postfixpy.lookup.matching import DomainList, StringList
from postfixpy.lookup.table import casefold, is_utf8
from postfixpy.mail import dsn
from postfixpy.mail.addresses import QUOTED, Token, internalize, quote_822_local, scan
from postfixpy.mail.literals import mailhost_address, valid_hostaddr, valid_mailhost_literal

from .rewrite import Rules, Tokens, rewrite, rfind
from .transport import TransportTable

UNSET = Resolved("CHANNEL NOT UPDATED", "NEXTHOP NOT UPDATED", "NEXTRCPT NOT UPDATED", 0)
"""What Postfix answers for a part of the route that it did not come to."""


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes of one kind of request: of mail, or of address probes (the address_verify_* parameters).

    `names` gives the main.cf name of each field, for log texts.
    """

    names: Mapping[str, str]
    local_transport: str
    virtual_transport: str
    relay_transport: str
    default_transport: str
    relayhost: str
    sender_dependent_default_transport_maps: Maps
    sender_dependent_relayhost_maps: Maps
    transport_maps: TransportTable


@dataclass(frozen=True, slots=True)
class Classes:
    """The domain lists that make the address classes (empty lists match nothing)."""

    local: LocalDomains
    virtual_alias_domains: StringList
    virtual_mailbox_domains: StringList
    relay_domains: DomainList

    def is_local(self, domain: str) -> Search[bool]:
        """Whether `domain`, or ``[address]`` as RFC 5321 writes it, is ours. Raises TableError."""
        literal = domain.removesuffix(".")
        if not literal.startswith("[") or not literal.endswith("]"):
            return (yield from self.local.search(domain))
        if (yield from self.local.list.search(literal)):
            return True
        _, complaint = mailhost_address(literal[1:-1])
        if complaint:
            log.warning(complaint)
            return False
        return (yield from self.local.search(literal))

    def of(self, domain: str) -> Search[int]:
        """The RESOLVE_CLASS_* of `domain`. Raises TableError."""
        if (yield from self.is_local(domain)):
            return RESOLVE_CLASS_LOCAL
        for members, bit in (
            (self.virtual_alias_domains, RESOLVE_CLASS_ALIAS),
            (self.virtual_mailbox_domains, RESOLVE_CLASS_VIRTUAL),
            (self.relay_domains, RESOLVE_CLASS_RELAY),
        ):
            if (yield from members.search(domain)):
                return bit
        return RESOLVE_CLASS_DEFAULT


@dataclass(frozen=True, slots=True)
class Policy:
    """The other parameters of resolving, under their names in main.cf."""

    myhostname: str
    config_directory: str
    empty_address_recipient: str
    empty_address_relayhost_maps_lookup_key: str
    empty_address_default_transport_maps_lookup_key: str
    swap_bangpath: bool
    allow_percent_hack: bool
    resolve_dequoted_address: bool
    resolve_null_domain: bool
    resolve_numeric_domain: bool
    show_user_unknown_table_name: bool
    relocated_prefix_enable: bool
    allow_min_user: bool
    smtputf8_enable: bool
    helpful_warnings: bool


class _Fail(Exception):
    """The request cannot be completed now."""


@dataclass(slots=True)
class _Reply:
    """The reply as it is built."""

    transport: str = UNSET.transport
    nexthop: str = UNSET.nexthop
    recipient: str = UNSET.recipient
    flags: int = 0

    def resolved(self, flag: int = 0) -> Resolved:
        return Resolved(self.transport, self.nexthop, self.recipient, self.flags | flag)


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves recipients. `rules` is the local rewriting context."""

    policy: Policy
    rules: Rules
    classes: Classes
    relocated_maps: Maps
    context: AddressContext

    def resolve(self, routes: Routes, sender: str, address: str) -> Search[Resolved]:
        """The route of mail from `sender` to `address`, both internal form and possibly empty. Never raises."""
        reply = _Reply()
        try:
            remote = yield from self._recipient(reply, address)
            if reply.flags & RESOLVE_FLAG_ERROR:
                return reply.resolved(RESOLVE_CLASS_DEFAULT)
            domain = reply.recipient.rpartition("@")[2]
            if _first_operator(reply.recipient) + 1 != len(reply.recipient) - len(domain):
                reply.flags |= RESOLVE_FLAG_ROUTED
            blame = yield from self._route(reply, routes, sender, domain, remote)
            reply.transport, _, destination = reply.transport.partition(":")
            reply.nexthop = destination or reply.nexthop
            if not reply.transport:
                log.warning(
                    f"file {self.policy.config_directory}/main.cf: parameter {blame}: null transport is not allowed"
                )
                raise _Fail
            yield from self._override(reply, routes, domain)
            yield from self._relocate(reply)
        except _Fail:
            return reply.resolved(RESOLVE_FLAG_FAIL)
        if reply.recipient.startswith("-") and not self.policy.allow_min_user:
            return reply.resolved(RESOLVE_FLAG_ERROR)
        return reply.resolved()

    # 1. The recipient and whether it is remote.

    def _recipient(self, reply: _Reply, address: str) -> Search[bool]:
        """Set the recipient in user@domain form; True when the domain is not local. Flags bad syntax."""
        try:
            tokens, remote = yield from self._strip(address)
        except TableError:
            raise _Fail from None
        recipient = internalize(tokens)
        domain = recipient.rpartition("@")[2]
        utf8 = self.policy.smtputf8_enable
        reply.recipient = recipient
        if domain.startswith("["):
            if not valid_mailhost_literal(domain):
                reply.flags |= RESOLVE_FLAG_ERROR
        elif utf8 and not is_utf8(recipient):
            reply.flags |= RESOLVE_FLAG_ERROR
        elif not valid_hostname(domain, utf8=utf8):
            if self.policy.resolve_numeric_domain and valid_hostaddr(domain):
                reply.recipient = f"{recipient[: len(recipient) - len(domain)]}[{domain}]"
                try:
                    remote = remote and not (yield from self.classes.is_local(f"[{domain}]"))
                except TableError:
                    raise _Fail from None
            else:
                reply.flags |= RESOLVE_FLAG_ERROR
        return remote

    def _strip(self, address: str) -> Search[tuple[Tokens, bool]]:
        """The address without local domains that hide more routing, and whether its domain is remote.

        We look into quoted localparts too (resolve_dequoted_address): technically wrong, but some next hops do, and
        would relay for strangers.
        """
        policy = self.policy
        tokens = scan(quote_822_local(address))
        here: Tokens = []
        for _ in range(len(address.encode("utf-8", "surrogateescape")) + 101):
            at = rfind(tokens, "@")
            if at >= 0 and tokens[-1].kind == "." and tokens[-2].kind not in (".", "@"):
                tokens = tokens[:-1]
            if policy.resolve_null_domain and tokens and tokens[-1].kind == "@":
                tokens = tokens[:-1]
            at = rfind(tokens, "@")
            if at >= 0:
                if at + 1 < len(tokens) and not (yield from self.classes.is_local(internalize(tokens[at + 1 :]))):
                    return tokens, True
                tokens, here = tokens[:at], tokens[at:]
            if (
                rfind(tokens, "@") >= 0
                or (policy.swap_bangpath and rfind(tokens, "!") >= 0)
                or (policy.allow_percent_hack and rfind(tokens, "%") >= 0)
            ):
                tokens = rewrite(tokens, self.rules)
                continue
            if policy.resolve_dequoted_address and len(tokens) == 1 and tokens[0].kind == QUOTED:
                opened = self._open_quotes(tokens[0].text)
                if opened is not None:
                    tokens = rewrite(opened, self.rules)
                    continue
                if not tokens[0].text:
                    tokens = []
            elif tokens == [Token(QUOTED, "")]:
                tokens = []
            if not tokens:
                tokens = scan(policy.empty_address_recipient)
                continue
            if not here:
                tokens = [*tokens, Token("@"), *scan(policy.myhostname)]
                continue
            return [*tokens, *here], False
        log.warning(f"resolve_addr: <{address}>: giving up after {len(address) + 101} iterations")
        raise _Fail

    def _open_quotes(self, text: str) -> Tokens | None:
        """The tokens of a quoted localpart that has routing in it, None when it has not."""
        at = text.rfind("@")
        if at < 0 and self.policy.allow_percent_hack:
            at = text.rfind("%")
            if at >= 0:
                text = f"{text[:at]}@{text[at + 1 :]}"
        if at >= 0:
            return scan(quote_822_local(text))
        if self.policy.swap_bangpath and "!" in text:
            return scan(text)
        return None

    # 2. The class's route.

    def _route(self, reply: _Reply, routes: Routes, sender: str, domain: str, remote: bool) -> Search[str]:
        """Set transport, nexthop and class flag; the name of the parameter that the transport came from."""
        classes = self.classes
        mailbox, relay = classes.virtual_mailbox_domains, classes.relay_domains
        if not remote:
            yield from self._nag(domain, "mydestination", virtual_alias_domains=classes.virtual_alias_domains)
            yield from self._nag(domain, "mydestination", virtual_mailbox_domains=mailbox)
            reply.transport, reply.nexthop = routes.local_transport, domain
            reply.flags |= RESOLVE_CLASS_LOCAL
            return routes.names["local_transport"]
        if (yield from self._member(domain, "virtual_alias_domains", classes.virtual_alias_domains)):
            yield from self._nag(domain, "virtual_alias_domains", virtual_mailbox_domains=mailbox, relay_domains=relay)
            where = " in virtual alias table" if self.policy.show_user_unknown_table_name else ""
            reply.transport, reply.nexthop = "error", f"5.1.1 User unknown{where}"
            reply.flags |= RESOLVE_CLASS_ALIAS
            return ""
        if (yield from self._member(domain, "virtual_mailbox_domains", mailbox)):
            yield from self._nag(domain, "virtual_mailbox_domains", relay_domains=relay)
            reply.transport, reply.nexthop = routes.virtual_transport, domain
            reply.flags |= RESOLVE_CLASS_VIRTUAL
            return routes.names["virtual_transport"]
        if (yield from self._member(domain, "relay_domains", relay)):
            reply.transport = routes.relay_transport
            reply.flags |= RESOLVE_CLASS_RELAY
            blame = routes.names["relay_transport"]
        else:
            blame = yield from self._default_transport(reply, routes, sender)
            reply.flags |= RESOLVE_CLASS_DEFAULT
        reply.nexthop = (yield from self._relayhost(routes, sender)) or domain
        return blame

    def _member(self, domain: str, name: str, members: StringList | DomainList) -> Search[bool]:
        try:
            return (yield from members.search(domain))
        except TableError:
            log.warning(f"{name} lookup failure")
            raise _Fail from None

    def _nag(self, domain: str, name: str, **others: StringList | DomainList) -> Search[None]:
        """Warn of a domain that is in two lists; which one wins is an accident."""
        if not self.policy.helpful_warnings:
            return
        for other, members in others.items():
            try:
                both = yield from members.search(domain)
            except TableError:
                continue  # the warning is only a help
            if both:
                log.warning(f"do not list domain {domain} in BOTH {name} and {other}")

    def _default_transport(self, reply: _Reply, routes: Routes, sender: str) -> Search[str]:
        maps, field = routes.sender_dependent_default_transport_maps, "sender_dependent_default_transport_maps"
        key = sender or self.policy.empty_address_default_transport_maps_lookup_key
        found, value = yield from self._by_sender(routes, maps, field, key)
        reply.transport = value or routes.default_transport
        return routes.names[field if found else "default_transport"]

    def _relayhost(self, routes: Routes, sender: str) -> Search[str]:
        maps, field = routes.sender_dependent_relayhost_maps, "sender_dependent_relayhost_maps"
        key = sender or self.policy.empty_address_relayhost_maps_lookup_key
        _, value = yield from self._by_sender(routes, maps, field, key)
        return value or routes.relayhost

    def _by_sender(self, routes: Routes, maps: Maps, field: str, key: str) -> Search[tuple[bool, str]]:
        """Whether a sender-dependent table has `key`, and its value; "" for DUNNO."""
        if not maps:
            return False, ""
        try:
            found = yield from mail_addr_find(maps, key, self.context)
        except TableError:
            log.warning(f"{routes.names[field]} lookup failure")
            raise _Fail from None
        if found is None:
            return False, ""
        return True, "" if casefold(found.value, self.policy.smtputf8_enable) == "dunno" else found.value

    # 3, 4. What overrides it.

    def _override(self, reply: _Reply, routes: Routes, domain: str) -> Search[None]:
        if not routes.transport_maps.maps or reply.flags & RESOLVE_CLASS_ALIAS:
            return
        route = (reply.transport, reply.nexthop)
        try:
            route = yield from routes.transport_maps.lookup(reply.recipient, domain, route)
        except TableError:
            log.warning(f"{routes.names['transport_maps']} lookup failure")
            raise _Fail from None
        reply.transport, reply.nexthop = route

    def _relocate(self, reply: _Reply) -> Search[None]:
        if not self.relocated_maps:
            return
        try:
            found = yield from mail_addr_find(self.relocated_maps, reply.recipient, self.context)
        except TableError:
            log.warning("relocated_maps lookup failure")
            raise _Fail from None
        if found is None:
            return
        reply.transport = "error"
        if self.policy.relocated_prefix_enable:
            reply.nexthop = f"5.1.6 User has moved to {found.value}"
            return
        status, text = dsn.split_text(found.value, "")
        if not status or not text:
            log.warning(f"relocated_maps result must contain RFC 3463 status and text: '{found.value:.100}'")
            status, text = "5.2.0", "Mailbox is unavailable"
        reply.nexthop = f"{status} {text}"


def _first_operator(recipient: str) -> int:
    """The offset of the first "@", "!" or "%"; the address has an "@"."""
    return min(found for found in map(recipient.find, "@!%") if found >= 0)
