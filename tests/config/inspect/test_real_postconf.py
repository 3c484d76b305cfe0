"""Ours against the installed postconf, over generated configurations: same output, messages, status and files.

The real program pauses a second after a fatal error, so every example is a batch whose members run at the same time.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from postfixpy.commands import postconf
from postfixpy.config.lines import encode
from postfixpy.config.parameters import RELEASES

from . import generated

pytestmark = pytest.mark.real
REAL = "/usr/sbin/postconf"
BATCH = 20
EXAMPLES = int(os.environ.get("POSTFIXPY_EXAMPLES", "15"))
"""Batches of each test; thousands of configurations with POSTFIXPY_EXAMPLES=200."""

Case = tuple[str, str, list[str]]
Outcome = tuple[int, bytes, bytes, dict[str, bytes]]


def release_of_real() -> str:
    done = subprocess.run([REAL, "-dh", "mail_version"], capture_output=True, text=True)
    release = ".".join(done.stdout.split(".")[:2])
    if release not in RELEASES:
        pytest.skip(f"no data for release {release}")
    return release


@pytest.fixture(scope="module", autouse=True)
def same_release() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTFIXPY_VERSION", release_of_real())
        patch.setenv("POSTFIXPY_PROFILE", "debian")
        patch.delenv("MAIL_CONFIG", raising=False)
        yield


def write(directory: str, case: Case) -> list[str]:
    for name, text in (("main.cf", case[0]), ("master.cf", case[1])):
        path = Path(directory) / name
        path.write_bytes(encode(text))
        os.utime(path, (31536000, 31536000))  # the real one waits while a file is fresh
    return ["postconf", "-c", directory, *case[2]]


def outcome(directory: str, status: int, output: bytes, errors: bytes) -> Outcome:
    files = {name: (Path(directory) / name).read_bytes() for name in sorted(os.listdir(directory))}
    leftovers = {name: b"" if name.endswith(".tmp") else data for name, data in files.items()}
    place = directory.encode()
    output = re.sub(rb"(?m)^process_id = \d+$|(?<=postconf )\d+(?= & sleep)", b"PID", output.replace(place, b"DIR"))
    return status, output, errors.replace(place, b"DIR"), leftovers


def run_real(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="pc") as directory:
        command = [encode(word) for word in write(directory, case)]
        environment = {"NORANDOMIZE": "1", "PATH": "/usr/sbin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
        return outcome(directory, done.returncode, done.stdout, done.stderr)


def run_ours(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="pc") as directory:
        output, errors = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = postconf.main(write(directory, case))
            sys.stdout.flush()
        return outcome(directory, status, output.buffer.getvalue(), errors.buffer.getvalue())  # type: ignore[attr-defined]


def compare(cases: list[Case]) -> None:
    with ThreadPoolExecutor(BATCH) as pool:
        real = list(pool.map(run_real, cases))
    for case, expected in zip(cases, real, strict=True):
        ours = run_ours(case)
        if expected[0] >= 0:  # some broken input crashes the real one
            assert ours == expected, case


LISTING = st.tuples(generated.MAIN, generated.MASTER, generated.LISTINGS)
EDIT = st.tuples(generated.MAIN, generated.MASTER, generated.EDITS)
SLOW = settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # shrinking would take a second a step; the failing case is shown
)


@SLOW
@pytest.mark.timeout(3600)
@given(st.lists(LISTING, min_size=BATCH, max_size=BATCH))
def test_listings(cases: list[Case]) -> None:
    compare(cases)


@SLOW
@pytest.mark.timeout(3600)
@given(st.lists(EDIT, min_size=BATCH, max_size=BATCH))
def test_edits(cases: list[Case]) -> None:
    compare(cases)
