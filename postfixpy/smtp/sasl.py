"""Authentication to the server: whether, as whom, by which mechanism, and what a failure means (spec 9).

When `smtp_sasl_auth_enable` is on, the server offers AUTH and there is a password for it, mail goes out only after a
successful AUTH. No usable mechanism, or a refusal, fails the server for now and never sends without. The mechanisms and
the choice among them are postfixpy.sasl; texts, statuses and warnings are those of Postfix with Cyrus SASL, the only
`smtp_sasl_type` that it knows for clients (so `smtp_sasl_path` names nothing, as there).

Differs from Postfix:

* Transcripts of postmaster notices and verbose logs have ``[...]`` where a client's response was: no credentials.
* A password that names a token source of OAuth 2.0 (``oauth2:FILE``, or the path of a file that exists when the server
  offers XOAUTH2 or OAUTHBEARER, as with the plug-in sasl-xoauth2) is answered with an access token, by one of these
  mechanisms and no other. A token that the server refuses is replaced once in the same session.
* A token refused with code 535 is remembered in the authentication cache as that token, not as the name of the file.
* A response longer than RFC 4954 allows (12,288 bytes) is not sent.
"""

import base64
import binascii
import os
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.addresses import mail_addr_find
from postfixpy.lookup.table import TableError
from postfixpy.mail.dsn import DSN
from postfixpy.sasl import auth_cache
from postfixpy.sasl.choice import BEARERS, OPTIONS, choose, words
from postfixpy.sasl.mechanism import (
    BADPROT,
    BUFOVER,
    CONTINUE,
    FAIL,
    MAX_LINE,
    Credentials,
    Mechanism,
    SASLError,
    TokenError,
)

from . import failure
from .effects import Compute, FetchToken, Find, LocalDataError, Run, Store, ask, find

if TYPE_CHECKING:
    from .delivery import Delivery
    from .reply import Reply
    from .session import Session

_MAX_ROUNDS = 100
_MAX_COMMAND = 512
"""Bytes of a command line, with its line end (RFC 5321 4.5.3.1.4)."""
_SOURCE = "oauth2:"
HIDDEN = "[...]"
"""What transcripts and logs show of a response."""


class _Stop(Exception):
    """Authentication has failed for a reason of our own: the DSN."""

    def __init__(self, dsn: DSN) -> None:
        super().__init__(dsn.reason)
        self.dsn = dsn


def note_mechanisms(d: "Delivery", s: "Session", offered: str) -> Run[None]:
    """Remember what an AUTH line of the EHLO reply offers. Raises FatalError."""
    from . import session as feature

    chosen = yield from _filtered(d, offered)
    if s.mechanisms:
        known = " ".join(s.mechanisms)
        if chosen and known.lower() != chosen.lower() and len(known) < d.settings.line_length_limit:
            s.mechanisms.append(chosen)
        return
    s.features |= feature.AUTH
    if chosen:
        s.mechanisms.append(chosen)
    elif offered:
        log.warning(f"{s.namaddrport} offered no supported AUTH mechanisms: '{offered}'")
    else:
        log.warning(f"{s.namaddrport} offered null AUTH mechanism list")


def _filtered(d: "Delivery", offered: str) -> Run[str]:
    """The mechanisms that smtp_sasl_mechanism_filter lets through."""
    filter = d.settings.mechanism_filter
    if filter is None or not offered:
        return offered
    chosen = []
    for word in offered.replace("\t", " ").split(" "):
        if word and (yield from ask(filter.search(word))):
            chosen.append(word)
    return " ".join(chosen)


def _secret(d: "Delivery", s: "Session") -> Run[tuple[str, str] | None]:
    """User and password for this server; None: there are none, proceed without."""
    view, maps = d.settings.view, d.settings.password_maps
    if maps is None:
        return None
    value = None
    try:
        if not d.settings.lmtp and view.smtp_sender_dependent_authentication and d.request.sender:
            found = yield from ask(mail_addr_find(maps, d.request.sender, d.settings.addresses))
            value = found.value if found is not None else None
        for key in (s.host, d.server.site):
            if value is None:
                value = yield from find(maps, key)
    except TableError:
        log.warning(f"{s.queue_id}: {d.settings.name('smtp_sasl_password_maps')} lookup error")
        raise LocalDataError from None
    if value is None:
        return None
    user, _, password = value.partition(d.settings.password_delimiter)
    return user, password


def has_credentials(d: "Delivery", s: "Session") -> Run[bool]:
    """Whether there is a password for this server. Raises LocalDataError."""
    return (yield from _secret(d, s)) is not None


def authenticate(d: "Delivery", s: "Session") -> Run[bool]:
    """Authenticate if there is a password for the server; returns whether mail can be sent.

    Raises StreamError, LocalDataError, FatalError.
    """
    from . import session as feature

    secret = yield from _secret(d, s)
    if secret is None:
        s.features &= ~feature.AUTH
        return True
    try:
        yield from _authenticate(d, s, *secret)
    except _Stop as stop:
        yield from failure.site_dsn(d, stop.dsn)
        return False
    return True


