"""Random policies, beside the real smtp(8): level, words and outcome are equal (tools/fuzz_tls_policy.py)."""

import subprocess
import sys

import pytest
from recorder.programs import TOP, installed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.mark.parametrize("release", installed())
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_equal(release: str, seed: int) -> None:
    command = [sys.executable, str(TOP / "tools/fuzz_tls_policy.py"), "--seed", str(seed), "--release", release]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
