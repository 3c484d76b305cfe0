"""cidr: tables (cidr_table(5)): networks tried in order, with ``if``/``endif`` and negation; and the network patterns
that matching lists share.

The first rule that matches counts. Consecutive plain rules are kept as one index by prefix length, so a lookup in a
table of 100,000 networks takes as many dictionary probes as there are different prefix lengths.
"""

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from postfixpy import log
from postfixpy.lookup import source
from postfixpy.lookup.rules import is_word, rule_lines
from postfixpy.lookup.syntax import SPACE, c_integer, logical_lines
from postfixpy.lookup.table import Flags, Settings, Table


class Network(NamedTuple):
    """An IPv4 or IPv6 network: `bits` is 32 or 128, `number` its address, `length` its prefix length."""

    bits: int
    number: int
    length: int

    def contains(self, bits: int, address: int) -> bool:
        """Whether `address`, of the family with `bits` bits, is in it."""
        return bits == self.bits and address >> (bits - self.length) == self.number >> (bits - self.length)


def parse_address(text: str) -> tuple[int, int] | None:
    """The bits (32 or 128) and the number of an address, None if it is none: what inet_pton(3) takes."""
    family, bits = (AF_INET6, 128) if ":" in text else (AF_INET, 32)
    try:
        return bits, int.from_bytes(inet_pton(family, text))
    except (OSError, ValueError):
        return None


