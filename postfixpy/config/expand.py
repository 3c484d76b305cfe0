""" "$" expansion of parameter values, as in every Postfix program.

    $name ${name} $(name)     the value of name, expanded in turn; nothing if it has none
    $$                        one $
    ${...}                    the conditional and comparison forms of conditional.lark (3.0: with {} operands)

Plain text and plain references are scanned by hand and never load the grammar. Each distinct text is compiled once.

Policy: an error is a warning in Postfix's words followed by ExpansionError; the caller says what that means
("dictionary mail_dict: macro processing error" in a service, "macro processing error" in postconf). Nesting deeper
than 100 levels is an error. Only the chosen branch of a conditional is looked into, except by `scan`, which visits
everything.

Differs from Postfix: a comparison whose operand refers to itself without end exhausts the C stack there and is an
ordinary nesting error here.
"""

from __future__ import annotations

from postfixpy import log
from postfixpy.config.conditional import first
from postfixpy.config.lines import SPACE, encode
from postfixpy.config.macro import NEWEST, compile_text, dialect
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from postfixpy.config.conditional import Part
    from postfixpy.config.parameters import Release

    Lookup = Callable[[str], str | None]
    """A value's unexpanded text by name, None if there is none."""


MAX_NESTING = 100
LONG_MAX = 2**63 - 1


class ExpansionError(Exception):
    """The text cannot be expanded; why was said in a warning."""


def _never(name: str) -> bool:
    return False


class _Expansion:
    """One expansion under way: the result, the nesting level and whether it has failed.

    A scan visits all branches, looks names up for the sake of the lookup alone, and has no result.
    """

    __slots__ = ("dialect", "failed", "is_raw", "level", "lookup", "result", "saturate", "scanning")

    def __init__(
        self, lookup: Lookup, is_raw: Callable[[str], bool], release: Release, *, scanning: bool = False
    ) -> None:
        self.dialect = dialect(release)
        self.saturate = release < (3, 2)
        self.scanning = scanning
        self.lookup = lookup
        self.is_raw = is_raw
        self.result: list[str] = []
        self.level = 0
        self.failed = False

    def fail(self, text: str) -> None:
        log.warning(text)
        self.failed = True

    def run(self, text: str) -> None:
        """Expand `text` into the result. After an error a bracketed reference or a last literal ends it silently."""
        template = compile_text(text, self.dialect)
        last = len(template) - 1
        for index, part in enumerate(template):
            if isinstance(part, str):
                if index == last and self.failed:
                    break
                if self.enter(part):
                    self.result.append(part)
                    self.level -= 1
            elif part[0] == "!" and len(part) == 4:
                # The text could not be read further.
                if not (self.failed and part[3] == "empty bracketed"):
                    self.fail(part[2])
            else:
                plain = part[0] == "$" and not part[3]
                if self.failed and not plain:
                    break
                if self.enter(part[2]):
                    self.evaluate(part if part[0] == "$" else part[1])

    def enter(self, source: str) -> bool:
        self.level += 1
        if self.level > MAX_NESTING + 1:
            self.fail(f'unreasonable macro call nesting: "{source}"')
        return not self.failed

    def evaluate(self, part: Part) -> None:
        """Handle an entered part; on failure the level stays, as the nesting warnings of the real one show."""
        kind = part[0]
        if kind == "$":
            self.reference(part[1])
        elif kind == "?":
            if not self.choose(part):
                return
        elif kind == "=":
            truth = self.compare(part)
            if truth is None:
                return
            if truth and not self.scanning:
                self.literal("true")
        elif kind == "f":
            if not self.call(part[1], part[2]):
                return
        else:
            for text in part[1]:
                self.nested(text)
            if not self.failed:
                self.fail(part[2])
            return
        self.level -= 1

    def reference(self, name: str) -> None:
        value = self.lookup(name)
        if not value or self.scanning:
            return
        if self.is_raw(name):
            self.result.append(value)
        elif "$" in value:
            self.run(value)
        else:
            self.literal(value)

    def literal(self, text: str) -> None:
        """A value without references, which is one more level of text."""
        if self.enter(text):
            self.result.append(text)
            self.level -= 1

    def choose(self, part: Part) -> bool:
        _, subject, then, otherwise, problem = part
        if isinstance(subject, str):
            truth: bool | None = bool(self.lookup(subject))
        else:
            truth = self.compare(subject)
        if truth is None:
            return False
        if then is not None and (truth or self.scanning):
            self.run(then)
        if otherwise is not None and (not truth or self.scanning):
            self.run(otherwise)
        if problem is not None:
            self.fail(problem)
            return False
        return True

    def nested(self, text: str) -> str:
        """`text` expanded on its own, as the operands of comparisons and functions are."""
        inner = _Expansion(self.lookup, self.is_raw, NEWEST, scanning=self.scanning)
        inner.dialect = self.dialect
        inner.saturate = self.saturate
        inner.run(text)
        self.failed = self.failed or inner.failed
        return "".join(inner.result)

    def compare(self, part: Part) -> bool | None:
        _, left, operator, suffix, right = part
        left, right = self.nested(left), self.nested(right)
        if self.scanning:
            return None if self.failed else False
        try:
            order = compare_levels(left, right) if suffix else compare_texts(left, right, saturate=self.saturate)
        except ValueError as error:
            self.fail(str(error))
            return None
        return None if self.failed else holds(order, operator)

    def call(self, name: str, argument: str) -> bool:
        if name != "domain_to_ascii":
            self.fail(f'unknown function "{name}" at"...>>>{name}{{{argument}}}"')
            return False
        domain = self.nested(argument)
        if self.failed:
            return False
        if not self.scanning and not (domain and domain.isascii()):
            ascii_domain = _domain_to_ascii(domain)
            if not ascii_domain:
                self.fail(f"bad domain argument in: 'domain_to_ascii{{{domain}}}'")
                return False
            domain = ascii_domain
        self.result.append(domain)
        return True


