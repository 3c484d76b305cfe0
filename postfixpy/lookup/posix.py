"""POSIX regular expressions: the C library's own regcomp(3) and regexec(3).

Python's `re` gives the leftmost match of the first alternative; POSIX, and so a regexp: table, the leftmost longest.
Only the C library agrees with Postfix in all its details, so it does the work here.

Postfix runs in the C locale; Python calls setlocale() at its start. A pattern is therefore compiled under the C locale
(uselocale(3), this thread only); the compiled pattern then matches bytes, in whatever locale it runs.
"""

import ctypes

REG_EXTENDED, REG_ICASE, REG_NEWLINE, REG_NOSUB = 1, 2, 4, 8
REG_NOMATCH = 1

_libc = ctypes.CDLL(None)
_GLIBC = hasattr(_libc, "gnu_get_libc_version")


class _GlibcRegex(ctypes.Structure):
    _fields_ = (("before", ctypes.c_byte * 48), ("re_nsub", ctypes.c_size_t), ("rest", ctypes.c_byte * 200))


class _PlainRegex(ctypes.Structure):  # musl: the count comes first
    _fields_ = (("re_nsub", ctypes.c_size_t), ("rest", ctypes.c_byte * 248))


class _Match(ctypes.Structure):
    _offset = ctypes.c_int if _GLIBC else ctypes.c_ssize_t
    _fields_ = (("start", _offset), ("end", _offset))


_Regex = _GlibcRegex if _GLIBC else _PlainRegex
_libc.regcomp.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_regexec = _libc.regexec
_regexec.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int)
_libc.regerror.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
_libc.regfree.argtypes = (ctypes.c_void_p,)
_libc.newlocale.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_libc.newlocale.restype = ctypes.c_void_p
_libc.uselocale.argtypes = (ctypes.c_void_p,)
_libc.uselocale.restype = ctypes.c_void_p
_ALL_CATEGORIES = 0x1FBF if _GLIBC else 0x7FFFFFFF
_c_locale = _libc.newlocale(_ALL_CATEGORIES, b"C", None)


class PatternError(Exception):
    """A pattern cannot be compiled, or matching failed. str(error) is the library's text."""


class Pattern:
    """A compiled expression over bytes. `groups` is the number of its parenthesized subexpressions."""

    __slots__ = ("_address", "_matches", "_regex", "groups")

    def __init__(self, pattern: bytes, options: int) -> None:
        self._regex: ctypes.Structure | None = _Regex()
        self._address = ctypes.addressof(self._regex)
        previous = _libc.uselocale(_c_locale) if _c_locale else None
        try:
            status = _libc.regcomp(self._address, pattern, options)
        finally:
            if previous:
                _libc.uselocale(previous)
        if status:
            self._regex, text = None, self._text(status)
            raise PatternError(text)
        self.groups: int = _Regex.from_address(self._address).re_nsub
        self._matches: ctypes.Array[_Match] | None = None

    def __del__(self) -> None:
        if getattr(self, "_regex", None) is not None:
            _libc.regfree(self._address)

    def _text(self, status: int) -> str:
        buffer = ctypes.create_string_buffer(256)
        _libc.regerror(status, None, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    def test(self, subject: bytes) -> bool:
        """Whether `subject` matches."""
        status = _regexec(self._address, subject, 0, None, 0)
        if status > REG_NOMATCH:
            raise PatternError(self._text(status))
        return bool(status == 0)

    def search(self, subject: bytes) -> list[bytes] | None:
        """The text of the whole match and of each subexpression (empty if it took no part), or None."""
        matches = self._matches
        if matches is None:
            matches = self._matches = (_Match * (self.groups + 1))()
        status = _regexec(self._address, subject, self.groups + 1, matches, 0)
        if status:
            if status > REG_NOMATCH:
                raise PatternError(self._text(status))
            return None
        return [subject[match.start : match.end] if match.start >= 0 else b"" for match in matches]
