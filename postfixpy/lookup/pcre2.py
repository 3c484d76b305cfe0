"""Perl-compatible regular expressions: the system's libpcre2-8, the library that Postfix itself uses.

Python's `re` looks alike and silently differs (``[[:digit:]]``, ``$``, case folding, limits); a bundled copy of another
version differs too. Patterns and subjects are bytes, no UTF mode, no just-in-time compiler: as in Postfix, so that the
limits, and with them the answer to a runaway pattern, are the same. Not for use by two threads at once.
"""

import ctypes
import ctypes.util

CASELESS, DOLLAR_ENDONLY, DOTALL, EXTENDED = 0x8, 0x10, 0x20, 0x80
MULTILINE, UNGREEDY, ANCHORED = 0x400, 0x40000, 0x80000000
_NO_MATCH = -1
_INFO_CAPTURE_COUNT = 4
_SIZE = ctypes.c_size_t


class PatternError(Exception):
    """A pattern cannot be compiled (at `offset`), or matching failed. str(error) is the library's text."""

    def __init__(self, text: str, offset: int = 0) -> None:
        super().__init__(text)
        self.offset = offset


class LibraryMissing(Exception):
    """There is no libpcre2-8 on this system."""


def _load() -> ctypes.CDLL:
    for name in ("libpcre2-8.so.0", "libpcre2-8.so", "libpcre2-8.dylib"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue  # the next name; find_library comes last, for it runs a compiler or ldconfig
    found = ctypes.util.find_library("pcre2-8")
    if not found:
        raise LibraryMissing("libpcre2-8 not found")
    return ctypes.CDLL(found)


_library = _load()
_compile = _library.pcre2_compile_8
_compile.restype = ctypes.c_void_p
_compile.argtypes = (
    ctypes.c_char_p,
    _SIZE,
    ctypes.c_uint32,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(_SIZE),
    ctypes.c_void_p,
)
_match_data = _library.pcre2_match_data_create_from_pattern_8
_match_data.restype = ctypes.c_void_p
_match_data.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_match = _library.pcre2_match_8
_match.restype = ctypes.c_int
_match.argtypes = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    _SIZE,
    _SIZE,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_offsets = _library.pcre2_get_ovector_pointer_8
_offsets.restype = ctypes.POINTER(_SIZE)
_offsets.argtypes = (ctypes.c_void_p,)
_message = _library.pcre2_get_error_message_8
_message.argtypes = (ctypes.c_int, ctypes.c_char_p, _SIZE)
_info = _library.pcre2_pattern_info_8
_info.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_library.pcre2_code_free_8.argtypes = (ctypes.c_void_p,)
_library.pcre2_match_data_free_8.argtypes = (ctypes.c_void_p,)


def _text(code: int) -> str:
    buffer = ctypes.create_string_buffer(256)
    if _message(code, buffer, 256) < 0:
        return f"unexpected pcre2 error code {code}"
    return buffer.value.decode("utf-8", "replace")


class Pattern:
    """A compiled expression over bytes. `groups` is the number of its capturing groups."""

    __slots__ = ("_code", "_data", "_vector", "groups")

    def __init__(self, pattern: bytes, options: int) -> None:
        self._data = None
        code, offset = ctypes.c_int(), _SIZE()
        self._code = _compile(pattern, len(pattern), options, ctypes.byref(code), ctypes.byref(offset), None)
        if not self._code:
            raise PatternError(_text(code.value), offset.value)
        count = ctypes.c_uint32()
        _info(self._code, _INFO_CAPTURE_COUNT, ctypes.byref(count))
        self.groups = count.value
        self._data = _match_data(self._code, None)
        if not self._data:
            raise MemoryError("pcre2_match_data_create_from_pattern")
        self._vector = _offsets(self._data)

    def __del__(self) -> None:
        if getattr(self, "_data", None):
            _library.pcre2_match_data_free_8(self._data)
        if getattr(self, "_code", None):
            _library.pcre2_code_free_8(self._code)

    def test(self, subject: bytes) -> bool:
        """Whether `subject` matches."""
        status = _match(self._code, subject, len(subject), 0, 0, self._data, None)
        if status < _NO_MATCH:
            raise PatternError(_text(status))
        return bool(status > 0)

    def search(self, subject: bytes) -> list[bytes] | None:
        """The text of the whole match and of each group (empty if it took no part), or None."""
        if not self.test(subject):
            return None
        vector, length = self._vector, len(subject)
        # An unset group starts and ends at the largest number; \K in a lookahead can put the end before the start.
        return [
            subject[vector[2 * group] : vector[2 * group + 1]] if vector[2 * group] <= length else b""
            for group in range(self.groups + 1)
        ]
