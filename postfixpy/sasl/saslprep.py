"""SASLprep (RFC 4013): one form for what looks the same in names and passwords."""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """The prepared form; `stored` strings may not hold unassigned code points. Raises ValueError."""
    if text.isascii() and text.isprintable():
        return text
    mapped = (" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    found = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(mapped))
    for character in found:
        if any(table(character) for table in _PROHIBITED):
            raise ValueError("prohibited character")
        if stored and stringprep.in_table_a1(character):
            raise ValueError("unassigned character")
    if any(stringprep.in_table_d1(character) for character in found):
        ends = stringprep.in_table_d1(found[0]) and stringprep.in_table_d1(found[-1])
        if not ends or any(stringprep.in_table_d2(character) for character in found):
            raise ValueError("text of both directions")
    return found


def prepared(data: bytes) -> bytes:
    """The prepared form of bytes; bytes that cannot be prepared as they are."""
    try:
        return saslprep(data.decode()).encode()
    except ValueError:  # UnicodeError is one
        return data
