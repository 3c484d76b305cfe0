"""TLSRPT: telling a local report service how TLS went with each server of a domain that wants to know (RFC 8460).

A domain wants to know when it has one TXT record ``_smtp._tls.DOMAIN`` that begins with ``v=TLSRPTv1;``. Each new TLS
handshake with one of its servers, or the absence of one, is then one datagram to smtp_tlsrpt_socket_name, in the form
of libtlsrpt (protocol version 1), which the report services of others read; `postfixpy tlsrpt` is ours. At most one
event is told for a server: the first failure, or success.

Source: smtp_tlsrpt(3), tlsrpt_wrapper(3); the datagram is that of https://github.com/sys4/libtlsrpt, as recorded.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from postfixpy import log
from postfixpy.dns.names import family_of, to_ascii
from postfixpy.dns.record import TXT, Status
from postfixpy.mail.delivery import TLS_NOT_REQUIRED
from postfixpy.tls.handshake import Report
from postfixpy.tls.level import LEVELS, Level

from .effects import Resolve, Run, SendReport

if TYPE_CHECKING:
    from .delivery import Delivery
    from .policy import Policy
    from .session import Session
    from .settings import Settings

TLSA, STS, NO_POLICY = 1, 2, 9
"""Policy types."""
FAILURES = {
    "starttls-not-supported": 201,
    "certificate-host-mismatch": 202,
    "certificate-not-trusted": 203,
    "certificate-expired": 204,
    "validation-failure": 205,
    "sts-policy-fetch-error": 301,
    "sts-policy-invalid": 302,
    "sts-webpki-invalid": 303,
    "tlsa-invalid": 304,
    "dnssec-invalid": 305,
    "dane-required": 306,
}
"""Result types of RFC 8460, with the numbers that datagrams have."""
_MAGIC = "v=TLSRPTv1"


@dataclass(slots=True)
class TLSReport:
    """What would be told of the current server. `record` is the domain's TLSRPT record; `waiting` is yet to be sent."""

    domain: str
    record: str
    kind: int = NO_POLICY
    policy_domain: str = ""
    strings: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    local: str = ""
    host: str = ""
    address: str = ""
    hello: str = ""
    told: bool = False
    waiting: bytes = b""


def available(settings: "Settings") -> bool:
    """Whether reports can be made at all, with Postfix's warnings when they are wanted but cannot."""
    view = settings.view
    if not view.smtp_tlsrpt_enable:
        return False
    if settings.lmtp:
        log.warning("TLSRPT support is not implemented for LMTP")
    elif not settings.dns:
        log.warning("Cannot enable TLSRPT support: DNS is disabled")
    elif not view.smtp_tlsrpt_socket_name:
        log.warning(
            "TLSRPT support: parameter smtp_tlsrpt_socket_name has empty value -- TLSRPT support will be disabled"
        )
    else:
        return True
    return False


def find(d: "Delivery", domain: str) -> Run[TLSReport | None]:
    """The report for a site, if its domain wants one."""
    settings = d.settings
    required = not (d.request.sendopts & TLS_NOT_REQUIRED and settings.view.tls_required_enable)
    level = LEVELS.get(settings.view.smtp_tls_security_level.lower(), Level.INVALID)
    if not settings.tlsrpt or not required or level <= Level.NONE or family_of(domain):
        return None
    name = domain if domain.isascii() else to_ascii(domain) or domain
    answer = yield from Resolve(f"_smtp._tls.{name}", TXT, dnssec=settings.dnssec)
    if answer.status not in (Status.OK, Status.NOTFOUND, Status.POLICY):
        log.warning(f"TLSRPT support: policy lookup failed for {name}: {answer.text}")
    found = []
    for record in answer.records:
        if not record.text.startswith(_MAGIC):
            continue
        if not record.text[len(_MAGIC) :].lstrip(" \t").startswith(";"):
            log.warning(f'TLSRPT support: ignoring malformed policy for {name}:, "{record.text}"')
            continue
        found.append(record.text)
    if len(found) > 1:
        log.warning(f"TLSRPT support: Too many TLSRPT policies for {name}")
    if len(found) != 1:
        return None
    if settings.tlsrpt_old_default:
        log.info("using using backwards-compatible default setting smtp_tlsrpt_skip_reused_handshakes=yes")
        settings.tlsrpt_old_default = False
    return TLSReport(name, found[0])


