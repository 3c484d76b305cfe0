"""Compiling the conditional and comparison forms of "$" (conditional.lark) to the parts that expand.py evaluates.

Importing this module is cheap; the first call of `compile_expression` loads lark, which costs more than all the
rest of a command. expand.py calls it once for each distinct expression that is neither a plain name nor in the
table of compiled defaults (tools/build_parameters.py), so an ordinary command never does.

A compiled part is a tuple of plain values, so that the table of compiled defaults can be a literal:

    ("?", subject, then, otherwise, problem)     subject is a name or a comparison; then and otherwise are texts, or
                                                 None where the form has none; problem is said after evaluation
    ("=", left, operator, suffix, right)         a comparison; the operands are texts
    ("f", name, text)                            a function call
    ("!", evaluated, problem)                    a syntax error, said after the texts `evaluated` are expanded
"""

from __future__ import annotations

import os

from postfixpy.config.lines import BLANKS, decode, encode

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from typing import Any

    from lark import Lark, Token, Tree

    Part = tuple[Any, ...]

OPERATORS = ("==", "!=", "<", "<=", ">=", ">")
_EXPECTED = '"==" or "!="" or "<"" or "<="" or ">="" or ">"'


_parsers: list[Lark] = []


def _parser() -> Lark:
    if not _parsers:
        from lark import Lark

        with open(os.path.join(os.path.dirname(__file__), "conditional.lark"), encoding="ascii") as file:
            _parsers.append(Lark(file.read(), parser="lalr", lexer="contextual", maybe_placeholders=False))
    return _parsers[0]


def first(text: str, octets: int = 20) -> str:
    """The first `octets` bytes of `text`, as "%.20s" prints them."""
    return decode(encode(text)[:octets])


def compile_expression(source: str) -> Part:
    """The part for what stands between ``${`` and ``}`` when it is not a plain name."""
    from lark import UnexpectedInput

    try:
        tree: Any = _parser().parse(source)
    except UnexpectedInput:
        return _unbalanced(source)
    return _BUILDERS[tree.data](tree.children, source)


def _unbalanced(source: str) -> Part:
    """$(...) can hold a group that does not end: what comes before it is evaluated, and then the error said."""
    opened: list[int] = []
    for position, char in enumerate(source):
        if char == "{":
            opened.append(position)
        elif char == "}" and opened:
            opened.pop()
    start = opened[0]
    problem = f'unbalanced {{}} in attribute expression: "{source[start:]}"'
    if not source[:start].strip(BLANKS):
        return ("!", (), problem)
    tree: Any = _parser().parse(source[:start] + "{}")
    part = _BUILDERS[tree.data](tree.children, source)
    if part[0] == "?":
        return ("?", part[1], part[2] if part[3] is not None else None, None, problem)
    return part if part[0] == "!" else ("!", (), problem)


def _inside(group: Any) -> str:
    """The text of a group or of the text after an old-style ? or :, blanks and nested braces as written."""
    pieces = []
    for child in group.children:
        if isinstance(child, str):
            pieces.append(str(child))
        else:
            pieces.append("{" + _inside(child) + "}")
    return "".join(pieces)


def _named(children: list[Any], source: str) -> Part:
    name = str(children[0]).strip(BLANKS) if len(children) == 2 else ""
    return _choose(name, children[-1])


def _choose(subject: str | Part, choice: Tree[Token]) -> Part:
    texts = [_inside(child) for child in choice.children]
    junk = first(texts.pop()) if choice.data in ("no_colon", "after_else") else ""
    if choice.data == "if_set":
        return ("?", subject, texts[0], None, None)
    if choice.data == "if_empty":
        return ("?", subject, None, texts[0], None)
    if choice.data == "either":
        return ("?", subject, texts[0], texts[1], None)
    if choice.data == "no_colon":
        return ("?", subject, texts[0], None, f'":" expected at: "...{texts[0]}}}>>>{junk}"')
    then = texts[0] if len(texts) == 2 else None
    return ("?", subject, then, texts[-1], f'unexpected input at: "...{texts[-1]}}}>>>{junk}"')


def _compared(children: list[Any], source: str) -> Part:
    comparison = _comparison(children[0], source)
    if comparison[0] == "!" or len(children) == 1:
        return comparison
    return _choose(comparison, children[1])


def _no_choice(children: list[Any], source: str) -> Part:
    comparison = _comparison(children[0], source)
    if comparison[0] == "!":
        return comparison
    return ("!", (comparison[1], comparison[4]), f'"?" or ":" expected at: "...}}>>>{first(_inside(children[1]))}"')


def _comparison(tree: Tree[Token], source: str) -> Part:
    groups = [_inside(child) for child in tree.children if not isinstance(child, str)]
    suffix = "".join(str(child) for child in tree.children if isinstance(child, str) and child.type == "SUFFIX")
    operator, rest = after_left_operand(source)
    if operator not in OPERATORS:
        return ("!", (), f'{_EXPECTED} expected at: "...{groups[0]}}}>>>{first(operator + rest)}"')
    if suffix not in ("", "level"):
        return ("!", (), f'bad operator suffix at: "...{operator}>>>{suffix}"')
    if tree.data == "no_right_operand":
        return ("!", (), no_right_operand(groups[0], operator, rest[len(suffix) :]))
    return ("=", groups[0], operator, suffix, groups[1])


def after_left_operand(source: str) -> tuple[str, str]:
    """The operator after the left operand of a comparison, as far as it looks like one, and the text behind it."""
    level = 0
    end = 0
    for end, char in enumerate(source, 1):  # noqa: B007 - used after the loop
        level += (char == "{") - (char == "}")
        if char == "}" and level == 0:
            break
    rest = source[end:].lstrip(BLANKS)
    behind = rest.lstrip("<>!=?+-*/~&|%")
    return rest[: len(rest) - len(behind)], behind


def no_right_operand(left: str, operator: str, rest: str) -> str:
    """The error for a comparison without right operand."""
    return f'"{{expression}}" expected at: "...{{{left}}} {operator}>>>{first(rest)}"'


def _call(children: list[Any], source: str) -> Part:
    name = str(children[0]).strip(BLANKS)
    argument = _inside(children[1]).strip(BLANKS)
    if len(children) == 3:
        return ("!", (), f'unexpected input at: "...{argument}}}>>>{first(_inside(children[2]))}"')
    return ("f", name, argument)


_BUILDERS = {"named": _named, "compared": _compared, "no_choice": _no_choice, "call": _call}
