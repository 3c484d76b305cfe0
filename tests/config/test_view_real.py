"""Views against ``postconf -x`` of the installed Postfix: the same value for every parameter."""

import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.config import load
from postfixpy.config.inspect.text import line
from postfixpy.config.lines import decode, encode

from .inspect import generated
from .inspect.test_real_postconf import REAL, release_of_real

pytestmark = pytest.mark.real
BATCH = 20


def ask_real(directory: str) -> dict[str, str] | None:
    environment = {"NORANDOMIZE": "1", "PATH": "/usr/sbin:/usr/bin:/bin"}
    done = subprocess.run([REAL, "-c", directory, "-x"], capture_output=True, env=environment)
    if done.returncode:
        return None
    values = {}
    for text in decode(done.stdout).split("\n"):
        name, _, value = text.partition(" =")
        values[name] = value.removeprefix(" ")
    return values


@settings(
    max_examples=int(os.environ.get("POSTFIXPY_EXAMPLES", "10")),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@pytest.mark.timeout(3600)
@given(st.lists(generated.MAIN, min_size=BATCH, max_size=BATCH))
def test_every_value(mains: list[str]) -> None:
    release = release_of_real()
    log.set_sink(lambda severity, text: None)
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(BATCH) as pool:
        directories = []
        for number, main in enumerate(mains):
            directory = Path(root) / str(number)
            directory.mkdir()
            for name, text in (("main.cf", main), ("master.cf", "")):
                (directory / name).write_bytes(encode(text))
                os.utime(directory / name, (31536000, 31536000))
            directories.append(str(directory))
        for directory, main, expected in zip(directories, mains, pool.map(ask_real, directories), strict=True):
            if expected is None:
                continue
            if "process_name" in main and re.search(r"^my(domain|hostname)", main, re.MULTILINE):
                continue  # postconf evaluates the names of the host before it has set its own
            view = load(directory, release=release, profile="debian").view(process_name="postconf")
            for name, parameter in view.configuration.database.parameters.items():
                if name in ("process_id", "debugger_command", "service_name"):
                    continue
                raw = view.raw(name) or ""
                value = raw if parameter.kind == "raw" else view.expand(raw)
                assert line(f"{name} = {value}").rstrip("\n") == f"{name} = {expected[name]}".rstrip(" "), main
