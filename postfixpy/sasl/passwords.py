"""Users in a file or a lookup table, with their passwords or what is kept of them.

A file has a user a line, ``user:password`` and whatever follows another colon, as dovecot's passwd-file; a table has
the password as value. A password is what dovecot calls ``{SCHEME}data``:

    {PLAIN}text                             SCRAM-SHA-256 and SCRAM-SHA-1 work with it
    {SCRAM-SHA-256}4096,salt,stored,server  base64, as ``doveadm pw -s SCRAM-SHA-256`` writes it; likewise SHA-1
    {SSHA512}..., {SSHA256}...              salted hashes, base64 of hash and salt
    {CRYPT}$y$...                           crypt(3), what /etc/shadow has; also without a scheme in front
"""

import asyncio
import base64
import ctypes
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Awaitable, Callable

from postfixpy.lookup.table import Table, TableError

from .saslprep import saslprep
from .server import Refused, ScramSecret, Users

Find = Callable[[str], Awaitable[str | None]]
_SCHEME = re.compile(r"\{([A-Za-z0-9-]{1,20})\}")
_SALTED = {"SSHA": "sha1", "SSHA256": "sha256", "SSHA512": "sha512"}
_SCRAM = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
_MAX_FILE = 1 << 24


class Passwords(Users):
    """Users that `find` knows: it returns the password of a user in the form above, None for no such user.

    `mechanisms` are those to offer: SCRAM only where all users have what it needs.
    """

    def __init__(self, find: Find, mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")) -> None:
        self._find = find
        self.mechanisms = mechanisms
        self._key = secrets.token_bytes(32)

    async def check(self, user: str, password: str) -> bool:
        kept = await self._find(user)
        # The work is done for users that do not exist, too.
        return await asyncio.to_thread(matches, kept or "{PLAIN}", password) and kept is not None

    async def secret(self, user: str, digest: str) -> ScramSecret | None:
        kept = await self._find(user)
        if kept is None:
            return None
        scheme, data = split(kept)
        if scheme in ("PLAIN", "CLEARTEXT"):
            salt = hmac.digest(self._key, user.encode(), "sha256")[:16]
            try:
                return await asyncio.to_thread(ScramSecret.of, data, digest, salt)
            except ValueError:
                return None
        return scram_secret(data) if _SCRAM.get(scheme) == digest else None


def split(kept: str) -> tuple[str, str]:
    """Scheme, in upper case, and data; without a scheme it is crypt(3)."""
    match = _SCHEME.match(kept)
    return (match[1].upper(), kept[match.end() :]) if match else ("CRYPT", kept)


def matches(kept: str, password: str) -> bool:
    """Whether a password is the one that is kept. Takes time. Raises Refused for a scheme that is not known."""
    scheme, data = split(kept)
    given = password.encode()
    if scheme in ("PLAIN", "CLEARTEXT"):
        return bool(data) and hmac.compare_digest(data.encode("utf-8", "surrogateescape"), given)
    if scheme in _SALTED:
        return _matches_salted(_SALTED[scheme], data, given)
    if scheme in _SCRAM:
        return _matches_scram(_SCRAM[scheme], data, password)
    if scheme == "CRYPT":
        hashed = crypt(given, data)
        return bool(data) and hmac.compare_digest(hashed, data.encode("utf-8", "surrogateescape"))
    raise Refused(f"unknown password scheme {scheme}", temporary=True)


def _matches_salted(digest: str, data: str, given: bytes) -> bool:
    try:
        raw = base64.b64decode(data, validate=True)
    except ValueError:
        return False
    size = hashlib.new(digest).digest_size
    return len(raw) >= size and hmac.compare_digest(hashlib.new(digest, given + raw[size:]).digest(), raw[:size])


def _matches_scram(digest: str, data: str, password: str) -> bool:
    known = scram_secret(data)
    if known is None:
        return False
    try:
        found = ScramSecret.of(saslprep(password), digest, known.salt, known.iterations)
    except ValueError:
        return False
    return hmac.compare_digest(found.stored_key, known.stored_key)


def scram_secret(data: str) -> ScramSecret | None:
    """``iterations,salt,stored,server``; None when it is none."""
    parts = data.split(",")
    if len(parts) != 4 or not parts[0].isascii() or not parts[0].isdigit() or not 0 < int(parts[0][:9]) < 10_000_000:
        return None
    try:
        salt, stored, server = (base64.b64decode(part, validate=True) for part in parts[1:])
    except ValueError:
        return None
    return ScramSecret(salt, int(parts[0]), stored, server)


class _CryptData(ctypes.Structure):
    _fields_ = (("space", ctypes.c_char * 131072),)


def crypt(password: bytes, setting: str) -> bytes:
    """crypt(3) of libcrypt, b"" when it does not know the setting. Raises Refused without that library."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError:
        raise Refused("libcrypt.so.1 is not there", temporary=True) from None
    library.crypt_r.restype = ctypes.c_char_p
    library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    data = _CryptData()
    found: bytes | None = library.crypt_r(
        password, setting.encode("utf-8", "surrogateescape"), ctypes.cast(ctypes.byref(data), ctypes.c_void_p)
    )
    return b"" if found is None or found.startswith(b"*") else found


class PasswordFile:
    """The users of a file, which is read again when it has changed. Use an instance as `Find`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, str] = {}

    async def __call__(self, user: str) -> str | None:
        """Raises Refused when the file cannot be read."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._users = self._read()
                self._stamp = stamp
        except OSError as error:
            raise Refused(f"open {self._path}: {error.strerror}", temporary=True) from None
        return self._users.get(user)

    def _read(self) -> dict[str, str]:
        with open(self._path, "rb") as file:
            text = file.read(_MAX_FILE).decode("utf-8", "surrogateescape")
        users: dict[str, str] = {}
        for line in text.split("\n"):
            user, colon, rest = line.rstrip("\r").partition(":")
            if not colon or not user or line.startswith("#"):
                continue
            scheme = _SCHEME.match(rest)
            kept = rest.partition(":")[0] if scheme is None or scheme[1].upper() != "PLAIN" else rest
            users.setdefault(user, kept)
        return users


def from_table(table: Table) -> Find:
    """The users of a lookup table."""

    async def find(user: str) -> str | None:
        try:
            return await table.find(user)
        except TableError as error:
            raise Refused(str(error), temporary=True) from None

    return find
