"""Authentication to the server: the seam for issue 8, with the mechanisms PLAIN, LOGIN and CRAM-MD5 (spec 9).

When `smtp_sasl_auth_enable` is on, the server offers AUTH and there is a password for it, mail goes out only after a
successful AUTH. No usable mechanism, or a refusal, fails the server for now (4.7.0) and never sends without.
"""

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.addresses import mail_addr_find
from postfixpy.lookup.table import TableError
from postfixpy.mail.dsn import DSN

from . import failure
from .effects import LocalDataError, Run, ask, find

if TYPE_CHECKING:
    from .delivery import Delivery
    from .reply import Reply
    from .session import Session

_STRENGTH = ("CRAM-MD5", "PLAIN", "LOGIN")
"""What we can do, best first."""
_PLAINTEXT = frozenset(("PLAIN", "LOGIN"))
_OPTIONS = frozenset(("noplaintext", "noactive", "nodictionary", "noanonymous", "mutual_auth", "forward_secrecy"))
_MAX_ROUNDS = 100


def note_mechanisms(d: "Delivery", s: "Session", words: str) -> None:
    """Remember what an AUTH line of the EHLO reply offers."""
    from . import session as feature

    s.features |= feature.AUTH
    if not words.strip():
        log.warning(f"{s.namaddrport} offered null AUTH mechanism list")
        return
    offered = [word.upper() for word in words.split()]
    allowed = d.settings.sasl_mechanisms(offered)
    if not allowed:
        log.warning(f"{s.namaddrport} offered no supported AUTH mechanisms: '{words}'")
        return
    s.mechanisms += [word for word in allowed if word not in s.mechanisms]


def _credentials(d: "Delivery", s: "Session") -> Run[tuple[str, str] | None]:
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
    user, _, password = value.partition(view.smtp_sasl_password_result_delimiter)
    return user, password


def authenticate(d: "Delivery", s: "Session") -> Run[bool]:
    """Authenticate if there is a password for the server; returns whether mail can be sent."""
    from . import session as feature

    credentials = yield from _credentials(d, s)
    if credentials is None:
        s.features &= ~feature.AUTH
        return True
    if not s.mechanisms:
        yield from failure.site(
            d,
            f"SASL authentication failed: server {s.namaddr} offered no compatible authentication mechanisms "
            "for this type of connection security",
            status="4.7.0",
        )
        return False
    mechanism = _choose(d, s)
    if mechanism is None:
        if "EXTERNAL" not in s.mechanisms:
            log.warning("SASL authentication failure: No worthy mechs found")
        yield from _local_failure(d, s, "no mechanism available")
        return False
    reply = yield from _exchange(s, mechanism, *credentials)
    if reply is None:
        yield from _local_failure(d, s, "bad protocol / cancel")
        return False
    if reply.kind == 2:
        return True
    if reply.kind == 3:
        text = f"SASL authentication failed; authentication protocol loop with server {s.namaddr}"
        yield from failure.site(d, text, status="4.3.0")
        return False
    if reply.kind == 5 and d.settings.view.smtp_sasl_auth_soft_bounce:
        reply.status = "4" + reply.status[1:]
    yield from failure.site(
        d, f"SASL authentication failed; server {s.namaddr} said: {reply.text}", reply, diagnostic=reply.text
    )
    return False


def _choose(d: "Delivery", s: "Session") -> str | None:
    text = d.settings.view.smtp_sasl_security_options
    options = {word.lower() for word in text.replace(",", " ").split()}
    unknown = [word for word in text.replace(",", " ").split() if word.lower() not in _OPTIONS]
    if unknown:
        log.warning(f'unknown SASL security options value "{unknown[0]}" in "{text}"')
        log.warning("bad per-session SASL security properties")
        raise FatalError("SASL per-connection initialization failed")
    if "EXTERNAL" in s.mechanisms:  # Cyrus prefers it, and has no identity for it (spec 9.4)
        return None
    if options & {"mutual_auth", "forward_secrecy"}:
        return None
    for mechanism in _STRENGTH:
        if mechanism not in s.mechanisms:
            continue
        if mechanism in _PLAINTEXT and options & {"noplaintext", "noactive", "nodictionary"}:
            continue
        if mechanism == "CRAM-MD5" and options & {"noactive", "nodictionary"}:
            continue
        return mechanism
    return None


def _local_failure(d: "Delivery", s: "Session", why: str) -> Run[None]:
    text = f"SASL authentication failed; cannot authenticate to server {s.namaddr}: {why}"
    yield from failure.site_dsn(d, DSN("4.7.0", "", text, "x-sasl", why))


def _exchange(s: "Session", mechanism: str, user: str, password: str) -> "Run[Reply | None]":
    """The dialogue: the reply that ended it (a challenge, when there were too many); None for one that cannot be
    read."""
    secret = [text.encode("utf-8", "surrogateescape") for text in (user, password)]
    initial = b"\0" + secret[0] + b"\0" + secret[1] if mechanism == "PLAIN" else None
    command = f"AUTH {mechanism}"
    if initial is not None:
        encoded = base64.b64encode(initial).decode()
        if len(mechanism) + len(encoded) + 8 <= 512:
            command, initial = f"{command} {encoded}", None
    s.command(command)
    reply = yield from s.reply()
    rounds = 0
    while reply.kind == 3 and rounds < _MAX_ROUNDS:
        try:
            challenge = base64.b64decode(reply.text[4:].strip(), validate=True)
        except (binascii.Error, ValueError):
            return None
        if mechanism == "PLAIN":
            answer = initial or b""
        elif mechanism == "LOGIN":
            answer = secret[min(rounds, 1)]
        else:
            digest = hmac.new(secret[1], challenge, "md5").hexdigest()
            answer = secret[0] + b" " + digest.encode()
        s.command(base64.b64encode(answer).decode())
        reply = yield from s.reply()
        rounds += 1
    return reply
