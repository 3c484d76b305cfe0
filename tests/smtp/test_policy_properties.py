"""No input of the policy evaluator yields a weaker level than Postfix would use, nor a level without what goes with it.

What Postfix would use is said once more here, from its manual (smtp_tls_policy_maps, smtp_tls_per_site, TLS_README), as
a least level; random policies beside the real smtp(8) are in test_policy_real.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from postfixpy.dns.record import Record
from postfixpy.mail.delivery import REQUIRETLS, TLS_NOT_REQUIRED
from postfixpy.smtp import policy
from postfixpy.smtp.delivery import Server
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.names import Zone
from postfixpy.smtp.peers import Network
from postfixpy.smtp.policy_table import parse_entry
from postfixpy.tls.level import LEVELS, Level

ZONES = {
    "signed": ["@ad", ". NS a.root.", "server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11",
               "_25._tcp.mx.server.example TLSA 3 1 1 " + "ab" * 32],
    "no records": ["@ad", ". NS a.root.", "server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11"],
    "unsigned": ["server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11"],
    "fails": ["@ad", ". NS a.root.", "server.example MX 10 mx.server.example", "mx.server.example A 127.0.0.11",
              "_25._tcp.mx.server.example TLSA SERVFAIL"],
}  # fmt: skip


class Case(NamedTuple):
    """One evaluation. `entry` is what the table has, "" for nothing, "fail" for an error; `site` and `host` likewise of
    smtp_tls_per_site, where there is no other table."""

    main: str
    table: bool
    entry: str
    site: str
    host: str
    sendopts: int
    wrapper: bool
    zone: str

    def text(self) -> str:
        """main.cf."""
        lines = [self.main, f"smtp_tls_wrappermode = {'yes' if self.wrapper else 'no'}"]
        lines += [
            "smtp_dns_support_level = dnssec",
            "smtp_tls_fingerprint_cert_match = AA:BB",
            "requiretls_enable = yes",
        ]
        if self.table:
            entry = f"{{ server.example = {self.entry} }}" if self.entry else ""
            lines.append(
                "smtp_tls_policy_maps = " + ("fail:x" if self.entry == "fail" else f"inline:{{ {entry} {{x=y}} }}")
            )
        elif self.site or self.host:
            pairs = [("server.example", self.site), ("mx.server.example", self.host)]
            found = "".join(f"{{ {name} = {value} }}" for name, value in pairs if value and value != "fail")
            failing = " fail:x" if "fail" in (self.site, self.host) else ""
            lines.append(f"smtp_tls_per_site = inline:{{ {found} {{x=y}} }}{failing}")
        return "\n".join(lines) + "\n"


MAIN = {
    **{f"smtp_tls_security_level = {name}": LEVELS[name] for name in LEVELS if name not in ("half-dane", "halfdane")},
    "smtp_tls_security_level =\nsmtp_use_tls = yes": Level.MAY,
    "smtp_tls_security_level =\nsmtp_enforce_tls = yes": Level.VERIFY,
    "smtp_tls_security_level =\nsmtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no": Level.ENCRYPT,
    "smtp_tls_security_level = encrypt\nsmtp_use_tls = no": Level.ENCRYPT,
}
SITE = {"NONE": Level.NONE, "MAY": Level.MAY, "MUST_NOPEERMATCH": Level.ENCRYPT, "MUST": Level.VERIFY}
ENTRIES = ["", "fail", "nonsense", *LEVELS, "secure match=mx.server.example", "verify match=", "encrypt ciphers=high",
           "may protocols=!SSLv2", "fingerprint match=AA:BB", "encrypt what=ever", "none match=x"]  # fmt: skip
SITES = st.sampled_from(["", "fail", "odd", *SITE])
CASES = st.builds(
    Case,
    st.sampled_from(sorted(MAIN)),
    st.booleans(),
    st.sampled_from(ENTRIES),
    SITES,
    SITES,
    st.sampled_from([0, TLS_NOT_REQUIRED, TLS_NOT_REQUIRED | REQUIRETLS]),
    st.booleans(),
    st.sampled_from(sorted(ZONES)),
)


def least(case: Case) -> Level | None:
    """The level before DANE has looked at the DNS; None: there must be no policy."""
    main = MAIN[case.main]
    if case.sendopts == TLS_NOT_REQUIRED:
        return min(main, Level.ENCRYPT if case.wrapper else Level.MAY)
    if case.table:
        if case.entry == "fail":
            return None
        return LEVELS.get(case.entry.split()[0]) if case.entry else main
    if {"fail", "odd"} & {case.site, case.host}:
        return None
    found = [SITE[word] for word in (case.site, case.host) if word]
    if not found or max(found) > Level.MAY:
        return max(found, default=main)
    return Level.NONE if Level.NONE in found else max(main, Level.MAY)


def weaker(case: Case, evaluate: Callable[[Case], policy.Policy | None]) -> str:
    """What is weaker than it may be, "" if nothing is."""
    expected, found = least(case), evaluate(case)
    if found is None:
        return ""
    if expected is None:
        return "a policy in spite of an error"
    if expected.dane_based:
        lowest = expected if expected == Level.DANE_ONLY or case.zone in ("signed", "fails") else Level.MAY
        if found.level < lowest:
            return f"{found.level} where DANE wants {lowest}"
    elif found.level < expected:
        return f"{found.level} for {expected}"
    words = found.exclusions.replace(",", " ").split()
    if found.level > Level.ENCRYPT and "aNULL" not in words:
        return "a server without a certificate would do"
    if found.level == Level.ENCRYPT and "eNULL" not in words:
        return "no encryption would do"
    if found.level == Level.FINGERPRINT and not found.tlsa:
        return "no fingerprint"
    if found.level in (Level.VERIFY, Level.SECURE) and not found.match:
        return "no name"
    return ""


@pytest.fixture
def evaluate(make_settings: Any) -> Callable[[Case], policy.Policy | None]:
    """The policy for server.example, None if there is none."""

    def run(case: Case) -> policy.Policy | None:
        found, clock = make_settings(case.text()), Clock()
        memory = Memory(Network({}, clock), clock, lambda outcome: 0, Zone(ZONES[case.zone]))
        validated = case.zone != "unsigned"
        record = Record("mx.server.example", "mx.server.example", 1, 60, "127.0.0.11", validated=validated)
        mx = Record("server.example", "server.example", 15, 60, "mx.server.example", validated=validated)
        server = Server("server.example", "mx.server.example", "127.0.0.11", 25, "server.example", record, mx)
        try:
            return memory.run(policy.evaluate(found, server, case.sendopts, clock.now))
        except policy.PolicyError:
            return None

    return run


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
def test_never_weaker(evaluate: Callable[[Case], policy.Policy | None], log_lines: list[str], case: Case) -> None:
    assert weaker(case, evaluate) == ""


def _nothing(*_: Any) -> Any:
    return None
    yield


def _default(settings: Any, site: str, host: str, default: Level) -> Any:
    return default
    yield


def _may(settings: Any, server: Any, found: policy.Policy, now: float) -> Any:
    found.level = Level.MAY
    return None
    yield


def _bad_is_may(text: str, *where: Any) -> Any:
    try:
        return parse_entry(text, *where)
    except policy.InvalidPolicy:
        return policy.Entry(Level.MAY)


PLANTED = {
    "a failed look-up is no entry": ("postfixpy.smtp.policy._table_entry", _nothing),
    "a malformed entry is may": ("postfixpy.smtp.policy.parse_entry", _bad_is_may),
    "smtp_tls_per_site counts for nothing": ("postfixpy.smtp.policy._per_site_level", _default),
    "TLS-Required: no beats REQUIRETLS": (
        "postfixpy.smtp.policy._tls_not_required", lambda settings, sendopts: bool(sendopts & TLS_NOT_REQUIRED),
    ),
    "anonymous ciphers everywhere": ("postfixpy.smtp.policy._exclusions", lambda *_: ""),
    "DANE is may": ("postfixpy.smtp.dane.initialize", _may),
    "no names": ("postfixpy.smtp.policy._names", lambda *_: None),
    "no fingerprints": ("postfixpy.smtp.policy._fingerprints", lambda *_: None),
}  # fmt: skip
"""Mistakes that the property must notice."""


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_is_noticed(
    evaluate: Callable[[Case], policy.Policy | None],
    log_lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    monkeypatch.setattr(*PLANTED[mistake])
    try:
        find(CASES, lambda case: bool(weaker(case, evaluate)), settings=settings(max_examples=2000, derandomize=True))
    except NoSuchExample:
        pytest.fail("not noticed")