def begin(d: "Delivery", policy: "Policy", link: Any) -> None:
    """A connection to the current server has been made."""
    report = d.tlsrpt
    if report is None:
        return
    external = policy.external
    report.kind, report.policy_domain, report.strings, report.patterns = NO_POLICY, report.domain, [], []
    if policy.level.dane_based and policy.tlsa:
        report.kind, report.policy_domain = TLSA, policy.base
        report.strings = [f"{r.usage} {r.selector} {r.mtype} {r.data.hex().upper()}" for r in policy.tlsa]
    elif external.kind.lower() == "sts":
        report.kind, report.policy_domain = STS, external.domain or report.domain
        report.strings, report.patterns = external.strings, external.patterns
    server = d.server
    report.local, report.host, report.address = link.local, server.host, server.address
    report.hello, report.told = "", False


def note_hello(d: "Delivery", s: "Session", text: str) -> None:
    """The server's reply to the first EHLO."""
    if d.tlsrpt is not None and not s.in_tls:
        d.tlsrpt.hello = text.replace("\n", "\r\n")


def failure(d: "Delivery", found: Report | None) -> Run[None]:
    """Tell what went wrong, unless something has been told of this server."""
    note(d, found)
    report = d.tlsrpt
    if report is not None and report.waiting:
        data, report.waiting = report.waiting, b""
        yield from SendReport(d.settings.view.smtp_tlsrpt_socket_name, data)


def note(d: "Delivery", found: Report | None) -> None:
    """The same, but what is to be sent waits for `failure`: for the midst of a handshake."""
    report = d.tlsrpt
    if report is None or found is None or report.told:
        return
    report.told = True
    code = f", failure_reason={found.code}" if found.code else ""
    kind = found.kind.replace("-", "_")
    where = f"domain={report.domain}, receiving_mx={report.host}[{report.address}]"
    log.info(f"TLSRPT: status=failure, {where}, failure_type={kind}{code}")
    report.waiting = datagram(report, found)


def success(d: "Delivery") -> Run[None]:
    """Tell that all went well, unless something has been told of this server."""
    report = d.tlsrpt
    if report is None or report.told:
        return
    report.told = True
    log.info(f"TLSRPT: status=success, domain={report.domain}, receiving_mx={report.host}[{report.address}]")
    yield from SendReport(d.settings.view.smtp_tlsrpt_socket_name, datagram(report, None))


def datagram(report: TLSReport, found: Report | None) -> bytes:
    """The datagram of one event; `found` is the failure, None for success."""
    parts = [f'"policy-type":{report.kind}', _text("policy-domain", report.policy_domain)]
    if report.strings:
        parts.append(f'"policy-string":[{",".join(map(_quoted, report.strings))}]')
    if report.patterns:
        parts.append(f'"mx-host":[{",".join(map(_quoted, report.patterns))}]')
    if found is not None:
        values = [
            ("s", report.local),
            ("n", report.host),
            ("h", report.hello),
            ("r", report.address),
            ("f", found.code),
        ]
        details = [f'"c":{FAILURES.get(found.kind, 205)}', *(_text(name, value) for name, value in values if value)]
        parts.append(f'"failure-details":[{{{",".join(details)}}}]')
    bad = int(found is not None)
    policy = ",".join([*parts, f'"t":{bad}', f'"f":{bad}'])
    head = ",".join([_text("dpv", "1"), _text("d", report.domain), _text("pr", report.record)])
    return f'{{{head},"policies":[{{{policy}}}]}}'.encode()


def _quoted(text: str) -> str:
    return json.dumps(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)


def _text(name: str, value: str) -> str:
    return f'"{name}": {_quoted(value)}'
