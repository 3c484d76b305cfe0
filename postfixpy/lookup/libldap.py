"""The part of OpenLDAP's client library that ldap: tables need, through ctypes: the library that Postfix itself uses.

Calls block, and let other threads run meanwhile; a `Connection` is for one thread at a time. Everything returned is
copied into Python objects.
"""

import contextlib
import ctypes
import ctypes.util
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from postfixpy import log

SUCCESS, NO_SUCH_OBJECT, SERVER_DOWN, TIMEOUT = 0, 32, -1, -5
BASE, ONE_LEVEL, SUBTREE = 0, 1, 2
OPT_DEREF, OPT_SIZELIMIT, OPT_REFERRALS, OPT_PROTOCOL_VERSION = 0x2, 0x3, 0x8, 0x11
OPT_TIMEOUT, OPT_NETWORK_TIMEOUT = 0x5002, 0x5005
TLS_CACERTFILE, TLS_CACERTDIR, TLS_CERTFILE, TLS_KEYFILE = 0x6002, 0x6003, 0x6004, 0x6005
TLS_REQUIRE_CERT, TLS_CIPHER_SUITE, TLS_RANDOM_FILE, TLS_NEWCTX = 0x6006, 0x6008, 0x6009, 0x600F
TLS_NEVER, TLS_DEMAND = 0, 2


class LibraryMissing(Exception):
    """There is no OpenLDAP library on this system."""


def _load(*names: str) -> ctypes.CDLL:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue  # the next name
    found = ctypes.util.find_library("ldap")
    if not found:
        raise LibraryMissing("OpenLDAP's libldap not found")
    return ctypes.CDLL(found)


_library = _load("libldap.so.2", "libldap-2.6.so.0", "libldap-2.5.so.0", "libldap-2.4.so.2", "libldap.so")


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class _Bytes(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ulong), ("data", ctypes.POINTER(ctypes.c_char)))


class _Url(ctypes.Structure):
    _fields_ = (
        ("next", ctypes.c_void_p),
        ("scheme", ctypes.c_char_p),
        ("host", ctypes.c_char_p),
        ("port", ctypes.c_int),
        ("dn", ctypes.c_char_p),
        ("attributes", ctypes.POINTER(ctypes.c_char_p)),
        ("scope", ctypes.c_int),
        ("filter", ctypes.c_char_p),
        ("extensions", ctypes.c_void_p),
        ("critical", ctypes.c_int),
    )


_P = ctypes.c_void_p
_S = ctypes.c_char_p
_I = ctypes.c_int


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


_initialize = _function("ldap_initialize", _I, ctypes.POINTER(_P), _S)
_set_option = _function("ldap_set_option", _I, _P, _I, _P)
_ber_set_option = _library.ber_set_option
_ber_set_option.restype, _ber_set_option.argtypes = _I, (_P, _I, _P)
_start_tls = _function("ldap_start_tls_s", _I, _P, _P, _P)
_bind = _function("ldap_sasl_bind_s", _I, _P, _S, _S, ctypes.POINTER(_Bytes), _P, _P, _P)
_Interaction = ctypes.CFUNCTYPE(_I, _P, ctypes.c_uint, _P, _P)
_bind_sasl = _function(
    "ldap_sasl_interactive_bind_s", _I, _P, _S, _S, _P, _P, ctypes.c_uint, _Interaction, ctypes.c_void_p
)
_SECURITY_PROPERTIES = 0x6106
_QUIET = 2
_LIST_END, _USER, _AUTHENTICATION_NAME, _PASSWORD, _REALM = 0, 0x4001, 0x4002, 0x4004, 0x4008


class _Question(ctypes.Structure):
    """What SASL asks for: sasl_interact_t."""

    _fields_ = (
        ("id", ctypes.c_ulong),
        ("challenge", ctypes.c_char_p),
        ("prompt", ctypes.c_char_p),
        ("default", ctypes.c_char_p),
        ("result", ctypes.c_char_p),
        ("length", ctypes.c_uint),
    )


_search = _function(
    "ldap_search_ext_s",
    _I,
    _P,
    _S,
    _I,
    _S,
    ctypes.POINTER(_S),
    _I,
    _P,
    _P,
    ctypes.POINTER(_Time),
    _I,
    ctypes.POINTER(_P),
)
_unbind = _function("ldap_unbind_ext_s", _I, _P, _P, _P)
_first_entry = _function("ldap_first_entry", _P, _P, _P)
_next_entry = _function("ldap_next_entry", _P, _P, _P)
_first_attribute = _function("ldap_first_attribute", _P, _P, _P, ctypes.POINTER(_P))
_next_attribute = _function("ldap_next_attribute", _P, _P, _P, _P)
_get_values = _function("ldap_get_values_len", ctypes.POINTER(ctypes.POINTER(_Bytes)), _P, _P, _S)
_free_values = _function("ldap_value_free_len", None, ctypes.POINTER(ctypes.POINTER(_Bytes)))
_free_memory = _function("ldap_memfree", None, _P)
_free_message = _function("ldap_msgfree", _I, _P)
_error_text = _function("ldap_err2string", _S, _I)
_is_url = _function("ldap_is_ldap_url", _I, _S)
_parse_url = _function("ldap_url_parse", _I, _S, ctypes.POINTER(ctypes.POINTER(_Url)))
_free_url = _function("ldap_free_urldesc", None, ctypes.POINTER(_Url))

