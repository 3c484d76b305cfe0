"""What recorded builds support, and the plug-ins of Debian's."""

from pathlib import Path

import pytest

from postfixpy.config.inspect.builds import listing, table_types
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError


def test_table_types() -> None:
    assert "debug" in table_types(database("3.11", "upstream"), "", ["x"])
    assert "debug" not in table_types(database("3.10", "upstream"), "", ["x"])
    assert table_types(database("3.8", "debian"), "/none", ["x"]) == table_types(
        database("3.7", "debian"), "/none", ["x"]
    )
    assert "pcre" in table_types(database("3.4", "debian"), "/none", [])  # nothing recorded: as upstream


def test_plugins_of_the_machine(tmp_path: Path, log_lines: list[str]) -> None:
    debian = database("3.7", "debian")
    assert "lmdb" in table_types(debian, str(tmp_path), ["lmdb"])  # no Postfix here: what ours can do
    (tmp_path / "dynamicmaps.cf").write_text("# comment\n\nlmdb\tpostfix-lmdb.so\tdict_lmdb_open\tmkmap_lmdb_open\n")
    (tmp_path / "dynamicmaps.cf.d").mkdir()
    (tmp_path / "dynamicmaps.cf.d/a").write_text("pcre postfix-pcre.so dict_pcre_open\n")
    (tmp_path / "dynamicmaps.cf.d/b").write_text("pcre postfix-pcre.so dict_pcre_open\n")
    assert set(table_types(debian, str(tmp_path), ["cdb"])) - set(listing(debian, "m")) == {"lmdb", "pcre"}
    assert log_lines == [f'warning: {tmp_path}/dynamicmaps.cf.d/b: ignoring duplicate entry for "pcre"']
    (tmp_path / "dynamicmaps.cf").write_text("lmdb postfix-lmdb.so\n")
    with pytest.raises(FatalError, match="line 1: Expected"):
        table_types(debian, str(tmp_path), [])
    (tmp_path / "dynamicmaps.cf").chmod(0o666)
    assert "skipping this file" in (table_types(debian, str(tmp_path), []) and log_lines[1])


def test_other_lists() -> None:
    assert listing(database("2.3", "upstream"), "a") == ["cyrus", "dovecot"]
    assert listing(database("3.11", "debian"), "l") == ["flock", "fcntl", "dotlock"]
    assert listing(database("2.3", "upstream"), "T:run-version") == []
    assert listing(database("3.7", "debian"), "T:compile-version") == ["OpenSSL 3.0.11 19 Sep 2023"]
