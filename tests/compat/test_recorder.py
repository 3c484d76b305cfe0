"""The recorder: the real program does today what was recorded, and our program over real sockets does it too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = [
    "simple-delivery", "pipelining-partial-refusal", "mx-rcpt-4xx", "dns-nxdomain", "lmtp-pipelined", "cache-reuse",
    "mime-downgrade", "generic-maps", "notify-protocol", "probe-data", "sasl-plain", "timeout-mail",
    "../sasl/scram-sha-256-good", "../sasl/digest-md5-good", "../sasl/cache-535", "../sasl/initial-long",
]  # fmt: skip
FILES = [f"compat/scenarios/smtp/{name}.txt" for name in SAMPLE]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own"),
    pytest.mark.timeout(300),
]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.parametrize("command", [["tools/record_smtp.py"], ["tools/replay.py", "--live"]])
def test_sample(command: list[str]) -> None:
    done = run(*command, *FILES)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_a_new_recording_is_stored_in_a_folder_outside(tmp_path: Path) -> None:
    text = (ROOT / FILES[0]).read_text()
    path = tmp_path / "mine.txt"
    path.write_text(text.partition("== recorded")[0])
    done = run("tools/record_smtp.py", "--write", str(tmp_path))
    assert "NEW" in done.stdout and done.returncode == 0
    recorded = path.read_text()
    assert "\n== recorded 3.7\n" in recorded or "\n== recorded 3.7 3.11\n" in recorded
    assert run("tools/record_smtp.py", str(tmp_path)).returncode == 0
