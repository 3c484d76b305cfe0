"""How a service process starts, and what it refuses to start with."""

import os
import subprocess

from tests.ipc.processes import configuration, environment, until
from tests.ipc.started import UNIX

FATAL_AT_START = [
    ((), "fatal: no transport type specified"),
    (("-t", "dgram"), "fatal: unsupported transport type: dgram"),
    (("-o", "x"), "fatal: invalid \"-o x\" option value: missing '=' after attribute name"),
    (("-t", "unix", "-Q"), "fatal: invalid option: Q"),
    (("-t", "unix", "-s", "0"), "fatal: invalid socket_count: 0"),
    (("-t", "unix", "-r", "x"), "fatal: invalid retirement time: x"),
    (("-t", "unix", "fail=no luck"), "fatal: no luck"),
    (("-t", "unix", "-o", "max_idle=x"), "fatal: parameter max_idle: bad time value or unit: x"),
    (("-t", "unix", "-o", "queue_directory=/no/such"), 'fatal: chdir("/no/such"): No such file or directory'),
    (("-t", "unix", "-D"), "fatal: no debugger_command variable set up"),
]


def test_fatal_at_start(tmp_path):
    etc = configuration(tmp_path)
    cases = [("echo", words, {}, text) for words, text in FATAL_AT_START]
    cases.append(("echo", UNIX, {"GENERATION": "8"}, "fatal: bad generation: 8"))
    cases.append(("solitary", UNIX, {}, "fatal: service solitary requires a process limit of 1"))
    cases.append(("unlimited", UNIX, {}, "fatal: service unlimited requires a process limit of 0"))
    cases.append(("unlimited", ("-l", *UNIX), {}, "fatal: service unlimited requires a process limit of 0"))
    running = [
        subprocess.Popen(
            [str(tmp_path / "daemons" / program), *words],
            env=environment(etc, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for program, words, env, _ in cases
    ]
    for process, (_, words, _, text) in zip(running, cases, strict=True):
        output, _ = process.communicate(timeout=30)
        assert text in output, words
        assert process.returncode == 1, words


def test_not_by_hand(tmp_path):
    import pty

    configuration(tmp_path)
    near, far = pty.openpty()
    result = subprocess.run(
        [str(tmp_path / "daemons/echo"), *UNIX],
        stdin=far,
        env=environment(tmp_path / "etc"),
        capture_output=True,
        text=True,
    )
    os.close(near)
    os.close(far)
    assert result.returncode == 1
    assert "fatal: do not run this command by hand" in result.stderr


def test_debugger_command_runs(start, tmp_path):
    service = start("echo", *UNIX, "-D", "-o", f"debugger_command=touch {tmp_path}/debugged")
    until((tmp_path / "debugged").exists)
    assert "running: touch" in service.logged()