def _authenticate(d: "Delivery", s: "Session", user: str, password: str) -> Run[None]:
    """Raises _Stop when it fails."""
    if not s.mechanisms:
        text = (
            f"SASL authentication failed: server {s.namaddr} offered no compatible authentication mechanisms "
            "for this type of connection security"
        )
        raise _Stop(DSN("4.7.0", "", text))
    options = _security_options(d, s)
    credentials = _credentials(d, s, user, password)
    source = yield from _token_source(s, password)
    if not source:
        yield from _check_cache(d, s, user, password)
        reply, _ = yield from _attempt(s, options, credentials, bearer=False)
        yield from _judge(d, s, credentials, reply)
        return
    _check_bearer(s, options, credentials)
    yield from _get_token(s, credentials, FetchToken(source, user))
    yield from _check_cache(d, s, user, credentials.token)
    reply, mechanism = yield from _attempt(s, options, credentials, bearer=True)
    if reply.kind != 2 and _token_refused(reply, mechanism):
        # What a provider has revoked looks valid here: ask it for another, once.
        old = credentials.token
        yield from _get_token(s, credentials, FetchToken(source, user, old))
        if credentials.token != old:
            reply, _ = yield from _attempt(s, options, credentials, bearer=True)
    yield from _judge(d, s, credentials, reply)


def _security_options(d: "Delivery", s: "Session") -> frozenset[str]:
    """The properties that a mechanism must have, by the state of TLS. Raises FatalError for words that are none."""
    view = d.settings.view
    if s.tls is None:
        text = view.smtp_sasl_security_options
    elif s.tls.matched:
        text = view.smtp_sasl_tls_verified_security_options
    else:
        text = view.smtp_sasl_tls_security_options
    if not text:
        return frozenset()
    found = text.replace(",", " ").split()
    unknown = [word for word in found if word not in OPTIONS]
    for word in unknown[:1]:
        log.warning(f'unknown SASL security options value "{word}" in "{text}"')
    if unknown or not found:
        log.warning("bad per-session SASL security properties")
        raise FatalError("SASL per-connection initialization failed")
    return frozenset(found)


def _credentials(d: "Delivery", s: "Session", user: str, password: str) -> Credentials:
    view = d.settings.view
    return Credentials(
        user,
        password,
        authzid=user if view.send_cyrus_sasl_authzid else "",
        service="lmtp" if d.settings.lmtp else "smtp",
        host=s.host,
        local_host=view.myhostname,
        bindings=s.tls.bindings if s.tls is not None else {},
        port=s.port,
        memory=d.settings.sasl_memory,
    )


def _failed(s: "Session", error: SASLError | str) -> _Stop:
    """The end of authentication for a reason that the mechanism, or we, found."""
    if isinstance(error, SASLError) and error.log:
        log.warning(error.log)
    text = f"SASL authentication failed; cannot authenticate to server {s.namaddr}: {error}"
    return _Stop(DSN("4.7.0", "", text, "x-sasl", str(error)))


# OAuth 2.0


def _token_source(s: "Session", password: str) -> Run[str]:
    """The file that says how to get an access token, if the password names one; else ""."""
    if password.startswith(_SOURCE):
        return password[len(_SOURCE) :]
    offered = set(words(" ".join(s.mechanisms)))
    if not password.startswith("/") or not offered & {bearer.name for bearer in BEARERS}:
        return ""
    return password if (yield from Compute(lambda: _exists(password))) else ""


