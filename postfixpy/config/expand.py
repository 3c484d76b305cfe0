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
from postfixpy.config.conditional import after_left_operand, compile_expression, first, no_right_operand
from postfixpy.config.lines import BLANKS, SPACE, encode
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from postfixpy.config.conditional import Part
    from postfixpy.config.parameters import Release

    Lookup = Callable[[str], str | None]
    """A value's unexpanded text by name, None if there is none."""

    Template = tuple[str | Part, ...]
    """Literal texts, references ("$", name, source, in brackets), expressions ("e", part, source) and, last, an
    error that keeps the rest from being read ("!", (), problem, kind)."""

MAX_NESTING = 100
LONG_MAX = 2**63 - 1
_NAME = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")

NEWEST: Release = (99, 0)
_caches: dict[int, tuple[dict[str, Template], dict[str, Part]]] = {}


class ExpansionError(Exception):
    """The text cannot be expanded; why was said in a warning."""


def dialect(release: Release) -> int:
    """Releases that read "$" alike: 0 before 3.0 (no {} operands), 1 before 3.3 (no blanks around names), 2 before 3.6
    (no level comparison), 3 before 3.11 (no functions), 4."""
    return sum(release >= since for since in ((3, 0), (3, 3), (3, 6), (3, 11)))


def compile_text(text: str, level: int = 4) -> Template:
    """The parts of `text` in a dialect; compiled once for each distinct text."""
    templates = _cache(level)[0]
    template = templates.get(text)
    if template is None:
        template = templates[text] = _compile(text, level)
    return template


def _cache(level: int) -> tuple[dict[str, Template], dict[str, Part]]:
    cache = _caches.get(level)
    if cache is None:
        cache = _caches[level] = ({}, {})
    return cache


def _compile(text: str, level: int) -> Template:
    parts: list[str | Part] = []
    literal = ""
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0:
            literal += text[position:]
            break
        literal += text[position:dollar]
        position = dollar + 1
        opener = text[position : position + 1]
        if opener == "$":
            literal += "$"
            position += 1
            continue
        if literal:
            parts.append(literal)
            literal = ""
        bracketed = opener in ("(", "{")
        if bracketed:
            end = _matching(text, position)
            if end < 0:
                parts.append(("!", (), f'truncated macro reference: "{text}"', "truncated"))
                break
            source = text[position + 1 : end]
            position = end + 1
        else:
            end = position
            while end < len(text) and text[end] in _NAME:
                end += 1
            source = text[position:end]
            position = end
        if not source:
            kind = "empty bracketed" if bracketed else "empty"
            parts.append(("!", (), f'empty macro name: "{text}"', kind))
            break
        parts.append(_expression(source, level, bracketed))
    if literal:
        parts.append(literal)
    return tuple(parts)


def _matching(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes, counting only its own kind; -1 if it does not."""
    opener = text[start]
    closer = ")" if opener == "(" else "}"
    level = 0
    for position in range(start, len(text)):
        char = text[position]
        if char == opener:
            level += 1
        elif char == closer:
            level -= 1
            if level == 0:
                return position
    return -1


def _expression(source: str, level: int, bracketed: bool) -> Part:
    name = source.strip(BLANKS) if level >= 2 else source
    if _NAME.issuperset(name):
        return ("$", name, source, bracketed)
    expressions = _cache(level)[1]
    part = expressions.get(source)
    if part is None:
        part = expressions[source] = _compile_expression(source, level)
    return ("e", part, source)


def _compile_expression(source: str, level: int) -> Part:
    if level == 0:
        return _name_error(source, "?:", level) or _old_conditional(source)
    part = _name_error(source, "?:{" if level >= 4 else "?:", level) or _compiled_default(source)
    return part or _in_dialect(compile_expression(source), source, level)


def _old_conditional(source: str) -> Part:
    """``name?text`` and ``name:text``, where braces are text like any other."""
    position = min(index for index in (source.find("?"), source.find(":")) if index >= 0)
    name, text = source[:position], source[position + 1 :]
    return ("?", name, text, None, None) if source[position] == "?" else ("?", name, None, text, None)


def _in_dialect(part: Part, source: str, level: int) -> Part:
    """`part`, or the error that it is in a release without level comparison."""
    comparison = part[1] if part[0] == "?" and isinstance(part[1], tuple) else part
    has_suffix = comparison[0] == "=" and comparison[3]
    if level >= 3 or not (has_suffix or str(comparison[2]).startswith("bad operator suffix")):
        return part
    start = source.index("{")
    left = source[start + 1 : _matching(source, start)]
    return ("!", (), no_right_operand(left, *after_left_operand(source)))


def _name_error(source: str, operators: str, level: int) -> Part | None:
    """The error for a character that cannot be in a name, before any operator."""
    start = len(source) - len(source.lstrip(BLANKS)) if level >= 2 else 0
    if level >= 1 and source.lstrip(BLANKS).startswith("{"):
        return None
    position = start
    while position < len(source) and source[position] in _NAME:
        position += 1
    rest = source[position:].lstrip(BLANKS) if level >= 2 else source[position:]
    if not rest or rest[0] in operators:
        return None
    if level == 0:
        return ("!", (), f'macro name syntax error: "{source}"')
    return ("!", (), f'attribute name syntax error at: "...{source[:position]}>>>{first(source[position:])}"')


def _compiled_default(source: str) -> Part | None:
    from postfixpy.config.compiled_defaults import COMPILED

    return COMPILED.get(source)


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
        if not domain.isascii():
            ascii_domain = _domain_to_ascii(domain)
            if ascii_domain is None:
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


def _domain_to_ascii(domain: str) -> str | None:
    import idna

    try:
        return idna.encode(domain, uts46=True, transitional=False).decode("ascii")
    except idna.IDNAError:
        return None


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
