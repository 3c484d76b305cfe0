"""Whole mail systems: ours does with submissions what the real Postfix did."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("release", ["3.7", "3.11"])
def test_ours(release: str) -> None:
    command = [sys.executable, "tools/record_system.py", "--ours", "--release", release]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]


def test_the_real_one_still_does_it() -> None:
    files = [f"compat/systems/{name}.txt" for name in ("bounced", "virtual-alias", "delay-warning")]
    command = [sys.executable, "tools/record_system.py", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
