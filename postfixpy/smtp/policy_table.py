"""One entry of smtp_tls_policy_maps: a security level and attributes (spec 8.3, TLS_README).

An entry is an instruction about security, so whatever in it is not understood makes the whole of it invalid, and an
invalid policy means that the server is skipped. The only thing ignored are attributes after level ``none``. Which
attributes there are follows the release: servername and connection_reuse came with 3.4, enable_rpk with 3.9, the
``policy_*`` of MTA-STS and ``{ name = value }`` with 3.10.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from postfixpy import log
from postfixpy.config.lines import split_name_value
from postfixpy.dns.names import hostname_problem, to_ascii, valid_hostname
from postfixpy.lookup.syntax import SPACE, braced, tokens
from postfixpy.tls.handshake import TLSA
from postfixpy.tls.level import LEVELS, Level, level_name

_TYPES = {"sts", "no-policy-found"}
_FAILURES = {"sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid", "validation-failure"}
_LEVELS_SINCE = {"fingerprint": (2, 5), "dane": (2, 11), "dane-only": (2, 11)}
_LONG_MAX = (1 << 63) - 1
_INT = 1 << 32


class InvalidPolicy(Exception):
    """The entry cannot be used; the warning has been logged."""


@dataclass(slots=True)
class External:
    """What an MTA-STS plugin says of the policy that it found: for reports (RFC 8460), and to match MX names.

    kind     policy_type: "sts", "no-policy-found"; "" for a policy of the administrator
    ttl      policy_ttl in seconds
    domain   policy_domain; strings: policy_string; patterns: mx_host_pattern
    failure  policy_failure: what was wrong with the policy, so that the certificate must not match; or ""
    """

    kind: str = ""
    ttl: int | None = None
    domain: str = ""
    strings: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    failure: str = ""

    def permits(self, name: str) -> bool:
        """Whether the name of an MX host matches a pattern, if there are any (spec 8.4)."""
        name = to_ascii(name) or name if not name.isascii() else name
        return not self.patterns or any(matches_pattern(name, pattern) for pattern in self.patterns)

    def __bool__(self) -> bool:
        return bool(self.ttl is not None or self.domain or self.strings or self.patterns or self.failure)


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether a host name matches an MX pattern of MTA-STS: itself, or ``*.`` in place of its first label."""
    name, pattern = name.lower(), pattern.lower()
    if name == pattern:
        return True
    label, dot, rest = name.partition(".")
    return bool(label and dot and rest) and pattern == f"*.{rest}"


@dataclass(slots=True)
class Entry:
    """A parsed entry; None is what it does not say. `log_bits`: what to log while reading it (tls.loglevel)."""

    level: Level
    grade: str | None = None
    protocols: str | None = None
    servername: str | None = None
    match: list[str] | None = None
    exclude: str | None = None
    anchors: tuple[TLSA, ...] | None = None
    reuse: bool | None = None
    raw_key: bool | None = None
    external: External = field(default_factory=External)
    log_bits: int = 0


def parse_level(name: str, release: tuple[int, int]) -> Level | None:
    """The level with this name in a release, or None."""
    name = name.lower()
    return LEVELS.get(name) if release >= _LEVELS_SINCE.get(name, (0, 0)) else None


def parse_entry(text: str, where: str, release: tuple[int, int], log_bits: int = 0) -> Entry:
    """The entry in `text`; `where` begins the warnings. Raises InvalidPolicy."""
    words = list(tokens(text, braces=release >= (3, 10)))
    if not words:
        _invalid(f"{where}: invalid empty policy")
    level = parse_level(words[0], release)
    if level is None:
        _invalid(f'{where}: invalid security level "{words[0]}"')
    entry = Entry(level, log_bits=log_bits)
    if level < Level.MAY:
        for word in words[1:]:
            log.warning(f'{where}: ignoring attribute "{word}" with TLS disabled')
        return entry
    for word in words[1:]:
        name, value = _split(word, where, release)
        since, handle = _ATTRIBUTES.get(name.lower(), ((99, 0), _unknown))
        (handle if release >= since else _unknown)(entry, name, value, where)
    if not entry.external.kind and entry.external:
        _invalid(
            f"{where}: built-in policy has unexpected attribute "
            "policy_ttl, policy_domain, policy_string, mx_host_pattern or policy_failure"
        )
    return entry


def _invalid(text: str) -> NoReturn:
    log.warning(text)
    raise InvalidPolicy


def _split(word: str, where: str, release: tuple[int, int]) -> tuple[str, str]:
    inside = word
    try:
        if word.startswith("{") and release >= (3, 10):
            inside, error = braced(word)
            if error:
                inside = inside or word[1:].strip(SPACE)
                raise ValueError(error)
            inside = inside.translate(_WHITE)
        return split_name_value(inside)
    except ValueError as error:
        _invalid(f'{where}: malformed attribute/value pair "{inside}": {error}')


