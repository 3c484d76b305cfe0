"""The fuzz targets run: each a moment, from a fixed seed. The tools run them for as long as one likes."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "path", sorted([*TOP.glob("tools/fuzz_client.py"), *TOP.glob("tools/fuzz_session.py")]), ids=lambda path: path.stem
)
def test_target(path: Path) -> None:
    done = subprocess.run([sys.executable, str(path), "1", "1"], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
