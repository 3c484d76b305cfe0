"""A buffered, time-limited conversation over one link (spec/smtp-client.md 4.6).

Output waits in a buffer and goes out when the buffer is full, or when the reader has used up its input and must wait
for more: this is what makes the grouping of pipelined commands. Each wait has a time limit; with a deadline, the limit
is a budget for the whole step, which the time spent waiting uses up and transferred bytes top up (at `rate` bytes a
second).
"""

from collections.abc import Callable
from typing import Any

from .effects import Hangup, Peek, Read, Run, StreamError, Write

BLOCK = 65536
"""Content goes out in blocks of about this many bytes."""
_DEADLINE_BLOCK = 4096
"""With a deadline blocks are small, so that the data rate is measured often."""


class Stream:
    """`clock` gives the time in seconds. After a StreamError the stream is `broken`: nothing is sent or read again."""

    def __init__(self, link: Any, clock: Callable[[], float]) -> None:
        self.link = link
        self.clock = clock
        self.out = bytearray()
        self.sent = 0  # content, in bytes
        self.input = bytearray()
        self.broken = False
        self.ended = False
        self.last_io = clock()
        self._limit = 0.0
        self._left = 0.0
        self._deadline = False
        self._rate = 0
        self._block = BLOCK

    def set_limit(self, limit: float, *, deadline: bool = False, rate: int = 0) -> None:
        """Start a step with this time limit, in seconds."""
        self._limit = self._left = float(limit)
        self._deadline, self._rate = deadline, rate
        self._block = _DEADLINE_BLOCK if deadline else BLOCK

    @property
    def healthy(self) -> bool:
        """Neither an error nor the end of input has been seen."""
        return not self.broken and not self.ended

    def put(self, data: bytes) -> None:
        """Add to the output; nothing is sent yet."""
        self.out += data

    def write(self, data: bytes) -> Run[None]:
        """Add to the output, and send it when there is a block of it. Raises StreamError."""
        self.out += data
        self.sent += len(data)
        if len(self.out) >= self._block:
            yield from self.flush()

    def flush(self) -> Run[None]:
        """Send what is buffered. Raises StreamError."""
        while self.out:
            data = bytes(self.out[: self._block]) if self._deadline else bytes(self.out)
            del self.out[: len(data)]
            yield from self._wait(Write(self.link, data, self._left), len(data))

    def purge_output(self) -> None:
        """Forget what has not been sent."""
        self.out.clear()

    def fill(self) -> Run[None]:
        """Send what is buffered, then wait for input. Raises StreamError."""
        yield from self.flush()
        if self.ended:
            raise StreamError("eof")
        data: bytes = yield from self._wait(Read(self.link, self._left), 0)
        if not data:
            self.ended = True
            raise StreamError("eof")
        self.input += data

    def pending_input(self) -> Run[bool]:
        """Whether the peer has sent something that was not read yet."""
        if self.input:
            return True
        return (yield from Peek(self.link))

    def read_line(self, limit: int) -> Run[tuple[bytes, bool]]:
        """The next line without its line end, and whether it was cut at `limit` bytes. Raises StreamError.

        A line end that the limit splits is still one.
        """
        start = 0
        while True:
            end = self.input.find(b"\n", start)
            if 0 <= end < limit or (end == limit and self.input[end - 1] == 0x0D):
                line = bytes(self.input[:end]).rstrip(b"\r")
                del self.input[: end + 1]
                return line, False
            if len(self.input) > limit or (len(self.input) == limit and self.input[-1] != 0x0D):
                line = bytes(self.input[:limit])
                del self.input[:limit]
                return line, True
            start = len(self.input)
            yield from self.fill()

    def skip_line(self, limit: int) -> Run[bool]:
        """Read to the end of the line; False when it goes on for `limit` bytes more. Raises StreamError."""
        _, cut = yield from self.read_line(limit)
        return not cut

    def revive(self) -> None:
        """Try once more to read after a write error: the server may have said why (spec 6.7)."""
        self.out.clear()
        self.broken = False

    def close(self) -> Run[None]:
        """Send what is buffered, as far as that goes without trouble, and hang up."""
        if self.out and not self.broken:
            try:
                yield from self.flush()
            except StreamError:
                pass
        self.broken = True
        yield from Hangup(self.link)

    def _wait(self, effect: Any, sent: int) -> Run[Any]:
        if self.broken:
            raise StreamError("eof")
        if self._left <= 0:
            self.broken = True
            raise StreamError("time")
        started = self.clock()
        try:
            result = yield from effect
        except StreamError:
            self.broken = True
            raise
        now = self.last_io = self.clock()
        if self._deadline:
            count = sent or len(result)
            gained = count / self._rate if self._rate else 0.0
            self._left = min(self._limit, self._left - (now - started) + gained)
        return result
