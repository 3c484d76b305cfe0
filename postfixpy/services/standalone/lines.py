"""Lines from what arrives in pieces, with a limit for their length."""


class Lines:
    """Feed it bytes; `next` gives lines as queue-file records want them. `limit` is line_length_limit, bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.buffer = b""

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self.buffer += data

    def next(self) -> tuple[str, bytes] | None:
        """("N", line without its end) or ("L", part of a line that is too long); None when more is needed."""
        end = self.buffer.find(b"\n", 0, self.limit)
        if end >= 0:
            line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
            return "N", line.rstrip(b"\r")
        if len(self.buffer) < self.limit:
            return None
        line, self.buffer = self.buffer[: self.limit], self.buffer[self.limit :]
        return "L", line
