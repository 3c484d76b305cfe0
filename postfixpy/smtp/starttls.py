"""The TLS stage of a session: STARTTLS or its absence, and what the handshake must have shown (spec 8.6 to 8.11, 8.13).

`negotiate` returns whether the conversation goes on in TLS, and then from EHLO again; `begin` is the handshake alone,
which comes first in wrapper mode. Both raise `Done` when mail cannot be sent on this session; the failure has then been
dealt with. No way leads from a policy above "may" to plaintext: whatever the server offers, refuses or breaks ends in
`Done`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from postfixpy import log
from postfixpy.tls.handshake import HandshakeError, Report, TLSRequest
from postfixpy.tls.level import Level

from . import failure, states, sts, tls_sessions, tls_status, tlsrpt
from . import session as feature
from .effects import Run, StartTLS
from .policy import plaintext_ok
from .requiretls import Demand

if TYPE_CHECKING:
    from .delivery import Delivery
    from .session import Session


class Done(Exception):
    """The session has failed, and the failure has been dealt with."""


def negotiate(d: "Delivery", s: "Session") -> Run[bool]:
    """STARTTLS, when the server offers it and the policy wants it. Raises Done, StreamError, LocalDataError."""
    level = s.policy.level
    required = s.policy.must_encrypt or d.demand >= Demand.OPPORTUNISTIC_STARTTLS
    if s.has(feature.STARTTLS) and level >= Level.MAY and d.settings.tls_context is not None:
        s.phase = states.STARTTLS
        s.command("STARTTLS")
        s.set_limit(states.STARTTLS)
        reply = yield from s.reply()
        if reply.kind == 2:
            yield from begin(d, s)
            return True
        yield from tlsrpt.failure(d, Report("starttls-not-supported"))
        if required:
            _note_absence(d, s)
            if d.demand >= Demand.OPPORTUNISTIC_STARTTLS:
                text = f"Sender requested REQUIRETLS, but host {s.namaddr} refused to start TLS: {reply.line}"
                yield from _demand_unmet(d, "5.7.10", text)
            text = f"TLS is required, but host {s.namaddr} refused to start TLS: {reply.line}"
            yield from failure.site(d, text, reply)
            raise Done
    elif required and not s.has(feature.STARTTLS):
        yield from tlsrpt.failure(d, Report("starttls-not-supported"))
        _note_absence(d, s)
        if d.demand >= Demand.OPPORTUNISTIC_STARTTLS:
            text = f"Sender requested REQUIRETLS, but TLS service was not offered by host {s.namaddr}"
            yield from _demand_unmet(d, "5.7.30", text)
        yield from failure.site(d, f"TLS is required, but was not offered by host {s.namaddr}", status="4.7.4")
        raise Done
    elif required:
        yield from failure.site(d, "TLS is required, but our TLS engine is unavailable", status="4.7.5")
        raise Done
    yield from sts.without_tls(d, s)
    d.tls.decide_level(Level.NONE)
    d.tls.decide_requiretls(tls_status.NONE)
    return False


def _note_absence(d: "Delivery", s: "Session") -> None:
    """For the log: there is no TLS where it is required."""
    if d.demand >= Demand.OPPORTUNISTIC_STARTTLS:
        d.tls.decide_requiretls(tls_status.NO_STARTTLS, violated=True)
    if s.policy.must_encrypt:
        d.tls.decide_level(s.policy.level, violated=True)


def _demand_unmet(d: "Delivery", status: str, text: str) -> "Run[NoReturn]":
    """What the sender's REQUIRETLS asks for cannot be had from this server; another may do."""
    yield from failure.message(d, text, status=status, uncached=True, soft_unless_final=True)
    raise Done


