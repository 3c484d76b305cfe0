import os
import subprocess
import sys

from postfixpy.commands import COMMANDS
from postfixpy.commands.link import main
from postfixpy.services import PROGRAMS
from tests.ipc.processes import configuration


def test_writes_executables(tmp_path, capsys):
    commands, daemons = tmp_path / "bin", tmp_path / "sbin"
    assert main(["link", "--commands", str(commands), "--daemons", str(daemons)]) == 0
    assert {path.name for path in commands.iterdir()} == set(COMMANDS) - {"link", "sink"}
    assert {path.name for path in daemons.iterdir()} == {*PROGRAMS, "master"}
    assert all(os.access(path, os.X_OK) for path in daemons.iterdir())
    assert (daemons / "smtp").read_text().startswith(f"#!{sys.executable} -I\n")
    assert str(daemons) in capsys.readouterr().out


def test_they_run_without_path_and_know_their_name(tmp_path):
    assert main(["link", "--commands", str(tmp_path / "bin"), "--daemons", str(tmp_path / "sbin")]) == 0
    env = {"MAIL_CONFIG": str(configuration(tmp_path)), "POSTFIXPY_LOG": "stdout"}
    result = subprocess.run([tmp_path / "bin/postlog", "-p", "warn", "hi"], env=env, capture_output=True, text=True)
    assert result.stdout.endswith(": warning: hi\n")
    assert "postfix/postlog[" in result.stdout
    result = subprocess.run(
        [tmp_path / "sbin/postlogd"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert "postfix/postlogd[" in result.stdout


def test_replaces_its_own_files_only(tmp_path, capsys):
    assert main(["link", "--daemons", str(tmp_path)]) == 0
    assert main(["link", "--daemons", str(tmp_path)]) == 0
    (tmp_path / "smtp").write_text("the real one")
    assert main(["link", "--daemons", str(tmp_path)]) == 1
    assert f"{tmp_path}/smtp exists and was not written by postfixpy link" in capsys.readouterr().err
    assert (tmp_path / "smtp").read_text() == "the real one"


def test_leaves_links_alone(tmp_path, capsys):
    assert main(["link", "--daemons", str(tmp_path / "a")]) == 0
    (tmp_path / "b").mkdir()
    os.symlink(tmp_path / "a/smtp", tmp_path / "b/smtp")
    assert main(["link", "--daemons", str(tmp_path / "b")]) == 1


def test_usage(capsys):
    for arguments in ([], ["--commands"], ["--x", "y"]):
        assert main(["link", *arguments]) == 64
    assert "usage: postfixpy link" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written(capsys):
    assert main(["link", "--commands", "/proc/none"]) == 1
    assert "postfixpy link: /proc/none" in capsys.readouterr().err
