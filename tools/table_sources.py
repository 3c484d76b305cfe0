"""Cases for compare_tables.py: the sources of tables, and of aliases."""

import os
import random
from collections.abc import Callable

from table_case import LOCAL, SUFFIXES, Case, Step, encoded, mutated, options, setting

WORDS = ["value", "two words", "\\", '"', "é", "\udcfe", "$1", "${1}", "$$", "${", "$x", "", "\t", "x", "{a b}", "\v"]


def plain_source(rng: random.Random) -> bytes:
    """A source of ``key value`` lines, some of them wrong."""
    lines = []
    for _ in range(rng.randrange(30)):
        key = "".join(rng.choice(LOCAL) for _ in range(rng.randrange(1, 3)))
        start = rng.choice(["", "", "", "", " ", "#", "\t# "])
        lines.append(start + key + rng.choice([" ", "\t", "  ", ""]) + rng.choice(WORDS))
    return mutated(rng, encoded("\n".join(lines)) + rng.choice([b"", b"\n"]), 0.2)


def keys(rng: random.Random, source: bytes) -> bytes:
    """Lines to look up: what the source has, and other things."""
    found = [line.split()[0] for line in source.split(b"\n") if line.split()]
    lines = [key for key in found + [encoded(key) for key in LOCAL] if b"\0" not in key] + [b"ABC", b"none"]
    lines += [b""] if rng.random() < 0.3 else []
    rng.shuffle(lines)
    return b"\n".join(lines) + rng.choice([b"", b"\n"])


def indexed(kind: str) -> Callable[[random.Random, str], Case]:
    """Cases of one indexed type: made, listed, read by the other side, changed."""

    def make(rng: random.Random, release: str) -> Case:
        source = plain_source(rng)
        spec, stdin = f"{kind}:t", keys(rng, source)
        flags = options(rng, "fwrNnuop")
        ask = options(rng, "fuNn") + (["-j"] if release >= "3.11" and rng.random() < 0.3 else [])
        key = os.fsdecode(rng.choice(stdin.split(b"\n")))
        steps = [
            Step("postmap", [*flags, spec]),
            Step("postmap", [*ask, "-q", "-", spec], stdin),
            Step("postmap", [*ask, "-q", key, spec]),
            Step("postmap", [*ask, "-s", spec], unordered=True),
            Step("swap", [f"t{SUFFIXES[kind]}"]),
            Step("postmap", [*ask, "-q", "-", spec, "inline:{none=5}"], stdin),
            Step("postmap", [*ask, "-s", spec], unordered=True),
            Step("copy", [f"t{SUFFIXES[kind]}"]),
            Step("postmap", [*ask, "-s", spec]),
            Step("postmap", [*options(rng, "fwrNnu"), "-i", spec], plain_source(rng)),
            Step("postmap", [*options(rng, "fNnu"), "-d", key, spec]),
            Step("postmap", [*options(rng, "fNnu"), "-d", "-", spec], b"\n".join(stdin.split(b"\n")[:5])),
            Step("postmap", [*ask, "-q", "-", spec], stdin),
            Step("postmap", [*ask, "-s", spec], unordered=True),
        ]
        return Case(kind, {"t": source}, steps, setting(rng))

    return make


def texthash(rng: random.Random, release: str) -> Case:
    """Cases of texthash:."""
    source = plain_source(rng)
    stdin, flags = keys(rng, source), options(rng, "fwruNn")
    lines = [["-q", "-", "texthash:t"], ["-s", "texthash:t"], ["texthash:t"], ["-d", "a", "texthash:t"]]
    steps = [Step("postmap", [*flags, *line], stdin, unordered=line[0] == "-s") for line in lines]
    return Case("texthash", {"t": source}, steps, setting(rng))


NETS = r"""
10.0.0.0/8 a
10.1.0.0/16 b
!10.2.0.0/16 c
0.0.0.0/0 all
::/0 six
::1 one
2001:db8::/32 doc
10.0.0.1/8 bad
10/8 x
1.2.3.4
[10.9.0.0]/16 br
[::1] br
[1.2.3.4/32] x
[1.2.3.4 x
[1.2.3.4]x y
1.2.3.4/33 x
1.2.3.4/x y
::1/129 z
if 10.0.0.0/8
if !10.0.0.0/8
if ::/0
endif
endif x
if
! 1.2.3.4 sp
name x
1.2.3.4/08 zero
::ffff:1.2.3.4 v
1.2.3.4/ x
2001:DB8::1 up
!!1.2.3.4 twice
# c
 cont
1.2.3.256 x
01.2.3.4 x
if 10.0.0.0/8 text
IF 0.0.0.0/0
if 10.0.0.1/8
ifx
if[::]/0
ENDIF
1:2:3:4:5:6:7:8 eight
1:2:3:4:5:6:1.2.3.4 mixed
::1.2.3.4/120 low
1.2.3.4/-1 neg
1.2.3.4/+8 plus
1.2.3.4/4294967297 big
1.2.3.4/32/32 two
0/0 x
fe80::1%lo x
1.2.3.4/32	tab $1
""".strip("\n").split("\n")
ADDRESSES = (
    b"10.0.0.1 10.1.2.3 10.2.0.0 10.9.9.9 1.2.3.4 ::1 2001:db8::1 2001:DB8:0::1 ::ffff:1.2.3.4 8.8.8.8 x 10 1.2.3.04 "
    b"fe80::1%lo [1.2.3.4] 1:2:3:4:5:6:7:8 ::1.2.3.4 1.2.3.4/32 01.2.3.4 1.2.3 \xc3\xa9 \xff"
)


