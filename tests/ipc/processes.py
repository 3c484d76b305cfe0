"""What the tests of the process room share: a tiny configuration, and programs that run the echo services."""

import atexit
import getpass
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWNER, GROUP = ("mail", "daemon") if os.geteuid() == 0 else (getpass.getuser(), "nosuch")
"""Accounts that every system has and that are not root's; without root the owner is who runs it."""
SUBDIRECTORIES = "active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace"


def configuration(base: Path, master: str = "", main: str = "") -> Path:
    """A configuration directory under `base`, whose daemon_directory holds the echo programs."""
    etc, daemons = base / "etc", base / "daemons"
    etc.mkdir(exist_ok=True)
    for name in SUBDIRECTORIES.split():
        (base / "queue" / name).mkdir(parents=True, exist_ok=True)
    data = _give_to_owner(base) if os.geteuid() == 0 else base / "data"
    (etc / "main.cf").write_text(
        f"compatibility_level = 3.11\n"
        f"queue_directory = {base}/queue\n"
        f"data_directory = {data}\n"
        f"daemon_directory = {daemons}\n"
        f"myhostname = test.example\n"
        f"mail_owner = {OWNER}\n"
        f"setgid_group = {GROUP}\n"
        f"inet_interfaces = loopback-only\n"
        f"inet_protocols = ipv4\n"
        f"{main}\n"
    )
    (etc / "master.cf").write_text(master)
    write_programs(daemons)
    return etc


def _give_to_owner(base: Path) -> Path:
    """Give the queue to the mail owner, and make the data directory where the mail owner can enter: pytest closes its
    directories to others whenever it starts. Returns the latter."""
    for name in SUBDIRECTORIES.split():
        if name != "pid":
            shutil.chown(base / "queue" / name, OWNER, GROUP if name in ("maildrop", "public") else None)
    data = Path(tempfile.mkdtemp(prefix="postfixpy-test-data-", dir="/tmp"))
    shutil.chown(data, OWNER)
    atexit.register(shutil.rmtree, data, ignore_errors=True)
    return data


def write_programs(directory: Path) -> None:
    """The echo programs, as executables of this interpreter; those that are there may be running, and stay."""
    from tests.ipc.echo_service import KINDS

    directory.mkdir(exist_ok=True)
    text = (
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.ipc.echo_service import main\nsys.exit(main())\n"
    )
    for name in KINDS:
        if not (directory / name).exists():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)


def environment(etc: Path, **more: str) -> dict[str, str]:
    """An environment in which our programs log to standard output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAIL_", "POST", "GENERATION"))}
    return {**kept, "MAIL_CONFIG": str(etc), "POSTFIXPY_LOG": "stdout", **more}


def until(question: Callable[[], object], seconds: float = 10.0) -> object:
    """Ask until the answer is true, and return it; fail after a while."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return answer
