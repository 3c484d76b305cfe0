"""Directories, services, and what is read when."""

from pathlib import Path

import pytest

from postfixpy.config import load
from postfixpy.errors import FatalError


def test_master_cf_is_read_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\ndefault_process_limit = 7\n")
    configuration = load(str(tmp_path))
    with pytest.raises(FatalError, match=r"^open .*/master\.cf: No such file or directory$"):
        configuration.master  # noqa: B018 - the read is the test
    (tmp_path / "master.cf").write_text("smtp inet n - - - - smtpd\nsmtp unix - - - - - smtp\n")
    assert [(entry.type, entry.maxproc, entry.chroot) for entry in configuration.master] == [
        ("inet", 7, False),
        ("unix", 7, False),
    ]
    assert configuration.entry("smtp", "inet") is configuration.master[0]
    assert configuration.entry("nosuch") is None


def test_services_are_chrooted_at_level_0(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("")
    (tmp_path / "master.cf").write_text("smtp unix - - - - - smtp\n")
    assert load(str(tmp_path)).master[0].chroot is True


def test_a_bad_level_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = latest\n")
    with pytest.raises(FatalError, match=r'^malformed compatibility level syntax: "latest"$'):
        load(str(tmp_path)).view().compatibility()


def test_directory_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.cf").write_text("relayhost = x\n")
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    configuration = load()
    assert (configuration.directory, configuration.view().relayhost) == (str(tmp_path), "x")
    assert configuration.view().config_directory == str(tmp_path)


def test_twenty_thousand_lines(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("".join(f"name_{number} = value $x\n" for number in range(20000)))
    assert load(str(tmp_path)).settings.lines["name_19999"] == 20000
