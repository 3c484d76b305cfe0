"""Access tokens of OAuth 2.0 for all sessions of a process: read, renewed before they expire, and kept.

A token is fetched once, however many sessions ask for it; and once for all processes, which share what they got by
files in data_directory (``oauth2.HASH``, mode 0600; a lock beside it). There a refresh token lives on, too, that the
provider replaced: the administrator's file is read only, and when that changes it decides again. What cannot be had is
not asked for again for a minute, or until the administrator's file changes.

Files are opened as the process sees them: in a chroot jail below it, as the plug-in sasl-xoauth2 does. Make `Tokens`
before the process goes there; the rest of what it needs (data_directory, /etc/sasl-xoauth2.conf, the certificates of
authorities) it opens at once.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from postfixpy import log

from . import token_source
from .https import BUNDLES, post_form
from .mechanism import TokenError
from .token_source import LastingError, Source, Token

__all__ = ["TokenError", "Tokens"]

_PAUSE, _LONG_PAUSE = 60.0, 3600.0
"""Seconds before a failed source is asked again; after a lasting failure, if its file does not change."""


@dataclass(slots=True)
class _Entry:
    """What is known of one source: a token with the time to renew it, or a failure."""

    token: str = ""
    user: str = ""
    renew: float = 0.0
    failure: TokenError | None = None
    until: float = 0.0
    stamp: object = None


class Tokens:
    """Tokens by the file that describes them.

    directory       where processes share them, "" for nowhere; one that cannot be opened is nowhere
    configuration   the plug-in's own file, with defaults
    """

    def __init__(
        self,
        directory: str = "",
        *,
        configuration: str = token_source.CONFIGURATION,
        clock: Callable[[], float] = time.time,
        post: token_source.Post = post_form,
    ) -> None:
        self._clock, self._post = clock, post
        self._directory = _open(directory, os.O_RDONLY | os.O_DIRECTORY) if directory else -1
        self._authorities = next((fd for fd in (_open(path, os.O_RDONLY) for path in BUNDLES) if fd >= 0), -1)
        self._defaults = _configuration(configuration)
        self._entries: dict[str, _Entry] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()

    def close(self) -> None:
        for fd in (self._directory, self._authorities):
            if fd >= 0:
                os.close(fd)
        self._directory = self._authorities = -1

    async def get(self, path: str, refused: str = "") -> tuple[str, str]:
        """An access token, and whose it is if the file says that, else "". Raises TokenError.

        It is not `refused`, which a server did not take, if there is another.
        """
        while True:
            entry = self._entries.setdefault(path, _Entry())
            now = self._clock()
            if entry.token and entry.renew > now and entry.token != refused:
                return entry.token, entry.user
            if entry.failure is not None and entry.until > now and entry.stamp == _stamp(path):
                raise entry.failure
            task = self._running.get(path)
            if task is None:
                task = asyncio.create_task(self._renew(path, entry, refused))
                self._running[path] = task
                task.add_done_callback(lambda _: self._running.pop(path, None))
            await asyncio.shield(task)
            if entry.token == refused and entry.failure is None:
                return entry.token, entry.user  # the provider has no other

    async def _renew(self, path: str, entry: _Entry, refused: str) -> None:
        entry.stamp = _stamp(path)
        try:
            found, source = await asyncio.to_thread(self._work, path, refused)
        except TokenError as error:
            entry.failure = error
            entry.until = self._clock() + (_LONG_PAUSE if isinstance(error, LastingError) else _PAUSE)
            entry.token = ""
            return
        entry.failure = None
        entry.token, entry.user = found.access, source.user
        # A token that lives no longer than the window is used once.
        entry.renew = max(found.expiry - source.refresh_window, self._clock() + 1)

    def _work(self, path: str, refused: str) -> tuple[Token, Source]:
        """The token, and what the file says. In a thread. Raises TokenError."""
        source = self.read(path)
        if source.external:
            return token_source.fetch(source, "", self._clock()), source
        name = f"oauth2.{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
        lock = self._lock(name)
        try:
            now = self._clock()
            known = self._stored(name, source) or Token(source.access_token, source.expiry)
            usable = known.access not in ("", refused)
            if usable and known.expiry - source.refresh_window > now:
                return known, source
            try:
                found = token_source.fetch(source, known.refresh, now, self._post)
            except LastingError:
                raise
            except TokenError:
                if usable and known.expiry > now:
                    return known, source  # not renewed in time, but good for a while
                raise
            if not found.refresh:
                found = found._replace(refresh=known.refresh)
            self._store(name, source, found)
            return found, source
        finally:
            if lock >= 0:
                os.close(lock)

    def read(self, path: str) -> Source:
        """What a file says. Raises LastingError."""
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(token_source.MAX_FILE + 1)
        except (OSError, ValueError) as error:
            raise LastingError(f"{path}: {getattr(error, 'strerror', None) or 'not a file name'}") from None
        if mode & 0o007 and path not in self._told:
            self._told.add(path)
            log.warning(f"{path} has secrets, and is accessible for everybody (mode {mode & 0o777:o})")
        return token_source.load(path, text, self._defaults, self._authority_text())

    def _authority_text(self) -> str:
        """The certificates of authorities, from the file that was opened at the start."""
        if self._authorities < 0:
            return ""
        size = os.fstat(self._authorities).st_size
        return os.pread(self._authorities, min(size, 1 << 24), 0).decode("ascii", "replace")

    # Files that processes share

    def _lock(self, name: str) -> int:
        if self._directory < 0:
            return -1
        try:
            fd = os.open(f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            log.warning(f"lock of OAuth2 tokens in data_directory: {error.strerror}")
            return -1
        return fd

    def _stored(self, name: str, source: Source) -> Token | None:
        """What a process has stored for the source, as it is now."""
        if self._directory < 0:
            return None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
            with open(fd, "rb") as file:
                found = token_source.parse(name, file.read(token_source.MAX_FILE + 1))
        except (OSError, TokenError):
            return None
        if found.get("source") != source.identity or not isinstance(found.get("expiry"), int | float):
            return None
        access, refresh = found.get("access_token"), found.get("refresh_token")
        if not isinstance(access, str) or not isinstance(refresh, str):
            return None
        return Token(access, float(found["expiry"]), refresh)

    def _store(self, name: str, source: Source, token: Token) -> None:
        """Keep a token for all processes. Without that it works, but each fetches its own."""
        if self._directory < 0:
            return
        text = json.dumps(
            {
                "source": source.identity,
                "access_token": token.access,
                "expiry": token.expiry,
                "refresh_token": token.refresh,
            }
        )
        new = f"{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(new, flags, 0o600, dir_fd=self._directory)
            with open(fd, "w", encoding="ascii") as file:
                os.fchmod(fd, 0o600)
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.replace(new, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            log.warning(f"OAuth2 token in data_directory: {error.strerror}")


def _open(path: str, flags: int) -> int:
    """A descriptor, or -1."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1


def _stamp(path: str) -> object:
    """Changes when the file does."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _configuration(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return token_source.parse(path, file.read(token_source.MAX_FILE + 1))
    except FileNotFoundError:
        return {}
    except (OSError, TokenError) as error:
        problem = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        log.warning(f"{problem}: ignoring it")
        return {}
