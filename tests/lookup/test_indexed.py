"""hash, btree, cdb and lmdb files: made by the real postmap (data/), by us, and damaged."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from postfixpy.errors import FatalError
from postfixpy.lookup import Flags, TableError, bdb, bdb_write, cdb, lmdb_file, open_table
from postfixpy.lookup.build import open_writer

DATA = Path(__file__).parent / "data"
SUFFIX = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}
KINDS = list(SUFFIX)


def write(kind, path, settings, items, flags=Flags.FOLD_FIX | Flags.UTF8_REQUEST | Flags.DUP_WARN, create=True):
    writer = open_writer(kind, str(path), settings, flags, create=create)
    assert writer is not None
    for key, value in items.items():
        writer.update(key, value)
    writer.finish()


def read(kind, path, settings):
    return open_table(f"{kind}:{path}", settings, surrogates=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_real_postmap(kind, settings):
    table = read(kind, DATA / kind, settings)
    assert table.lookup("KEY") == "value"
    assert table.lookup("école") == "text with spaces"
    assert table.lookup("long") == "v" * 9000
    assert table.lookup("none") is None
    assert table.lookup("") is None
    longest = "k" * 3000
    assert table.lookup(longest) == ("longkey" if SUFFIX[kind] == ".db" else None)
    for number in range(60):
        assert table.lookup(f"user{number}@example.com") == f"box{number}"
    assert len(dict(table.items())) == (64 if SUFFIX[kind] == ".db" else 63)
    assert not table.changed()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_what_we_write_we_read(kind, count, settings, tmp_path):
    items = {f"key{i}@example.com": f"value {i} " + "x" * (i * 7 % 6000) for i in range(count)}
    write(kind, tmp_path / "t", settings, items)
    table = read(kind, tmp_path / "t", settings)
    assert dict(table.items()) == items
    for key, value in items.items():
        assert table.lookup(key) == value
    assert table.lookup("key") is None


@pytest.mark.parametrize("kind", ["hash", "btree"])
def test_many_long_keys_make_a_deep_tree(kind, settings, tmp_path):
    items = {f"{i:04}" + "k" * (200 + i * 13 % 2500): str(i) for i in range(700)}
    write(kind, tmp_path / "t", settings, items)
    table = read(kind, tmp_path / "t", settings)
    assert all(table.lookup(key) == value for key, value in items.items())
    assert dict(table.items()) == items


@pytest.mark.parametrize("kind", ["hash", "btree", "lmdb"])
def test_entries_are_added_replaced_and_deleted(kind, settings, tmp_path, logged):
    path = tmp_path / "t"
    write(kind, path, settings, {"a": "1", "b": "2"})
    write(kind, path, settings, {"A": "9", "c": "3"}, create=False)
    shown = f"lmdb:{path}" if kind == "lmdb" else f"{path}.db"
    assert logged == [f'warning: {shown}: duplicate entry: "a"']
    assert dict(read(kind, path, settings).items()) == {"a": "1", "b": "2", "c": "3"}
    write(kind, path, settings, {"a": "9"}, Flags.DUP_REPLACE, create=False)
    writer = open_writer(kind, str(path), settings, Flags.NONE, create=False, must_exist=True)
    assert [writer.remove("b"), writer.remove("b")] == [True, False]
    writer.finish()
    assert dict(read(kind, path, settings).items()) == {"a": "9", "c": "3"}


@pytest.mark.parametrize("kind", ["hash", "btree", "cdb", "lmdb"])
@pytest.mark.parametrize("flag", [Flags.TRY0NULL, Flags.TRY1NULL])
def test_null_bytes_at_the_end(kind, flag, settings, tmp_path):
    write(kind, tmp_path / "t", settings, {"a": "1"}, flag)
    assert read(kind, tmp_path / "t", settings).lookup("a") == "1"
    other = Flags.TRY0NULL | Flags.TRY1NULL ^ flag
    strict = open_table(f"{kind}:{tmp_path}/t", settings, flags=other & ~flag | Flags.LOCK, surrogates=False)
    assert strict.lookup("a") is None


LMDB_CHANGE = """
import sys
from postfixpy.lookup import Flags
from postfixpy.lookup.build import LmdbWriter
from tests.lookup.conftest import Settings
writer = LmdbWriter(sys.argv[1], Settings(), Flags.NONE, create=True, must_exist=False)
writer.update("a", "2")
writer.finish()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_table_is_seen_to_have_changed(kind, settings, tmp_path):
    write(kind, tmp_path / "t", settings, {"a": "1"})
    table = read(kind, tmp_path / "t", settings)
    if kind == "lmdb":  # a file may be open once in a process
        assert subprocess.run([sys.executable, "-c", LMDB_CHANGE, str(tmp_path / "t")]).returncode == 0
        assert table.lookup("a") == "2"
    else:
        write(kind, tmp_path / "t", settings, {"a": "2"})
        assert table.lookup("a") == "1"  # the old file, whole
    assert table.changed()
    assert read(kind, tmp_path / "t", settings).lookup("a") == "2"
    assert sorted(os.listdir(tmp_path)) == ["t" + SUFFIX[kind]]


def test_lmdb_tables_on_one_file(settings):
    first = open_table(f"lmdb:{DATA}/lmdb", settings, flags=Flags.MAPS, surrogates=False)
    second = open_table(f"lmdb:{DATA}/lmdb", settings, flags=Flags.LIST, surrogates=False)
    assert (first.lookup("KEY"), second.lookup("KEY"), second.lookup("key")) == ("value", None, "value")


