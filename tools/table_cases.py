"""Cases for compare_tables.py: generated table sources, names, keys and command lines, each from a number."""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}
PROGRAMS = ("postmap", "postalias", "newaliases")


@dataclass
class Step:
    """One command line, or (`program` "swap") an exchange of what both sides made."""

    program: str
    line: list[str]
    stdin: bytes = b""
    unordered: bool = False
    """The lines of standard output come in an order of each side's own: a hash table that each made for itself."""


@dataclass
class Case:
    """Files and what is done with them."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    main_cf: str = ""


def encoded(text: str) -> bytes:
    """The bytes that a text with surrogates stands for."""
    return text.encode("utf-8", "surrogateescape")


LOCAL = [
    "a", "B", "user+x", '"q k"', "É", "ß", "x y", "\\", '"', "1.2.3.4", "::1", "list-request", "#", ":", "@",
    "é\udcff", "user@example.com", "@Example.COM", ".example", "İ", "ﬃ", "a:",
]  # fmt: skip
WORDS = ["value", "two words", "\\", '"', "é", "\udcfe", "$1", "${1}", "$$", "${", "$x", "", "\t", "x", "{a b}", "\v"]


def plain_source(rng: random.Random) -> bytes:
    """A source of ``key value`` lines, some of them wrong."""
    lines = []
    for _ in range(rng.randrange(30)):
        key = "".join(rng.choice(LOCAL) for _ in range(rng.randrange(1, 3)))
        start = rng.choice(["", "", "", "", " ", "#", "\t# "])
        lines.append(start + key + rng.choice([" ", "\t", "  ", ""]) + rng.choice(WORDS))
    return mutated(rng, encoded("\n".join(lines)) + rng.choice([b"", b"\n"]), 0.2)


def mutated(rng: random.Random, data: bytes, chance: float) -> bytes:
    """`data` with, sometimes, a few bytes changed."""
    if rng.random() > chance:
        return data
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        position = rng.randrange(len(out) + 1)
        match rng.randrange(3):
            case 0:
                out[position:position] = rng.choice([b"\0", b"\n", b"\r", b" ", b"{", b"}", b'"', b"\xff", b"\\", b"$"])
            case 1:
                del out[position : position + rng.randrange(1, 5)]
            case _:
                other = rng.randrange(len(out) + 1)
                out[position:position] = out[other : other + rng.randrange(1, 12)]
    return bytes(out)


def keys(rng: random.Random, source: bytes) -> bytes:
    """Lines to look up: what the source has, and other things."""
    found = [line.split()[0] for line in source.split(b"\n") if line.split()]
    lines = [key for key in found + [encoded(key) for key in LOCAL] if b"\0" not in key] + [b"ABC", b"none"]
    lines += [b""] if rng.random() < 0.3 else []
    rng.shuffle(lines)
    return b"\n".join(lines) + rng.choice([b"", b"\n"])


def options(rng: random.Random, letters: str) -> list[str]:
    """Some of the options without a value."""
    return [f"-{letter}" for letter in letters if rng.random() < 0.12]


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


def setting(rng: random.Random) -> str:
    """Some lines of main.cf."""
    return rng.choice(["", "", "", "smtputf8_enable = no\n"])


def texthash(rng: random.Random, release: str) -> Case:
    """Cases of texthash:."""
    source = plain_source(rng)
    stdin, flags = keys(rng, source), options(rng, "fwruNn")
    lines = [["-q", "-", "texthash:t"], ["-s", "texthash:t"], ["texthash:t"], ["-d", "a", "texthash:t"]]
    steps = [Step("postmap", [*flags, *line], stdin, unordered=line[0] == "-s") for line in lines]
    return Case("texthash", {"t": source}, steps, setting(rng))


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


NAMES = r"""
static:x
static:{ a b }
static:{x
static:{x}y
static:{}
static:{ }
inline:{a=b}
inline:{{a = b c} B=d}
inline:{a}
inline:{}
inline:x
inline:{ }
inline:{{"q k" = v}}
inline:{a=}
inline:{a=1,a=2}
inline:{a=1}x
inline:{{a=1} {b=2}, c=3}
inline:{{a=1}x}
inline:{=x}
inline:{{ = x}}
inline:{a==b}
inline:{a b}
inline:{É=é}
texthash:t
texthash:none
environ:x
environ:PATH
unix:passwd.byname
unix:group.byname
unix:x
fail:x
internal:x
pipemap:{inline:{a=b},inline:{b=c}}
pipemap:{static:x,fail:y}
pipemap:{x}
pipemap:{}
pipemap:x
pipemap:{static:x}y
pipemap:{static:{a b}, inline:{{a b=c}}}
pipemap:{texthash:t, unionmap:{static:1, static:2}}
pipemap:{hash:none}
pipemap:{regexp:{{/(.)/ $1}}, static:q}
unionmap:{static:x,inline:{a=b}}
unionmap:{static:x,fail:y}
unionmap:{inline:{a=b}}
unionmap:{nosuch:x}
unionmap:{static:x
unionmap:{inline:{a=b},texthash:t,static:{c d}}
unionmap:{ }
randmap:{x}
randmap:{}
randmap:x
randmap:{ {x y} }
randmap:{x}y
pcre:{{/a/ x}}
regexp:{{/(a)/ $1},{/b/}}
cidr:{{1.2.3.4 x}}
regexp:{/a/ x}
pcre:{{/a/ x}
pcre:{}
cidr:{}
regexp:{{/a/ x}}y
regexp:none
pcre:none
cidr:none
hash:none
btree:none
cdb:none
lmdb:none
static:
:x
none
dbm:x
sdbm:x
nosuch:x
t
proxy:static:x
proxy:x
debug:static:x
debug:inline:{a=b}
debug:fail:x
debug:x
debug:debug:static:x
memcache:none
sqlite:none
socketmap:x
socketmap:x:y
socketmap:inet:127.0.0.1:9:m
socketmap:unix:/nowhere:m
mysql:none
pgsql:none
ldap:none
./t
hash:.
cidr:.
pcre:.
sqlite:.
regexp:.
texthash:.
""".strip("\n").split("\n")


def names(rng: random.Random, release: str) -> Case:
    """Cases of every form of a table's name."""
    name = rng.choice(NAMES)
    if rng.random() < 0.4:
        name = os.fsdecode(mutated(rng, encoded(name), 1)).replace("\0", "")
    if rng.random() < 0.3:
        kind = rng.choice(["pipemap", "unionmap", "debug" if release >= "3.11" else "pipemap"])
        other = rng.choice(NAMES)
        name = f"debug:{name}" if kind == "debug" else f"{kind}:{{{name}{rng.choice([' ', ','])}{other}}}"
    if "proxy:" in name or (name.startswith(("randmap:", "tcp:")) and "," in name):
        name = name.replace("proxy:", "static:")  # it would wait for a service that is not there
    source = b'a b\nB c d\nx\ny: z\n"q k" v\na dup\n'
    flags = options(rng, "fuNnrw") + (["-j"] if release >= "3.11" and rng.random() < 0.2 else [])
    line = rng.choice(
        [["-q", "a"], ["-q", "B"], ["-q", ""], ["-q", "root"], ["-q", "-"], ["-s"], ["-d", "a"], ["-i"], []]
    )
    return Case("names", {"t": source}, [Step("postmap", [*flags, *line, name], b"a\nb\nroot\n1.2.3.4\n")])


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


MESSAGE = rb"""
From x
Subject: a b
X:
 folded
 more
: bad
Content-Type: multipart/mixed; boundary=b
Content-Type: message/rfc822
Content-Type: text/plain; charset="utf-8
Received: from x by y;

--b
--b--
body a
.
bad line
""".strip(b"\n").split(b"\n")


def messages(rng: random.Random, release: str) -> Case:
    """Cases of postmap -h, -b, -m, and of command lines that contradict themselves."""
    message = mutated(rng, b"\n".join(rng.choice(MESSAGE) for _ in range(rng.randrange(1, 16))), 0.3)
    flags = [f"-{letter}" for letter in "hbmU" if rng.random() < 0.5]
    table = rng.choice(["regexp:{{/a/ A},{/(.*)/ [$1]}}", "regexp:t", "static:x"])
    line = [*flags, "-q", rng.choice(["-", "-", "-", "a"]), table]
    return Case("messages", {"t": b"/^(x|--)/ $1\n/e/ E\n"}, [Step("postmap", line, message)], setting(rng))


def files(rng: random.Random, release: str) -> Case:
    """Cases of -F: values that are the contents of files."""
    kind = rng.choice([*SUFFIXES, "texthash", "regexp", "pcre", "cidr"])
    values = ["f1", "f1 f2", "none", "f1, f2", "f3", "", "/nowhere/x"]
    heads = {"regexp": "/a/", "pcre": "/a/", "cidr": "1.2.3.4"}
    source = "".join(f"{heads.get(kind, f'k{i}')} {rng.choice(values)}\n" for i in range(3)).encode()
    line = ["-F", "-q", "-", f"{kind}:t"]
    name = rng.choice(
        ["static:f1", "static:{f1 f2}", "static:none", "inline:{a=f1}", "inline:{a=none}", "randmap:{f3}"]
    )
    steps = [Step("postmap", ["-F", f"{kind}:t"])] if kind in SUFFIXES else []
    steps += [
        Step("postmap", line, b"k0\nk1\nk2\na\n1.2.3.4\n"),
        Step("postmap", line[1:], b"k0\nk1\nk2\na\n1.2.3.4\n"),
        Step("postmap", ["-F", "-s", f"{kind}:t"], unordered=True),
        Step("postmap", ["-F", "-q", "a", name]),
        Step("postmap", ["-F", "-q", "k0", "inline:{k0=f1}", f"{kind}:t"]),
    ]
    contents = {"t": source, "f1": b"one\n", "f2": b"two \xff\n", "f3": b"a\0b"}
    return Case("files", contents, steps, setting(rng))


DATABASES = r"""
hosts = x
dbname = d
user = u
query = SELECT 'x'
query = SELECT '%s'
query = SELECT '%u', '%d'
query = SELECT '%1.%2'
query = SELECT %s
query = SELECT "%s"
query = SELECT v FROM t WHERE k = '%s'
query = SELECT v FROM t
query = SELECT
query = SELECT '%q'
query = SELECT NULL
query = SELECT ''
query = SELECT 1 UNION SELECT 2
table = t
select_field = v
where_field = k
additional_conditions = AND 1
result_format = <%s>
result_format = %u at %d
result_format = %S %U %D
result_format = %1
result_format = %
result_format =
domain = example.com
domain = !example.com, x
domain = fail:x
expansion_limit = 1
expansion_limit = 0
expansion_limit = -1
expansion_limit = x
junk
= x
a b = c
""".strip("\n").split("\n")


def sqlite(rng: random.Random, release: str) -> Case:
    """Cases of sqlite:, the one database that needs no server."""
    import sqlite3

    with tempfile.NamedTemporaryFile() as file:
        database = sqlite3.connect(file.name)
        database.execute("CREATE TABLE t (k text, v text)")
        rows = [
            ("a", "1"),
            ("a", "2"),
            ("o'b", "q"),
            ("user@example.com", "box@host"),
            ("é", "ü"),
            ("n", None),
            ("e", ""),
        ]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.commit()
        database.close()
        data = Path(file.name).read_bytes()
    lines = ["dbpath = db", rng.choice(DATABASES[3:16])] + [rng.choice(DATABASES) for _ in range(rng.randrange(5))]
    stdin = "a\no'b\nuser@example.com\né\nn\ne\nx@y\n@example.com\nuser@sub.example.com\n%s\nx' OR '1'='1\n".encode()
    stdin += rng.choice([b"", b"\n", b"\xff\n"])
    steps = [Step("postmap", [*options(rng, "fu"), "-q", "-", "sqlite:./c"], stdin)]
    return Case("sqlite", {"db": data, "c": "\n".join(lines).encode() + b"\n"}, steps, setting(rng))


WORDS_OF_LINES = [
    "-b", "-f", "-F", "-h", "-i", "-m", "-n", "-N", "-o", "-p", "-q", "a", "-", "-r", "-s", "-u", "-U", "-w", "-d",
    "-qa", "-da", "-Z", "-c", ".", "--", "hash:t", "inline:{a=b}", "-fi", "-x", "static:x", "-j",
]  # fmt: skip


def command_lines(rng: random.Random, release: str) -> Case:
    """Cases of options that contradict each other or are not there."""
    program = rng.choice(["postmap", "postmap", "postalias"])
    line = [rng.choice(WORDS_OF_LINES) for _ in range(rng.randrange(1, 6))]
    step = Step(program, line, b"a\nk v\n", unordered=True)
    return Case("command_lines", {"t": b"a b\nc: d\n"}, [step], setting(rng))


KINDS: dict[str, Callable[[random.Random, str], Case]] = {
    **{kind: indexed(kind) for kind in SUFFIXES},
    "texthash": texthash,
    "regexp": rules("regexp"),
    "pcre": rules("pcre"),
    "cidr": networks,
    "names": names,
    "aliases": aliases,
    "messages": messages,
    "files": files,
    "sqlite": sqlite,
    "command_lines": command_lines,
}


def generated(kind: str, release: str, seed: int) -> Case:
    """The case of a number."""
    return KINDS[kind](random.Random(f"{kind} {seed}"), release)


NOT_TABLES = (".out", ".err", ".rc", ".tmpl", "main.cf", "master.cf", "SOURCE")
MAIL = [
    "Subject: Viagra at 50% off",
    "Received: from x.example.com (unknown [192.0.2.1]) by mx.example.org (Postfix) with ESMTP id 123",
    "X-Spam-Flag: YES",
    "Content-Type: application/octet-stream; name=x.exe",
    "From: user@example.com",
    "user+ext@example.com",
    "postmaster",
    "192.168.1.7",
    "10.0.0.1",
    "2001:db8::1",
    "dynamic-1-2-3-4.example.net",
    "/^.*$/",
]


def configured(path: Path) -> Iterator[Case]:
    """A file of somebody's configuration, taken as a source of every type."""
    data = path.read_bytes()
    words = {word for line in data.split(b"\n") for word in line.split()[:2]}
    stdin = b"\n".join(sorted(word for word in words if b"\0" not in word)[:200] + [encoded(line) for line in MAIL])
    for kind in (*SUFFIXES, "texthash", "regexp", "pcre", "cidr"):
        spec = f"{kind}:t"
        steps = [Step("postmap", [spec])] if kind in SUFFIXES else []
        steps.append(Step("postmap", ["-q", "-", spec], stdin))
        if kind in SUFFIXES:
            steps.append(Step("postmap", ["-s", spec], unordered=True))
        yield Case(f"{kind} {path}", {"t": data}, steps)
    yield Case(
        f"postalias {path}",
        {"t": data},
        [Step("postalias", ["hash:t"]), Step("postalias", ["-s", "hash:t"], unordered=True)],
    )
