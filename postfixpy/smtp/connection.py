"""A connection to one server: how it is made, and its end when a delivery on it is over (spec 4.1, 4.2, 4.4)."""

from postfixpy import log
from postfixpy.dns.names import family_of
from postfixpy.dns.record import AAAA, Record
from postfixpy.errors import FatalError
from postfixpy.mail.dsn import DSN

from . import cache, tls_sessions
from .delivery import Delivery
from .effects import BindError, Connect, ConnectError, Notify, Run, Trace, listed
from .policy import Policy
from .session import NOT_CACHED, THROTTLED, Session
from .stream import Stream
from .transaction import quit_session


def connect(d: Delivery, record: Record, level: Policy, cached: cache.Policy) -> Run[Session | None]:
    """A connection to the current server; None, with `d.why` set, when there is none."""
    server, view, settings = d.server, d.settings.view, d.settings
    family = 6 if record.rtype == AAAA else 4
    parameter = "smtp_bind_address6" if family == 6 else "smtp_bind_address"
    bind, must_bind = view.text(parameter), False
    if bind:
        bind, must_bind = _bind_address(bind, settings.name(parameter)), view.smtp_bind_address_enforce
    else:
        bind = settings.own_single(family)
    if d.verbose:
        log.info(f"smtp_connect_addr: trying: {server.host}[{server.address}] port {server.port}...")
    try:
        link = yield from Connect(
            family, server.address, server.port, view.smtp_connect_timeout, bind, must_bind, view.tcp_windowsize
        )
    except BindError:
        d.why = DSN("4.4.0", "", "server configuration error")
    except ConnectError as error:
        d.why = DSN("4.4.1", "", f"connect to {server.host}[{server.address}]:{server.port}: {error}")
    else:
        session = new_session(d, link, level, cached)
        session.verbose = d.verbose or (yield from is_debug_peer(d, server.host, server.address))
        return session
    log.info(d.why.reason)
    return None


def _bind_address(value: str, parameter: str) -> str:
    """The address in smtp_bind_address or smtp_bind_address6. Raises FatalError."""
    address = value
    if address.startswith("["):
        if not address.endswith("]"):
            raise FatalError(f"smtp_connect_addr: malformed {parameter} parameter: {value}")
        address = address[1:-1]
    if not family_of(address):
        why = "Name or service not known"
        raise FatalError(f"smtp_connect_addr: bad {parameter} parameter: {value}: {why}")
    return address


def new_session(d: Delivery, link: object, level: Policy, cached: cache.Policy) -> Session:
    view, server = d.settings.view, d.server
    now = d.clock()
    expires = now + view.smtp_connection_reuse_time_limit if cached.store else NOT_CACHED
    stream = Stream(link, d.clock)
    return Session(d.settings, stream, d.request.queue_id, server.host, server.address, server.port, level, expires)


def is_debug_peer(d: Delivery, host: str, address: str) -> Run[bool]:
    """Whether debug_peer_list has a server or a nexthop, so that what is done about it is logged."""
    peers = d.settings.debug_peers
    if peers is None:
        return False
    return (yield from listed(peers.search(host, address)))


def clean_up(d: Delivery, session: Session, cached: cache.Policy) -> Run[None]:
    """The end of a session: notice, QUIT or cache, and the recipients for the next one (spec 4.4)."""
    yield from tls_sessions.save(session)
    if session.transcript and session.errors & d.settings.notice_classes and not _internal_sender(d):
        yield from Notify(session.namaddrport, session.transcript)
    if session.kept and session.check_expired(d.clock()):
        yield from quit_session(session)
        session.forbid_cache()
    kept = session.kept and session.stream.healthy
    if session.events is not None:
        session.note("kept" if kept else "closed")
        yield from _trace(d, session)
    if kept:
        yield from cache.save(d, session, cached)
    else:
        yield from session.stream.close()
    if session.expires != THROTTLED:
        cached.nexthop = ""
    d.session = None
    d.next_session()


def _trace(d: Delivery, session: Session) -> Run[None]:
    """Write the session's trace; see `trace`."""
    settings = d.settings
    record = {
        "time": session.started,
        "queue_id": d.request.queue_id,
        "program": "lmtp" if settings.lmtp else "smtp",
        "server": session.namaddrport,
        "use": session.reuse_count + 1,
        "events": session.events,
    }
    yield from Trace(settings.trace_directory, settings.service, record)


def _internal_sender(d: Delivery) -> bool:
    """Mail whose trouble must not cause more mail."""
    view, sender = d.settings.view, d.request.sender
    return not sender or sender.lower() == f"{view.double_bounce_sender}@{view.myhostname}".lower()