def _exists(path: str) -> bool:
    """Whether there is such a file, perhaps one that may not be looked at."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _check_bearer(s: "Session", options: frozenset[str], credentials: Credentials) -> None:
    """Look whether a token can be used at all, before one is fetched. Raises _Stop."""
    try:
        choose(" ".join(s.mechanisms), options, credentials, bearer=True)
    except SASLError as error:
        raise _failed(s, error) from None


def _get_token(s: "Session", credentials: Credentials, effect: FetchToken) -> Run[None]:
    """Put a token into `credentials`. Raises _Stop."""
    try:
        credentials.token, user = yield from effect
    except TokenError as error:
        raise _failed(s, f"no OAuth2 token: {error}") from None
    credentials.user = user or effect.user


def _token_refused(reply: "Reply", mechanism: Mechanism) -> bool:
    return reply.code == 535 or (isinstance(mechanism, BEARERS) and bool(getattr(mechanism, "refusal", "")))


# The exchange


def _attempt(
    s: "Session", options: frozenset[str], credentials: Credentials, *, bearer: bool
) -> "Run[tuple[Reply, Mechanism]]":
    """One exchange: the reply that ended it. Raises _Stop."""
    try:
        name, mechanism = choose(" ".join(s.mechanisms), options, credentials, bearer=bearer)
        reply = yield from _exchange(s, name, mechanism)
    except SASLError as error:
        raise _failed(s, error) from None
    return reply, mechanism


def _exchange(s: "Session", name: str, mechanism: Mechanism) -> "Run[Reply]":
    """The dialogue. Raises SASLError, _Stop."""
    initial = (yield from _compute(mechanism, None)) or b""
    deferred = base64.b64encode(initial).decode()
    if deferred and len(name) + len(deferred) + 8 <= _MAX_COMMAND:
        s.command(f"AUTH {name} {deferred}", f"AUTH {name} {HIDDEN}")
        deferred = ""
    else:
        s.command(f"AUTH {name}")
    rounds = 0
    while (reply := (yield from s.reply())).kind == 3:
        rounds += 1
        if rounds > _MAX_ROUNDS:
            text = f"SASL authentication failed; authentication protocol loop with server {s.namaddr}"
            raise _Stop(DSN("4.3.0", "", text))
        challenge = _challenge(reply.text)
        if deferred and challenge:
            # Postfix shows our own response here, which holds the password.
            text = f"SASL authentication failed; non-empty initial {name} challenge from server {s.namaddr}: {HIDDEN}"
            raise _Stop(DSN("4.7.0", "", text, "x-sasl", "protocol error"))
        if deferred:
            answer, deferred = deferred, ""
        else:
            answer = base64.b64encode((yield from _compute(mechanism, decode(challenge))) or b"").decode()
        if len(answer) + 2 > MAX_LINE:
            raise SASLError(BUFOVER)
        s.command(answer, HIDDEN if answer else "")
    return reply


def _compute(mechanism: Mechanism, challenge: bytes | None) -> Run[bytes | None]:
    """The mechanism's response; None as challenge asks for the initial one. Raises SASLError."""

    def work() -> bytes | None:
        return mechanism.initial() if challenge is None else mechanism.step(challenge)

    if not mechanism.slow:
        return work()
    found: bytes | None = yield from Compute(work)
    return found


def _challenge(text: str) -> str:
    """What follows the code of a reply, further lines included."""
    text = text.lstrip("- \t\n")
    end = next((index for index, character in enumerate(text) if character in "- \t\n"), len(text))
    return text[end + 1 :]


def decode(text: str) -> bytes:
    """A challenge out of base64, by the rules of sasl_decode64. Raises SASLError."""
    if text.startswith("\r"):
        raise SASLError(FAIL)
    whole = len(text) // 4 * 4
    try:
        data = base64.b64decode(text[:whole], validate=True)
    except (binascii.Error, ValueError):
        raise SASLError(BADPROT) from None
    if whole < len(text):
        raise SASLError(BADPROT if text[:whole].endswith("=") else CONTINUE)
    return data


# The verdict


def _judge(d: "Delivery", s: "Session", credentials: Credentials, reply: "Reply") -> Run[None]:
    """Raises _Stop unless the server's last word is that it has accepted us."""
    if reply.kind == 2:
        return
    if reply.code == 535:
        secret = credentials.token or credentials.password
        yield from _remember(d, s, credentials.user, secret, reply)
    status = reply.status
    if reply.kind == 5 and d.settings.view.smtp_sasl_auth_soft_bounce:
        status = "4" + status[1:]
    text = f"SASL authentication failed; server {s.namaddr} said: {reply.text}"
    raise _Stop(_server_dsn(d, s, status, text, reply.text))


def _server_dsn(d: "Delivery", s: "Session", status: str, text: str, diagnostic: str) -> DSN:
    return DSN(status, "", text, "lmtp" if d.settings.lmtp else "smtp", diagnostic, "dns", s.host)


def _check_cache(d: "Delivery", s: "Session", user: str, password: str) -> Run[None]:
    """Raises _Stop when the server has refused this user and password not long ago."""
    table, view = d.settings.auth_cache, d.settings.view
    if table is None:
        return
    key = auth_cache.key(s.host, user)
    try:
        entry = yield from Find(table, key)
    except TableError:
        log.warning(f"SASL auth failure map {_cache_name(d)}: lookup failed for {key}")
        return
    if entry is None:
        return
    found = auth_cache.refusal(entry, password, d.clock(), view.smtp_sasl_auth_cache_time)
    if found is None:
        try:
            deleted = yield from Store(table, key, None)
        except TableError:
            deleted = False
        if not deleted:
            log.warning(f"SASL auth failure map {_cache_name(d)}: entry not deleted: {key}")
        return
    status, text = found
    if view.smtp_sasl_auth_soft_bounce and status.startswith("5"):
        status = "4" + status[1:]
    reason = f"SASL [CACHED] authentication failed; server {s.host} said: {text}"
    raise _Stop(_server_dsn(d, s, status, reason, text))


def _cache_name(d: "Delivery") -> str:
    return d.settings.view.smtp_sasl_auth_cache_name.removeprefix("proxy:")


def _remember(d: "Delivery", s: "Session", user: str, password: str, reply: "Reply") -> Run[None]:
    """Store a refusal."""
    table = d.settings.auth_cache
    if table is None:
        return
    entry = auth_cache.value(password, reply.status, reply.text, d.clock())
    try:
        yield from Store(table, auth_cache.key(s.host, user), entry)
    except TableError as error:
        log.warning(f"SASL auth failure map {_cache_name(d)}: entry not stored: {error}")
