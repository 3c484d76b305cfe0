"""Matching lists: ``mydestination``, ``mynetworks``, ``relay_domains`` and the like (match_list(3)).

A list is patterns in order; the first that matches decides, and ``!`` before it makes the answer no. A pattern is a
string, ``/file/name`` with more patterns, or ``type:table``, where any result is a match. What a string means depends
on the list: `StringList` compares, `DomainList` knows parent domains, `AddressList` networks, `NameAddressList` both.

A table that cannot answer, or a network that cannot be read, ends the search with TableError, after a warning.
"""

from typing import Protocol

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.registry import open_table
from postfixpy.lookup.search import Search, arun, run
from postfixpy.lookup.syntax import logical_lines, tokens
from postfixpy.lookup.table import Flags, Settings, Surrogate, Table, TableError, casefold, error_text

_ADDRESS_CHARACTERS = frozenset("0123456789.abcdefABCDEF:")
_V4_CHARACTERS = frozenset("0123456789.")


class Pattern:
    """One element: `text` (folded) or `table`, and whether a match means yes."""

    __slots__ = ("network", "positive", "table", "text")

    def __init__(self, positive: bool, text: str, table: Table | None) -> None:
        self.positive = positive
        self.text = text
        self.table = table
        self.network: object = None
        """The parsed network of `text`, when it was needed."""


class MatchList:
    """A matching list. `title` is the parameter's name, for log texts; `parent`: a domain stands for its subdomains."""

    def __init__(self, title: str, text: str, settings: Settings, *, parent: bool = False) -> None:
        self.title = title
        self.parent = parent
        self.settings = settings
        self.utf8 = settings.smtputf8_enable
        self.patterns: list[Pattern] = []
        self._parse(text, True)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def match(self, *strings: str) -> bool:
        """Whether the string (for `NameAddressList`: the name and the address) is in the list. Raises TableError."""
        return run(self.search(*strings))

    async def amatch(self, *strings: str) -> bool:
        """`match`, for services."""
        return await arun(self.search(*strings))

    def changed(self) -> bool:
        """Whether a table in the list was changed or replaced since it was opened."""
        return any(pattern.table is not None and pattern.table.changed() for pattern in self.patterns)

    def search(self, *strings: str) -> Search[bool]:
        """The lookups that `match` makes."""
        folded = [casefold(string, self.utf8) for string in strings]
        for pattern in self.patterns:
            if (yield from self._matches(pattern, folded)):
                return pattern.positive
        return False

    def _matches(self, pattern: Pattern, strings: list[str]) -> Search[bool]:
        raise NotImplementedError

    def _parse(self, text: str, positive: bool, depth: int = 0) -> None:
        for token in tokens(text):
            if token.startswith("#"):
                after = text[text.find(token) + len(token) + 1 :]
                log.warning(f"{self.title}: #comment after other text is not allowed: {token} {after[:20]}...")
                return
            item = token.lstrip("!")
            sign = positive if (len(token) - len(item)) % 2 == 0 else not positive
            if not item:
                raise FatalError(f"{self.title}: no pattern after '!'")
            if item.startswith("/"):
                self._parse_file(item, sign, depth)
            elif ":" in item and not item.startswith("["):
                table = open_table(item, self.settings, flags=Flags.LIST)
                self.patterns.append(Pattern(sign, item, table))
            else:
                self.patterns.append(Pattern(sign, casefold(item, self.utf8), None))

    def _parse_file(self, path: str, positive: bool, depth: int) -> None:
        if depth > 100:
            raise FatalError(f"{self.title}: files nested too deeply: {path}")
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            reason = f"open file {path}: {error_text(error)}"
            log.error(reason)
            unusable = Surrogate("non-existent", path, self.settings, Flags.LIST, reason)
            self.patterns.append(Pattern(positive, path, unusable))
            return
        for _, line in logical_lines(data, path):
            self._parse(line.decode("utf-8", "surrogateescape"), positive, depth + 1)

    def _ask(self, table: Table, key: str) -> Search[bool]:
        try:
            value = yield table, key
        except TableError:
            raise self._problem(f"{table.kind}:{table.label}: table lookup problem") from None
        return value is not None

    def _problem(self, text: str) -> TableError:
        log.warning(f"{self.title}: {text}")
        return TableError(f"{self.title}: {text}")

    def _matches_string(self, pattern: Pattern, string: str) -> Search[bool]:
        if pattern.table is not None:
            return (yield from self._ask(pattern.table, string))
        return string == pattern.text

    def _matches_name(self, pattern: Pattern, name: str) -> Search[bool]:
        table, text = pattern.table, pattern.text
        if table is None:
            if name == text:
                return True
            if self.parent:
                return len(name) > len(text) + 1 and name.endswith("." + text)
            return text.startswith(".") and len(name) > len(text) and name.endswith(text)
        key = name
        while key:
            if (key == name or table.fixed) and (yield from self._ask(table, key)):
                return True
            dot = key.find(".", 1)
            if dot < 0:
                return False
            key = key[dot + 1 :] if self.parent else key[dot:]
        return False

    def _matches_address(self, pattern: Pattern, address: str) -> Search[bool]:
        if not _ADDRESS_CHARACTERS.issuperset(address):
            return False
        text = pattern.text
        if pattern.table is not None:
            return (yield from self._ask(pattern.table, address))
        if address == (text[1:-1] if text.startswith("[") and text.endswith("]") else text):
            return True
        # Only what can be a network, or another spelling of an IPv6 address, is worth parsing. The rest are names.
        if (":" in address) != (":" in text) or not (":" in text or "/" in text):
            return False
        if _V4_CHARACTERS.issuperset(text) or not (_ADDRESS_CHARACTERS | {"[", "]", "/"}).issuperset(text):
            return False
        return self._in_network(pattern, address)

    def _in_network(self, pattern: Pattern, address: str) -> bool:
        from postfixpy.lookup import cidr

        network = pattern.network
        if network is None:
            try:
                network = pattern.network = cidr.parse_network(pattern.text)
            except ValueError as error:
                raise self._problem(str(error)) from None
        number = cidr.parse_address(address)
        return number is not None and isinstance(network, cidr.Network) and network.contains(*number)


