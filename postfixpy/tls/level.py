"""TLS security levels (spec 8.1). Their order matters: a greater one demands more of the server."""

import enum


class Level(enum.IntEnum):
    """Security levels; the values are those in connection cache labels."""

    INVALID = -2
    NONE = 0
    MAY = 1
    ENCRYPT = 2
    FINGERPRINT = 3
    HALFDANE = 4
    DANE = 5
    DANE_ONLY = 6
    VERIFY = 7
    SECURE = 8

    @property
    def must_match(self) -> bool:
        """Whether the server's certificate must match."""
        return self > Level.ENCRYPT

    @property
    def dane_based(self) -> bool:
        """Whether TLSA records decide."""
        return Level.HALFDANE <= self <= Level.DANE_ONLY


LEVELS = {
    "none": Level.NONE,
    "may": Level.MAY,
    "encrypt": Level.ENCRYPT,
    "fingerprint": Level.FINGERPRINT,
    "dane": Level.DANE,
    "dane-only": Level.DANE_ONLY,
    "verify": Level.VERIFY,
    "secure": Level.SECURE,
}
"""Levels by the names that main.cf and policy tables may use."""


def level_name(level: Level) -> str:
    """The name of a level in tables and in the log."""
    return next((name for name, value in LEVELS.items() if value == level), "halfdane")