def holds(order: int, operator: str) -> bool:
    """Whether a comparison with result `order` (negative, 0 or positive) fulfils `operator`."""
    return {
        "==": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">=": order >= 0,
        ">": order > 0,
    }[operator]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def compare_texts(left: str, right: str, *, saturate: bool = False) -> int:
    """Numbers if both are all digits, else bytes.

    A number that does not fit a long raises FatalError, or counts as the largest one if `saturate` (before 3.2).
    """
    if _is_number(left) and _is_number(right):
        for text in (left, right):
            if int(text) > LONG_MAX and not saturate:
                raise FatalError(f"mac_exp_eval: bad conversion: {text}")
        return min(int(left), LONG_MAX) - min(int(right), LONG_MAX)
    one, two = encode(left), encode(right)
    return (one > two) - (one < two)


def parse_level(text: str) -> tuple[int, int, int]:
    """A compatibility level, ``major[.minor[.patch]]``. Raises ValueError with Postfix's text."""
    parts = text.lstrip(SPACE).split(".")
    numbers = [int(part) for part in parts if _is_number(part)]  # minor and patch have 10 bits
    if len(numbers) != len(parts) or len(parts) > 3 or any(number > 1023 for number in numbers[1:]):
        raise ValueError(f'malformed compatibility level syntax: "{text}"')
    major, minor, patch = (*numbers, 0, 0)[:3]
    return major, minor, patch


def compare_levels(left: str, right: str) -> int:
    """The order of two compatibility levels. Raises ValueError for a malformed one."""
    one, two = parse_level(left), parse_level(right)
    return (one > two) - (one < two)


def _domain_to_ascii(domain: str) -> str:
    from postfixpy.config.domain import domain_to_ascii

    result, problem = domain_to_ascii(domain)
    if problem:
        shown = first(domain, 100)
        log.warning(f'midna_domain_to_ascii_create: Problem translating domain "{shown}" to ASCII form: {problem}')
    return result


def expand(text: str, lookup: Lookup, is_raw: Callable[[str], bool] | None = None, *, release: Release = NEWEST) -> str:
    """`text` with all references expanded, by the rules of `release`.

    `is_raw` tells the names whose value is inserted unexpanded. Raises ExpansionError.
    """
    if "$" not in text:
        return text
    expansion = _Expansion(lookup, is_raw or _never, release)
    try:
        expansion.run(text)
    except RecursionError:
        log.warning(f'unreasonable macro call nesting: "{first(text, 100)}"')
        raise ExpansionError from None
    if expansion.failed:
        raise ExpansionError
    return "".join(expansion.result)


def scan(text: str, found: Callable[[str], object], *, release: Release = NEWEST) -> None:
    """Call `found` with every name that `text` refers to, in all branches, by the rules of `release`.

    Syntax errors are only warnings here: the scan looks for names.
    """
    if "$" not in text:
        return

    def lookup(name: str) -> None:
        found(name)

    try:
        _Expansion(lookup, _never, release, scanning=True).run(text)
    except RecursionError:
        log.warning(f'unreasonable macro call nesting: "{first(text, 100)}"')