class StringList(MatchList):
    """Strings, compared without regard to case (string_list(3))."""

    def _matches(self, pattern: Pattern, strings: list[str]) -> Search[bool]:
        return self._matches_string(pattern, strings[0])


class DomainList(MatchList):
    """Domains. ``.example.com`` matches its subdomains; with `parent`, ``example.com`` does (domain_list(3))."""

    def _matches(self, pattern: Pattern, strings: list[str]) -> Search[bool]:
        return self._matches_name(pattern, strings[0])


class AddressList(MatchList):
    """IP addresses: ``address``, ``net/length``, either in ``[]`` (addr_match_list(3))."""

    def _matches(self, pattern: Pattern, strings: list[str]) -> Search[bool]:
        return self._matches_address(pattern, strings[0])


class NameAddressList(MatchList):
    """Hosts by name or by address: ``match(name, address)`` (namadr_list(3))."""

    def _matches(self, pattern: Pattern, strings: list[str]) -> Search[bool]:
        if (yield from self._matches_name(pattern, strings[0])):
            return True
        return (yield from self._matches_address(pattern, strings[1]))


class ParentSettings(Settings, Protocol):
    """What `matches_parent` reads."""

    @property
    def parent_domain_matches_subdomains(self) -> str: ...


def matches_parent(title: str, settings: ParentSettings) -> bool:
    """Whether ``example.com`` in the parameter `title` matches its subdomains (parent_domain_matches_subdomains)."""
    text = settings.parent_domain_matches_subdomains
    return StringList("parent_domain_matches_subdomains", text, settings).match(title)


class ServiceList:
    """``type``, ``name/type`` and ``!`` patterns of master.cf services: postconf -M, master_service_disable."""

    def __init__(self, patterns: list[str]) -> None:
        self.patterns: list[tuple[bool, str]] = []
        for pattern in patterns:
            if "/" not in pattern:
                name, dot, kind = pattern.rpartition(".")
                pattern = f"{name}/{kind}" if dot else pattern
            text = pattern.lstrip("!")
            self.patterns.append(((len(pattern) - len(text)) % 2 == 0, text.lower()))

    @classmethod
    def parse(cls, text: str) -> "ServiceList":
        """The list that the value of a parameter is."""
        return cls(list(tokens(text, braces=False)))

    def match(self, service: str) -> bool:
        """Whether ``name/type`` is in the list."""
        service = service.lower()
        kind = service.rpartition("/")[2]
        for positive, pattern in self.patterns:
            if pattern == (service if "/" in pattern else kind):
                return positive
        return False
