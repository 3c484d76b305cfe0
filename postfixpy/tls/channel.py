"""One TLS connection without its socket: bytes in, bytes out (memory BIOs), so that any driver can carry it.

`Channel` is the same for clients and servers. Whoever drives it puts what arrives into `feed`, sends what `output`
gives after every call, and says `end` when the peer has closed. The library's callbacks find the Python object by the
address of the SSL object.
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfixpy import log

from . import libssl
from .handshake import LibraryError
from .libssl import Library, Pointer
from .loglevel import ALL_PACKETS, DEBUG, PACKETS

if TYPE_CHECKING:
    from .verification import Verification

_WANT_READ, _WANT_WRITE, _SYSCALL, _ZERO_RETURN = 2, 3, 5, 6
_BIO_SET_MEM_EOF = 130
_CTRL_MODE, _RELEASE_BUFFERS = 33, 0x10
_CHUNK = 65536

_buffer = ctypes.create_string_buffer(_CHUNK)
"""What the library reads into. All channels share it: it is copied before anything else happens."""


_channels: "weakref.WeakValueDictionary[Pointer, Channel]" = weakref.WeakValueDictionary()


class Channel:
    """A connection.

    finished    the handshake is done
    closed      the peer has said that it sends no more (close_notify), or has hung up
    session     the latest session for resumption, DER; on_session is called when it changes
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_input",
        "_ssl",
        "_written",
        "closed",
        "finished",
        "library",
        "namaddr",
        "on_session",
        "session",
        "verification",
    )

    def __init__(self, library: Library, context: Pointer, *, server: bool, namaddr: str = "", bits: int = 0) -> None:
        """`bits` are those of postfixpy.tls.loglevel. Raises MemoryError."""
        self.library = library
        self.namaddr = namaddr
        self.finished = self.closed = self._ended = False
        self.session = b""
        self.on_session: Callable[[], None] = lambda: None
        self.verification: Verification | None = None
        ssl = library.SSL_new(context)
        if not ssl:
            raise MemoryError("SSL_new")
        self._ssl: Pointer | None = ssl
        self._input = library.BIO_new(library.BIO_s_mem())
        self._written = library.BIO_new(library.BIO_s_mem())
        library.SSL_set_bio(ssl, self._input, self._written)  # they are the SSL object's to free
        library.SSL_ctrl(ssl, _CTRL_MODE, _RELEASE_BUFFERS, None)
        (library.SSL_set_accept_state if server else library.SSL_set_connect_state)(ssl)
        if bits & DEBUG:
            library.SSL_set_info_callback(ssl, _info_callback(library))
        if bits & PACKETS:
            self._dump(True)
        _channels[ssl] = self

    @property
    def ssl(self) -> Pointer:
        """The SSL object, for calls of the library. Raises ValueError when the channel is freed."""
        if self._ssl is None:
            raise ValueError("the TLS channel is closed")
        return self._ssl

    def _dump(self, on: bool) -> None:
        for bio in (self._input, self._written):
            self.library.BIO_set_callback_ex(bio, _dump_callback() if on else None)

    def feed(self, data: bytes) -> None:
        """What the peer has sent."""
        if self._ssl is not None and data:
            self.library.BIO_write(self._input, data, len(data))

    def end(self) -> None:
        """The peer sends no more."""
        self._ended = True
        if self._ssl is None:
            return
        self.library.BIO_ctrl(self._input, _BIO_SET_MEM_EOF, 0, None)

    def receive(self, data: bytes) -> None:
        """`feed`, or `end` when there is nothing."""
        if data:
            self.feed(data)
        else:
            self.end()

    def pending(self) -> bool:
        """Whether input has come that was not read yet."""
        return self._ssl is not None and bool(
            self.library.BIO_ctrl_pending(self._input) or self.library.SSL_has_pending(self._ssl)
        )

    def output(self) -> bytes:
        """What is to be sent to the peer."""
        if self._ssl is None:
            return b""
        size = self.library.BIO_ctrl_pending(self._written)
        if not size:
            return b""
        if size <= _CHUNK:
            size = self.library.BIO_read(self._written, _buffer, size)
            return ctypes.string_at(_buffer, size)
        buffer = ctypes.create_string_buffer(size)
        size = self.library.BIO_read(self._written, buffer, size)
        return ctypes.string_at(buffer, size)

    def handshake(self, bits: int = 0) -> bool:
        """Go on with the handshake; returns whether it is done. Raises LibraryError."""
        self.library.ERR_clear_error()
        status = self.library.SSL_do_handshake(self.ssl)
        if status == 1:
            self.finished = True
            if bits & PACKETS and not bits & ALL_PACKETS:
                self._dump(False)
            return True
        if self.library.SSL_get_error(self.ssl, status) in (_WANT_READ, _WANT_WRITE):
            return False
        raise LibraryError(status)

    def read(self) -> bytes:
        """What the peer has said, b"" when more input is needed or it is `closed`. Raises LibraryError, after having
        logged the library's errors."""
        if self.closed or self._ssl is None:
            return b""
        self.library.ERR_clear_error()
        size = self.library.SSL_read(self._ssl, _buffer, _CHUNK)
        if size > 0:
            parts = [ctypes.string_at(_buffer, size)]
            while size > 0 and len(parts) < 16:
                size = self.library.SSL_read(self._ssl, _buffer, _CHUNK)
                if size > 0:
                    parts.append(ctypes.string_at(_buffer, size))
            return b"".join(parts)
        error = self.library.SSL_get_error(self._ssl, size)
        if error in (_WANT_READ, _WANT_WRITE):
            return b""
        self.closed = True
        if error == _ZERO_RETURN or (error == _SYSCALL and self._ended):
            return b""
        libssl.print_errors(self.library)
        raise LibraryError(size)

    def write(self, data: bytes) -> None:
        """Encrypt `data`. Raises LibraryError, after having logged the library's errors."""
        if not data:
            return
        self.library.ERR_clear_error()
        if self.library.SSL_write(self.ssl, data, len(data)) <= 0:
            libssl.print_errors(self.library)
            raise LibraryError(-1)

    def shut(self) -> None:
        """Say that we send no more (close_notify)."""
        if self._ssl is not None and self.finished:
            self.library.ERR_clear_error()
            self.library.SSL_shutdown(self._ssl)
            self.library.ERR_clear_error()

    def free(self) -> None:
        """Give the library's memory back. The channel is of no more use."""
        ssl, self._ssl = self._ssl, None
        if ssl is not None:
            _channels.pop(ssl, None)
            if self.verification is not None:
                self.verification.free()
            self.library.SSL_free(ssl)

    def __del__(self) -> None:
        if getattr(self, "_ssl", None) is not None:
            self.free()

    def keep_session(self, session: Pointer) -> None:
        """A session that can be resumed has arrived."""
        data = libssl.to_der(self.library.i2d_SSL_SESSION, session)
        if data:
            self.session = data
            self.on_session()


