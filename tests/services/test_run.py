import subprocess
import sys

from postfixpy.services import PROGRAMS
from postfixpy.services.run import _serves_many_under_real_master, main
from tests.ipc.processes import configuration, environment


def test_a_doorkeeper_only_under_a_real_master(monkeypatch):
    monkeypatch.delenv("POSTFIXPY_MASTER", raising=False)
    monkeypatch.delenv("GENERATION", raising=False)
    assert not _serves_many_under_real_master(["smtp", "-t", "unix"])
    monkeypatch.setenv("GENERATION", "1")
    assert _serves_many_under_real_master(["smtp", "-t", "unix"])
    assert _serves_many_under_real_master(["bounce", "-z", "-t", "unix"])
    assert not _serves_many_under_real_master(["qmgr", "-l", "-t", "unix"])
    assert not _serves_many_under_real_master(["smtp", "-S"])
    assert not _serves_many_under_real_master(["smtp", "-Q"])
    monkeypatch.setenv("POSTFIXPY_MASTER", "3.11")
    assert not _serves_many_under_real_master(["smtp", "-t", "unix"])


def test_a_program_by_name(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "postfixpy", "postlogd"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(configuration(tmp_path)),
    )
    assert result.returncode == 1
    assert "postfix/postlogd[" in result.stdout
    assert "fatal: service postlogd requires a process limit of 1" in result.stdout


def test_what_is_missing_is_logged(monkeypatch, capfd):
    monkeypatch.setenv("POSTFIXPY_LOG", "stdout")
    monkeypatch.setattr("postfixpy.services.run.time.sleep", lambda seconds: None)
    monkeypatch.setitem(PROGRAMS, "smtp", "no_such_module:Smtp")
    assert main(["smtp"]) == 1
    assert "/smtp[" in (out := capfd.readouterr().out)
    assert "]: fatal: cannot load: No module named 'postfixpy.services.no_such_module' (at " in out
