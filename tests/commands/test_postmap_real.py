"""postmap and postalias beside the real ones: generated tables and keys, output, warnings and exit status.

Known differences, left out here: texts that changed between Debian's 3.7 and 3.11 (checked in test_postmap.py), and the
order of entries in a hash table made by each side.
"""

import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postfixpy import config
from postfixpy.commands import postmap
from postfixpy.lookup import registry

pytestmark = [pytest.mark.real, pytest.mark.skipif(not os.path.exists("/usr/sbin/postmap"), reason="no real Postfix")]
ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("POSTFIXPY_SEEDS", "6"))
"""How many random tables of each kind."""
LOCAL = [
    "a",
    "B",
    "user+x",
    '"q k"',
    "É",
    "ß",
    "x y",
    "\\",
    '"',
    "1.2.3.4",
    "::1",
    "list-request",
    "#",
    ":",
    "@",
    "é\udcff",
]
WORDS = ["value", "two words", "\\", '"', "é", "\udcfe", "$1", "${1}", "$$", "${", "$x", "", "\t", "x"]


@pytest.fixture
def both(tmp_path):
    """Runs a program of both, each in its own copy of the files; the two results."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\ndefault_database_type = hash\n")
    (tmp_path / "real").mkdir()
    (tmp_path / "ours").mkdir()

    def call(program, line, stdin=b""):
        commands = {"real": [f"/usr/sbin/{program}"], "ours": [sys.executable, "-m", "postfixpy", program]}
        results = []
        for name, command in commands.items():
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "MAIL_CONFIG": str(tmp_path), "LC_ALL": "C.UTF-8"}
            done = subprocess.run(
                [*command, *line], cwd=tmp_path / name, env=environment, input=stdin, capture_output=True, timeout=60
            )
            err = [text for text in done.stderr.split(b"\n") if not text.startswith(b"BDB")]
            results.append((done.returncode, done.stdout, err))
        return results

    def write(name, data):
        for side in ("real", "ours"):
            path = tmp_path / side / name
            path.write_bytes(data)
            os.utime(path, (1_000_000_000, 1_000_000_000))  # texthash: reads a file that has just changed once more

    call.write = write
    call.path = tmp_path
    return call


def encoded(text):
    return text.encode("utf-8", "surrogateescape")


def plain_source(rng):
    lines = []
    for _ in range(rng.randrange(30)):
        key = "".join(rng.choice(LOCAL) for _ in range(rng.randrange(1, 3)))
        lines.append(
            rng.choice(["", "", "", " ", "#", "\t# "]) + key + rng.choice([" ", "\t", "  ", ""]) + rng.choice(WORDS)
        )
    return encoded("\n".join(lines)) + rng.choice([b"", b"\n"])


def keys(rng, source):
    found = [line.split()[0] for line in source.split(b"\n") if line.split()]
    return (
        [key for key in found + [encoded(key) for key in LOCAL] if b"\0" not in key]
        + [b"ABC", b"none"]
        + ([b""] if rng.random() < 0.5 else [])
    )


@pytest.mark.parametrize("kind", ["hash", "btree", "cdb", "lmdb"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_indexed_tables(both, kind, seed):
    rng = random.Random(seed)
    source = plain_source(rng)
    both.write("t", source)
    options = rng.choice([[], ["-f"], ["-w"], ["-r"], ["-N"], ["-n"], ["-u"]])
    real, ours = both("postmap", [*options, f"{kind}:t"])
    assert ours == real
    stdin = b"\n".join(keys(rng, source)) + b"\n"
    real, ours = both("postmap", ["-q", "-", f"{kind}:t"], stdin)
    assert ours == real
    if kind != "cdb":
        real, ours = both("postmap", ["-s", f"{kind}:t"])
        assert (ours[0], sorted(ours[1].split(b"\n")), ours[2]) == (real[0], sorted(real[1].split(b"\n")), real[2])
    # Each reads the other's file.
    suffix = {"cdb": ".cdb", "lmdb": ".lmdb"}.get(kind, ".db")
    left, right = both.path / "real" / f"t{suffix}", both.path / "ours" / f"t{suffix}"
    shutil.move(left, both.path / "swap")
    shutil.move(right, left)
    shutil.move(both.path / "swap", right)
    real, ours = both("postmap", ["-q", "-", f"{kind}:t"], stdin)
    assert ours == real
    if kind != "cdb":
        shutil.copy(left, right)
        real, ours = both("postmap", ["-s", f"{kind}:t"])
        assert ours == real
        real, ours = both("postmap", ["-i", f"{kind}:t"], b"new v\na w\n")
        assert ours == real
        real, ours = both("postmap", ["-d", "a", f"{kind}:t"])
        assert ours == real
        real, ours = both("postmap", ["-q", "-", f"{kind}:t"], stdin + b"new\n")
        assert ours == real


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
""".strip("\n").split("\n")


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_rules(both, kind, seed):
    rng = random.Random(seed)
    both.write("t", encoded("\n".join(rng.choice(RULES) for _ in range(rng.randrange(1, 12)))) + b"\n")
    subjects = ["a", "ab", "b", "É", "é", "aa", "xyz", "(a", "a/b", "12", "A b", "", "x" * 50, "|", "ba\udcff"]
    real, ours = both("postmap", ["-q", "-", f"{kind}:t"], encoded("\n".join(subjects) + "\nlast without newline"))
    assert ours == real


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
""".strip("\n").split("\n")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_networks(both, seed):
    rng = random.Random(seed)
    both.write("t", "\n".join(rng.choice(NETS) for _ in range(rng.randrange(1, 15))).encode() + b"\n")
    addresses = b"10.0.0.1 10.1.2.3 10.2.0.0 10.9.9.9 1.2.3.4 ::1 2001:db8::1 2001:DB8:0::1 ::ffff:1.2.3.4 8.8.8.8 x 10"
    addresses += b" 1.2.3.04 fe80::1%lo"
    real, ours = both("postmap", ["-q", "-", "cidr:t"], addresses.replace(b" ", b"\n"))
    assert ours == real


NAMES = r"""
static:x
static:{ a b }
static:{x
static:{x}y
inline:{a=b}
inline:{{a = b c} B=d}
inline:{a}
inline:{}
inline:x
inline:{ }
inline:{{"q k" = v}}
inline:{a=}
inline:{a=1,a=2}
texthash:t
texthash:none
environ:x
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
unionmap:{static:x,inline:{a=b}}
unionmap:{static:x,fail:y}
unionmap:{inline:{a=b}}
unionmap:{nosuch:x}
randmap:{x}
randmap:{}
randmap:x
pcre:{{/a/ x}}
regexp:{{/(a)/ $1},{/b/}}
cidr:{{1.2.3.4 x}}
regexp:{/a/ x}
pcre:{{/a/ x}
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
""".strip("\n").split("\n")


def test_names(both):
    """Every form of a table's name. In parallel: the real postmap sleeps a second before it dies."""
    both.write("t", b'a b\nB c d\nx\ny: z\n"q k" v\na dup\n')
    lines = [(["-q", key, name], b"") for name in NAMES for key in ("a", "B", "", "root", "none")] + [
        (["-q", "-", name], b"a\nb\nroot\n1.2.3.4\n") for name in NAMES
    ]
    lines += [(["-f", "-q", "B", name], b"") for name in NAMES]
    with ThreadPoolExecutor(12) as pool:
        results = pool.map(lambda line: both("postmap", *line), lines)
        for line, (real, ours) in zip(lines, results, strict=True):
            assert ours == real, line


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
""".strip("\n").split("\n"),
    "\udcff: x",
    "g: a, b,\n c",
]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_aliases(both, seed):
    rng = random.Random(seed)
    source = encoded("\n".join(rng.choice(ALIASES) for _ in range(rng.randrange(1, 15)))) + b"\n"
    both.write("t", source)
    real, ours = both("postalias", ["hash:t"])
    local = [line.replace(b"name must be local", b"name must be local and have no domain") for line in real[2]]
    assert ours == (real[0], real[1], local)
    names = b"root\na\nl\na b\nn\npost\nPost\n\xc3\xa9\nf\ng\nq\ns\nt\nu\nv\n[1]\n@\n"
    real, ours = both("postalias", ["-q", "-", "hash:t"], names)
    assert ours == real


@pytest.mark.parametrize("count", [10, 1000, pytest.param(500_000, marks=pytest.mark.load)])
@pytest.mark.parametrize("kind", ["hash", "btree", "cdb", "lmdb"])
def test_size(both, kind, count):
    lines = [b"user%d@example.com box%d\n" % (i, i) for i in range(count)]
    if count == 1000 and kind != "lmdb":
        lines += [b"k%d" % i + b"k" * (100 * i) + b" " + b"v" * (700 * i + 1) + b"\n" for i in range(100)]
    elif count == 1000:
        lines += [b"k%d" % i + b" " + b"v" * (700 * i + 1) + b"\n" for i in range(100)]
    both.write("t", b"".join(lines))
    real, ours = both("postmap", [f"{kind}:t"])
    assert ours == real
    suffix = {"cdb": ".cdb", "lmdb": ".lmdb"}.get(kind, ".db")
    left, right = both.path / "real" / f"t{suffix}", both.path / "ours" / f"t{suffix}"
    shutil.move(left, both.path / "swap")
    shutil.move(right, left)
    shutil.move(both.path / "swap", right)
    wanted = b"".join(line.split(b" ")[0] + b"\n" for line in lines[:: max(1, count // 5000)])
    real, ours = both("postmap", ["-q", "-", f"{kind}:t"], wanted)
    assert ours == real
    assert real[1].count(b"\n") == wanted.count(b"\n")


@pytest.mark.parametrize("kind", ["hash", "btree", "cdb", "lmdb"])
def test_reading_while_the_other_side_rebuilds(tmp_path, monkeypatch, kind):
    """Neither side ever misses a key or fails while the other makes the table anew."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").write_text("".join(f"user{i} box{i}\n" for i in range(3000)))
    spec = f"{kind}:t"
    rebuild = ["/usr/sbin/postmap", spec]
    subprocess.run(rebuild, check=True)
    view = config.load(str(tmp_path)).view()
    builder = subprocess.Popen(["sh", "-c", f"for i in $(seq 25); do {' '.join(rebuild)}; done"])
    lookups = 0
    while builder.poll() is None:
        table = registry.open_table(spec, view, surrogates=False)  # a new one, if this was replaced
        for number in range(0, 3000, 97):
            assert table.lookup(f"user{number}") == f"box{number}"
            lookups += 1
    assert lookups > 100
    keys = "".join(f"user{i}\n" for i in range(0, 3000, 97)).encode()
    reader = subprocess.Popen(
        ["sh", "-c", f"for i in $(seq 25); do /usr/sbin/postmap -q - {spec} < keys | wc -l; done"],
        stdout=subprocess.PIPE,
    )
    (tmp_path / "keys").write_bytes(keys)
    while reader.poll() is None:
        assert postmap.main(["postmap", spec]) == 0
    assert reader.stdout is not None
    found = reader.stdout.read().split()
    reader.stdout.close()
    assert found == [b"31"] * 25


SHARED = Path(os.environ.get("POSTFIXPY_SHARED", ROOT.parent / "shared")) / "configs"
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


@pytest.mark.load
@pytest.mark.timeout(900)
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared configurations")
def test_tables_of_real_configurations(both):
    """Every table source there is, taken as a source of every type."""
    sources = [path for path in sorted(SHARED.rglob("*")) if path.is_file() and not path.name.endswith(NOT_TABLES)]
    sources = sources[:: int(os.environ.get("POSTFIXPY_STEP", "8"))]  # all of them, with 1, take seven minutes
    jobs = []
    for number, path in enumerate(sources):
        data = path.read_bytes()
        both.write(f"t{number}", data)
        words = {word for line in data.split(b"\n") for word in line.split()[:2]}
        keys = sorted(word for word in words if b"\0" not in word)[:200] + [encoded(line) for line in MAIL]
        jobs.append((number, b"\n".join(keys) + b"\n"))

    def compare(job):
        number, keys = job
        wrong = []
        for kind in ("hash", "btree", "cdb", "lmdb"):
            name = f"{kind}:t{number}"
            for line, stdin in ([name], b""), (["-q", "-", name], keys), (["-s", name], b""):
                if kind != "cdb" or line[0] != "-s":
                    wrong += differences(line, stdin)
        for kind in ("texthash", "regexp", "pcre", "cidr"):
            wrong += differences(["-q", "-", f"{kind}:t{number}"], keys)
        return wrong

    def differences(line, stdin):
        real, ours = both("postmap", line, stdin)
        if line[0] == "-s":
            real, ours = ([r[0], sorted(r[1].split(b"\n")), r[2]] for r in (real, ours))
        return [] if real == ours else [(line, real, ours)]

    with ThreadPoolExecutor(12) as pool:
        wrong = [one for found in pool.map(compare, jobs) for one in found]
    assert len(jobs) > 30
    assert wrong == []
