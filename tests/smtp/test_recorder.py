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
]  # fmt: skip

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("option", [[], ["--ours"]])
def test_sample(option: list[str]) -> None:
    files = [f"compat/scenarios/smtp/{name}.txt" for name in SAMPLE]
    command = [sys.executable, "tools/record_smtp.py", *option, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