def begin(d: "Delivery", s: "Session") -> Run[None]:
    """The handshake, and whether the server may be trusted with mail. Raises Done."""
    context, view = d.settings.tls_context, d.settings.view
    if context is None:
        s.forbidden = True  # the server waits for TLS: no QUIT
        yield from failure.site(d, "TLS is required, but our TLS engine is unavailable", status="4.7.5")
        raise Done
    if not s.policy.reuse:
        s.forbid_cache()
    s.stream.input.clear()  # what came in plaintext behind the reply to STARTTLS is not to be believed
    request = yield from tls_sessions.find(d, s, tls_request(d, s))
    request = replace(request, tell=lambda found: tlsrpt.note(d, found))
    s.note("tls", f"starts, level {request.level.name.lower()}")
    try:
        s.tls = yield from StartTLS(s.stream.link, request, view.smtp_starttls_timeout)
    except HandshakeError as error:
        s.note("tls", f"failed: {error}")
        yield from tls_sessions.forget(s)
        yield from tlsrpt.failure(d, error.report)
        yield from _failed(d, s)
        raise Done from None
    s.note("tls", s.tls.line)
    yield from tls_sessions.save(s)
    yield from tlsrpt.failure(d, s.tls.report)
    if s.tls.reused and d.settings.tlsrpt_skip_reused and d.tlsrpt is not None:
        d.tlsrpt.told = True
    yield from _verify(d, s)
    yield from sts.watch(d, s)
    yield from tlsrpt.success(d)
    d.tls.decide_level(s.tls.level)


def tls_request(d: "Delivery", s: "Session") -> TLSRequest:
    """What the policy asks of the handshake."""
    policy, settings = s.policy, d.settings
    assert settings.tls_context is not None
    domain = d.server.domain
    words = {"hostname": s.host, "nexthop": domain, "dot-nexthop": f".{domain}"}
    return TLSRequest(
        settings.tls_context,
        s.namaddrport,
        policy.level,
        policy.protocols,
        policy.grade,
        policy.exclusions,
        tuple(words.get(name.lower(), name) for name in policy.match),
        {"hostname": s.host, "nexthop": domain}.get(policy.sni, policy.sni),
        settings.view.smtp_tls_fingerprint_digest,
        policy.tlsa,
        policy.base,
        policy.raw_key,
        policy.external.failure,
        watch=s.host if policy.sts_testing else "",
        log=settings.tls_log,
    )


def _failed(d: "Delivery", s: "Session") -> Run[None]:
    """No TLS, and nothing more to be said. Where TLS is not a must, the server is tried again without."""
    s.forbidden = True
    if (yield from plaintext_ok(d, s)):
        d.retry_plain = True
        d.final_server = False
    fail = failure.message if s.policy.level == Level.MAY else failure.site
    yield from fail(d, "Cannot start TLS: handshake failure", status="4.7.5")


def _verify(d: "Delivery", s: "Session") -> Run[None]:
    """Raises Done when the certificate does not match and must."""
    tls = s.tls
    assert tls is not None
    if not tls.level.must_match or tls.matched:
        return
    yield from tlsrpt.failure(d, Report("certificate-host-mismatch" if tls.trusted else "certificate-not-trusted"))
    d.tls.decide_level(tls.level, violated=True)
    if d.demand == Demand.ENFORCE:
        d.tls.decide_requiretls(tls_status.NO_MATCH, violated=True)
        missing = "matching" if tls.trusted else "trusted"
        text = (
            f"Sender requested REQUIRETLS, but no {missing} server certificate was found. "
            f"The last attempted server was {s.namaddr}"
        )
        yield from _demand_unmet(d, "5.7.10", text)
    if d.demand > Demand.DISABLE:
        d.tls.decide_requiretls(tls_status.NO_MATCH)
    yield from failure.site(d, "Server certificate not verified", status="4.7.5")
    raise Done


def check_offer(d: "Delivery", s: "Session") -> Run[None]:
    """What EHLO in TLS must offer for REQUIRETLS, or, in plaintext, a note of a STARTTLS that is not wanted."""
    if not s.in_tls:
        if s.has(feature.STARTTLS) and s.policy.level <= Level.NONE and d.settings.view.smtp_tls_note_starttls_offer:
            log.info(f"Host offered STARTTLS: [{s.host}]")
        return
    if d.demand <= Demand.DISABLE:
        return
    assert s.tls is not None
    if s.has(feature.REQUIRETLS):
        d.tls.decide_requiretls(tls_status.REQUIRETLS if s.tls.matched else tls_status.NO_MATCH)
    elif d.demand == Demand.ENFORCE:
        d.tls.decide_requiretls(tls_status.NONE, violated=True)
        text = (
            "Sender requested REQUIRETLS, but no server was found that supports REQUIRETLS. "
            f"The last attempted server was {s.namaddr}"
        )
        yield from _demand_unmet(d, "5.7.30", text)
    else:
        d.tls.decide_requiretls(tls_status.NONE)
        log.info(
            f"{s.queue_id}: Sender requested REQUIRETLS, but REQUIRETLS support was not offered by host {s.namaddr}"
        )
