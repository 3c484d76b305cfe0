"""The start of a session: greeting, EHLO, HELO or LHLO, and what the server offers (spec 5.3 to 5.6).

`shake_hands` returns True when mail can be sent. When it returns False the failure has been dealt with: every
recipient has its mark.
"""

import re

from postfixpy import log
from postfixpy.lookup.table import TableError

from . import failure, sasl, starttls, states, tlsrpt
from . import session as feature
from .delivery import Delivery, requires_smtputf8
from .effects import LocalDataError, Run, StreamError, find
from .reply import Reply
from .session import Session

_XFORWARD = {
    "NAME": feature.XFORWARD_NAME,
    "ADDR": feature.XFORWARD_ADDR,
    "PORT": feature.XFORWARD_PORT,
    "PROTO": feature.XFORWARD_PROTO,
    "HELO": feature.XFORWARD_HELO,
    "IDENT": feature.XFORWARD_IDENT,
    "SOURCE": feature.XFORWARD_SOURCE,
}
_KEYWORDS = {
    "8BITMIME": feature.EIGHTBITMIME,
    "PIPELINING": feature.PIPELINING,
    "STARTTLS": feature.STARTTLS,
    "DSN": feature.DSN,
    "SMTPUTF8": feature.SMTPUTF8,
}
_TLS_KEYWORDS = {"REQUIRETLS": feature.REQUIRETLS}
"""What counts only inside TLS."""
EHLO_WORDS = (
    "8BITMIME",
    "AUTH",
    "ETRN",
    "PIPELINING",
    "SIZE",
    "VERP",
    "VRFY",
    "XCLIENT",
    "XFORWARD",
    "STARTTLS",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "SMTPUTF8",
    "CHUNKING",
    "REQUIRETLS",
)
"""What smtp_discard_ehlo_keywords knows, in the order of its log line."""
_PIX_WORDS = {"disable_esmtp": feature.PIX_NO_ESMTP, "delay_dotcrlf": feature.PIX_DELAY_DOTCRLF}
_KEYWORD_LINE = re.compile(r"[- ]*[^- ]+[- ]?[ \t=]*([^ \t=]+)[ \t=]?(.*)")
"""The code, the keyword, its arguments; "=" as in ``250 AUTH=LOGIN`` of old servers."""
_MAX_KEYWORDS = 1000
"""Lines of an EHLO reply to look at; Postfix has only its limit on the reply's length."""


def shake_hands(d: Delivery, s: Session) -> Run[bool]:
    """Greeting to keywords; returns whether mail can be sent on this session."""
    s.phase = states.GREETING
    try:
        if d.settings.view.smtp_tls_wrappermode:
            yield from starttls.begin(d, s)
        features = s.features
        yield from _greeting(d, s)
        yield from _introduction(d, s)
        if not s.in_tls and (yield from starttls.negotiate(d, s)):
            s.features = features | feature.ESMTP
            s.mechanisms.clear()
            s.set_limit(states.EHLO)
            yield from _introduction(d, s)
        if d.settings.view.smtp_sasl_auth_enable and s.has(feature.AUTH):
            # Texts and time limits are still those of the step before (spec 9.4).
            return (yield from sasl.authenticate(d, s))
    except starttls.Done:
        return False
    except (StreamError, LocalDataError) as error:
        yield from failure.stream(d, error, s.phase)
        return False
    return True


def _introduction(d: Delivery, s: Session) -> Run[None]:
    """EHLO and its keywords, in plaintext or again in TLS, and what the message demands."""
    reply = yield from _hello(d, s)
    if s.has(feature.ESMTP):
        yield from find_keywords(d, s, reply)
    yield from _requirements(d, s)


def _refused(d: Delivery, s: Session, reply: Reply) -> Run[None]:
    yield from failure.site(d, failure.refused(reply, s.namaddr), reply)
    raise starttls.Done


