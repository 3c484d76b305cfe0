"""Whether a message has been delivered to a recipient before: the Delivered-To: headers (flags=D, spec 1.10)."""

from postfixpy.mail.addresses import quote_822_local

from . import generic
from .content import CONTINUED, NORMAL
from .delivery import Delivery
from .effects import Run

_MAX_ENTRIES = 1000
_NAME = b"delivered-to:"


def is_loop(d: Delivery) -> Run[bool]:
    """Whether the message has a Delivered-To: header with its recipient."""
    address = yield from generic.envelope_address(d, d.recipients[0].address)
    wanted = quote_822_local(address).casefold()
    return wanted in _entries(d)


def _entries(d: Delivery) -> set[str]:
    found: set[str] = set()
    previous = ""
    for plain, batch in d.source.batches(d.request.offset):
        for kind, data in (*((NORMAL, line) for line in plain), *batch):
            if kind not in (NORMAL, CONTINUED):
                return found
            if previous != CONTINUED:
                if not data[:1].isspace() and b":" not in data:
                    return found
                if data[: len(_NAME)].lower() == _NAME and len(found) < _MAX_ENTRIES:
                    found.add(data[len(_NAME) :].lstrip().decode("utf-8", "surrogateescape").casefold())
            previous = kind
    return found
