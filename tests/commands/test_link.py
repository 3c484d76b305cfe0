import os
import subprocess
import sys

from postfixpy.commands import COMMANDS
from postfixpy.commands.link import main, meaning
from postfixpy.services import PROGRAMS
from tests.ipc.processes import configuration


def test_writes_executables(tmp_path, capsys):
    commands, daemons = tmp_path / "bin", tmp_path / "sbin"
    assert main(["link", "--commands", str(commands), "--daemons", str(daemons)]) == 0
    assert {path.name for path in commands.iterdir()} == set(COMMANDS) - {"link", "oauth", "sink", "trace"}
    assert {path.name for path in daemons.iterdir()} == {*PROGRAMS, "master", "postfix-script"}
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


def test_what_a_link_to_one_of_them_means(tmp_path):
    for name in ("smtp", "lmtp", "sendmail", "qmgr", "postconf"):
        (tmp_path / name).touch()

    def called(name: str, to: str, *words: str) -> str:
        (tmp_path / "links").mkdir(exist_ok=True)
        path = tmp_path / "links" / name
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / to)
        program, arguments = meaning(str(path), list(words))
        return " ".join([program, *arguments])

    assert meaning(str(tmp_path / "smtp"), ["-u"]) == ("smtp", ["-u"])
    assert called("smtp-py", "smtp", "-t", "unix") == "smtp -n smtp-py -t unix"
    assert called("lmtp", "smtp") == "lmtp"
    assert called("smtp", "lmtp") == "smtp"
    assert called("local", "smtp") == "smtp -n local"
    assert called("mailq", "sendmail") == "mailq"
    assert called("pc", "postconf", "-n") == "postconf -n"


def test_a_link_with_another_name_runs(tmp_path):
    assert main(["link", "--daemons", str(tmp_path / "sbin")]) == 0
    (tmp_path / "log-py").symlink_to(tmp_path / "sbin/postlogd")
    result = subprocess.run([tmp_path / "log-py", "-x"], env={}, capture_output=True, text=True, check=False)
    assert "unknown command" not in result.stderr + result.stdout
    assert result.returncode == 1


def test_postfix_script_is_the_postfix_command(tmp_path):
    assert main(["link", "--daemons", str(tmp_path / "sbin")]) == 0
    etc = configuration(tmp_path, main="compatibility_level = 2\nmaillog_file = /dev/stdout")
    result = subprocess.run(
        [tmp_path / "sbin/postfix-script", "status"], env={"MAIL_CONFIG": str(etc)}, capture_output=True
    )
    assert result.stdout.endswith(b": the Postfix mail system is not running\n")
    assert result.stdout.count(b"\n") == 1  # Postfix's command has said what there is to say of compatibility
    assert result.returncode == 1


def test_usage(capsys):
    for arguments in ([], ["--commands"], ["--x", "y"]):
        assert main(["link", *arguments]) == 64
    assert "usage: postfixpy link" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written(capsys):
    assert main(["link", "--commands", "/proc/none"]) == 1
    assert "postfixpy link: /proc/none" in capsys.readouterr().err