Attributes = list[tuple[str, list[str]]]
"""The attributes of one entry, in the server's order."""


def encode(text: str) -> bytes:
    """`text` for the library."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """What a C string holds."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def error_text(code: int) -> str:
    """The library's text of a result code."""
    return decode(_error_text(code) or b"")


_ADD = ctypes.CFUNCTYPE(_I, _P, _P, _P, _P, _P)
_DELETE = ctypes.CFUNCTYPE(None, _P, _P, _P)
_OPT_CONNECT_CB, _GET_FD = 0x5011, 1
_sockbuf_ctrl = _library.ber_sockbuf_ctrl
_sockbuf_ctrl.restype, _sockbuf_ctrl.argtypes = _I, (_P, _I, _P)


class _Callbacks(ctypes.Structure):
    """Who is told of a new connection: ldap_conncb."""

    _fields_ = (("add", _ADD), ("delete", _DELETE), ("argument", _P))


class LdapError(Exception):
    """An operation failed: `code` is the result code."""

    def __init__(self, code: int) -> None:
        super().__init__(error_text(code))
        self.code = code


def is_url(text: str) -> bool:
    """Whether `text` begins as an LDAP URL."""
    return bool(_is_url(encode(text)))


_OPT_DEBUG_LEVEL, _BER_DEBUG_LEVEL, _BER_LOG_PRINT = 0x5001, 0x02, 0x8001
_log = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda text: log.info(f"dict_ldap_debug: {decode(text).rstrip()}"))
_logging = False


def set_debug_level(level: int) -> None:
    """How much the library logs, for the whole process: a sum of OpenLDAP's numbers, 0 for nothing."""
    global _logging
    if level or _logging:
        number = ctypes.c_int(level)
        _ber_set_option(None, _BER_LOG_PRINT, ctypes.cast(_log, ctypes.c_void_p))
        _ber_set_option(None, _BER_DEBUG_LEVEL, ctypes.byref(number))
        _set_option(None, _OPT_DEBUG_LEVEL, ctypes.byref(number))
        _logging = bool(level)


class Url(NamedTuple):
    """An LDAP URL (RFC 4516)."""

    scheme: str
    dn: str
    attributes: list[str]
    scope: int
    filter: str


def parse_url(text: str) -> Url:
    """Raises LdapError, whose code is one of the URL errors."""
    pointer = ctypes.POINTER(_Url)()
    code = _parse_url(encode(text), ctypes.byref(pointer))
    if code:
        raise LdapError(code)
    try:
        found = pointer.contents
        attributes, index = [], 0
        while found.attributes and found.attributes[index]:
            attributes.append(decode(found.attributes[index]))
            index += 1
        scope = found.scope if found.scope >= 0 else BASE
        return Url(decode(found.scheme or b""), decode(found.dn or b""), attributes, scope, decode(found.filter or b""))
    finally:
        _free_url(pointer)


def _checked(code: int) -> None:
    if code != SUCCESS:
        raise LdapError(code)


