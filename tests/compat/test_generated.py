"""The generated pages of compat/ are up to date. Run by `make test-real`: a scenario can be added without them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.mark.parametrize("tool", ["differences", "coverage"])
def test_up_to_date(tool: str) -> None:
    done = subprocess.run([sys.executable, f"tools/{tool}.py", "--check"], cwd=ROOT, check=False, timeout=280)
    assert done.returncode == 0, f"run: make compat-pages ({tool})"
