"""The command line that runs a program of ours: alone, from anywhere, whatever the environment says."""

import os
import subprocess

from postfixpy.ipc.launch import command_line


def test_runs_from_anywhere_and_trusts_nothing_around_it(tmp_path):
    (tmp_path / "postfixpy.py").write_text("raise SystemExit('the working directory was imported')")
    (tmp_path / "os.py").write_text("raise SystemExit('the working directory was imported')")
    command = [*command_line("postconf"), "-d", "-h", "queue_directory"]
    assert os.path.isabs(command[0]) and os.path.isabs(command[2])
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "/var/spool/postfix\n", "")


def test_an_unknown_program():
    done = subprocess.run(command_line("nonesuch"), capture_output=True, text=True, check=False)
    assert done.returncode == 127 and "unknown command: nonesuch" in done.stderr
