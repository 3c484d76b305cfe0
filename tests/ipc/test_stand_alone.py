"""A service on standard input and output."""

import subprocess

from tests.ipc.processes import configuration, environment


def test_stand_alone(tmp_path):
    configuration(tmp_path)
    result = subprocess.run(
        [str(tmp_path / "daemons/echo"), "-S"],
        input=b"do\0echo\0\0",
        env=environment(tmp_path / "etc"),
        capture_output=True,
        timeout=20,
    )
    assert result.stdout.startswith(b"protocol\0echo_protocol\0\0do\0echo\0pid\0")
    assert result.returncode == 0
