"""Postmaster notices: the transcript of a session that went wrong (spec 13, notify_classes)."""

from typing import TYPE_CHECKING

from .reply import printable

if TYPE_CHECKING:
    from postfixpy.config import View

_WIDTH, _INDENT = 78, 4


def compose(view: "View", peer: str, transcript: list[str], *, lmtp: bool) -> list[str]:
    """The lines of a notice behind its Date: header, as text."""
    standard = view.header_from_format == "standard"
    recipient = view.error_notice_recipient
    if standard:
        origin = f"From: Mail Delivery System <MAILER-DAEMON@{view.myorigin}>"
        to = f"To: Postmaster <{recipient}>"
    else:
        origin = f"From: MAILER-DAEMON@{view.myorigin} (Mail Delivery System)"
        to = f"To: {recipient} (Postmaster)"
    kind = "LMTP" if lmtp else "SMTP"
    lines = [
        origin,
        to,
        f"Subject: {view.mail_name} {kind} client: errors from {peer}",
        "",
        f"Unexpected response from {peer}.",
        "",
        "Transcript of session follows.",
        "",
    ]
    for entry in transcript:
        text = printable(entry.encode("utf-8", "surrogateescape"), view.smtputf8_enable)
        lines += [f" {line}" for line in wrap(text)]
    lines += ["", "For other details, see the local mail logfile"]
    return lines


def wrap(text: str, width: int = _WIDTH, indent: int = _INDENT) -> list[str]:
    """`text` broken at blanks into lines of `width` characters; all but the first are indented (line_wrap(3))."""
    lines: list[str] = []
    start = position = 0
    room, margin = width, ""
    while True:
        end = next((i for i in range(position, len(text)) if text[i] in " \t"), len(text))
        if position > start and end - start > room:
            lines.append(margin + text[start:position].rstrip())
            while position < len(text) and text[position].isspace():
                position += 1
            if start == 0:
                margin, room = " " * indent, room - indent
            start = position
            end = max(end, start)
        if end >= len(text):
            lines.append(margin + text[start:].rstrip())
            return lines
        position = end + 1
