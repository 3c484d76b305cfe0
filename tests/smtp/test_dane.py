"""TLSA look-ups, and what they make of the levels dane and dane-only."""

import pytest

from postfixpy.dns.record import Record
from postfixpy.smtp import policy
from postfixpy.smtp.delivery import Server
from postfixpy.smtp.policy import PolicyError
from postfixpy.tls.level import Level

DNSSEC = "smtp_dns_support_level = dnssec\n"
HASH = "ab" * 32
GOOD = ["_25._tcp.mx.example TLSA 3 1 1 " + HASH]


def evaluate(make_world, level: str, zone: list[str], *, text: str = "", **server):  # type: ignore[no-untyped-def]
    world = make_world(f"{DNSSEC}smtp_tls_security_level = {level}\n{text}", zone=zone)
    record = Record(
        "mx.example", server.pop("name", "mx.example"), 1, 60, "127.0.0.11", validated=server.pop("ad", True)
    )
    mx = server.pop("mx", Record("dom.example", "dom.example", 15, 60, "mx.example", validated=True))
    target = Server("dom.example", "mx.example", "127.0.0.11", 25, "dom.example", record, mx)
    return world.memory.run(policy.evaluate(world.settings, target, 0, world.clock()))


@pytest.mark.parametrize("level", ["dane", "dane-only"])
def test_records(make_world, level: str) -> None:  # type: ignore[no-untyped-def]
    found = evaluate(make_world, level, ["@ad", *GOOD])
    assert found.level == {"dane": Level.DANE, "dane-only": Level.DANE_ONLY}[level]
    assert found.tlsa == ((3, 1, 1, bytes.fromhex(HASH)),)
    assert (found.base, found.match) == ("mx.example", ["mx.example", "dom.example"])
    assert found.exclusions == "aNULL"


@pytest.mark.parametrize(
    ("zone", "level", "text"),
    [
        ([], Level.MAY, "no TLSA records found"),
        (GOOD, Level.MAY, "no TLSA records found"),  # not validated
        (["@ad", "_25._tcp.mx.example TLSA 0 1 1 " + HASH], Level.ENCRYPT, "TLSA records unusable"),
        (["@ad", "_25._tcp.mx.example TLSA 3 1 255 " + HASH], Level.ENCRYPT, "TLSA records unusable"),
        (["@ad", "_25._tcp.mx.example TLSA 4 1 1 " + HASH], Level.ENCRYPT, "TLSA records unusable"),
        (["_25._tcp.mx.example ANY SERVFAIL"], None, "TLSA lookup error for mx.example:25"),
        (["_25._tcp.mx.example TLSA TIMEOUT"], None, "TLSA lookup error for mx.example:25"),
    ],
)
def test_without(make_world, log_lines, zone: list[str], level: Level | None, text: str) -> None:  # type: ignore[no-untyped-def]
    if level is None:
        with pytest.raises(PolicyError, match=text):
            evaluate(make_world, "dane", zone)
    else:
        assert evaluate(make_world, "dane", zone).level == level
    with pytest.raises(PolicyError, match=text):
        evaluate(make_world, "dane-only", zone)


def test_insecure_mx(make_world) -> None:  # type: ignore[no-untyped-def]
    mx = Record("dom.example", "dom.example", 15, 60, "mx.example")
    zone = ["@ad", *GOOD]
    parameter = "smtp_tls_dane_insecure_mx_policy = "
    assert evaluate(make_world, "dane", zone, mx=mx).level == Level.HALFDANE
    assert evaluate(make_world, "dane", zone, mx=mx, text=f"{parameter}encrypt\n").level == Level.ENCRYPT
    assert evaluate(make_world, "dane", zone, mx=mx, text=f"{parameter}may\n").level == Level.MAY
    with pytest.raises(PolicyError, match="non DNSSEC destination"):
        evaluate(make_world, "dane-only", zone, mx=mx)


def test_insecure_address(make_world) -> None:  # type: ignore[no-untyped-def]
    assert evaluate(make_world, "dane", ["@ad", *GOOD], ad=False).level == Level.MAY
    forced = "smtp_tls_force_insecure_host_tlsa_lookup = yes\n"
    assert evaluate(make_world, "dane", ["@ad", *GOOD], ad=False, text=forced).level == Level.DANE


def test_alias(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    target = "_25._tcp.real.example TLSA 3 0 1 " + HASH
    both = ["@ad", *GOOD, target]
    assert evaluate(make_world, "dane", both, name="real.example").base == "real.example"
    assert evaluate(make_world, "dane", ["@ad", *GOOD], name="real.example").base == "mx.example"
    alias = ["@ad", *GOOD, "mx.example CNAME real.example"]
    assert evaluate(make_world, "dane", alias, name="real.example", ad=False).base == "mx.example"
    insecure = [*GOOD, "mx.example CNAME real.example"]
    assert evaluate(make_world, "dane", insecure, name="real.example", ad=False).level == Level.MAY
    assert not [line for line in log_lines if "overriding" not in line]
    with pytest.raises(PolicyError, match="TLSA lookup error"):
        evaluate(make_world, "dane", ["@ad", *GOOD], name="real.example", ad=False)
    assert log_lines[-1:] == ["warning: DNSSEC status lookup error for mx.example: no longer a CNAME"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("smtp_dns_support_level = enabled\n", "{} configured with dnssec lookups disabled"),
        ("smtp_host_lookup = native\n", "{} configured with dnssec lookups disabled"),
        ("ignore_mx_lookup_error = yes\n", "{} configured with MX lookup errors ignored"),
        ("smtp_dns_resolver_options = res_dnsrch\n", "dns resolver options incompatible with {} TLS"),
    ],
)
def test_unfit(make_world, log_lines, text: str, why: str) -> None:  # type: ignore[no-untyped-def]
    assert evaluate(make_world, "dane", ["@ad", *GOOD], text=text).level == Level.MAY
    with pytest.raises(PolicyError, match="client TLS configuration problem"):
        evaluate(make_world, "dane-only", ["@ad", *GOOD], text=text)
    found = [line for line in log_lines if "overriding" not in line]
    assert found == [f"warning: dom.example: {why.format(level)}" for level in ("dane", "dane-only")]


def test_answers_are_remembered(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world(f"{DNSSEC}smtp_tls_security_level = dane\n", zone=["@ad", *GOOD])
    record = Record("mx.example", "mx.example", 1, 60, "127.0.0.11", validated=True)
    target = Server("dom.example", "mx.example", "127.0.0.11", 25, "dom.example", record, None)

    def level() -> Level:
        return world.memory.run(policy.evaluate(world.settings, target, 0, world.clock())).level

    assert level() == Level.DANE
    world.memory.resolver._exchange.records.clear()
    world.clock.now += 101
    assert level() == Level.DANE
    world.clock.now += 1
    assert level() == Level.MAY
