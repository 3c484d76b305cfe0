"""One DNS lookup with Postfix's rules: validation of names, CNAMEs, null MX, failure classes, reply filter.

The rules (spec/smtp-client.md 3.2, dns_lookup(3)):

* a numeric address or an invalid host name is "not found" without a query;
* what the server says decides the class: NXDOMAIN and "no such record" are not found; SERVFAIL, REFUSED, time-outs and
  unreachable servers are to be retried; other response codes are failures;
* MX, SRV and CNAME records with malformed targets are dropped with a warning; if nothing else is left the reply is
  invalid; one null MX record makes the domain a null MX domain;
* a CNAME without the final record is followed, at most ten times;
* at most a hundred records are kept;
* the reply filter drops records; when it drops all of them, that is a policy failure.

`Resolver` is pure apart from its exchange: an async callable that carries one query to the servers.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from postfixpy import log

from . import message
from .names import family_of, hostname_problem
from .record import AAAA, CNAME, MX, NS, PTR, SRV, A, Answer, Record, Status, type_name

RECORD_LIMIT = 100
_CNAME_LIMIT = 10

RES_DEFNAMES, RES_DNSRCH = 0x80, 0x200
"""Resolver options (smtp_dns_resolver_options): append the local domain; search the parent domains."""


class NoReply(Exception):
    """No server gave a usable answer: time-out, refused connection, refusal. Try again later."""


Exchange = Callable[[str, int, bool], Awaitable[message.Reply]]
"""Sends one query (name, type, dnssec wanted); raises NoReply, or message.Malformed when the reply cannot be read."""


class ReplyFilter(Protocol):
    """smtp_dns_reply_filter: a search by the whole line of a record."""

    async def afind(self, key: str) -> str | None: ...


class _Class(Exception):
    """The reply as a whole has this status."""

    def __init__(self, status: Status) -> None:
        self.status = status


class Resolver:
    """Lookups by Postfix's rules over an exchange.

    `search` and `ndots` are resolv.conf's, used when a lookup asks for RES_DEFNAMES or RES_DNSRCH.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        search: tuple[str, ...] = (),
        ndots: int = 1,
        reply_filter: ReplyFilter | None = None,
        filter_name: str = "smtp_dns_reply_filter",
        dnssec_probe: str = "",
    ) -> None:
        self._exchange = exchange
        self._search = search
        self._ndots = ndots
        self._filter = reply_filter
        self._filter_name = filter_name
        self._probe = dnssec_probe
        self._dnssec_seen = False

    async def lookup(self, name: str, rtype: int, *, options: int = 0, dnssec: bool = False) -> Answer:
        """Look up `name`. `options`: RES_DEFNAMES, RES_DNSRCH bits. `dnssec`: ask for a validated answer."""
        if family_of(name) or (name != "." and hostname_problem(name, wildcard=True)):
            text = f"Name service error for {name}: invalid host or domain name"
            return Answer(Status.NOTFOUND, text)
        query, current, secure = name, name, True
        for _ in range(_CNAME_LIMIT):
            reply, failure = await self._ask(current, rtype, options, dnssec)
            if reply is None:
                return failure
            secure = secure and reply.authentic
            if reply.authentic:
                self._dnssec_seen = True
            try:
                records, target = _extract(reply, query, rtype, secure)
            except _Class as error:
                return Answer(error.status, _class_text(error.status, current, rtype))
            if records:
                if dnssec and not self._dnssec_seen:
                    await self._probe_dnssec()
                return await self._filtered(records, current, rtype, secure)
            if not target:
                text = f"Name service error for name={current} type={type_name(rtype)}: "
                return Answer(Status.RETRY, text + "Malformed or unexpected name server reply")
            current = target
        log.warning(f"dns_lookup: Name server loop for {current}")
        return Answer(Status.NOTFOUND, f"Name server loop for {current}")

    async def _ask(self, name: str, rtype: int, options: int, dnssec: bool) -> tuple[message.Reply | None, Answer]:
        """The reply with answers, or the failure as an answer; goes through the search list when asked to."""
        failure = Answer(Status.NOTFOUND)
        for candidate in self._candidates(name, options):
            error, status = "", Status.RETRY
            try:
                reply = await self._exchange(candidate, rtype, dnssec)
            except NoReply:
                error = "Host not found, try again"
            except message.Malformed:
                text = f"Name service error for name={name} type={type_name(rtype)}: "
                return None, Answer(Status.RETRY, text + "Malformed or unexpected name server reply")
            else:
                if reply.rcode == message.NOERROR and reply.answers:
                    return reply, failure
                error, status = _no_answer(reply.rcode)
            text = f"Host or domain name not found. Name service error for name={name} type={type_name(rtype)}: {error}"
            failure = Answer(status, text)
            if status != Status.NOTFOUND:
                break
        return None, failure

    def _candidates(self, name: str, options: int) -> list[str]:
        """The names to try, in the order of res_search(3)."""
        dots = name.count(".")
        searched = []
        if (dots == 0 and options & RES_DEFNAMES) or (dots > 0 and options & RES_DNSRCH):
            domains = self._search if options & RES_DNSRCH else self._search[:1]
            searched = [f"{name}.{domain}" for domain in domains if domain]
        return [name, *searched] if dots >= self._ndots else [*searched, name]

    async def _filtered(self, records: list[Record], name: str, rtype: int, secure: bool) -> Answer:
        if self._filter is not None:
            from postfixpy.errors import TemporaryError

            kept = []
            for record in records:
                line = record.line()
                try:
                    action = await self._filter.afind(line)
                except TemporaryError:
                    action = "(table error)"
                if action is None:
                    kept.append(record)
                elif action.split(None, 1)[:1] and action.split(None, 1)[0].upper() == "IGNORE":
                    log.info(f"ignoring DNS RR: {line}")
                else:
                    if action != "(table error)":
                        log.warning(f'{self._filter_name}: unknown DNS filter action: "{action}"')
                    text = f"Error looking up name={name} type={type_name(rtype)}: Invalid DNS reply filter syntax"
                    return Answer(Status.RETRY, text)
            if not kept:
                text = f"Error looking up name={name} type={type_name(rtype)}: DNS reply filter drops all results"
                return Answer(Status.POLICY, text)
            records = kept
        return Answer(Status.OK, "", records, name, secure)

    async def _probe_dnssec(self) -> None:
        """Once a process: say when the resolver seems not to validate (dnssec_probe)."""
        probe, self._probe = self._probe, ""
        type_text, _, name = probe.partition(":")
        numbers = {type_name(n).lower(): n for n in (A, AAAA, MX, NS, PTR, SRV, CNAME)}
        if not probe or type_text.lower() not in numbers:
            return
        why = ""
        try:
            reply = await self._exchange(name, numbers[type_text.lower()], True)
        except (NoReply, message.Malformed):
            why = "Host not found, try again"
        else:
            if reply.authentic:
                self._dnssec_seen = True
                return
            if reply.rcode != message.NOERROR or not reply.answers:
                why = _no_answer(reply.rcode)[0]
        if why:
            record = f"name={name} type={type_text.upper()}"
            why = f"Host or domain name not found. Name service error for {record}: {why}"
        log.warning("DNSSEC validation may be unavailable")
        if why:
            log.warning(f"reason: dnssec_probe '{probe}' received no response: {why}")
        else:
            log.warning(f"reason: dnssec_probe '{probe}' received a response that is not DNSSEC validated")


