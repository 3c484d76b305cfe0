"""One message of a stand-alone SMTP session: its envelope and content, on their way to the maildrop queue."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.addresses import quote_822_local
from postfixpy.mail.headers import mail_date
from postfixpy.mail.records import Kind

from .lines import Lines
from .words import Path

if TYPE_CHECKING:
    from postfixpy.config import View

CLIENT_NAME, CLIENT_ADDRESS = "localhost", "127.0.0.1"
CLIENT = f"{CLIENT_NAME}[{CLIENT_ADDRESS}]"


class Drop(Protocol):
    """Where a message goes: see postfixpy.commands.submission."""

    queue_id: str
    reason: str

    def add(self, kind: str, payload: bytes) -> None: ...
    def finish(self) -> int: ...
    def cancel(self) -> None: ...


class Message:
    """From MAIL to the end of the content. `opener` gives a `Drop`, with the first recipient.

    body      "7bit", "8bit" or "": what the client says of the content
    arrival   when MAIL came, seconds since the epoch
    size      bytes of content so far, two for each line end
    chunked   the content comes in BDAT chunks
    """

    def __init__(
        self, view: "View", opener: Callable[[], Drop], sender: str, *, utf8: bool, body: str, arrival: float
    ) -> None:
        self.sender = sender
        self.utf8 = utf8
        self.arrival = arrival
        self.recipients: list[str] = []
        self.size = 0
        self.chunked = False
        self._view = view
        self._opener = opener
        self.body = body
        self._drop: Drop | None = None
        self._lines = Lines(view.line_length_limit)
        self._first = True
        self._continued = False
        self._too_big = False
        self._broken = False

    @property
    def queue_id(self) -> str:
        """The id, "NOQUEUE" before the first recipient."""
        return self._drop.queue_id if self._drop is not None else "NOQUEUE"

    def cancel(self) -> None:
        """Forget it."""
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None

    def add_recipient(self, path: Path, notify: int, orcpt: str) -> None:
        """One more recipient. Raises FatalError or TemporaryError when it cannot be written."""
        drop = self._drop or self._open()
        if notify:
            drop.add(Kind.ATTRIBUTE, f"notify_flags={notify}".encode())
        drop.add(Kind.ATTRIBUTE, encode(f"dsn_orig_rcpt={orcpt or self._made_orcpt(path)}"))
        drop.add(Kind.RECIPIENT, encode(path.address))
        self.recipients.append(path.address)

    def _open(self) -> Drop:
        drop = self._drop = self._opener()
        log.info(f"{drop.queue_id}: client={CLIENT}")
        drop.add(Kind.FROM, encode(self.sender))
        if self.body:
            drop.add(Kind.ATTRIBUTE, f"encoding={self.body}".encode())
        return drop

    def _made_orcpt(self, path: Path) -> str:
        kind = "utf-8" if self.utf8 and not path.address.isascii() else "rfc822"
        text = path.text[1:-1] if path.text.startswith("<") and path.text.endswith(">") else path.text
        return f"{kind};{text}"

    # Content

    def begin(self, helo: str, protocol: str) -> None:
        """The content follows: write our Received: header."""
        view = self._view
        self._write(Kind.MESSAGE, b"")
        by = (
            f"\tby {view.myhostname} ({view.mail_name}) with {'UTF8SMTP' if self.utf8 else protocol} id {self.queue_id}"
        )
        date = mail_date(self.arrival)
        lines = [f"Received: from {helo or CLIENT_NAME} ({CLIENT_NAME} [{CLIENT_ADDRESS}])"]
        if len(self.recipients) == 1:
            lines += [by, f"\tfor <{quote_822_local(self.recipients[0])}>; {date}"]
        else:
            lines += [f"{by};", f"\t{date}"]
        for line in lines:
            self._write(Kind.NORMAL, encode(line))

    def line(self, kind: str, line: bytes) -> bool:
        """A line of DATA ("N"), or a part of one ("L"). True for the one that ends the content."""
        if self._first:
            self._first = False
            if line.lstrip(b">").startswith(b"From "):
                self._write(Kind.CONTINUED, b"X-Mailbox-Line: ")
            if line[:1] in (b" ", b"\t"):
                self._write(Kind.NORMAL, b"")  # or it would continue our Received: header
        if not self._continued and line.startswith(b"."):
            line = line[1:]
            if not line and kind == Kind.NORMAL:
                return True
        self._content(kind, line)
        return False

    def chunk(self, data: bytes) -> None:
        """Bytes of a BDAT chunk. The part of a line waits for the next chunk."""
        self._lines.feed(data)
        while (found := self._lines.next()) is not None:
            self._content(*found)

    @property
    def waiting(self) -> int:
        """Bytes of a line of a chunk that is not complete."""
        return len(self._lines.buffer)

    def _content(self, kind: str, line: bytes) -> None:
        self.size += len(line) + 2
        if 0 < self._view.message_size_limit < self.size:
            self._too_big = True
        self._write(kind, line)
        self._continued = kind == Kind.CONTINUED

    def _write(self, kind: str, text: bytes) -> None:
        if self._broken or self._too_big or self._drop is None:
            return
        try:
            self._drop.add(kind, text)
        except FatalError as error:
            log.warning(str(error))
            self._broken = True

    @property
    def problem(self) -> str:
        """The reply to content that cannot be taken, "" while all is well."""
        if self._too_big:
            return "552 5.3.4 Error: message file too big"
        return "451 4.3.0 Error: internal error 1" if self._broken else ""

    def finish(self) -> str:
        """The content is complete: post the message. Returns the reply."""
        drop = self._drop
        assert drop is not None
        if self._lines.buffer or (self.chunked and self._continued):
            self._content(Kind.NORMAL, self._lines.buffer)
        if not self.problem:
            self._write(Kind.EXTRACTED, b"")
            self._write(Kind.END, b"")
        if self.problem:
            return self.problem
        self._drop = None
        status = drop.finish()
        if not status:
            size = f"{self.size} bytes " if self.chunked else ""
            return f"250 2.0.0 Ok: {size}queued as {drop.queue_id}"
        if status & 1:
            return f"451 4.3.0 Error: internal error {status}"
        if status & 4:
            return "552 5.3.4 Error: message file too big"
        if status & 512:
            return f"550 5.7.1 Error: {drop.reason or 'service denied'}"
        return "451 4.3.0 Error: queue file write error"


def encode(text: str) -> bytes:
    """Bytes of what was decoded from bytes."""
    return text.encode("utf-8", "surrogateescape")
