"""The sink's script: one rule a line, the first that matches decides.

    STAGE WHO [times=N] [odds=P] [delay=S] ACTION

STAGE    connect ehlo helo lhlo starttls mail rcpt data body dot rset noop vrfy quit, or * for any
WHO      a pattern (shell style, case ignored) for the address of MAIL and RCPT; at data, body and dot for any
         recipient of the transaction; at connect for the client address; at helo for the name. * matches all.
times=N  only the first N matches of each address (N = 1: "defer once")
odds=P   only in P percent of the cases, drawn from the sink's random generator (--seed makes it repeatable)
delay=S  seconds to wait before acting
ACTION   NNN text      reply so; a 4xx or 5xx refuses
         close NNN text   reply so and hang up
         drop          hang up without a reply; at dot after the message was received and not accepted
         lose          at dot: accept the message (it is in the journal), then hang up without a reply
         ok            the normal reply; with delay=, a slow server

Lines that start with # are comments. LMTP replies to dot are ruled per recipient.
"""

import fnmatch
import random
import re
from dataclasses import dataclass, field

STAGES = (
    *("connect", "ehlo", "helo", "lhlo", "starttls", "mail", "rcpt", "data", "body", "dot", "rset", "noop", "vrfy"),
    "quit",
)
_REPLY = re.compile(r"[2-5]\d\d( .*)?")


@dataclass(slots=True)
class Rule:
    """One line of the script."""

    stage: str
    who: str = "*"
    action: str = "ok"
    reply: str = ""
    times: int = 0
    odds: float = 100.0
    delay: float = 0.0
    seen: dict[str, int] = field(default_factory=dict)

    def matches(self, stage: str, keys: list[str], rng: random.Random) -> bool:
        """Whether the rule acts now. Counts the match, so call it once an event."""
        if self.stage not in ("*", stage):
            return False
        key = next((k for k in keys if fnmatch.fnmatchcase(k, self.who)), None)
        if key is None:
            return False
        if self.times:
            if self.seen.get(key, 0) >= self.times:
                return False
            self.seen[key] = self.seen.get(key, 0) + 1
        return self.odds >= 100 or rng.random() * 100 < self.odds


def parse_rule(line: str) -> Rule:
    """The rule of one line. Raises ValueError with what is wrong."""
    words = line.split()
    if len(words) < 3:
        raise ValueError(f"expected STAGE WHO ACTION: {line!r}")
    rule = Rule(words[0].lower(), words[1].lower())
    if rule.stage == ".":
        rule.stage = "dot"
    if rule.stage not in (*STAGES, "*"):
        raise ValueError(f"unknown stage {words[0]!r}: one of {', '.join(STAGES)}")
    rest = words[2:]
    while rest and "=" in rest[0]:
        name, _, value = rest.pop(0).partition("=")
        try:
            if name == "times":
                rule.times = int(value)
            elif name == "odds":
                rule.odds = float(value)
            elif name == "delay":
                rule.delay = float(value)
            else:
                raise ValueError
        except ValueError:
            raise ValueError(f"bad {name}={value}: times=N, odds=PERCENT or delay=SECONDS") from None
    action = " ".join(rest)
    if action in ("drop", "lose", "ok"):
        rule.action = action
    elif action.startswith("close ") and _REPLY.fullmatch(action[6:]):
        rule.action, rule.reply = "close", action[6:]
    elif _REPLY.fullmatch(action):
        rule.action, rule.reply = "reply", action
    else:
        raise ValueError(f"bad action {action!r}: 'NNN text', 'close NNN text', drop, lose or ok")
    return rule


def parse_rules(text: str) -> list[Rule]:
    """The rules of a script. Raises ValueError that names the line."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rules.append(parse_rule(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return rules


@dataclass(slots=True)
class Script:
    """The rules with the random generator that they draw from."""

    rules: list[Rule] = field(default_factory=list)
    rng: random.Random = field(default_factory=random.Random)

    def decide(self, stage: str, *keys: str) -> Rule:
        """The rule for an event of `stage`; the plain "ok" rule when none matches. `keys`: addresses, lower case."""
        for rule in self.rules:
            if rule.matches(stage, list(keys) or [""], self.rng):
                return rule
        return Rule(stage)