def networks(rng: random.Random, release: str) -> Case:
    """Cases of cidr:."""
    chosen = [rng.choice(NETS) for _ in range(rng.randrange(1, 15))]
    source = mutated(rng, "\n".join(chosen).encode() + b"\n", 0.2)
    inside = "{" + ", ".join(f"{{{rule}}}" for rule in chosen[:4]) + "}"
    stdin, flags = ADDRESSES.replace(b" ", b"\n"), options(rng, "fu")
    steps = [
        Step("postmap", [*flags, "-q", "-", "cidr:t"], stdin),
        Step("postmap", [*flags, "-q", "-", f"cidr:{inside}"], stdin),
    ]
    return Case("cidr", {"t": source}, steps, setting(rng))


ALIASES = [
    *r"""
root: a
a: "|cmd b c"
l: :include:/x, y
x@y: z
a,b: c
junk
"a b": c
n: a (c) <b@c>, d
Post:
: x
a : b
é: ü
f: /dev/null
 "cont"
# c
q: "a\"b"
a%b: c
s: a@b, @c
t: \user
u: <>
(c) v: w
[1]: x
a: b: c
a!b: c
w: a b c
x: "a b"@c
y: a,,b
z: (comment)
"/file": /f
a.b: x.y@z
"a@b": c
1: 2;
g: grp: a, b;
""".strip("\n").split("\n"),
    "\udcff: x",
    "g: a, b,\n c",
    "E: İ",
]
ALIAS_NAMES = b"root\na\nl\na b\nn\npost\nPost\n\xc3\xa9\nf\ng\nq\ns\nt\nu\nv\n[1]\n@\nw\nx\ny\nz\n/file\na.b\na@b\n1\n"


def aliases(rng: random.Random, release: str) -> Case:
    """Cases of postalias and newaliases."""
    source = encoded("\n".join(rng.choice(ALIASES) for _ in range(rng.randrange(1, 15)))) + b"\n"
    source = mutated(rng, source, 0.3)
    kind = rng.choice(list(SUFFIXES))
    flags, ask = options(rng, "fwruNnop"), options(rng, "fu")
    if release >= "3.11" and rng.random() < 0.2:
        ask.append("-j")
    first = Step("postalias", [*flags, f"{kind}:t"])
    if rng.random() < 0.2:
        first = rng.choice([Step("newaliases", []), Step("newaliases", [f"-oA{kind}:t"]), Step("newaliases", ["x"])])
    steps = [
        first,
        Step("postalias", [*ask, "-q", "-", f"{kind}:t"], ALIAS_NAMES),
        Step("postalias", [*ask, "-s", f"{kind}:t"], unordered=True),
        Step("swap", [f"t{SUFFIXES[kind]}"]),
        Step("postalias", [*ask, "-q", rng.choice(["root", "a", "@", "none", ""]), f"{kind}:t"]),
        Step("postalias", ["-i", *options(rng, "fwruNn"), f"{kind}:t"], b"new: x\na: y\n"),
        Step("postalias", ["-d", rng.choice(["a", "A", "none", "-"]), f"{kind}:t"], b"root\nnone\n"),
        Step("postalias", [*ask, "-s", f"{kind}:t"], unordered=True),
    ]
    return Case("aliases", {"t": source}, steps, f"alias_database = {kind}:t\n{setting(rng)}")


LEVELS = ["enable-redirect"] * 8 + ["disable", "nosuch"]
TARGETS = ["lmdb", "lmdb", "cdb", "hash", "btree", "nosuch", "x-y", "texthash", "static"]
MAPPINGS = [
    "",
    "",
    "",
    "inline:{{hash:t = cdb}, {btree = lmdb}}",
    "inline:{hash=cdb}",
    "static:cdb",
    "static:hash",
    "hash:t",
    "fail:x",
    "texthash:m",
    "nosuch:x",
]


def redirected(rng: random.Random, release: str) -> Case:
    """Cases of hash: and btree: on a system that has given Berkeley DB up; none before 3.11."""
    kind = rng.choice(["hash", "btree"])
    source, spec = plain_source(rng), f"{kind}:t"
    stdin = keys(rng, source)
    lines = [f"non_bdb_migration_level = {rng.choice(LEVELS)}"]
    if rng.random() < 0.7:
        lines.append(f"default_database_type = {rng.choice(TARGETS)}")
    if rng.random() < 0.7:
        lines.append(f"default_cache_db_type = {rng.choice(TARGETS)}")
    lines.append(f"non_bdb_custom_mapping = {rng.choice(MAPPINGS)}")
    if rng.random() < 0.5:
        lines.append("non_bdb_migration_log_redirect = yes")
    steps = [
        Step("postmap", [*options(rng, "fwrNn"), spec]),
        Step("postmap", ["-q", "-", spec], stdin),
        Step("postmap", ["-s", spec], unordered=True),
        Step("postmap", ["-i", spec], b"new value\n"),
        Step("postmap", ["-d", os.fsdecode(rng.choice(stdin.split(b"\n"))), spec]),
        Step("postmap", ["-q", "-", spec, "inline:{new=v}"], stdin),
        Step("postalias", ["-q", "a", spec]),
        Step("postmap", ["t"]),
    ]
    main_cf = "\n".join(lines) + "\n"
    return Case(
        "redirected", {"t": source, "m": b"hash lmdb\nbtree:t cdb\n"}, steps if release >= "3.11" else [], main_cf
    )