def channel_of(ssl: Pointer) -> Channel | None:
    """The channel of an SSL object, for callbacks."""
    return _channels.get(ssl)


def _session_arrived(ssl: Pointer, session: Pointer) -> int:
    channel = _channels.get(ssl)
    if channel is not None:
        channel.keep_session(session)
    return 0  # the library keeps its reference


new_session_callback = libssl.SESSION_CALLBACK(_session_arrived)
"""For SSL_CTX_sess_set_new_cb."""

_CONNECT, _ACCEPT, _LOOP, _EXIT, _READ, _ALERT, _STATES = 0x1000, 0x2000, 0x01, 0x02, 0x04, 0x4000, 0x0FFF
_callbacks: dict[str, object] = {}
"""Callbacks that the library may call as long as the process lives."""


def _info_callback(library: Library) -> object:
    """What logs each step of the library, as OpenSSL's own programs do."""

    def told(ssl: Pointer, where: int, result: int) -> None:
        kind = where & ~_STATES
        name = "SSL_connect" if kind & _CONNECT else "SSL_accept" if kind & _ACCEPT else "unknown"
        if where & _LOOP:
            log.info(f"{name}:{library.SSL_state_string_long(ssl).decode()}")
        elif where & _ALERT:
            if result & 0xFF:
                direction = "read" if where & _READ else "write"
                alert = library.SSL_alert_type_string_long(result).decode()
                log.info(f"SSL3 alert {direction}:{alert}:{library.SSL_alert_desc_string_long(result).decode()}")
        elif where & _EXIT:
            state = library.SSL_state_string_long(ssl).decode()
            if result == 0:
                log.info(f"{name}:failed in {state}")
            elif result < 0 and library.SSL_get_error(ssl, result) not in (_WANT_READ, _WANT_WRITE):
                log.info(f"{name}:error in {state}")

    found = _callbacks.get("info")
    if found is None:
        found = _callbacks["info"] = libssl.INFO_CALLBACK(told)
    return found


_BIO_READ_DONE, _BIO_WRITE_DONE = 0x82, 0x83


def _dump_callback() -> object:
    """What logs all that passes a BIO, in hexadecimal."""

    def passed(
        bio: Pointer, command: int, data: Pointer, size: int, _argi: int, _argl: int, result: int, processed: object
    ) -> int:
        words = {_BIO_READ_DONE: "read from", _BIO_WRITE_DONE: "write to"}.get(command)
        if words is not None:
            text = f"{words} {bio:08X} [{data or 0:08X}] ({size} bytes => "
            if result > 0:
                count = processed[0] if processed else size  # type: ignore[index]  # POINTER(c_size_t)
                log.info(f"{text}{count} (0x{count:X}))")
                for line in dump(ctypes.string_at(data, count)):
                    log.info(line)
            else:
                log.info(f"{text}{result})")
        return result

    found = _callbacks.get("dump")
    if found is None:
        found = _callbacks["dump"] = libssl.BIO_CALLBACK(passed)
    return found


def dump(data: bytes) -> list[str]:
    """Rows of 16 bytes, in hexadecimal and as text; blanks and zeros at the end are told in one word."""
    kept = data.rstrip(b" \0")
    lines = []
    for start in range(0, len(kept), 16):
        row = kept[start : start + 16]
        cells = "".join(f"{byte:02x}{'|' if n == 7 else ' '}" for n, byte in enumerate(row))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        if len(row) > 7:
            text = f"{text[:8]} {text[8:]}"
        lines.append(f"{start:04x} {cells}{'   ' * (16 - len(row))} {text}")
    if len(kept) < len(data):
        lines.append(f"{len(kept):04x} - <SPACES/NULLS>")
    return lines
