"""A difference as a ladder: two texts side by side, line by line, the first difference marked.

    Postfix 3.11                          ours
    | RCPT TO:<one@server.example>        | RCPT TO:<one@server.example>
    --                                    --
    | DATA                              > | QUIT
      ^
    --                                  < ...

``>`` stands between lines that differ, ``<`` before a line that only the left side has, ``+`` before one that only the
right side has. The caret is below the first character that differs.
"""

import difflib
from collections.abc import Iterator

Rung = tuple[str | None, str, str | None]
"""A line of the left side or None, a mark, a line of the right side or None."""


def ladder(expected: str, actual: str, left: str, right: str, *, width: int = 160, context: int = 3) -> str:
    """`expected` beside `actual` under their titles, in `width` columns; "" when they are equal.

    Before the first difference and between differences only `context` lines are shown.
    """
    if expected == actual:
        return ""
    if expected.endswith("\n") and actual.endswith("\n"):
        expected, actual = expected[:-1], actual[:-1]
    rungs = list(_rungs(expected.split("\n"), actual.split("\n")))
    first = next(number for number, (_, mark, _) in enumerate(rungs) if mark)
    near = {n + d for n, (_, mark, _) in enumerate(rungs) if mark for d in range(-context, context + 1)}
    column = (width - 3) // 2
    out = [*_columns(left, " ", right, column)]
    skipped = False
    for number, (one, mark, other) in enumerate(rungs):
        if number not in near:
            if not skipped:
                out.append("...")
            skipped = True
            continue
        skipped = False
        rows = list(_columns(one or "", mark or " ", other or "", column))
        if number == first and one is not None and other is not None:
            place = _first_difference(one, other)
            rows.insert(min(place // column, len(rows) - 1) + 1, _carets(place % column, column))
        out += rows
    return "\n".join(line.rstrip() for line in out) + "\n"


def _rungs(expected: list[str], actual: list[str]) -> Iterator[Rung]:
    matcher = difflib.SequenceMatcher(None, expected, actual, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            for line in expected[a:b]:
                yield line, "", line
            continue
        for number in range(max(b - a, d - c)):
            one = expected[a + number] if a + number < b else None
            other = actual[c + number] if c + number < d else None
            yield one, "<" if other is None else "+" if one is None else ">", other


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _columns(one: str, mark: str, other: str, column: int) -> Iterator[str]:
    """One rung; lines longer than a column go on in the next row."""
    for start in range(0, max(len(one), len(other), 1), column):
        yield f"{one[start : start + column]:{column}} {mark} {other[start : start + column]}"


def _carets(place: int, column: int) -> str:
    return f"{' ' * place}^{' ' * (column - place - 1)}   {' ' * place}^"
