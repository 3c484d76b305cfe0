"""Which queue file to look at next: scans of the incoming and deferred queues.

A scan is started by a trigger or a timer; a request that comes while one is running starts another behind it. Flags
may be added to a running scan: ignore the files' time stamps ("A"), override defer_transports ("F"). The two scans take
turns while the active queue has room; when it is full, new mail goes first.

Triggers, one byte each (qmgr(8)): D scan the deferred queue; I or W (wakeup by master) scan the incoming queue; F
forget dead transports and destinations; A ignore time stamps. Others are ignored. D I F A in one request together are
"sendmail -q".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from postfixpy.mail.queue import DEFERRED, INCOMING


@dataclass(slots=True)
class Mode:
    """How a scan treats its files: `all_times` also those whose time has not come; `run_deferred` see the module."""

    all_times: bool = False
    run_deferred: bool = False


@dataclass(slots=True)
class Scan:
    """The scan of one queue; `listing` makes an iterator of the ids in it."""

    queue: str
    listing: Callable[[str], Iterator[str]]
    mode: Mode = field(default_factory=Mode)
    _next_mode: Mode = field(default_factory=Mode)
    _again: bool = False
    _names: Iterator[str] | None = None

    @property
    def again(self) -> Mode:
        """How the next scan treats files."""
        return self._next_mode

    @property
    def running(self) -> bool:
        """Whether the scan has not come to its end."""
        return self._names is not None

    def request(self, *, start: bool = False, all_times: bool = False, run_deferred: bool = False) -> None:
        """Ask for a scan, or change how the running one and the next one treat files."""
        if self.running:
            self.mode.all_times |= all_times
            self.mode.run_deferred |= run_deferred
        self._next_mode.all_times |= all_times
        self._next_mode.run_deferred |= run_deferred
        if start and self.running:
            self._again = True
        elif start:
            self._start()

    def _start(self) -> None:
        self._again = False
        self.mode, self._next_mode = self._next_mode, Mode()
        self._names = self.listing(self.queue)

    def next(self) -> str | None:
        """The next id, None when there is nothing to scan (any more)."""
        while self._names is not None:
            name = next(self._names, None)
            if name is not None:
                return name
            self._names = None
            if self._again:
                self._start()
        return None


class Scans:
    """The two scans and their turns."""

    def __init__(self, listing: Callable[[str], Iterator[str]]) -> None:
        self.incoming = Scan(INCOMING, listing)
        self.deferred = Scan(DEFERRED, listing)
        self._first = self.incoming

    def triggered(self, requests: bytes) -> bool:
        """Act on trigger bytes. True: dead transports and destinations are to be forgotten."""
        flush, all_times = b"F" in requests, b"A" in requests
        incoming, deferred = b"I" in requests or b"W" in requests, b"D" in requests
        for scan, start in ((self.incoming, incoming), (self.deferred, deferred)):
            scan.request(start=start, all_times=all_times, run_deferred=flush)
        return flush

    def next(self) -> tuple[Scan, str] | None:
        """The next file to look at, and its scan."""
        other = self.deferred if self._first is self.incoming else self.incoming
        for scan in (self._first, other):
            name = scan.next()
            if name is not None:
                self._first = self.deferred if scan is self.incoming else self.incoming
                return scan, name
        return None

    def unfinished(self) -> bytes:
        """The trigger that makes another queue manager finish the scan of the deferred queue; b"" when none is running.

        It scans the incoming queue in any case when it starts.
        """
        scan = self.deferred
        if not scan.running:
            return b""
        flags = (b"A", scan.mode.all_times or scan.again.all_times), (b"F", scan.mode.run_deferred)
        return b"D" + b"".join(letter for letter, wanted in flags if wanted)

    def prefer_new_mail(self) -> None:
        """The active queue is full: the next file is a new one, if there is any."""
        self._first = self.incoming
