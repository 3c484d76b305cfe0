"""What a failure means: who is affected, and whether to try another server, to defer or to return (spec 11).

* A soft failure (4.x.x) while another server may be tried: the recipients are kept for it, and only the log tells.
* A soft failure at the last server: deferred. A hard failure (5.x.x): returned, whatever servers are left, except
  with `soft_bounce`, and with failures that another server may not have (`soft_unless_final`).
* A failure of the destination as a whole (`throttle`) is also told to the queue manager, so that it holds other mail;
  not when some session went well, and never for replies to MAIL, RCPT, DATA and the final dot.

A failure that the server reported carries its reply as diagnostic; a reply that makes no sense there is a "Protocol
error". Each function's texts are Postfix's.
"""

from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.mail.dsn import DSN

from .effects import LocalDataError, Run, StreamError
from .policy import plaintext_ok
from .session import NOT_CACHED, THROTTLED
from .states import DOT, State

if TYPE_CHECKING:
    from .delivery import Delivery
    from .reply import Reply

__all__ = ["leftover", "local", "message", "recipient", "refused", "said", "site", "site_dsn", "stream"]


def _suspicious(code: int) -> bool:
    """Whether a reply code is a sign of a broken conversation rather than of a refusal."""
    return code < 400 or code > 599 or code == 555 or 500 <= code < 510


def _note_code(d: "Delivery", code: int) -> None:
    if d.session is not None and _suspicious(code):
        d.session.errors.add("protocol")
        d.session.forbid_cache()


def _server_dsn(d: "Delivery", reply: "Reply", text: str, diagnostic: str = "") -> DSN:
    session = d.session
    assert session is not None
    status = reply.status
    if status[:1] not in ("4", "5"):
        session.errors.add("protocol")
        session.forbid_cache()
        text, status = f"Protocol error: {text}", "5.5.0"
    return DSN(status, "", text, "smtp", diagnostic or reply.line, "dns", session.host)


def _bulk(
    d: "Delivery",
    dsn: DSN,
    *,
    throttle: bool = False,
    uncached: bool = False,
    soft_unless_final: bool = False,
    command: str = "",
    maybe: bool = False,
) -> Run[None]:
    """Apply `dsn` to every recipient that has no mark yet."""
    from .delivery import Mark

    soft = dsn.soft or (soft_unless_final and not d.final_server)
    d.why = dsn
    if (soft or (dsn.status.startswith("5") and d.settings.view.soft_bounce)) and not d.final_server:
        log.info(f"{d.request.queue_id}: {dsn.reason}")
        for index in d.open():
            d.marks[index] = Mark.KEEP
    else:
        stats = d.stats
        if not stats.connection_done:
            stats.connection_done = stats.delivery_done = d.now()
        else:
            stats.delivery_done = d.now()
        aggregate = 0
        scope = "site" if throttle else "message"
        for index in d.open():
            result = "deferred" if soft else "bounced"
            aggregate |= yield from d.dispose(index, result, dsn, command=command, scope=scope, maybe=maybe)
        if throttle and aggregate and not d.completed and d.hop is None:
            d.hop = dsn
    if d.session is not None:
        if throttle:
            d.session.expires = THROTTLED
        elif uncached and d.session.expires > 0:
            d.session.expires = NOT_CACHED


def site(d: "Delivery", text: str, reply: "Reply | None" = None, status: str = "", diagnostic: str = "") -> Run[None]:
    """The server, or the whole destination, cannot take mail now: by its `reply`, or by our own finding `status`.

    `diagnostic` is the reply's text where that is not on one line.
    """
    if reply is not None:
        _note_code(d, reply.code)
        dsn = _server_dsn(d, reply, text, diagnostic)
    else:
        dsn = DSN(status, "", text)
    yield from _bulk(d, dsn, throttle=True)


def site_dsn(d: "Delivery", dsn: DSN) -> Run[None]:
    """As `site`, with a status that is neither the server's nor without diagnostic."""
    yield from _bulk(d, dsn, throttle=True)


def message(
    d: "Delivery",
    text: str,
    reply: "Reply | None" = None,
    status: str = "",
    command: str = "",
    uncached: bool = False,
    soft_unless_final: bool = False,
) -> Run[None]:
    """This message cannot be delivered to any of the recipients that are left."""
    if reply is not None:
        _note_code(d, reply.code)
        dsn = _server_dsn(d, reply, text)
    else:
        dsn = DSN(status, "", text)
    yield from _bulk(d, dsn, command=command, uncached=uncached, soft_unless_final=soft_unless_final)


def recipient(d: "Delivery", index: int, text: str, reply: "Reply", command: str) -> Run[None]:
    """The server refused one recipient."""
    from .delivery import Mark

    _note_code(d, reply.code)
    dsn = d.why = _server_dsn(d, reply, text)
    soft_bounce = dsn.status.startswith("5") and d.settings.view.soft_bounce
    if (dsn.soft or soft_bounce) and not d.final_server:
        log.info(f"{d.request.queue_id}: {dsn.reason}")
        d.marks[index] = Mark.KEEP
        return
    yield from d.dispose(index, "deferred" if dsn.soft else "bounced", dsn, command=command)


def stream(d: "Delivery", error: Exception, state: State) -> Run[None]:
    """The conversation ended in `state`: lost, too slow, or for want of local data."""
    session = d.session
    assert session is not None
    if isinstance(error, LocalDataError):
        yield from local(d)
        return
    assert isinstance(error, StreamError)
    if error.kind == "eof":
        text = f"lost connection with {session.namaddr} while {state.doing}"
    else:
        text = f"conversation with {session.namaddr} timed out while {state.doing}"
    if session.in_tls and d.open() and (yield from plaintext_ok(d, session)):
        d.retry_plain = True
        d.final_server = False
    yield from _bulk(d, DSN("4.4.2", "", text), throttle=True, command=state.command, maybe=state is DOT)


def local(d: "Delivery") -> Run[None]:
    """A table that this session needs cannot answer."""
    assert d.session is not None
    d.session.errors.add("data")
    text = f"local data error while talking to {d.session.namaddr}"
    yield from _bulk(d, DSN("4.3.0", "", text), throttle=True)


def leftover(d: "Delivery") -> Run[None]:
    """No server is left: apply the latest failure to the recipients that are."""
    d.final_server = True
    yield from _bulk(d, d.why, throttle=True)


def refused(reply: "Reply", namaddr: str) -> str:
    return f"host {namaddr} refused to talk to me: {reply.line}"


def said(reply: "Reply", namaddr: str, state: State) -> str:
    return f"host {namaddr} said: {reply.line} (in reply to {state.command})"
