"""MTA-STS policies of other domains: fetched by HTTPS, and kept by the process and in data_directory (RFC 8461 3.3).

* ``https://mta-sts.DOMAIN/.well-known/mta-sts.txt`` must answer within a minute with status 200, a body of type
  text/plain, and a certificate of that name from an authority of the system. Redirects are failures.
* A policy is good for its max_age from when it was fetched, whatever becomes of the TXT record or the server. It is
  fetched anew when the record has another id, and once a day (for a short max_age, when half of that has passed).
* One fetch at a time for a domain. What failed is not tried again for five minutes, or until the id changes.
* Files are ``mta-sts.HASH``, mode 0600, replaced whole; processes share them. There are at most 5,000; the oldest go.

Made before the process goes to a chroot jail, a store has the directory and the authorities open.
"""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.sasl.https import BUNDLES, CertificateError, HTTPError, ask

from .sts_policy import MAX_SIZE, Found, PolicyTextError, STSPolicy, parse_policy

if TYPE_CHECKING:
    import ssl

_DAY, _PAUSE = 86400.0, 300.0
_STEP, _LIMIT = 20.0, 60.0
_THREADS = 16
_IN_MEMORY, _ON_DISK = 1000, 5000
_PREFIX = "mta-sts."


class FetchError(Exception):
    """No policy. `kind` is the result type of RFC 8460, str() says why."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


Fetch = Callable[[str], Awaitable[STSPolicy]]


@dataclass(slots=True)
class _Entry:
    policy: STSPolicy | None = None
    ident: str = ""
    fetched: float = 0.0
    failure: str = ""
    failed: str = ""
    retry: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def found(self, now: float) -> Found:
        """The policy, if it has not ended. One from the future (the clock was set back) does not count."""
        if self.policy is None or not self.fetched <= now < self.fetched + self.policy.max_age:
            return Found()
        return Found(self.policy, self.fetched + self.policy.max_age)

    def fresh(self, ident: str, now: float) -> bool:
        policy = self.found(now).policy
        return policy is not None and self.ident == ident and now < self.fetched + min(policy.max_age / 2, _DAY)


class Policies:
    """Policies by domain. `directory` is where processes share them, "" for nowhere. `fetch` may raise FetchError."""

    def __init__(
        self, directory: str = "", *, clock: Callable[[], float] = time.time, fetch: Fetch | None = None
    ) -> None:
        self._clock = clock
        self._fetch = fetch or fetcher()
        self._entries: dict[str, _Entry] = {}
        self._directory = -1
        if directory:
            try:
                self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                log.warning(f"MTA-STS policies are not kept in {directory}: {error.strerror}")

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = -1

    async def get(self, domain: str, ident: str) -> Found:
        """The policy of `domain`, whose TXT record has the id `ident`; "": it has none, only a kept policy counts."""
        entry = self._entries.pop(domain, None) or _Entry()
        self._entries[domain] = entry  # the latest used is the last
        if len(self._entries) > _IN_MEMORY:
            del self._entries[next(iter(self._entries))]
        async with entry.lock:
            now = self._clock()
            if not entry.fresh(ident, now):
                self._load(domain, entry)
            if ident and not entry.fresh(ident, now) and (now >= entry.retry or entry.failed != ident):
                await self._renew(domain, ident, entry)
            found = entry.found(self._clock())
            if found.policy is None and ident and entry.failed == ident:
                return Found(failure=entry.failure)
            return found

    async def _renew(self, domain: str, ident: str, entry: _Entry) -> None:
        try:
            policy = await self._fetch(domain)
        except FetchError as error:
            log.warning(f"MTA-STS policy of {domain}: {error} ({error.kind})")
            entry.failure, entry.failed, entry.retry = error.kind, ident, self._clock() + _PAUSE
            return
        entry.policy, entry.ident, entry.fetched = policy, ident, self._clock()
        entry.failure = entry.failed = ""
        self._save(domain, entry)

    # Files

    def _load(self, domain: str, entry: _Entry) -> None:
        """Take what is on disk, if it is newer."""
        if self._directory < 0:
            return
        try:
            fd = os.open(_name(domain), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
            with open(fd, "rb") as file:
                values = json.loads(file.read(4 * MAX_SIZE))
            if values["domain"] != domain or float(values["fetched"]) <= entry.fetched:
                return
            lines = STSPolicy(values["mode"], int(values["max_age"]), tuple(values["mx"])).lines
            policy = parse_policy("\n".join(lines).encode())
            entry.policy, entry.ident, entry.fetched = policy, str(values["id"]), float(values["fetched"])
        except FileNotFoundError:
            pass
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError, PolicyTextError):
            log.warning(f"MTA-STS policy of {domain}: cannot read {_name(domain)} in data_directory; ignoring it")

    def _save(self, domain: str, entry: _Entry) -> None:
        """Keep a policy for all processes; without that each fetches its own."""
        if self._directory < 0 or entry.policy is None:
            return
        name, new = _name(domain), f"{_name(domain)}.{os.getpid()}"
        text = json.dumps({"domain": domain, "id": entry.ident, "fetched": entry.fetched, **asdict(entry.policy)})
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(new, flags, 0o600, dir_fd=self._directory), "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._bound()
        except OSError as error:
            log.warning(f"MTA-STS policy in data_directory: {error.strerror}")

    def _bound(self) -> None:
        """Remove the oldest files when there are too many."""
        names = [name for name in os.listdir(self._directory) if name.startswith(_PREFIX)]
        if len(names) <= _ON_DISK:
            return
        names.sort(key=lambda name: _age(name, self._directory))
        for name in names[: len(names) - _ON_DISK]:
            try:
                os.unlink(name, dir_fd=self._directory)
            except FileNotFoundError:
                pass  # another process was here


def _name(domain: str) -> str:
    return _PREFIX + hashlib.sha256(domain.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _age(name: str, directory: int) -> float:
    try:
        return os.stat(name, dir_fd=directory).st_mtime
    except FileNotFoundError:
        return 0.0


# The fetch


def fetcher(context: "ssl.SSLContext | None" = None, port: int = 443) -> Fetch:
    """A function that fetches policies, in a thread. `context` has the authorities, by default the system's."""
    import http.client  # noqa: F401  # fetch() cannot load it in a chroot jail
    from concurrent.futures import ThreadPoolExecutor

    if context is None:
        import ssl

        # Read now: not to be found from inside a chroot jail.
        context = ssl.create_default_context(cafile=next(filter(os.path.exists, BUNDLES), None))

    # Threads of its own: servers that dawdle must not keep table look-ups waiting.
    threads = ThreadPoolExecutor(_THREADS, "mta-sts")

    async def run(domain: str) -> STSPolicy:
        return await asyncio.get_running_loop().run_in_executor(threads, fetch, domain, context, port)

    return run


def fetch(domain: str, context: "ssl.SSLContext", port: int = 443) -> STSPolicy:
    """The policy that the server ``mta-sts.DOMAIN`` has. Blocks. Raises FetchError."""
    from http.client import HTTPSConnection

    host = f"mta-sts.{domain}"
    try:
        connection = HTTPSConnection(host, port, timeout=_STEP, context=context)
        headers = {"Accept": "text/plain"}
        response, body = ask(connection, "GET", "/.well-known/mta-sts.txt", None, headers, _STEP, _LIMIT)
    except CertificateError as error:
        raise FetchError("sts-webpki-invalid", str(error)) from None
    except HTTPError as error:
        raise FetchError("sts-policy-fetch-error", f"{host}: {error}") from None
    if response.status != 200:
        raise FetchError("sts-policy-fetch-error", f"{host} answers with status {response.status}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "text/plain":
        raise FetchError("sts-policy-fetch-error", f"{host} answers with another type than text/plain")
    try:
        return parse_policy(body)
    except PolicyTextError as error:
        raise FetchError("sts-policy-invalid", str(error)) from None
