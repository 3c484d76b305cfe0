"""Reading "$" references: a text as its parts, which expand.py evaluates. (mac_parse(3).)

Plain text and plain references are scanned by hand and never load the grammar. Each distinct text is compiled once in
each dialect; releases that read "$" alike share one.
"""

from __future__ import annotations

from postfixpy.config.conditional import after_left_operand, compile_expression, first, no_right_operand
from postfixpy.config.lines import BLANKS

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from postfixpy.config.conditional import Part
    from postfixpy.config.parameters import Release

    Template = tuple[str | Part, ...]
    """Literal texts, references ("$", name, source, in brackets), expressions ("e", part, source) and, last, an
    error that keeps the rest from being read ("!", (), problem, kind)."""

NEWEST: Release = (99, 0)
_NAME = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_caches: dict[int, tuple[dict[str, Template], dict[str, Part]]] = {}


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
