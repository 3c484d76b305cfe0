"""Writing headers to the queue file: one record a line, bounded, and folded when addresses were rewritten."""

from postfixpy.ipc.cleanup import FLAG_AUTOUTF8
from postfixpy.mail.delivery import SMTPUTF8_HEADER, SMTPUTF8_REQUESTED
from postfixpy.mail.records import Kind

from .state import Incoming

_FOLD = 70


def put_header(mail: Incoming, header: bytes | str) -> None:
    """Write a header whose lines are separated by newlines. Continuation lines without a blank get a tab.

    A header beyond header_size_limit is cut, between lines if that loses less than a tenth.
    """
    if isinstance(header, str):
        header = header.encode("utf-8", "surrogateescape")
    if mail.settings.utf8 and not header.isascii():
        mail.sendopts |= SMTPUTF8_HEADER
        if mail.flags & FLAG_AUTOUTF8:
            mail.sendopts |= SMTPUTF8_REQUESTED
    limit = mail.settings.view.header_size_limit
    if len(header) > limit:
        header = _cut(header, limit)
    first, *others = header.split(b"\n")
    mail.put(Kind.NORMAL, first)
    for line in others:
        mail.put(Kind.NORMAL, line if line.startswith((b" ", b"\t")) else b"\t" + line)


def _cut(header: bytes, limit: int) -> bytes:
    """`header` down to `limit` bytes: at a line end in its last tenth, else where the limit is."""
    start = header.rfind(b"\n", 0, limit + 1) + 1
    return header[: start - 1] if start > 0.9 * limit else header[:limit]


def put_folded(mail: Incoming, header: str) -> None:
    """Write a header that has one item a line, with as many items on a line as fit in 70 characters."""
    lines: list[str] = []
    size = 0
    for item in header.split("\n"):
        width = len(item.encode("utf-8", "surrogateescape"))
        if lines and size + 1 + width < _FOLD:
            lines[-1] += " " + item
            size += 1 + width
        else:
            lines.append(item)
            size = width
    put_header(mail, "\n".join(lines))
