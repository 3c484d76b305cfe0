"""`start` begins service processes, and ends them with the test."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ipc.processes import configuration
from tests.ipc.started import Started

MASTER_CF = """\
echo     unix  n  n  n  -  2  echo
many     unix  n  n  n  -  0  echo
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    configuration(tmp_path, MASTER_CF, "max_idle = 50s")
    with contextlib.ExitStack() as stack:

        def begin(program: str = "echo", *words: str, **options: object) -> Started:
            started = Started(tmp_path, program, *words, **options)  # type: ignore[arg-type]
            stack.callback(started.stop)
            return started

        yield begin
