"""Rewriting an address to its canonical form (trivial-rewrite(8), ADDRESS_REWRITING_README).

In this order: a source route is stripped; ``site!user`` becomes ``user@site`` (swap_bangpath), ``user%site`` becomes
``user@site`` (allow_percent_hack), or an address without domain gets the origin (append_at_myorigin); a domain without
a dot gets the parent domain (append_dot_mydomain); one dot at the end goes away. The empty address stays empty, and a
lone ``@`` is one. Broken forms (``user@``, ``user@..``) stay as they are, so that a later complaint shows them.

The context says whose addresses they are: "local" appends myorigin and mydomain; "remote", for mail from strangers,
appends remote_header_rewrite_domain, and nothing when that is empty.

Differs from Postfix: ``!two words`` becomes ``"two words"@``, where Postfix forgets the space.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from postfixpy import log
from postfixpy.mail.addresses import LITERAL, QUOTED, Token, internalize, quote_822_local, scan

Tokens = list[Token]


class Settings(Protocol):
    """The main.cf parameters used here."""

    @property
    def swap_bangpath(self) -> bool: ...
    @property
    def allow_percent_hack(self) -> bool: ...
    @property
    def append_at_myorigin(self) -> bool: ...
    @property
    def append_dot_mydomain(self) -> bool: ...
    @property
    def myorigin(self) -> str: ...
    @property
    def mydomain(self) -> str: ...
    @property
    def remote_header_rewrite_domain(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """One rewriting context: which forms change, and what is appended (tokens; empty: nothing)."""

    swap_bangpath: bool
    percent_hack: bool
    origin: Tokens
    domain: Tokens
    warn_append: Callable[[str], None] | None = None
    """Called with the domain before mydomain is appended to it: append_dot_mydomain has its old default (compat)."""

    @classmethod
    def local(cls, settings: Settings, warn_append: Callable[[str], None] | None = None) -> "Rules":
        """The rules for addresses of our own users."""
        return cls._make(settings, settings.myorigin, settings.mydomain, warn_append)

    @classmethod
    def remote(cls, settings: Settings, warn_append: Callable[[str], None] | None = None) -> "Rules":
        """The rules for addresses in message headers from strangers."""
        domain = settings.remote_header_rewrite_domain
        return cls._make(settings, domain, domain, warn_append)

    @classmethod
    def _make(cls, settings: Settings, origin: str, domain: str, warn_append: Callable[[str], None] | None) -> "Rules":
        return cls(
            settings.swap_bangpath,
            settings.allow_percent_hack,
            scan(origin) if settings.append_at_myorigin else [],
            scan(domain) if settings.append_dot_mydomain else [],
            warn_append,
        )


def find(tokens: Tokens, kind: str, start: int = 0) -> int:
    """The index of the first token of `kind` at or behind `start`, or -1."""
    for index in range(start, len(tokens)):
        if tokens[index].kind == kind:
            return index
    return -1


def rfind(tokens: Tokens, kind: str) -> int:
    """The index of the last token of `kind`, or -1."""
    for index in range(len(tokens) - 1, -1, -1):
        if tokens[index].kind == kind:
            return index
    return -1


def rewrite(tokens: Tokens, rules: Rules) -> Tokens:
    """The canonical form of the address `tokens`, which are not changed."""
    if not tokens or tokens == [Token(QUOTED, "")]:
        return tokens
    if tokens == [Token("@")]:
        return [Token(QUOTED, "")]
    if tokens[0].kind == "@":
        colon = find(tokens, ":")
        if 0 < colon < len(tokens) - 1:
            tokens = tokens[colon + 1 :]
    if rfind(tokens, "@") < 0:
        tokens = _with_domain(tokens, rules)
    at = rfind(tokens, "@")
    if rules.domain and 0 <= at < len(tokens) - 1 and find(tokens, LITERAL, at) < 0 and find(tokens, ".", at) < 0:
        if rules.warn_append is not None and tokens[at + 1].text:
            rules.warn_append(tokens[at + 1].text)
        tokens = [*tokens, Token("."), *rules.domain]
    if len(tokens) > 1 and tokens[-1].kind == "." and tokens[-2].kind not in (".", "@"):
        tokens = tokens[:-1]
    return tokens


def _with_domain(tokens: Tokens, rules: Rules) -> Tokens:
    """An address without "@" in the form that has one."""
    bang = find(tokens, "!") if rules.swap_bangpath else -1
    if bang >= 0:
        return [*tokens[bang + 1 :], Token("@"), *tokens[:bang]]
    percent = rfind(tokens, "%") if rules.percent_hack else -1
    if percent >= 0:
        return [*tokens[:percent], Token("@"), *tokens[percent + 1 :]]
    if rules.origin:
        return [*tokens, Token("@"), *rules.origin]
    return tokens


def rewrite_external(address: str, rules: Rules) -> str:
    """The canonical form of `address`, both external form. Nothing but white space stays as it is."""
    tokens = scan(address)
    return quote_822_local(internalize(rewrite(tokens, rules))) if tokens else address


def warn_old_default(mydomain: str, in_address_class: Callable[[str], bool]) -> Callable[[str], None]:
    """The notice of compatibility_level 0 that append_dot_mydomain has its old default and changed something.

    "localhost" is only named when it is in no address class.
    """

    def warn(domain: str) -> None:
        text = (
            'using backwards-compatible default setting append_dot_mydomain=yes to rewrite "'
            f'{domain}" to "{domain}.{mydomain}"'
        )
        if domain.lower() != "localhost":
            log.info(text)
        elif not in_address_class("localhost"):
            log.info(text + '; please add "localhost" to mydestination or other address class')

    return warn