class Connection:
    """A connection to a server, made when it is first used. `urls` are tried in order, separated by spaces."""

    def __init__(self, urls: str, timeout: int) -> None:
        self._handle: ctypes.c_void_p | None = ctypes.c_void_p()
        self.timeout = timeout
        code = _initialize(ctypes.byref(self._handle), encode(urls))
        if code != SUCCESS:
            self._handle = None
            raise LdapError(code)
        self._socket: socket.socket | None = None
        self._callbacks = _Callbacks(_ADD(self._connected), _DELETE(lambda *arguments: None))
        _checked(_set_option(self._handle, _OPT_CONNECT_CB, ctypes.byref(self._callbacks)))
        limit = _Time(timeout, 0)
        _checked(_set_option(self._handle, OPT_NETWORK_TIMEOUT, ctypes.byref(limit)))
        _checked(_set_option(self._handle, OPT_TIMEOUT, ctypes.byref(limit)))

    def close(self) -> None:
        """Say goodbye and hang up."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            _unbind(handle, None, None)
        if getattr(self, "_socket", None) is not None:
            self._socket.close()  # type: ignore[union-attr]  # looked at just now

    def _connected(self, handle: int, buffer: int, url: int, address: int, callbacks: int) -> int:
        """The library has connected. TLS may come next."""
        number = ctypes.c_int(-1)
        _sockbuf_ctrl(buffer, _GET_FD, ctypes.byref(number))
        if number.value >= 0:
            if self._socket is not None:
                self._socket.close()
            self._socket = socket.socket(fileno=os.dup(number.value))
        return 0

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """End what has no time limit in the library, TLS and SASL, when it takes too long. Raises LdapError."""
        over = threading.Event()

        def end() -> None:
            over.set()
            with contextlib.suppress(OSError, AttributeError):
                self._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # AttributeError: not connected

        timer = threading.Timer(self.timeout + 0.5, end)
        timer.daemon = True
        if self.timeout:
            timer.start()
        try:
            yield
        except LdapError:
            if over.is_set():
                raise LdapError(TIMEOUT) from None
            raise
        finally:
            timer.cancel()

    def __del__(self) -> None:
        self.close()

    def set_integer(self, option: int, value: int) -> None:
        """Set an option that is a number."""
        _checked(_set_option(self._handle, option, ctypes.byref(ctypes.c_int(value))))

    def set_text(self, option: int, value: str) -> None:
        """Set an option that is a text."""
        _checked(_set_option(self._handle, option, ctypes.c_char_p(encode(value))))

    def set_switch(self, option: int, on: bool) -> None:
        """Set an option that is on or off."""
        switch = ctypes.c_int(1)
        _checked(_set_option(self._handle, option, ctypes.byref(switch) if on else None))

    def start_tls(self) -> None:
        """Change to TLS."""
        with self._limited():
            _checked(_start_tls(self._handle, None, None))

    def bind(self, dn: str, password: str) -> None:
        """Log in, "simple"."""
        secret = ctypes.create_string_buffer(encode(password))
        credentials = _Bytes(len(encode(password)), ctypes.cast(secret, ctypes.POINTER(ctypes.c_char)))
        with self._limited():
            _checked(_bind(self._handle, encode(dn), None, ctypes.byref(credentials), None, None, None))

    def bind_sasl(
        self, mechanisms: str, name: str, password: str, realm: str = "", authorization: str = "", minimum: int = 0
    ) -> None:
        """Log in by SASL with one of `mechanisms`, whose security strength is at least `minimum` bits."""
        answers = {_AUTHENTICATION_NAME: name, _PASSWORD: password, _REALM: realm, _USER: authorization}
        kept: list[bytes] = []  # for as long as the library reads them

        def answer(handle: int, flags: int, defaults: int, questions: int) -> int:
            size, index = ctypes.sizeof(_Question), 0
            while (question := _Question.from_address(questions + index * size)).id != _LIST_END:
                kept.append(encode(answers.get(question.id, "")))
                question.result, question.length = kept[-1], len(kept[-1])
                index += 1
            return SUCCESS

        self.set_text(_SECURITY_PROPERTIES, f"minssf={minimum}")
        wanted = encode(mechanisms) if mechanisms else None
        with self._limited():
            _checked(_bind_sasl(self._handle, None, wanted, None, None, _QUIET, _Interaction(answer), None))

    def search(self, base: str, scope: int, filter: str, attributes: list[str]) -> list[Attributes]:
        """The entries that match `filter` (empty: all), with those of `attributes` that they have."""
        if self._socket is not None:
            return self._search(base, scope, filter, attributes)
        with self._limited():  # the first thing on a connection that begins with TLS
            return self._search(base, scope, filter, attributes)

    def _search(self, base: str, scope: int, filter: str, attributes: list[str]) -> list[Attributes]:
        names = (ctypes.c_char_p * (len(attributes) + 1))(*map(encode, attributes), None)
        result = ctypes.c_void_p()
        limit = _Time(self.timeout, 0)
        wanted = encode(filter) if filter else None
        code = _search(
            self._handle,
            encode(base),
            scope,
            wanted,
            names,
            0,
            None,
            None,
            ctypes.byref(limit),
            -1,
            ctypes.byref(result),
        )
        try:
            _checked(code)
            entries = []
            entry = _first_entry(self._handle, result)
            while entry:
                entries.append(self._attributes(entry))
                entry = _next_entry(self._handle, entry)
            return entries
        finally:
            if result:
                _free_message(result)

    def _attributes(self, entry: int) -> Attributes:
        found: Attributes = []
        state = ctypes.c_void_p()
        pointer = _first_attribute(self._handle, entry, ctypes.byref(state))
        while pointer:
            name = ctypes.cast(pointer, ctypes.c_char_p).value or b""
            values = _get_values(self._handle, entry, name)
            if values:
                found.append((decode(name), _copied(values)))
                _free_values(values)
            _free_memory(pointer)
            pointer = _next_attribute(self._handle, entry, state)
        if state:
            _ber_free(state, 0)
        return found


def _copied(values: Any) -> list[str]:
    copies, index = [], 0
    while values[index]:
        value = values[index].contents
        copies.append(decode(ctypes.string_at(value.data, value.length)))
        index += 1
    return copies


_ber_free = _library.ber_free
_ber_free.argtypes, _ber_free.restype = (ctypes.c_void_p, ctypes.c_int), None
