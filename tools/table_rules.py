"""Cases for compare_tables.py: regexp: and pcre:."""

import random
from collections.abc import Callable

from table_case import Case, Step, encoded, mutated, options, setting

RULES = r"""
/^a/ x
/(a)(b)?/ [$1][${2}]
!/a/ none
/É/ e
/^.$/ one
if /a/
if !/b/
endif
ENDIF x
/a
/(/ x
/a/i x
/a/q x
/a/x x
/a/m x
/a/ $1
/(a)/ $2
!/(a)/ $1
/(a)/ $0 $x
/(.*)/ ${1
/(.*)/ $(1)
a b
/a/!/b/ ab
/a\/b/ slash
|a| pipe
/[[:digit:]]+/ d
/a{2,1}/ x
/*a/ x
  cont
# c
/a\
/./
/()/ <$1>
if /x
iffy
endif
!
//
/x/ $$1 $
/(x|xy)(z?)/ $1-$2
é.é bytes
/\(a/ x
/a$/E x
/a b/x x
/b/A x
/a+/U x
\x\ y
\x
/(a)/ $x ${y} $z
if /(a)/ text
if/a/
if
if !
endif#
EndIf
IF /A/
/^(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)/ $10$9
/a/imx x
/a/X x
/(a)/ $1$
/(a)/ $12345678901234567890
/(a)/ ${01}
!/b/!/c/ notb
/a/ ! /b/ x
!!/a/ twice
! ! !/a/ thrice
/(?<n>a)/ $1
/(?i)A/ x
/[/ x
/\d/ x
/(a|b)*\1/ back
/\</ word
/a/i/ y
{a} y
/a/	tab	s
""".strip("\n").split("\n")
SUBJECTS = [
    "a",
    "ab",
    "b",
    "É",
    "é",
    "aa",
    "xyz",
    "(a",
    "a/b",
    "12",
    "A b",
    "",
    "x" * 50,
    "|",
    "ba\udcff",
    "abcdefghijk",
]


def rules(kind: str) -> Callable[[random.Random, str], Case]:
    """Cases of regexp: and pcre:, from a file and inside the name."""

    def make(rng: random.Random, release: str) -> Case:
        chosen = [rng.choice(RULES) for _ in range(rng.randrange(1, 14))]
        source = mutated(rng, encoded("\n".join(chosen)) + b"\n", 0.3)
        inside = "{" + rng.choice([" ", ",", ", "]).join(f"{{{rule}}}" for rule in chosen[:4]) + "}"
        stdin = encoded("\n".join(SUBJECTS) + "\nlast without newline")
        flags = options(rng, "fuNn")
        steps = [
            Step("postmap", [*flags, "-q", "-", f"{kind}:t"], stdin),
            Step("postmap", [*flags, "-q", rng.choice(SUBJECTS), f"{kind}:t"]),
            Step("postmap", [*flags, "-q", "-", f"{kind}:{inside}"], stdin),
        ]
        return Case(kind, {"t": source}, steps, setting(rng))

    return make