def _no_answer(rcode: int) -> tuple[str, Status]:
    if rcode == message.NXDOMAIN:
        return "Host not found", Status.NOTFOUND
    if rcode == message.NOERROR:
        return "Host found but no data record of requested type", Status.NOTFOUND
    if rcode in (message.SERVFAIL, message.REFUSED, message.NOTIMP):
        return "Host not found, try again", Status.RETRY
    return "Non-recoverable error", Status.FAIL


def _class_text(status: Status, name: str, rtype: int) -> str:
    if status == Status.NULLMX:
        return f"Domain {name} does not accept mail (nullMX)"
    if status == Status.NULLSRV:
        return f"Domain {name} does not support SRV requests"
    return f"Name service error for name={name} type={type_name(rtype)}: Malformed or unexpected name server reply"


def _extract(reply: message.Reply, query: str, rtype: int, secure: bool) -> tuple[list[Record], str]:
    """The records of the wanted type, and the target of the CNAME. Raises _Class when the whole reply is bad."""
    records: list[Record] = []
    target = ""
    invalid = False
    for raw in reply.answers:
        if not _owner_ok(raw.name, rtype):
            raise _Class(Status.INVAL)
        if raw.rclass != 1:
            log.warning(f"dns_get_fixed: bad class: {raw.rclass}")
            raise _Class(Status.RETRY)
        if raw.rtype not in (rtype, CNAME):
            continue
        if raw.problem:
            log.warning(raw.problem)
            raise _Class(Status.RETRY)
        if raw.rtype in (MX, SRV) and not raw.text:
            raise _Class(Status.NULLMX if raw.rtype == MX else Status.NULLSRV)
        if raw.rtype in (MX, SRV, CNAME, NS, PTR) and not _target_ok(raw, query):
            if raw.rtype == CNAME and raw.rtype != rtype:
                raise _Class(Status.INVAL)
            invalid = True
            continue
        if raw.rtype == CNAME and rtype != CNAME:
            target = raw.text
            continue
        if len(records) >= RECORD_LIMIT:
            log.warning(
                f"DNS record count limit ({RECORD_LIMIT}) exceeded -- dropping excess record(s) "
                f"after qname={query} qtype={type_name(rtype)}"
            )
            break
        preference, weight, port = (*raw.numbers, 0, 0, 0)[:3]
        records.append(Record(query, raw.name, raw.rtype, raw.ttl, raw.text, preference, weight, port, secure))
    if invalid and not records:
        raise _Class(Status.INVAL)
    return records, target


def _owner_ok(name: str, rtype: int) -> bool:
    if family_of(name):
        log.warning(f"numeric domain name in owner name of {type_name(rtype)} record: {name}"[:200])
        return True
    if not name:
        return True
    problem = hostname_problem(name, wildcard=True)
    if problem:
        log.warning(f"valid_hostname: {problem}")
    return not problem


def _target_ok(raw: message.Raw, query: str) -> bool:
    where = f"domain name in resource data of {type_name(raw.rtype)} record for {query}: {raw.text[:100]}"
    if family_of(raw.text):
        log.warning(f"numeric {where}")
        return True
    problem = hostname_problem(raw.text)
    if problem:
        log.warning(f"valid_hostname: {problem}")
        log.warning(f"malformed {where}")
    return not problem
