"""Running the real postconf of a release, and ours in this process, on a generated case.

A case has the same path for both, /tmp/NAME: of the machine for the machine's own Postfix and for ours, of a root
(tools/real_root.py) for that of another release. The real program sleeps a second after a fatal error; a preloaded
library, made with gcc where there is one, takes that away.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

from postfixpy.commands import postconf
from postfixpy.config import host
from postfixpy.config.lines import encode
from postfixpy.config.parameters import RELEASES
from tools import real_root

from .generated import Case

REAL = "/usr/sbin/postconf"
Outcome = tuple[int, bytes, bytes, dict[str, bytes]]
"""Exit status, standard output, standard error, files."""


def machine_release() -> str:
    """The release of the machine's postconf; "" if it has none that we know."""
    if not os.path.exists(REAL):
        return ""
    done = subprocess.run([REAL, "-dh", "mail_version"], capture_output=True, text=True)
    release = ".".join(done.stdout.split(".")[:2])
    return release if release in RELEASES else ""


class Real:
    """The real postconf of `release`; `close` removes what this put beside it."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.root = Path("/") if release == machine_release() else real_root.root(release)
        self.name = f"/tmp/pc{os.getpid()}-{release}"
        self.environment = {"NORANDOMIZE": "1", "PATH": "/usr/sbin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        self.pid = 0  # of the last run, which knows it as $process_id
        self.library = self._no_sleep()

    def inside(self, path: str) -> Path:
        """Where a path of the real program is."""
        return self.root / path[1:]

    def _no_sleep(self) -> str:
        if shutil.which("gcc") is None:
            return ""
        library = f"{self.name}.so"
        command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-o", library, "-"]
        subprocess.run(command, input=b"unsigned sleep(unsigned s) { return 0; }", check=True)
        if self.root != Path("/"):
            shutil.copy(library, self.inside(library))  # both are there: unshare(1) is given it, too
        self.environment["LD_PRELOAD"] = library
        return library

    def close(self) -> None:
        if self.library:
            for path in {Path(self.library), self.inside(self.library)}:
                path.unlink()

    def run(self, case: Case) -> Outcome:
        """The real program's answer."""
        name = f"{self.name}-d"
        place = self.inside(name)
        prepare(case, place, name)
        enter = [] if self.root == Path("/") else ["unshare", "-R", str(self.root), "-w", name]
        command = [*map(os.fsencode, enter), b"postconf", *(encode(word.replace("@DIR@", name)) for word in case.words)]
        environment = {**self.environment, **_environment(case, name)}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, cwd=place
        ) as process:
            output, errors = process.communicate(timeout=60)
        self.pid = process.pid
        return outcome(place, process.returncode, output, errors)


def run_ours(case: Case, real: Real) -> Outcome:
    """Our answer, in this process, as if it were the one of the last run of the real one."""
    place = Path(f"{real.name}-d")
    prepare(case, place, str(place))
    output, errors = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    settings = {"POSTFIXPY_VERSION": real.release, "POSTFIXPY_PROFILE": "debian", **_environment(case, str(place))}
    before, directory = dict(os.environ), os.getcwd()
    host.protocol_families.cache_clear()
    os.environ.pop("MAIL_CONFIG", None)
    os.environ.update(settings)
    os.chdir(place)
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            mock.patch("os.getpid", lambda: real.pid),
        ):
            status = postconf.main(["postconf", *(word.replace("@DIR@", str(place)) for word in case.words)])
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(before)
    return outcome(place, status, output.buffer.getvalue(), errors.buffer.getvalue())  # type: ignore[attr-defined]


def _environment(case: Case, name: str) -> dict[str, str]:
    return {key: value.replace("@DIR@", name) for key, value in case.environment.items()}


def prepare(case: Case, place: Path, name: str) -> None:
    """Make the directory of a case."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for file, text in case.files.items():
        path = place / file
        if text == "/":
            path.mkdir()
        elif text is not None:
            path.write_bytes(encode(text.replace("@DIR@", name)))
            os.utime(path, (31536000, 31536000))  # the real one waits while a file is fresh


def outcome(place: Path, status: int, output: bytes, errors: bytes) -> Outcome:
    """What a run left; the directory is removed."""
    files = {path.name: path.read_bytes() if path.is_file() else b"/" for path in sorted(place.iterdir())}
    shutil.rmtree(place)
    leftovers = {file: b"" if file.endswith(".tmp") else data for file, data in files.items()}
    return status, output, errors, leftovers
