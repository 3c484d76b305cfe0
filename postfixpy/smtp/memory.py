"""The driver of the client's generators in memory, with scripted servers, a table of DNS records, and its own clock.

A test of a five-minute time limit takes no time, and nothing depends on the machine.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from postfixpy.dns.lookup import Resolver
from postfixpy.mail.outcome import Outcome
from postfixpy.sasl.mechanism import TokenError

from . import effects
from .edge import outcome_of
from .effects import Effect, Run
from .names import Zone
from .peers import Network
from .pool import Pool
from .session_store import SessionStore
from .sts_policy import STSPolicy, parse_policy
from .sts_store import FetchError, Policies

T = TypeVar("T")


class TimeUp(BaseException):
    """The clock has reached its deadline. Not an Exception: nothing in the client may catch it."""


class Clock:
    """The time in seconds, which only effects move. Raises TimeUp when it is moved beyond `deadline`."""

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start
        self.deadline = float("inf")

    def __call__(self) -> float:
        return self._now

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        if value > self.deadline:
            raise TimeUp
        self._now = value


def finish(coroutine: "Coroutine[Any, Any, T] | Awaitable[T]") -> T:
    """The result of a coroutine that never waits."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a coroutine waited for the outside world")


def _no_token(effect: effects.FetchToken) -> tuple[str, str]:
    raise TokenError("there are no tokens here")


class Memory:
    """Drives a generator.

    `dispose` gets each Outcome; `notices` has the postmaster notices, `traces` the session traces, `passed` what was
    passed to another transport, `rewritten` the addresses that were asked to be rewritten. `sites` are MTA-STS policies
    by domain, or the result types of what goes wrong; `fetched` has the domains whose policy was fetched.
    """

    def __init__(
        self,
        network: Network,
        clock: Clock,
        dispose: Callable[[Outcome], int],
        zone: Zone | None = None,
        **resolver_options: Any,
    ) -> None:
        self.network = network
        self.clock = clock
        self.dispose = dispose
        self.zone = zone or Zone([])
        self.resolver = Resolver(self.zone, **resolver_options)
        self.notices: list[effects.Notify] = []
        self.traces: list[dict[str, Any]] = []
        self.passed: list[effects.PassOn] = []
        self.rewritten: dict[str, None] = {}
        self.corrupt = False
        self.pool = Pool(clock, lambda link: None)
        self.sessions = SessionStore(clock)
        self.reports: list[tuple[str, bytes]] = []
        self.policies = Policies(clock=clock, fetch=self._fetch_policy)
        self.sites: dict[str, str] = {}
        self.fetched: list[str] = []
        self.fetch_token: Callable[[effects.FetchToken], tuple[str, str]] = _no_token

    def run(self, generator: Run[T]) -> T:
        """Drive `generator` to its end."""
        try:
            effect: Effect[Any] = next(generator)
            while True:
                try:
                    result = self._perform(effect)
                except Exception as error:
                    effect = generator.throw(error)
                else:
                    effect = generator.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _fetch_policy(self, domain: str) -> STSPolicy:
        """Raises FetchError."""
        self.fetched.append(domain)
        text = self.sites.get(domain, "sts-policy-fetch-error")
        if text.startswith("sts-"):
            raise FetchError(text, "as the test has it")
        return parse_policy(text.encode())

    def _perform(self, effect: Any) -> Any:
        if isinstance(effect, effects.Write):
            return effect.link.write(effect.data, effect.limit)
        if isinstance(effect, effects.Read):
            return effect.link.read(effect.limit)
        if isinstance(effect, effects.Peek):
            return effect.link.pending()
        if isinstance(effect, effects.Connect):
            return self.network.connect(effect)
        if isinstance(effect, effects.StartTLS):
            return effect.link.start_tls(effect.request, effect.limit)
        if isinstance(effect, effects.Hangup):
            return effect.link.hang_up()
        if isinstance(effect, effects.Sleep):
            self.clock.now += effect.seconds
        elif isinstance(effect, effects.Find):
            return finish(effect.table.find(effect.key))
        elif isinstance(effect, effects.Store):
            if effect.value is None:
                return effect.table.remove(effect.key)
            return effect.table.update(effect.key, effect.value)
        elif isinstance(effect, effects.Compute):
            return effect.function()
        elif isinstance(effect, effects.FetchToken):
            return self.fetch_token(effect)
        elif isinstance(effect, effects.FetchPolicy):
            return finish(self.policies.get(effect.domain, effect.ident))
        elif isinstance(effect, effects.Resolve):
            lookup = self.resolver.lookup(effect.name, effect.rtype, options=effect.options, dnssec=effect.dnssec)
            return finish(lookup)
        elif isinstance(effect, effects.Report):
            return self.dispose(outcome_of(effect))
        elif isinstance(effect, effects.Rewrite):
            self.rewritten[effect.address] = None
            return effect.address if "@" in effect.address else f"{effect.address}@client.example"
        elif isinstance(effect, effects.Trace):
            self.traces.append(effect.record)
        elif isinstance(effect, effects.Notify):
            self.notices.append(effect)
        elif isinstance(effect, effects.Corrupt):
            self.corrupt = True
        elif isinstance(effect, effects.PassOn):
            self.passed.append(effect)
            return 0
        elif isinstance(effect, effects.CacheFind):
            return self.pool.find(effect)
        elif isinstance(effect, effects.CacheSave):
            self.pool.save(effect)
        elif isinstance(effect, effects.SendReport):
            self.reports.append((effect.path, effect.data))
        elif isinstance(effect, effects.FindSession):
            return self.sessions.find(effect.kind, effect.key)
        elif isinstance(effect, effects.SaveSession):
            self.sessions.save(effect.kind, effect.key, effect.data)
        elif isinstance(effect, effects.Native):
            return self.zone.native(effect.name, effect.family)
        else:
            raise TypeError(f"no handler for {type(effect).__name__}")
        return None
