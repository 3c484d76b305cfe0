"""postmap, postalias, newaliases: transcripts. test_postmap_real.py compares them with the real programs."""

import os
import re
import stat
import sys

import pytest

from postfixpy.commands import newaliases, postalias, postmap

MAIN_CF = """\
compatibility_level = 3.6
default_database_type = hash
alias_database = hash:aliases
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs a command in an empty directory: (exit status, standard output, lines of standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path / "etc"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/main.cf").write_text(f"{MAIN_CF}queue_directory = {tmp_path}\nmyhostname = here.example\n")
    mains = {"postmap": postmap.main, "postalias": postalias.main, "newaliases": newaliases.main}

    def call(line, stdin="", program="postmap"):
        path = tmp_path / ".stdin"
        path.write_text(stdin)
        with open(path) as file:
            monkeypatch.setattr(sys, "stdin", file)
            status = mains[program]([program, *line])
        captured = capfd.readouterr()
        return status, captured.out, captured.err.splitlines()

    return call


TABLE = "Foo bar\nÉ up\n\n# comment\nfoo again\nlonely\nx: y\n"
WARNINGS = [
    "postmap: warning: t, line 6: expected format: key whitespace value",
    'postmap: warning: t, line 7: record is in "key: value" format; is this an alias file?',
]


@pytest.mark.parametrize("kind", ["hash", "btree", "cdb", "lmdb"])
def test_make_and_query(run, tmp_path, kind):
    (tmp_path / "t").write_text(TABLE)
    status, out, err = run([f"{kind}:t"])
    shown = {"hash": "t.db", "btree": "t.db", "cdb": "t", "lmdb": "lmdb:t"}[kind]
    assert (status, out) == (0, "")
    assert err == [f'postmap: warning: {shown}: duplicate entry: "foo"', *WARNINGS]
    assert run(["-q", "FOO", f"{kind}:t"]) == (0, "bar\n", [])
    assert run(["-q", "é", f"{kind}:t"]) == (0, "up\n", [])
    assert run(["-q", "none", f"{kind}:t"]) == (1, "", [])
    assert run(["-q", "-", f"{kind}:t"], "foo\nnone\nX:\n") == (0, "foo\tbar\nX:\ty\n", [])
    assert run(["-q", "-", f"{kind}:t"], "none\n") == (1, "", [])
    status, out, err = run(["-s", f"{kind}:t"])
    assert (status, sorted(out.splitlines()), err) == (0, ["foo\tbar", "x:\ty", "é\tup"], [])


def test_duplicates_ignored_or_replaced(run, tmp_path):
    (tmp_path / "t").write_text("a 1\nA 2\n")
    assert run(["-w", "t"]) == (0, "", [])
    assert run(["-q", "a", "t"])[1] == "1\n"
    assert run(["-r", "t"]) == (0, "", [])
    assert run(["-q", "a", "t"])[1] == "2\n"


def test_change_a_table(run, tmp_path):
    (tmp_path / "t").write_text("a 1\nb 2\n")
    run(["t"])
    assert run(["-i", "t"], "c 3\na 9\n") == (0, "", ['postmap: warning: t.db: duplicate entry: "a"'])
    assert run(["-r", "-i", "t"], "a 9\n") == (0, "", [])
    assert run(["-d", "b", "t"]) == (0, "", [])
    assert run(["-d", "b", "t"]) == (1, "", [])
    assert run(["-d", "-", "t"], "x\nc\n") == (0, "", [])
    assert run(["-s", "t"]) == (0, "a\t9\n", [])
    assert run(["-d", "b", "cdb:t"]) == (1, "", ["postmap: fatal: unsupported non-bulk change request"])


def test_the_source_decides_who_may_read(run, tmp_path):
    (tmp_path / "t").write_text("a 1\n")
    os.chmod(tmp_path / "t", 0o600)
    run(["hash:t"])
    run(["-p", "cdb:t"])
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("t.db", "t.cdb")]
    assert modes == [0o600, 0o644]


def test_json(run):
    assert run(["-j", "-q", "a", 'inline:{{a="q\\"}}']) == (0, '{"a": "\\"q\\\\\\""}\n', [])
    assert run(["-j", "t"]) == (1, "", ["postmap: fatal: option -j requires -q or -s"])


def test_files_as_values(run, tmp_path):
    (tmp_path / "cert").write_text("line 1\nline 2\n")
    (tmp_path / "t").write_text("a cert, cert\nb none\n")
    missing = "postmap: warning: t, line 2: open none: No such file or directory: skipping this entry"
    assert run(["-F", "t"]) == (0, "", [missing])
    assert run(["-F", "-q", "a", "t"])[1] == "line 1\nline 2\n\nline 1\nline 2\n\n"


MESSAGE = "Subject: a\n b\nContent-Type: multipart/x; boundary=b\n\nbody\n--b\nX: y\n\nin\n"


def test_messages(run):
    rules = "regexp:{{/^(X|Subject|body|in)/ $1}}"
    assert run(["-h", "-q", "-", rules], MESSAGE) == (0, "Subject: a\n b\tSubject\n", [])
    assert run(["-hm", "-q", "-", rules], MESSAGE)[1] == "Subject: a\n b\tSubject\nX: y\tX\n"
    assert run(["-b", "-q", "-", rules], MESSAGE)[1] == "body\tbody\nX: y\tX\nin\tin\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (["t"], "open t: No such file or directory"),
        (["-q", "a", "t"], "open database t.db: No such file or directory"),
        (["-q", "a", "static:"], 'open dictionary: expecting "type:name" form instead of "static:"'),
        (["-q", "a", "nosuch:x"], "unsupported dictionary type: nosuch"),
        (["-q", "a", "dbm:x"], "unsupported dictionary type: dbm"),
        (["-q", "a", "fail:x"], "table fail:x: query error: Application error"),
        (["-s", "static:x"], "table static:x: sequence operation is not supported"),
        (["-d", "a", "static:x"], "table static:x: delete operation is not supported"),
        (["-d", "a", "texthash:x"], "texthash:x map requires O_RDONLY access mode"),
        (["-d", "a", "-q", "a", "x"], "specify only one of -d -i -q or -s"),
        (["-h", "t"], 'specify -b -h or -m only with "-q -"'),
        (["etc/main.cf", "x"], "open x: No such file or directory"),
        (["regexp:etc/main.cf"], "no 'map create' support for this type: regexp"),
        (["nosuch:etc/main.cf"], "unsupported map type: nosuch"),
        (["-c", "/nonexistent", "t"], "open /nonexistent/main.cf: No such file or directory"),
    ],
)
def test_fatal_errors(run, line, text):
    status, out, err = run(line)
    assert (status, out, err[-1]) == (1, "", f"postmap: fatal: {text}")


def test_usage(run):
    usage = "postmap: fatal: usage: postmap [-bfFhimnNoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file..."
    assert run([]) == (1, "", [usage])
    assert run(["-z"]) == (1, "", ["postmap: invalid option -- 'z'", usage])
    assert run(["-q"]) == (1, "", ["postmap: option requires an argument -- 'q'", usage])
    assert run(["-s"]) == (1, "", [])


def test_one_question_at_a_time_as_37_counts_them(run, monkeypatch):
    monkeypatch.setenv("POSTFIXPY_VERSION", "3.7")
    assert run(["-s", "-s", "inline:{a=b}"]) == (0, "a\tb\n", [])
    for line, text in (("-s -q a", "-s -q or -d"), ("-d a -s", "-s or -q or -d"), ("-q a -q b", "-s -q or -d")):
        assert run([*line.split(), "inline:{a=b}"])[2] == [f"postmap: fatal: specify only one of {text}"]


def test_an_unlucky_rebuild_keeps_the_old_table(run, tmp_path, monkeypatch):
    (tmp_path / "t").write_text("a 1\n")
    run(["t"])
    (tmp_path / "t").write_text("a 2\n")

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    status, _, err = run(["t"])
    assert (status, err[0].endswith("No space left on device")) == (1, True)
    assert run(["-q", "a", "t"])[1] == "1\n"
    assert not (tmp_path / "t.db.tmp").exists()


ALIASES = 'root: a, "|cmd x y", :include:/l\n"a b": c\nPost:\nno@x: y\nx,y: z\njunk\nlist: one,\n two\n'


def test_postalias(run, tmp_path):
    (tmp_path / "aliases").write_text(ALIASES)
    where = "postalias: warning: aliases, line"
    assert run(["aliases"], program="postalias") == (
        0,
        "",
        [
            f"{where} 3: need name:value pair",
            f"{where} 4: name must be local and have no domain",
            f"{where} 5: need name:value pair",
            f"{where} 6: need name:value pair",
        ],
    )
    status, out, _ = run(["-s", "aliases"], program="postalias")
    found = sorted(out.splitlines())
    assert re.fullmatch(r"YP_LAST_MODIFIED:\t\d{10}", found.pop(1))
    assert (status, found) == (
        0,
        ["@:\t@", "YP_MASTER_NAME:\there.example", "a b:\tc", "list:\tone, two", 'root:\ta, "|cmd x y", :include:/l'],
    )
    assert run(["-q", "ROOT", "aliases"], program="postalias")[1] == 'a, "|cmd x y", :include:/l\n'
    assert run(["-i", "aliases"], "root: b\nnew: c\n", program="postalias") == (
        0,
        "",
        ['postalias: warning: aliases.db: duplicate entry: "root"'],
    )
    assert run(["-q", "-", "aliases"], "root\nnew\n", program="postalias")[1].endswith("new:\tc\n")


def test_newaliases(run, tmp_path):
    (tmp_path / "aliases").write_text("root: a\n")
    assert run([], program="newaliases") == (0, "", [])
    assert run(["-q", "root", "hash:aliases"])[1] == "a\n"
    text = "newaliases: fatal: alias initialization mode requires no recipient"
    assert run(["x"], program="newaliases") == (75, "", [text])
    assert run(["-oAhash:other"], program="newaliases") == (
        1,
        "",
        ["postalias: fatal: open other: No such file or directory"],
    )
