"""hash: and btree: redirected to other types."""

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import open_table
from postfixpy.lookup.build import open_writer
from postfixpy.lookup.table import Flags


@pytest.fixture
def migrating(settings):
    settings.non_bdb_migration_level = "enable-redirect"
    settings.non_bdb_migration_log_redirect = True
    settings.non_bdb_custom_mapping = ""
    settings.default_database_type = "cdb"
    settings.default_cache_db_type = "lmdb"
    return settings


def test_tables_are_made_and_read_in_the_other_format(migrating, tmp_path, logged):
    writer = open_writer("hash", f"{tmp_path}/t", migrating, Flags.NONE, create=True)
    writer.update("a", "1")
    writer.finish()
    assert (tmp_path / "t.cdb").exists()
    table = open_table(f"hash:{tmp_path}/t", migrating)
    assert (table.kind, table.lookup("a")) == ("cdb", "1")
    assert logged[-1] == f"info: redirecting hash:{tmp_path}/t to cdb:{tmp_path}/t"


def test_a_custom_mapping(migrating, tmp_path):
    migrating.non_bdb_custom_mapping = f"inline:{{hash:{tmp_path}/x=lmdb, hash=texthash}}"
    (tmp_path / "t").write_text("a 1\n")
    assert open_table(f"hash:{tmp_path}/t", migrating).kind == "texthash"
    with pytest.raises(FatalError, match=r"x\.lmdb"):
        open_table(f"hash:{tmp_path}/x", migrating, surrogates=False)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("default_database_type", "btree", "mapping from 'hash' to legacy type 'btree'"),
        ("default_database_type", "nosuch", "mapping to unsupported database type: 'nosuch'"),
        ("default_database_type", "a b", "bad non-legacy database type syntax: 'a b'"),
        ("non_bdb_custom_mapping", "hash:/x", "non_bdb_custom_mapping must not use legacy type: 'hash'"),
        ("non_bdb_custom_mapping", "fail:x", "fail:x lookup error for 'hash:/t'"),
        ("non_bdb_migration_level", "maybe", "invalid non-Berkeley-DB migration level: 'maybe'"),
    ],
)
def test_errors(migrating, name, value, text):
    setattr(migrating, name, value)
    with pytest.raises(FatalError) as caught:
        open_table("hash:/t", migrating, surrogates=False)
    assert str(caught.value).endswith(text)


def test_a_table_that_is_not_made_anew_yet(migrating, tmp_path):
    """With the level enable-reindex the old file is read for as long as there is no other."""
    migrating.non_bdb_migration_level = "disable"
    writer = open_writer("hash", f"{tmp_path}/t", migrating, Flags.NONE, create=True)
    writer.update("a", "old")
    writer.finish()
    migrating.non_bdb_migration_level = "enable-reindex"
    assert open_table(f"hash:{tmp_path}/t", migrating).lookup("a") == "old"
    writer = open_writer("hash", f"{tmp_path}/t", migrating, Flags.NONE, create=True)
    writer.update("a", "new")
    writer.finish()
    assert (tmp_path / "t.cdb").exists()
    migrating.non_bdb_migration_level = "enable-redirect"
    assert open_table(f"hash:{tmp_path}/t", migrating, flags=Flags.LIST).lookup("a") == "new"


def test_tables_that_cannot_be_made(migrating, tmp_path):
    migrating.default_database_type = "static"
    for create in (True, False):
        with pytest.raises(FatalError, match="no 'map create' support for non_bdb mapped type: static"):
            open_writer("hash", f"{tmp_path}/t", migrating, Flags.NONE, create=create)
    migrating.default_database_type = "btree"
    with pytest.raises(FatalError, match=r"^non_bdb migration mapping lookup error for 'hash': mapping from 'hash' to"):
        open_writer("hash", f"{tmp_path}/t", migrating, Flags.NONE, create=True)
