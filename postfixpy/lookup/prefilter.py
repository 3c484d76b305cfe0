"""What a pattern cannot do without: a text that is part of every subject that it matches.

A search for bytes takes a twentieth of a call of a regular expression engine, and most rules of a large table have such
a text that most subjects lack. The reading of the pattern is cautious: what it does not understand for certain, it
takes for anything at all, and a pattern without such a text is always given to the engine.
"""

import re

SHORTEST = 2
"""Shorter texts rule out too little."""

_QUANTIFIER = re.compile(rb"\{\d{1,5}(?:,\d{0,5})?\}")
_CLASS = re.compile(rb"\[\^?\]?(?:\[:[a-z]+:\]|[^][\\])*\]")
"""A bracket expression without backslashes, and without brackets but for names of classes."""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !\"#%&',-/:;<=>@_`~")
_PERL_ONE = frozenset(b"dDwWsSbBAZzhHvVnrt")
"""Letters after a backslash that stand for one character or a position, in PCRE."""
_POSIX_ONE = frozenset(b"wWsSbB<>`'123456789")
"""And in regcomp(3) of the GNU C library."""


def required(pattern: bytes, *, perl: bool) -> bytes:
    """The longest text that every match of `pattern` contains; empty if none is known.

    `perl`: it is in the language of PCRE, without the option x; otherwise a POSIX extended expression. When matching
    ignores case, so must the search for the text, for ASCII letters: it has no others.
    """
    if (perl and b"(?" in pattern.replace(b"(?:", b"(")) or b"(*" in pattern:
        return b""  # options, conditions, verbs: their own language
    best = run = b""
    depth, position, size = 0, 0, len(pattern)
    while position < size:
        byte = pattern[position : position + 1]
        literal = b""
        step = 1
        if byte == b"+" and pattern[position:].lstrip(b"+")[:1] in (b"*", b"?", b"{"):
            run = run[:-1]  # in POSIX, "+?" makes it optional
        elif byte in b"*?{":
            if byte == b"{":
                found = _QUANTIFIER.match(pattern, position)
                if found is None:
                    return b""
                step = found.end() - position
            best, run = _longer(best, run[:-1]), b""
            position += step
            continue
        if byte == b"\\":
            following = pattern[position + 1 : position + 2]
            step = 2
            if not following:
                return b""
            if following in b".[]{}()*+?^$|\\/-@":
                literal = following
            elif following[0] not in (_PERL_ONE if perl else _POSIX_ONE):
                return b""
        elif byte == b"[":
            found = _CLASS.match(pattern, position)
            if found is None:
                return b""
            step = found.end() - position
        elif byte == b"(":
            depth += 1
        elif byte == b")":
            if depth == 0:
                return b""
            depth -= 1
        elif byte == b"|":
            if depth == 0:
                return b""
        elif byte[0] in _PLAIN:
            literal = byte
        elif byte not in b"^$.+":
            return b""
        if literal and depth == 0:
            run += literal
        else:
            best, run = _longer(best, run), b""
        position += step
    best = _longer(best, run)
    return best if depth == 0 and len(best) >= SHORTEST else b""


def _longer(one: bytes, other: bytes) -> bytes:
    return other if len(other) > len(one) else one
