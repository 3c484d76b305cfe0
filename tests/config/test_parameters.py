"""The database, and that what is generated from it is up to date."""

import subprocess
import sys
from pathlib import Path

import pytest

from postfixpy.config.parameters import RELEASES, Database, default_since, parse_release, read_rows
from postfixpy.errors import FatalError

ROOT = Path(__file__).resolve().parents[2]


def test_generated_files_are_up_to_date() -> None:
    command = [sys.executable, "tools/build_parameters.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_kinds_and_limits_are_readable() -> None:
    for name, kind, unit, minimum, maximum, *history in read_rows("parameters.tsv"):
        assert kind in ("string", "raw", "int", "long", "nint", "time", "bool", "nbool"), name
        assert (unit in ("s", "m", "h", "d", "w")) == (kind == "time"), name
        assert all(limit == "" or int(limit) >= 0 for limit in (minimum, maximum)), name
        releases = [cell.partition("=")[0] for cell in history]
        assert releases == sorted(releases, key=RELEASES.index), name


@pytest.mark.parametrize(("release", "count"), [("2.3", 523), ("2.8", 726), ("3.7", 831), ("3.11", 873)])
def test_number_of_parameters(release: str, count: int) -> None:
    assert abs(len(Database(release, "upstream").parameters) - count) <= 3


def test_history() -> None:
    assert Database("2.6", "upstream").parameters["smtp_line_length_limit"].default == "990"
    assert Database("2.9", "upstream").parameters["smtp_line_length_limit"].default == "998"
    assert "postscreen_greet_ttl" not in Database("2.6", "upstream").parameters
    assert Database("2.8", "upstream").parameters["smtp_tls_loglevel"].kind == "int"
    assert Database("2.9", "upstream").parameters["smtp_tls_loglevel"].kind == "string"
    assert Database("2.10", "upstream").parameters["recipient_delimiter"].maximum == 1
    assert Database("3.0", "upstream").parameters["recipient_delimiter"].maximum is None
    assert default_since("smtp_line_length_limit", Database("3.7", "upstream")) == "2.9"
    assert default_since("smtp_line_length_limit", Database("2.8", "upstream")) == "2.3"


def test_profiles() -> None:
    debian, old = Database("3.11", "debian"), Database("2.11", "debian")
    assert debian.parameters["default_database_type"].default == "cdb"
    assert debian.parameters["mail_version"].default == "3.11.7"
    assert old.parameters["daemon_directory"].default == "/usr/lib/postfix/sbin"
    assert old.parameters["mail_version"].default == "2.11.11"
    assert debian.build_date > 20260000


def test_families() -> None:
    database = Database("3.11", "upstream")
    assert len(database.service_suffixes("smtp")) == 16
    assert len(database.service_suffixes("pipe")) == 17
    assert database.service_suffixes("spawn") == [("_time_limit", "$command_time_limit")]
    assert database.service_suffixes("discard") == []
    assert "virtual_maps" in database.legacy_names()
    assert database.mirrors()["smtp_helo_timeout"] == "lmtp_lhlo_timeout"
    assert database.mirrors()["smtp_connect_timeout"] == "lmtp_connect_timeout"


def test_releases() -> None:
    assert parse_release("3.7.11") == (3, 7)
    for text in ("3", "3.12", "x", "3.7.x", ""):
        with pytest.raises(FatalError):
            parse_release(text)
