"""TLS sessions to resume: under which key they are kept, and when they are asked for and stored (spec 8.12).

Sessions are kept when smtp_tls_session_cache_database names a place for them. The key has what makes servers and
policies differ: the service, destination, host, address and level in clear, and a digest of the rest, so that a session
is never resumed under another policy than that under which it began. It is the key that the real smtp(8) of the same
release and TLS library computes, so the two can share tlsmgr(8)'s cache.

A session is stored once: after the handshake or, with TLS 1.3, when it has come behind it.
"""

import hashlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from postfixpy.tls.handshake import TLSA, TLSRequest
from postfixpy.tls.level import Level

from .effects import FindSession, Run, SaveSession

if TYPE_CHECKING:
    from .delivery import Delivery
    from .session import Session


def find(d: "Delivery", s: "Session", request: TLSRequest) -> Run[TLSRequest]:
    """The request, with the session of an earlier connection if sessions are kept."""
    view, kind = d.settings.view, "lmtp" if d.settings.lmtp else "smtp"
    if not view.smtp_tls_session_cache_database or view.smtp_tls_session_cache_timeout <= 0:
        return request
    key = _key(d, s, request)
    s.tls_session = (kind, key)
    data = yield from FindSession(kind, key)
    return replace(request, session_id=key, cache=kind, session=data)


def forget(s: "Session") -> Run[None]:
    """The handshake with an earlier session has failed: that session is of no use."""
    if s.tls_session is not None:
        yield from SaveSession(*s.tls_session, b"")
        s.tls_session = None


def save(s: "Session") -> Run[None]:
    """Store the session, if it has come and has not been stored."""
    if s.tls_session is not None and s.tls is not None and s.tls.session:
        yield from SaveSession(*s.tls_session, s.tls.session)
        s.tls_session = None


def _key(d: "Delivery", s: "Session", request: TLSRequest) -> str:
    release, server = d.settings.release, d.server
    fields = [d.settings.service, server.site, server.host, server.address]
    if release >= (3, 10):
        fields.append(str(int(request.level)))
    if release >= (3, 8):
        fields.append("")
    return "".join(f"{field}&" for field in fields) + f"&{_digest(s, request, release).upper()}"


def _digest(s: "Session", request: TLSRequest, release: tuple[int, int]) -> str:
    from postfixpy.tls.options import CipherError, cipher_list

    context = request.context
    try:
        ciphers = cipher_list(context.view, request.grade, request.exclusions)
    except CipherError:
        ciphers = ""  # the handshake will fail
    out = hashlib.sha256()
    out.update(_text(s.server_name))
    out.update(struct.pack("l", context.library.OpenSSL_version_num()))
    out.update(_text(request.protocols) + _text(ciphers))
    if release >= (3, 9):
        out.update(struct.pack("i", request.raw_key))
    out.update(struct.pack("i", bool(request.failure)))
    matching = request.level > Level.ENCRYPT
    out.update(_records(request.tlsa if matching and request.tlsa else ()))
    out.update(_text((request.base or request.sni) if matching else ""))
    return out.hexdigest()


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


def _records(records: tuple[TLSA, ...]) -> bytes:
    """The records in an order of their own, in the form that Postfix digests."""
    ordered = sorted(records, key=lambda r: (r.usage, r.selector, r.mtype, len(r.data), r.data))
    parts = [struct.pack("BBB", r.usage, r.selector, r.mtype) + struct.pack("H", len(r.data)) + r.data for r in ordered]
    return struct.pack("i", len(ordered)) + b"".join(parts)
