"""Cases for compare_tables.py: names of tables, options, messages, and values that are files."""

import os
import random

from table_case import SUFFIXES, Case, Step, encoded, mutated, options, setting

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