_WHITE = {ord(char): " " for char in SPACE}


def _unknown(entry: Entry, name: str, value: str, where: str) -> None:
    _invalid(f'{where}: invalid attribute name: "{name}"')


def _not_empty(name: str, value: str, where: str) -> None:
    if not value:
        _invalid(f'{where}: attribute "{name}" has empty value')


def _once(known: object, name: str, where: str) -> None:
    if known:
        _invalid(f'{where}: attribute "{name}" is specified multiple times')


def _ciphers(entry: Entry, name: str, value: str, where: str) -> None:
    _not_empty(name, value, where)
    _once(entry.grade is not None, name, where)
    entry.grade = value


def _protocols(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.protocols is not None, name, where)
    entry.protocols = value


def _servername(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.servername is not None, name, where)
    if not valid_hostname(value):
        _invalid(f'{where}: "{name}={value}" specifies an invalid hostname')
    entry.servername = value


def _exclude(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.exclude is not None, name, where)
    entry.exclude = value


def _match(entry: Entry, name: str, value: str, where: str) -> None:
    _not_empty(name, value, where)
    separator = {Level.FINGERPRINT: "|", Level.VERIFY: ":", Level.SECURE: ":"}.get(entry.level)
    if separator is None:
        _wrong_level(entry, name, where)
    entry.match = (entry.match or []) + [word for word in value.split(separator) if word]


def _tafile(entry: Entry, name: str, value: str, where: str) -> None:
    if entry.level < Level.VERIFY:
        _wrong_level(entry, name, where)
    _not_empty(name, value, where)
    from postfixpy.tls.dane import TrustAnchorError, trust_anchors  # loads ctypes, which not every process needs

    try:
        entry.anchors = trust_anchors(value, entry.log_bits) + (entry.anchors or ())
    except TrustAnchorError:
        raise InvalidPolicy from None


def _wrong_level(entry: Entry, name: str, where: str) -> NoReturn:
    _invalid(f'{where}: attribute "{name}" invalid at security level "{level_name(entry.level)}"')


def _yes_or_no(name: str, value: str, where: str) -> bool:
    if value.lower() not in ("yes", "no"):
        _invalid(f'{where}: attribute "{name}" has bad value: "{value}"')
    return value.lower() == "yes"


def _reuse(entry: Entry, name: str, value: str, where: str) -> None:
    entry.reuse = _yes_or_no(name, value, where)


def _raw_key(entry: Entry, name: str, value: str, where: str) -> None:
    entry.raw_key = _yes_or_no(name, value, where)


def _ttl(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.external.ttl is not None, name, where)
    digits = value.isascii() and value.isdigit()
    if not digits or int(value) > _LONG_MAX or int(value) >= _INT // 2:
        _invalid(f'{where}: attribute "{name}" has a malformed value: "{value}"')
    entry.external.ttl = int(value)


def _kind(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.external.kind, name, where)
    _expected(name, value, where, _TYPES)
    entry.external.kind = value


def _expected(name: str, value: str, where: str, words: set[str]) -> None:
    if value.lower() not in words:
        _invalid(f'{where}: attribute "{name}" has an unexpected value: "{value}"')


def _domain(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.external.domain, name, where)
    problem = hostname_problem(value)
    if problem:
        log.warning(f"valid_hostname: {problem}")
        _invalid(f'{where}: attribute "{name}" has a malformed value: "{value}"')
    entry.external.domain = value


def _string(entry: Entry, name: str, value: str, where: str) -> None:
    entry.external.strings.append(value)


def _pattern(entry: Entry, name: str, value: str, where: str) -> None:
    entry.external.patterns.append(value)


def _failure(entry: Entry, name: str, value: str, where: str) -> None:
    _once(entry.external.failure, name, where)
    _expected(name, value, where, _FAILURES)
    entry.external.failure = value


_ATTRIBUTES: dict[str, tuple[tuple[int, int], Callable[[Entry, str, str, str], None]]] = {
    "ciphers": ((2, 3), _ciphers),
    "protocols": ((2, 3), _protocols),
    "match": ((2, 3), _match),
    "exclude": ((2, 3), _exclude),
    "tafile": ((2, 11), _tafile),
    "servername": ((3, 4), _servername),
    "connection_reuse": ((3, 4), _reuse),
    "enable_rpk": ((3, 9), _raw_key),
    "policy_ttl": ((3, 10), _ttl),
    "policy_type": ((3, 10), _kind),
    "policy_domain": ((3, 10), _domain),
    "policy_string": ((3, 10), _string),
    "mx_host_pattern": ((3, 10), _pattern),
    "policy_failure": ((3, 10), _failure),
}
"""The attributes, the release that they came with, and who reads them."""
