"""Directories that a mail owner other than root can enter: pytest's own are closed to everybody else."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def make() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="postfixpy-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from make()


@pytest.fixture(scope="module")
def module_path() -> Iterator[Path]:
    yield from make()
