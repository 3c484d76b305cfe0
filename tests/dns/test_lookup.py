"""One lookup by Postfix's rules, over a table of records."""

from typing import Any

import pytest

from postfixpy import log
from postfixpy.dns import message
from postfixpy.dns.lookup import RECORD_LIMIT, RES_DEFNAMES, RES_DNSRCH, Resolver
from postfixpy.dns.record import AAAA, MX, SRV, A, Answer, Record, Status
from postfixpy.smtp.memory import finish
from postfixpy.smtp.names import Zone


def look(zone: list[str], name: str, rtype: int, **options: Any) -> Answer:
    lookup = {key: options.pop(key) for key in ("options", "dnssec") if key in options}
    return finish(Resolver(Zone(zone), **options).lookup(name, rtype, **lookup))


@pytest.fixture
def lines() -> Any:
    found: list[str] = []
    previous = log.set_sink(lambda severity, text: found.append(f"{severity}: {text}"))
    yield found
    log.set_sink(previous)


def test_found() -> None:
    answer = look(["a.example A 192.0.2.1"], "a.example", A)
    assert answer.status == Status.OK
    assert answer.records == [Record("a.example", "a.example", A, 3600, "192.0.2.1")]


@pytest.mark.parametrize(
    ("zone", "status", "text"),
    [
        ([], Status.NOTFOUND, "Host not found"),
        (["a.example A 192.0.2.1"], Status.NOTFOUND, "Host found but no data record of requested type"),
        (["a.example MX SERVFAIL"], Status.RETRY, "Host not found, try again"),
        (["a.example MX REFUSED"], Status.RETRY, "Host not found, try again"),
        (["a.example MX TIMEOUT"], Status.RETRY, "Host not found, try again"),
        (["a.example MX FORMERR"], Status.FAIL, "Non-recoverable error"),
    ],
)
def test_failures(zone: list[str], status: Status, text: str) -> None:
    answer = look(zone, "a.example", MX)
    assert answer.status == status
    start = "Host or domain name not found. Name service error for name=a.example type=MX: "
    assert answer.text == start + text


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "a..b", "x y"])
def test_names_that_are_not_asked_for(name: str) -> None:
    answer = look([], name, A)
    assert (answer.status, answer.text) == (
        Status.NOTFOUND,
        f"Name service error for {name}: invalid host or domain name",
    )


def test_cname_is_followed_and_keeps_the_query_name() -> None:
    answer = look(["a.example CNAME b.example", "b.example A 192.0.2.1"], "a.example", A)
    assert answer.records == [Record("a.example", "b.example", A, 3600, "192.0.2.1")]
    assert answer.canonical == "b.example"


def test_cname_loop(lines: list[str]) -> None:
    answer = look(["a.example CNAME a.example"], "a.example", A)
    assert (answer.status, answer.text) == (Status.NOTFOUND, "Name server loop for a.example")
    assert lines == ["warning: dns_lookup: Name server loop for a.example"]


def test_null_mx_and_null_srv() -> None:
    answer = look(["a.example MX 10 b.example", "a.example MX 0 ."], "a.example", MX)
    assert (answer.status, answer.text) == (Status.NULLMX, "Domain a.example does not accept mail (nullMX)")
    answer = look(["_x._tcp.a SRV 0 0 0 ."], "_x._tcp.a", SRV)
    assert (answer.status, answer.text) == (Status.NULLSRV, "Domain _x._tcp.a does not support SRV requests")


def test_malformed_targets(lines: list[str]) -> None:
    answer = look(["a.example MX 10 x!y", "a.example MX 20 b.example"], "a.example", MX)
    assert [record.text for record in answer.records] == ["b.example"]
    assert lines == [
        "warning: valid_hostname: invalid character 33(decimal): x!y",
        "warning: malformed domain name in resource data of MX record for a.example: x!y",
    ]
    assert look(["a.example MX 10 x!y"], "a.example", MX).status == Status.INVAL


def test_record_limit(lines: list[str]) -> None:
    answer = look([f"a.example MX 10 m{n}.example" for n in range(RECORD_LIMIT + 5)], "a.example", MX)
    assert len(answer.records) == RECORD_LIMIT
    assert "DNS record count limit (100) exceeded" in lines[0]


def test_search_list() -> None:
    zone = ["host.b.example A 192.0.2.1", "x.y.b.example A 192.0.2.2"]
    search = ("a.example", "b.example")
    assert look(zone, "host", A, search=search).status == Status.NOTFOUND
    assert look(zone, "host", A, search=search, options=RES_DEFNAMES).status == Status.NOTFOUND  # the first only
    assert look(zone, "host", A, search=search, options=RES_DEFNAMES | RES_DNSRCH).status == Status.OK
    assert look(zone, "x.y", A, search=search, options=RES_DNSRCH).status == Status.OK


class Filter:
    def __init__(self, result: str | None) -> None:
        self.result = result
        self.keys: list[str] = []

    async def afind(self, key: str) -> str | None:
        self.keys.append(key)
        return self.result


def test_reply_filter(lines: list[str]) -> None:
    zone = ["a.example AAAA 2001:db8::1"]
    keep = Filter(None)
    assert look(zone, "a.example", AAAA, reply_filter=keep).status == Status.OK
    assert keep.keys == ["a.example. 3600 IN AAAA 2001:db8::1"]
    dropped = look(zone, "a.example", AAAA, reply_filter=Filter("ignore"))
    assert dropped.status == Status.POLICY
    assert dropped.text == "Error looking up name=a.example type=AAAA: DNS reply filter drops all results"
    wrong = look(zone, "a.example", AAAA, reply_filter=Filter("what"))
    assert wrong.status == Status.RETRY
    assert lines == [
        "info: ignoring DNS RR: a.example. 3600 IN AAAA 2001:db8::1",
        'warning: smtp_dns_reply_filter: unknown DNS filter action: "what"',
    ]


def test_dnssec_probe(lines: list[str]) -> None:
    look([". NS a.example", "a.example A 192.0.2.1"], "a.example", A, dnssec=True, dnssec_probe="ns:.")
    assert lines[0] == "warning: DNSSEC validation may be unavailable"
    assert "not DNSSEC validated" in lines[1]


def test_validated_chain() -> None:
    async def exchange(name: str, rtype: int, dnssec: bool) -> message.Reply:
        raw = message.Raw(name, A, 1, 60, "192.0.2.1")
        return message.Reply(0, 0, False, dnssec, (name, rtype), [raw])

    answer = finish(Resolver(exchange).lookup("a.example", A, dnssec=True))
    assert answer.validated and answer.records[0].validated
    assert not finish(Resolver(exchange).lookup("a.example", A)).validated