def _greeting(d: Delivery, s: Session) -> Run[Reply]:
    settings, view = d.settings, d.settings.view
    s.phase = states.GREETING
    s.set_limit(s.phase)
    reply = yield from s.reply()
    if reply.kind != 2:
        if reply.kind == 5 and view.smtp_skip_5xx_greeting:
            reply.status = "4" + reply.status[1:]
        yield from _refused(d, s, reply)
    if not reply.text.strip("20 *\t\n"):
        yield from _pix(d, s)
    rest = re.split("[- \t\n]", reply.text.lstrip("- \t\n"), maxsplit=1)[1:]
    for position, word in enumerate(rest[0].split() if rest else ()):
        if position == 0 and word.lower() == view.myhostname.lower():
            if d.loop_detect:
                log.warning(f"host {s.namaddrport} greeted me with my own hostname {view.myhostname}")
        elif word.upper() == "ESMTP":
            s.features |= feature.ESMTP
    if settings.lmtp:
        s.features |= feature.ESMTP
        return reply
    if view.smtp_always_send_ehlo and not s.has(feature.PIX_NO_ESMTP):
        s.features |= feature.ESMTP
    if view.smtp_never_send_ehlo or s.has(feature.PIX_NO_ESMTP):
        s.features &= ~feature.ESMTP
    return reply


def _pix(d: Delivery, s: Session) -> Run[None]:
    """A greeting of asterisks: a Cisco PIX firewall in the way."""
    settings, view = d.settings, d.settings.view
    words = None
    if settings.pix_maps is not None:
        try:
            words = yield from find(settings.pix_maps, s.address)
        except TableError:
            words = None  # best effort, as in Postfix
    if words is None:
        words = view.smtp_pix_workarounds
    if not words:
        return
    wanted = {word.lower() for word in words.replace(",", " ").split()}
    age = d.clock() - d.stats.incoming_arrival / 1_000_000
    if age < view.smtp_pix_workaround_threshold_time:
        wanted.discard("delay_dotcrlf")
    names = [word for word in _PIX_WORDS if word in wanted]
    joined = settings.joiner.join(names)
    log.info(f"{s.queue_id}: enabling PIX workarounds: {joined} for {s.namaddrport}")
    for name in names:
        s.features |= _PIX_WORDS[name]


def _hello(d: Delivery, s: Session) -> Run[Reply]:
    view = d.settings.view
    if d.settings.lmtp:
        s.phase = states.LHLO
        s.command(f"LHLO {view.smtp_helo_name}")
        reply = yield from s.reply()
        if reply.kind != 2:
            yield from _refused(d, s, reply)
        return reply
    s.phase = states.EHLO
    if s.has(feature.ESMTP):
        s.command(f"EHLO {view.smtp_helo_name}")
        reply = yield from s.reply()
        if reply.kind == 2:
            tlsrpt.note_hello(d, s, reply.text)
            return reply
        if reply.code == 421:
            yield from _refused(d, s, reply)
        s.features &= ~feature.ESMTP
    s.phase = states.HELO
    s.command(f"HELO {view.smtp_helo_name}")
    reply = yield from s.reply()
    if reply.kind != 2:
        yield from _refused(d, s, reply)
    return reply


def discard_words(d: Delivery, s: Session) -> Run[frozenset[str]]:
    """The keywords to ignore for this server, logged unless the list says otherwise."""
    settings, view = d.settings, d.settings.view
    words = None
    if settings.discard_maps is not None:
        try:
            words = yield from find(settings.discard_maps, s.address)
        except TableError:
            title = settings.name("smtp_discard_ehlo_keyword_address_maps")
            log.warning(f"{s.queue_id}: {title} map lookup error for {s.address}")
            raise LocalDataError from None
    if words is None:
        words = view.smtp_discard_ehlo_keywords
    if not words:
        return frozenset()
    wanted = {word.upper() for word in words.replace(",", " ").split()}
    names = [word for word in EHLO_WORDS if word in wanted]
    if settings.release < (3, 11):
        names = [word for word in names if word != "REQUIRETLS"]
    if names and "SILENT-DISCARD" not in wanted:
        shown = settings.joiner.join(names)
        if settings.release < (3, 11):  # a slip that was there for ten years
            shown = shown.replace("SMTPUTF8", "EHLO_MASK_SMTPUTF8")
        log.info(f"discarding EHLO keywords: {shown}")
    return frozenset(names)


