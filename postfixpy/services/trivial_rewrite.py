"""trivial-rewrite(8): rewrites addresses to canonical form, and resolves recipients to a route.

The decisions are in postfixpy.services.rewriting; here are the protocol, the parameters and the tables. A client keeps
its connection and sends one request after another: ``rewrite`` (rule, address), ``resolve`` or ``verify`` (sender,
address). A request that is not understood ends the connection; the client tries again.

Table files are looked at every `TABLE_CHECK` seconds. When one has changed, the answer asks the client to reconnect,
and on the next connection this process makes way for a new one. (Postfix exits at once, and lets a client that waits
for an answer try again a second later.)
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping

from postfixpy import log
from postfixpy.config import View
from postfixpy.config.host import own_addresses, protocol_families, proxy_addresses
from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import Pair
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import Message
from postfixpy.ipc.rewrite import (
    LOCAL,
    PROTOCOL,
    REMOTE,
    RESOLVE,
    RESOLVE_CLASS_DEFAULT,
    REWRITE,
    VERIFY,
    Resolve,
    ResolveReply,
    Rewrite,
    Rewritten,
)
from postfixpy.ipc.service import Context, Service
from postfixpy.lookup import Flags, Maps, Table, TableError, arun, run
from postfixpy.lookup.addresses import AddressContext, LocalDomains
from postfixpy.lookup.matching import DomainList, MatchList, StringList, matches_parent

from .rewriting.resolve import Classes, Policy, Resolver, Routes
from .rewriting.rewrite import Rules, rewrite_external, warn_old_default
from .rewriting.transport import TransportTable

TABLE_CHECK = 10.0

_ROUTE_FIELDS = (
    "local_transport",
    "virtual_transport",
    "relay_transport",
    "default_transport",
    "relayhost",
    "sender_dependent_default_transport_maps",
    "sender_dependent_relayhost_maps",
    "transport_maps",
)
_FLAG_NAMES = {
    Flags.LOCK: "lock",
    Flags.NO_REGSUB: "no_regsub",
    Flags.FOLD_FIX: "fold_fix",
    Flags.UTF8_REQUEST: "utf8_request",
}


class OwnAddresses:
    """Whether an address is in inet_interfaces or proxy_interfaces; they are resolved when first asked for."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: set[str] | None = None

    def __call__(self, address: str) -> bool:
        """`address` in the text form of inet_ntop. Raises FatalError when a host name in the lists is not found."""
        if self._known is None:
            view = self._view
            families = protocol_families(view.inet_protocols)
            own = [(a.family, a.address) for a in own_addresses(view.inet_interfaces, families)]
            own += proxy_addresses(view.proxy_interfaces, families)
            self._known = {socket.inet_ntop(family, packed) for family, packed in own}
        return address in self._known


