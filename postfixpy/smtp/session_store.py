"""TLS sessions that a process keeps for itself, where there is no tlsmgr(8): the latest, for a limited time."""

from collections import OrderedDict
from collections.abc import Callable

LIFETIME = 3600.0
"""Seconds, the default of smtp_tls_session_cache_timeout."""
MAX_SESSIONS = 1000
MAX_SIZE = 20_000
"""Bytes of one session: a chain of certificates is in it."""


class SessionStore:
    """`clock` gives the time in seconds; `lifetime` is in seconds."""

    def __init__(self, clock: Callable[[], float], lifetime: float = LIFETIME) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self._sessions: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, kind: str, key: str) -> bytes:
        """The session, or b"" if there is none or it is too old."""
        until, data = self._sessions.get((kind, key), (0.0, b""))
        if until > self._clock():
            return data
        self._sessions.pop((kind, key), None)
        return b""

    def save(self, kind: str, key: str, data: bytes) -> None:
        """Keep a session, in place of what is there; b"" removes that."""
        self._sessions.pop((kind, key), None)
        if data and len(data) <= MAX_SIZE:
            self._sessions[kind, key] = (self._clock() + self.lifetime, data)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
