"""The commands of the envelope: XFORWARD, MAIL FROM, RCPT TO with their parameters (spec 6.1 to 6.4).

RFC 5321 (MAIL, RCPT), 1870 (SIZE), 6152 (BODY), 3461 (DSN), 6531 (SMTPUTF8), 8689 (REQUIRETLS), XFORWARD_README.
"""

from postfixpy import log
from postfixpy.mail.addresses import quote_821_local, quote_822_local
from postfixpy.mail.delivery import SMTPUTF8_REQUESTED, Recipient
from postfixpy.mail.dsn import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS, RET_FULL, RET_HDRS

from . import generic
from . import session as feature
from .delivery import Delivery
from .effects import Run
from .requiretls import Demand
from .session import Session

_NOTIFY = ((NOTIFY_NEVER, "NEVER"), (NOTIFY_SUCCESS, "SUCCESS"), (NOTIFY_FAILURE, "FAILURE"), (NOTIFY_DELAY, "DELAY"))
_ALL_UTF8 = 15


def xtext(text: str, special: str = "") -> str:
    """RFC 3461 xtext: bytes outside 33..126, "+" and the `special` ones as +XX."""
    out = []
    for code in text.encode("utf-8", "surrogateescape"):
        char = chr(code)
        out.append(char if 33 <= code <= 126 and char != "+" and char not in special else f"+{code:02X}")
    return "".join(out)


def uxtext(text: str) -> str | None:
    r"""RFC 6533 utf-8-addr-xtext: other characters as \x{HEX}; None when the text is not valid UTF-8."""
    out = []
    for char in text:
        code = ord(char)
        if 0xD800 <= code <= 0xDFFF:
            return None
        out.append(char if 33 <= code <= 126 and char not in "\\+=" else f"\\x{{{code:02X}}}")
    return "".join(out)


def _known(value: str) -> bool:
    return bool(value) and value.lower() != "unknown"


def xforward_commands(d: Delivery, s: Session) -> tuple[str, str]:
    """The two XFORWARD commands; either may be empty, for "not to be sent"."""
    r = d.request
    if not d.settings.view.smtp_send_xforward_command:
        return "", ""
    source = "LOCAL" if r.rewrite_context == "local" else "REMOTE"
    groups = (
        (
            (feature.XFORWARD_NAME, "NAME", r.client_name, _known(r.client_name)),
            (feature.XFORWARD_ADDR, "ADDR", r.client_address, _known(r.client_address)),
            (feature.XFORWARD_PORT, "PORT", r.client_port, _known(r.client_port)),
        ),
        (
            (feature.XFORWARD_PROTO, "PROTO", r.client_protocol, _known(r.client_protocol)),
            (feature.XFORWARD_HELO, "HELO", r.client_helo, bool(r.client_helo)),
            (feature.XFORWARD_IDENT, "IDENT", r.log_ident, bool(r.log_ident)),
            (feature.XFORWARD_SOURCE, "SOURCE", source, bool(r.rewrite_context)),
        ),
    )
    commands = []
    for group in groups:
        words = [f" {name}={xtext(value)}" for bit, name, value, usable in group if s.has(bit) and usable]
        commands.append("XFORWARD" + "".join(words) if words else "")
    return commands[0], commands[1]


def _path(d: Delivery, address: str) -> Run[str]:
    """An envelope address as it goes out: after smtp_generic_maps, and quoted."""
    if not address:
        return ""
    mapped = yield from generic.envelope_address(d, address)
    return quote_821_local(mapped) if d.settings.view.smtp_quote_rfc821_envelope and mapped else mapped


def mail_command(d: Delivery, s: Session) -> Run[str]:
    """MAIL FROM with its parameters in Postfix's order."""
    r, view = d.request, d.settings.view
    path = yield from _path(d, r.sender)
    words = [f"MAIL FROM:<{path}>"]
    if s.has(feature.SIZE) and not downgrading(d, s):
        words.append(f"SIZE={r.size}")
    if s.has(feature.EIGHTBITMIME):
        if r.encoding == "8bit":
            words.append("BODY=8BITMIME")
        elif r.encoding == "7bit":
            words.append("BODY=7BIT")
        elif r.encoding:
            log.warning(f"{r.queue_id}: unknown content encoding: {r.encoding}")
    if s.has(feature.DSN):
        if r.envelope_id:
            words.append(f"ENVID={xtext(r.envelope_id, '=')}")
        if d.demand > Demand.DISABLE and not s.has(feature.REQUIRETLS):
            words.append("RET=HDRS")  # the content of a message that must be encrypted is not to come back in plaintext
        elif r.ret_flags in (RET_FULL, RET_HDRS):
            words.append("RET=FULL" if r.ret_flags == RET_FULL else "RET=HDRS")
    if s.has(feature.SMTPUTF8) and r.sendopts & SMTPUTF8_REQUESTED:
        words.append("SMTPUTF8")
    if d.demand > Demand.DISABLE and s.has(feature.REQUIRETLS):
        words.append("REQUIRETLS")
    if view.smtp_sasl_auth_enable and view.smtp_send_dummy_mail_auth and s.has(feature.AUTH):
        words.append("AUTH=<>")
    return " ".join(words)


def _orcpt(d: Delivery, recipient: Recipient) -> str:
    """The ORCPT parameter, or ""."""
    original = recipient.dsn_orcpt
    if not original and recipient.original:
        quoted = quote_822_local(recipient.original)
        utf8 = d.request.sendopts & _ALL_UTF8 and not quoted.isascii() and uxtext(quoted) is not None
        original = f"{'utf-8' if utf8 else 'rfc822'};{quoted}"
    if not original:
        return ""
    if original[:6].lower() == "utf-8;":
        encoded = uxtext(original)
        return f" ORCPT={encoded}" if encoded is not None else ""
    return f" ORCPT={xtext(original, '=')}"


def rcpt_command(d: Delivery, s: Session, recipient: Recipient) -> Run[str]:
    """RCPT TO with its parameters."""
    path = yield from _path(d, recipient.address)
    command = f"RCPT TO:<{path}>"
    if s.has(feature.DSN):
        command += _orcpt(d, recipient)
        if recipient.notify:
            command += " NOTIFY=" + ",".join(name for bit, name in _NOTIFY if recipient.notify & bit)
    return command


def downgrading(d: Delivery, s: Session) -> bool:
    """Whether the content must be converted to 7 bits for this server."""
    return (
        not s.has(feature.EIGHTBITMIME)
        and d.request.encoding != "7bit"
        and not d.settings.view.disable_mime_output_conversion
    )
