"""postmap, postalias and newaliases beside the real ones of 3.7 and 3.11, as tools/compare_tables.py compares them.

A fixed sample of the generated cases; the tool runs as many as one likes, and the tables of real configurations.
"""

import os
import subprocess

import compare_tables
import pytest
import real_root
import table_servers
from compare_tables import HOME, Comparison
from table_case import SUFFIXES, Case, Step
from table_cases import KINDS, generated
from table_databases import SERVED

from postfixpy import config
from postfixpy.commands import postmap
from postfixpy.lookup import registry

pytestmark = [pytest.mark.real, pytest.mark.skipif(not os.path.exists("/usr/sbin/postmap"), reason="no real Postfix")]
SEEDS = int(os.environ.get("POSTFIXPY_SEEDS", "6"))
"""How many cases of each kind."""
FIRST = 10_000


@pytest.fixture(params=[HOME, "3.11"])
def comparison(request):
    """Runs both programs of a release."""
    if request.param != HOME:
        if os.getuid():
            pytest.skip("chroot(2): the real one wants root")
        if not real_root.available(request.param):
            pytest.skip(f"no real Postfix {request.param}: tools/real_root.py makes it")
    both = Comparison(request.param)
    yield both
    both.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_generated(comparison, kind):
    if kind in SERVED:
        try:
            compare_tables.start_servers(SERVED)
        except table_servers.Missing as error:
            pytest.skip(str(error))
    cases = [generated(kind, comparison.real.release, seed) for seed in range(FIRST, FIRST + SEEDS)]
    assert [text for case in cases for text in comparison.run(case)] == []


def test_a_difference_is_seen(comparison, monkeypatch):
    """The comparison itself: what it is for, it finds."""
    monkeypatch.setattr(compare_tables.Side, "_ours", lambda self, directory, step: 0)
    case = Case("x", {}, [Step("postmap", ["-q", "a", "inline:{a=b}"])])
    assert "real: (0, [b'b', b'']" in "".join(comparison.run(case))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [10, 1000, pytest.param(500_000, marks=pytest.mark.load)])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_size(comparison, kind, count):
    """What either side writes the other reads: many entries, long keys and values, overflow pages."""
    lines = [b"user%d@example.com box%d\n" % (i, i) for i in range(count)]
    if count == 1000:
        long = (lambda i: b"k" * min(100 * i, 400)) if kind == "lmdb" else (lambda i: b"k" * (100 * i))
        lines += [b"k%d" % i + long(i) + b" " + b"v" * (700 * i + 1) + b"\n" for i in range(100)]
    wanted = b"".join(line.split(b" ")[0] + b"\n" for line in lines[:: max(1, count // 5000)])
    spec = f"{kind}:t"
    query = Step("postmap", ["-q", "-", spec], wanted)
    steps = [Step("postmap", [spec]), query, Step("swap", [f"t{SUFFIXES[kind]}"]), query]
    assert list(comparison.run(Case("size", {"t": b"".join(lines)}, steps))) == []
    assert [result[1].count(b"\n") for result in comparison.results] == [0, wanted.count(b"\n"), wanted.count(b"\n")]


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
    (tmp_path / "keys").write_bytes(keys)
    reader = subprocess.Popen(
        ["sh", "-c", f"for i in $(seq 25); do /usr/sbin/postmap -q - {spec} < keys | wc -l; done"],
        stdout=subprocess.PIPE,
    )
    while reader.poll() is None:
        assert postmap.main(["postmap", spec]) == 0
    assert reader.stdout is not None
    found = reader.stdout.read().split()
    reader.stdout.close()
    assert found == [b"31"] * 25
