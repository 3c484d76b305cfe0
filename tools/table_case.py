"""What a case of compare_tables.py is, and what the generators of cases have in common."""

import random
from dataclasses import dataclass, field

SUFFIXES = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}
PROGRAMS = ("postmap", "postalias", "newaliases")


@dataclass
class Step:
    """One command line, or (`program` "swap") an exchange of what both sides made."""

    program: str
    line: list[str]
    stdin: bytes = b""
    unordered: bool = False
    """The lines of standard output come in an order of each side's own: a hash table that each made for itself."""


@dataclass
class Case:
    """Files and what is done with them."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    main_cf: str = ""
    served: bool = False
    """It asks a server: ``@NAME@`` in files and names stands for where it listens; the certificates are there, too."""


def encoded(text: str) -> bytes:
    """The bytes that a text with surrogates stands for."""
    return text.encode("utf-8", "surrogateescape")


LOCAL = [
    "a", "B", "user+x", '"q k"', "É", "ß", "x y", "\\", '"', "1.2.3.4", "::1", "list-request", "#", ":", "@",
    "é\udcff", "user@example.com", "@Example.COM", ".example", "İ", "ﬃ", "a:",
]  # fmt: skip
"""Local parts, and other keys."""


def mutated(rng: random.Random, data: bytes, chance: float) -> bytes:
    """`data` with, sometimes, a few bytes changed."""
    if rng.random() > chance:
        return data
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        position = rng.randrange(len(out) + 1)
        match rng.randrange(3):
            case 0:
                out[position:position] = rng.choice([b"\0", b"\n", b"\r", b" ", b"{", b"}", b'"', b"\xff", b"\\", b"$"])
            case 1:
                del out[position : position + rng.randrange(1, 5)]
            case _:
                other = rng.randrange(len(out) + 1)
                out[position:position] = out[other : other + rng.randrange(1, 12)]
    return bytes(out)


def options(rng: random.Random, letters: str) -> list[str]:
    """Some of the options without a value."""
    return [f"-{letter}" for letter in letters if rng.random() < 0.12]


def setting(rng: random.Random) -> str:
    """Some lines of main.cf."""
    return rng.choice(["", "", "", "smtputf8_enable = no\n"])