def test_a_file_rewritten_in_place_is_read_anew(settings, tmp_path):
    write("hash", tmp_path / "t", settings, {"a": "1"})
    write("hash", tmp_path / "other", settings, {"a": "2", "b": "3"})
    table = read("hash", tmp_path / "t", settings)
    assert table.lookup("a") == "1"
    with open(tmp_path / "t.db", "r+b") as file:  # as the real postmap does
        file.truncate()
        file.write((tmp_path / "other.db").read_bytes())
    assert table.lookup("b") == "3"


def test_mode_and_links_survive_a_rebuild(settings, tmp_path):
    write("hash", tmp_path / "t", settings, {"a": "1"})
    os.chmod(tmp_path / "t.db", 0o640)
    write("hash", tmp_path / "t", settings, {"a": "2"})
    assert os.stat(tmp_path / "t.db").st_mode & 0o777 == 0o640
    os.link(tmp_path / "t.db", tmp_path / "second.db")
    write("hash", tmp_path / "t", settings, {"a": "3"})
    assert read("hash", tmp_path / "second", settings).lookup("a") == "3"


def test_the_index_is_older_than_its_source(settings, tmp_path, logged):
    write("hash", tmp_path / "t", settings, {"a": "1"})
    (tmp_path / "t").write_text("a 2\n")
    os.utime(tmp_path / "t.db", (1000, 1000))
    os.utime(tmp_path / "t", (2000, 2000))
    read("hash", tmp_path / "t", settings)
    assert logged == [f"warning: database {tmp_path}/t.db is older than source file {tmp_path}/t"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("hash", "open database {0}.db: Invalid argument"),
        ("btree", "open database {0}.db: Invalid argument"),
        ("cdb", "dict_cdbq_open: unable to init {0}.cdb: Protocol error"),
        ("lmdb", "open database {0}.lmdb: MDB_INVALID: File is not an LMDB file"),
    ],
)
def test_what_is_no_table_is_refused(kind, text, settings, tmp_path):
    with pytest.raises(FatalError) as caught:
        read(kind, tmp_path / "t", settings)
    assert str(caught.value) == f"open database {tmp_path}/t{SUFFIX[kind]}: No such file or directory"
    (tmp_path / f"t{SUFFIX[kind]}").write_bytes(b"text\n" * 4000 if kind != "cdb" else b"x")
    with pytest.raises(FatalError) as caught:
        read(kind, tmp_path / "t", settings)
    assert str(caught.value) == text.format(tmp_path / "t")


def test_a_btree_is_no_hash(settings, tmp_path):
    shutil.copy(DATA / "btree.db", tmp_path / "t.db")
    with pytest.raises(FatalError, match="Invalid argument"):
        read("hash", tmp_path / "t", settings)


ITEMS = {f"k{i}".encode() * (i % 40 + 1): f"v{i}".encode() * (i % 700) for i in range(120)}


def damaged(kind, edits):
    """A file of ITEMS in which bytes are changed."""
    file = io.BytesIO()
    if kind == "cdb":
        file.write(cdb.build(ITEMS.items()))
    elif kind == "lmdb":
        file.write((DATA / "lmdb.lmdb").read_bytes())
    else:
        (bdb_write.write_hash if kind == "hash" else bdb_write.write_btree)(file, ITEMS.items())
    data = bytearray(file.getvalue())
    for position, byte in edits:
        data[position % len(data)] = byte
    return bytes(data)


READERS = {"hash": bdb.DbFile, "btree": bdb.DbFile, "cdb": cdb.CdbFile, "lmdb": lmdb_file.LmdbFile}
DAMAGE = (bdb.BdbError, cdb.CdbError, lmdb_file.LmdbError, OSError)


@pytest.mark.parametrize("kind", KINDS)
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 20) | st.integers(0, 200), st.integers(0, 255)), max_size=30))
@hypothesis_settings(max_examples=150)
def test_a_damaged_file_gives_an_answer_or_an_error(kind, edits, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind}"
    path.write_bytes(damaged(kind, edits))
    fd = os.open(path, os.O_RDONLY)
    try:
        file = READERS[kind](fd)
        for key in list(ITEMS)[::10]:
            file.get(key)
        for _ in file.items():
            pass
    except DAMAGE:
        pass
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=3000))
def test_any_bytes_are_a_table_or_refused(kind, data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"bytes-{kind}"
    magic = {"hash": bdb.HASH_MAGIC, "btree": bdb.BTREE_MAGIC}.get(kind)
    if magic:
        data = (
            data[:12]
            + magic.to_bytes(4, "little")
            + (9).to_bytes(4, "little")
            + (512).to_bytes(4, "little")
            + data[24:]
        )
    if kind == "lmdb":
        data = (DATA / "lmdb.lmdb").read_bytes()[:8192] + data
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        file = READERS[kind](fd)
        file.get(b"key")
        list(file.items())
    except DAMAGE:
        pass
    finally:
        os.close(fd)


def test_a_damaged_table_is_an_error_not_a_miss(settings, tmp_path):
    data = bytearray((DATA / "hash.db").read_bytes())
    data[4096:] = bytes(byte ^ 0xFF for byte in data[4096:])
    (tmp_path / "t.db").write_bytes(data)
    table = read("hash", tmp_path / "t", settings)
    with pytest.raises(TableError, match=r"error reading .*t.db: Invalid argument"):
        for number in range(60):
            table.lookup(f"user{number}@example.com")
