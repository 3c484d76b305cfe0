"""Headers that a message must have and lacks: Message-Id, Date, From, and a visible recipient header (RFC 5322 3.6).

They are added to local mail (local_header_rewrite_clients), and to all mail with always_add_missing_headers. A message
with Resent- headers gets Resent- ones. Also here: the full name of a sender as header text, with RFC 2047 where it is
not ASCII.
"""

import base64
import time

from postfixpy import log
from postfixpy.mail.addresses import QUOTED, Token, externalize, quote_822_local, scan
from postfixpy.mail.delivery import REQUIRETLS
from postfixpy.mail.headers import is_header, mail_date
from postfixpy.mail.records import Kind

from .output import put_folded, put_header
from .recipients import MAILER_DAEMON
from .state import Incoming

_VISIBLE = ("to", "resent-to", "cc", "resent-cc")


def add_missing_headers(mail: Incoming) -> None:
    """Write what is missing, at the end of the headers."""
    view = mail.settings.view
    add = bool(mail.hdr_context) or view.always_add_missing_headers
    resent = mail.resent.lower()
    if add and f"{resent}message-id" not in mail.seen:
        _add_message_id(mail)
    if "message-id" not in mail.seen:
        log.info(f"{mail.queue_id}: message-id=<>")
    if add and f"{resent}date" not in mail.seen:
        put_header(mail, f"{mail.resent}Date: {mail_date(mail.arrival // 1_000_000)}")
    if add and f"{resent}from" not in mail.seen:
        header = f"{mail.resent}From: {_from_text(mail)}"
        if view.release >= (3, 10):
            put_folded(mail, header)
        else:
            mail.put(Kind.NORMAL, header.replace("\n", " "))  # its full name asks for no SMTPUTF8
    if add and view.undisclosed_recipients_header and not mail.seen.intersection(_VISIBLE):
        text = view.undisclosed_recipients_header
        if is_header(text):
            mail.put(Kind.NORMAL, text)
        else:
            log.warning(f'bad undisclosed_recipients_header header text "{text}" -- need "headername: headervalue"')
    if (
        view.requiretls_enable
        and view.requiretls_esmtp_header
        and mail.sendopts & REQUIRETLS
        and not mail.requiretls_seen
    ):
        mail.put(Kind.NORMAL, "Require-TLS-ESMTP: yes")


def _add_message_id(mail: Incoming) -> None:
    view = mail.settings.view
    if view.enable_long_queue_ids:
        identity = f"{mail.queue_id}@{view.myhostname}"
    else:
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(mail.created // 1_000_000))
        identity = f"{stamp}.{mail.queue_id}@{view.myhostname}"
    put_header(mail, f"{mail.resent}Message-Id: <{identity}>")
    log.info(f"{mail.queue_id}: {'resent-' if mail.resent else ''}message-id=<{identity}>")
    mail.seen.add(f"{mail.resent.lower()}message-id")
    if not mail.resent and mail.message_id is None:
        mail.message_id = f"<{identity}>"


def _from_text(mail: Incoming) -> str:
    address = quote_822_local(mail.sender or MAILER_DAEMON)
    settings = mail.settings
    name = None
    if mail.sender and mail.full_name:
        name = full_name_text(
            mail.full_name,
            comment=settings.obsolete_from,
            charset=settings.view.full_name_encoding_charset,
            token_limit=settings.view.header_address_token_limit,
            encode=settings.view.release >= (3, 10),
        )
    if not name:
        return address
    return f"{address}\n({name})" if settings.obsolete_from else f"{name}\n<{address}>"


def full_name_text(name: str, *, comment: bool, charset: str, token_limit: int = 0, encode: bool = True) -> str | None:
    """`name` as a phrase, or as the content of a `comment`; None when nothing is left of it.

    With `encode`, blanks are made few, and what is not ASCII becomes RFC 2047 encoded-words; releases before 3.10 write
    the name as it is.
    """
    clean = "".join(" " if c < " " or c == "\x7f" else c for c in name)
    words = [word for word in clean.split(" ") if word]
    if not words:
        return None
    if encode:
        clean = " ".join(words)
    if encode and not clean.isascii():
        return encode_words(clean.encode("utf-8", "surrogateescape"), charset, comment=comment)
    if comment:
        return _balanced_comment(clean)
    if any(c in '%!()<>@,;:\\".[]' for c in clean):
        return externalize([Token(QUOTED, clean)])
    return externalize(scan(clean, token_limit))


def _balanced_comment(text: str) -> str | None:
    out: list[str] = []
    depth = position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\":
            if position == len(text):
                break
            char += text[position]
            position += 1
        elif char == "(":
            depth += 1
        elif char == ")":
            if depth == 0:
                continue
            depth -= 1
        out.append(char)
    result = "".join(out) + ")" * depth
    return result if result.strip() else None


_WORD_SIZE = 75
_COMMENT_SPECIALS = b" =?_()\\"
_PHRASE_SPECIALS = b" =?_()<>@,;:\\\".[]#$%&'^`{|}~"
_NOT_CHARSET = frozenset('()<>@,;:\\"/[]?.= ')


def encode_words(data: bytes, charset: str, *, comment: bool, separator: str = "\n") -> str | None:
    """`data` (not empty) as encoded-words of RFC 2047, in "Q" or, when half of a longer text needs it, "B" encoding."""
    if not charset:
        log.warning("rfc2047_encode: encoder called with empty charset name")
        return None
    if len(charset) > _WORD_SIZE // 2:
        log.warning(f"rfc2047_encode: unreasonable charset name: '{charset:.100}'")
        return None
    for char in charset:
        if not char.isascii() or not char.isprintable() or char in _NOT_CHARSET:
            log.warning(f"rfc2047_encode: invalid character: 0x{ord(char):x} in charset name: '{charset}'")
            return None
    if not comment and data.startswith(b'"'):
        shown = data.decode("utf-8", "surrogateescape")
        log.warning(f"rfc2047_encode: encoder called with quoted word as input: '{shown}'")
        return None
    specials = _COMMENT_SPECIALS if comment else _PHRASE_SPECIALS
    quoted = [_quoted(byte, specials) for byte in data]
    costly = sum(len(text) == 3 or text == "_" for text in quoted)
    if len(data) >= 20 and costly >= len(data) // 2:
        prefix = f"=?{charset}?B?"
        size = 3 * ((_WORD_SIZE - 2 - len(prefix)) // 4)
        words = [base64.b64encode(data[i : i + size]).decode() for i in range(0, len(data), size)]
        return separator.join(f"{prefix}{word}?=" for word in words)
    prefix = f"=?{charset}?Q?"
    words, space = [""], _WORD_SIZE - 2 - len(prefix)
    for text in quoted:
        if len(words[-1]) + len(text) > space:
            words.append("")
        words[-1] += text
    return separator.join(f"{prefix}{word}?=" for word in words)


def _quoted(byte: int, specials: bytes) -> str:
    if byte == 0x20:
        return "_"
    if byte < 0x20 or byte > 0x7E or byte in specials:
        return f"={byte:02X}"
    return chr(byte)