class TrivialRewrite(Service):
    """The service. `clock` is for tests."""

    protocol = PROTOCOL

    def __init__(self, context: Context, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(context)
        self._clock = clock
        self._checked = clock()
        self._changed = False

    async def pre_jail(self) -> None:
        if self.context.words:
            raise FatalError(f"unexpected command-line argument: {self.context.words[0]}")
        self.open()

    def open(self) -> None:
        """Read the parameters and open the tables. Raises FatalError."""
        view = self.view
        local = LocalDomains(view, OwnAddresses(view))
        context = AddressContext(view, local)
        classes = Classes(
            local,
            StringList("virtual_alias_domains", view.virtual_alias_domains, view),
            StringList("virtual_mailbox_domains", view.virtual_mailbox_domains, view),
            DomainList("relay_domains", view.relay_domains, view, parent=matches_parent("relay_domains", view)),
        )
        warn = None
        if view.origin("append_dot_mydomain").kind == "compatibility" and view.compatibility() < (1, 0, 0):
            warn = warn_old_default(view.mydomain, lambda domain: _in_a_class(classes, domain))
        self.rules = {LOCAL: Rules.local(view, warn), REMOTE: Rules.remote(view, warn)}
        self.routes = {
            RESOLVE: self._routes(context, {field: field for field in _ROUTE_FIELDS}),
            VERIFY: self._routes(context, {field: f"address_verify_{field}" for field in _ROUTE_FIELDS}),
        }
        relocated = Maps("relocated_maps", view.relocated_maps, view)
        self.resolver = Resolver(_policy(view), self.rules[LOCAL], classes, relocated, context)
        self._lists: list[MatchList] = [
            local.list,
            classes.virtual_alias_domains,
            classes.virtual_mailbox_domains,
            classes.relay_domains,
        ]

    def _routes(self, context: AddressContext, names: Mapping[str, str]) -> Routes:
        view = self.view
        flags = Flags.MAPS | Flags.NO_REGSUB

        def maps(field: str) -> Maps:
            return Maps(names[field], view.text(names[field]), view, flags)

        return Routes(
            names,
            view.text(names["local_transport"]),
            view.text(names["virtual_transport"]),
            view.text(names["relay_transport"]),
            view.text(names["default_transport"]),
            view.text(names["relayhost"]),
            maps("sender_dependent_default_transport_maps"),
            maps("sender_dependent_relayhost_maps"),
            TransportTable(
                maps("transport_maps"), context, parents=matches_parent("transport_maps", view), clock=self._clock
            ),
        )

    async def start(self) -> None:
        for routes in self.routes.values():
            await arun(routes.transport_maps.start())

    async def serve(self, channel: Channel) -> None:
        while await channel.wait_readable():
            reply = await self.answer(await channel.read_list())
            if reply is None:
                return
            channel.send_message(reply)
            await channel.drain()

    async def answer(self, request: list[Pair]) -> Message | None:
        """The answer to one request; None, after a warning, when there is none. Raises ProtocolError."""
        command = request[0][1] if request and request[0][0] == "request" else ""
        if command == REWRITE:
            rewrite = Rewrite.parse(request, self._peer)
            rules = self.rules.get(rewrite.rule)
            if rules is None:
                log.warning(f"unknown context: {rewrite.rule}")
                return None
            if not rewrite.address:
                log.warning("rewrite_addr: null address")
            return Rewritten(self._flags(), rewrite_external(rewrite.address, rules))
        if command in self.routes:
            resolve = Resolve.parse(request, self._peer)
            search = self.resolver.resolve(self.routes[command], resolve.sender, resolve.address)
            found = await arun(search)
            return ResolveReply(self._flags(), found.transport, found.nexthop, found.recipient, found.flags)
        log.warning(f"bad command {log.printable(command):.30}")
        return None

    @property
    def _peer(self) -> str:
        return f"{self.context.service} socket"

    def _flags(self) -> int:
        """The attribute `flags`: 1 asks the client to reconnect."""
        now = self._clock()
        if not self._changed and now - self._checked > TABLE_CHECK:
            self._checked = now
            self._changed = self.tables_changed() is not None
        return int(self._changed or self.draining)

    def _tables(self) -> Iterator[Table]:
        for members in self._lists:
            yield from (pattern.table for pattern in members.patterns if pattern.table is not None)
        for routes in self.routes.values():
            for maps in (
                routes.transport_maps.maps,
                routes.sender_dependent_relayhost_maps,
                routes.sender_dependent_default_transport_maps,
            ):
                yield from maps.tables
        yield from self.resolver.relocated_maps.tables

    def tables_changed(self) -> str | None:
        for table in self._tables():
            if table.changed():
                flags = "|".join(name for flag, name in _FLAG_NAMES.items() if table.flags & flag)
                return f"{table.name}(0,{flags})"
        return None


def _in_a_class(classes: Classes, domain: str) -> bool:
    try:
        return run(classes.of(domain)) != RESOLVE_CLASS_DEFAULT
    except TableError:
        return True  # unknown: no notice


def _policy(view: View) -> Policy:
    return Policy(
        myhostname=view.myhostname,
        config_directory=view.config_directory,
        empty_address_recipient=view.empty_address_recipient,
        empty_address_relayhost_maps_lookup_key=view.empty_address_relayhost_maps_lookup_key,
        empty_address_default_transport_maps_lookup_key=view.empty_address_default_transport_maps_lookup_key,
        swap_bangpath=view.swap_bangpath,
        allow_percent_hack=view.allow_percent_hack,
        resolve_dequoted_address=view.resolve_dequoted_address,
        resolve_null_domain=view.resolve_null_domain,
        resolve_numeric_domain=view.resolve_numeric_domain,
        show_user_unknown_table_name=view.show_user_unknown_table_name,
        relocated_prefix_enable=getattr(view, "relocated_prefix_enable", True),  # new in 3.11
        allow_min_user=view.allow_min_user,
        smtputf8_enable=view.smtputf8_enable,
        helpful_warnings=view.helpful_warnings,
    )
