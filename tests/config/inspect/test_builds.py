"""What recorded builds support."""

from postfixpy.config.inspect.builds import listing
from postfixpy.config.parameters import database


def test_table_types() -> None:
    assert "debug" in listing(database("3.11", "upstream"), "m")
    assert "debug" not in listing(database("3.10", "upstream"), "m")
    assert "lmdb" in listing(database("3.7", "debian"), "m")
    assert listing(database("3.8", "debian"), "m") == listing(database("3.7", "debian"), "m")
    assert "lmdb" not in listing(database("3.4", "debian"), "m")  # nothing recorded: as upstream


def test_other_lists() -> None:
    assert listing(database("2.3", "upstream"), "a") == ["cyrus", "dovecot"]
    assert listing(database("3.11", "debian"), "l") == ["flock", "fcntl", "dotlock"]
    assert listing(database("2.3", "upstream"), "T:run-version") == []