def dotted(bits: int, number: int) -> str:
    """The text form of an address, as inet_ntop(3) gives it."""
    return inet_ntop(AF_INET6 if bits == 128 else AF_INET, number.to_bytes(bits // 8))


def parse_network(pattern: str) -> Network:
    """The network of ``address``, ``net/length``, ``[address]``, ``[net]/length`` or ``[net/length]``.

    Raises ValueError with Postfix's text.
    """
    if pattern.startswith("["):
        inside, bracket, after = pattern[1:].partition("]")
        if not bracket:
            raise ValueError(f"missing ']' character after \"[{inside}\"")
        if after and not after.startswith("/"):
            raise ValueError(f'garbage after "[{inside}]"')
        pattern = inside + after
        net, slash, mask = (inside, "/", after[1:]) if after else inside.partition("/")
    else:
        net, slash, mask = pattern.partition("/")
    bits = 128 if ":" in net else 32
    address = parse_address(net)
    if not slash:
        if address is None:
            raise ValueError(f'bad address pattern: "{net}"')
        return Network(bits, address[1], bits)
    if not (mask.isascii() and mask.isdigit()):
        raise ValueError(f'bad mask value in "{net}/{mask}"')
    length = c_integer(mask) % 256
    if length > bits:
        raise ValueError(f'bad mask length in "{net}/{mask}"')
    if address is None:
        raise ValueError(f'bad network value in "{net}/{mask}"')
    number = address[1]
    masked = number >> (bits - length) << (bits - length)
    if masked != number:
        raise ValueError(
            f'non-null host address bits in "{net}/{mask}", '
            f'perhaps you should use "{dotted(bits, masked)}/{length}" instead'
        )
    return Network(bits, number, length)


class Index:
    """Consecutive plain rules: by family and prefix length, the first rule of each network."""

    def __init__(self) -> None:
        self.lengths: dict[int, dict[int, dict[int, tuple[int, str]]]] = {32: {}, 128: {}}
        self.count = 0

    def add(self, network: Network, value: str) -> None:
        """Append a rule; of two with one network the first counts."""
        nets = self.lengths[network.bits].setdefault(network.length, {})
        nets.setdefault(network.number >> (network.bits - network.length), (self.count, value))
        self.count += 1

    def find(self, bits: int, address: int) -> str | None:
        """The value of the first rule that contains the address."""
        best: tuple[int, str] | None = None
        for length, nets in self.lengths[bits].items():
            found = nets.get(address >> (bits - length))
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        return best[1] if best else None


class Condition:
    """A negated rule, or an ``if``: then `value` is None and `jump` says where to go on when it does not apply."""

    def __init__(self, network: Network, negated: bool, value: str | None, line: int) -> None:
        self.network, self.negated, self.value, self.line = network, negated, value, line
        self.jump = -1

    def applies(self, bits: int, address: int) -> bool:
        """Never for an address of the other family, negated or not."""
        return bits == self.network.bits and self.network.contains(bits, address) != self.negated


_PLAIN = re.compile(rb"([0-9.]{7,15})(?:/([0-9]{1,2}))?[ \t]+([^\s](?:.*[^\s])?)\s*", re.DOTALL)
"""A rule as most are, which is read faster: an IPv4 network and a result."""


class Cidr(Table):
    """``cidr:path``."""

    kind = "cidr"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, pattern=True)
        self.steps: list[Index | Condition] = []
        data, path = rule_lines(self.kind, name)
        open_ifs: list[Condition] = []
        plain = None if flags & Flags.RHS_IS_FILE else _PLAIN.fullmatch
        for number, line in logical_lines(data, path, warn_of_null=self.warn_of_null):
            if plain and (match := plain(line)):
                net, mask, value = match.groups()
                bits = int(mask or 32)
                try:
                    address = int.from_bytes(inet_pton(AF_INET, net.decode()))
                except OSError:
                    address = -1
                if bits <= 32 and address >= 0 and not address & (1 << 32 - bits) - 1:
                    self._append(Network(32, address, bits), value.decode("utf-8", "surrogateescape"))
                    continue
            try:
                self._add(line.decode("utf-8", "surrogateescape"), number, open_ifs)
            except ValueError as error:
                log.warning(f"cidr map {name}, line {number}: {error}: skipping this rule")
        for rule in reversed(open_ifs):
            rule.jump = len(self.steps)
            log.warning(f"cidr map {name}, line {rule.line}: IF has no matching ENDIF")

    def _add(self, text: str, line: int, open_ifs: list[Condition]) -> None:
        if is_word(text, "if"):
            text, negated = _negation(text[2:])
            if not text:
                raise ValueError("no address pattern")
            rule = Condition(parse_network(text.rstrip(SPACE)), negated, None, line)
            self.steps.append(rule)
            open_ifs.append(rule)
        elif is_word(text, "endif"):
            if text[5:].strip(SPACE):
                raise ValueError("garbage after ENDIF")
            if not open_ifs:
                raise ValueError("ENDIF without IF")
            open_ifs.pop().jump = len(self.steps)
            self.steps.append(Index())  # so that no later rule joins those inside the block
        else:
            self._add_match(text, line)

    def _add_match(self, text: str, line: int) -> None:
        text, negated = _negation(text)
        end = next((position for position, char in enumerate(text) if char in SPACE), len(text))
        pattern, value = text[:end], text[end:].strip(SPACE)
        if not pattern:
            raise ValueError("no address pattern")
        network = parse_network(pattern)
        if not value:
            raise ValueError("no lookup result")
        if self.flags & Flags.RHS_IS_FILE:
            value = source.file_value(value)
        if negated:
            self.steps.append(Condition(network, True, value, line))
            return
        self._append(network, value)

    def _append(self, network: Network, value: str) -> None:
        last = self.steps[-1] if self.steps else None
        if not isinstance(last, Index):
            last = Index()
            self.steps.append(last)
        last.add(network, value)

    def get(self, key: str) -> str | None:
        address = parse_address(key)
        if address is None:
            return None
        index = 0
        while index < len(self.steps):
            step = self.steps[index]
            index += 1
            if isinstance(step, Index):
                value = step.find(*address)
                if value is not None:
                    return value
            elif not step.applies(*address):
                if step.jump >= 0:
                    index = step.jump
            elif step.value is not None:
                return step.value
        return None


def _negation(text: str) -> tuple[str, bool]:
    rest = text.lstrip("!" + SPACE)
    return rest, text[: len(text) - len(rest)].count("!") % 2 == 1