def find_keywords(d: Delivery, s: Session, reply: Reply) -> Run[None]:
    """What the server offers; lines without a word are not counted, the first that counts is its name."""
    view = d.settings.view
    discard = yield from discard_words(d, s)
    counted = 0
    for line in reply.text.split("\n", _MAX_KEYWORDS)[:_MAX_KEYWORDS]:
        match = _KEYWORD_LINE.match(line)
        if match is None:
            continue
        word, arguments = match[1], match[2]
        counted += 1
        if counted == 1:
            yield from _server_name(d, s, word)
            continue
        keyword = word.upper()
        if keyword in discard or (keyword == "STARTTLS" and s.in_tls):
            continue
        if keyword in _KEYWORDS:
            s.features |= _KEYWORDS[keyword]
        elif keyword in _TLS_KEYWORDS:
            s.features |= _TLS_KEYWORDS[keyword] if s.in_tls else 0
        elif keyword == "XFORWARD":
            for name in arguments.split():
                s.features |= _XFORWARD.get(name.upper(), 0)
        elif keyword == "SIZE":
            s.features |= feature.SIZE
            number = arguments.split()[:1]
            if number and not (number[0].isascii() and number[0].isdigit()):
                log.warning(f'bad EHLO SIZE limit "{number[0]}" from {s.namaddrport}')
            elif number and len(number[0]) < 20 and int(number[0]) < 1 << 63:
                s.size_limit = int(number[0])
        elif keyword == "AUTH" and view.smtp_sasl_auth_enable:
            yield from sasl.note_mechanisms(d, s, arguments)


def _server_name(d: Delivery, s: Session, name: str) -> Run[None]:
    view = d.settings.view
    s.server_name = name
    if name.lower() != view.myhostname.lower() or not d.loop_detect:
        return
    log.warning(f"host {s.namaddrport} replied to HELO/EHLO with my own hostname {view.myhostname}")
    status = "5.4.6" if s.has(feature.BEST_MX) else "4.4.6"
    yield from failure.site(d, f"mail for {d.request.nexthop} loops back to myself", status=status)
    raise starttls.Done


def _requirements(d: Delivery, s: Session) -> Run[None]:
    """What the message demands of the server, in Postfix's order."""
    if s.verbose:
        log.info(f"server features: {s.features:#x} size {s.size_limit}")
    if requires_smtputf8(d.request.sendopts) and not s.has(feature.SMTPUTF8):
        if d.settings.release < (3, 11):
            text = f"SMTPUTF8 is required, but was not offered by host {s.namaddr}"
            yield from failure.message(d, text, status="5.6.7")
        else:
            text = (
                "message requires SMTPUTF8, but no server was found that supports SMTPUTF8. "
                f"The last attempted server was {s.namaddr}"
            )
            yield from failure.message(d, text, status="5.6.7", uncached=True, soft_unless_final=True)
        raise starttls.Done
    if s.has(feature.SMTPUTF8) and not s.has(feature.EIGHTBITMIME):
        log.info(f"host {s.namaddr} offers SMTPUTF8 support, but not 8BITMIME")
        s.features |= feature.EIGHTBITMIME
    if s.verbose and s.pipelining:
        size, kind = s.stream.link.send_buffer(), "LMTP" if d.settings.lmtp else "ESMTP"
        log.info(f"Using {kind} PIPELINING, TCP send buffer size is {size}, PIPELINING buffer size is 4096")
    yield from starttls.check_offer(d, s)
