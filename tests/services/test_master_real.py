"""Our processes under the real master, and real daemons under ours. Needs root and Debian's package."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.commands import link
from postfixpy.config import load
from postfixpy.ipc.blocking import Client, connect
from postfixpy.services.queue_directories import create_missing
from tests.ipc.processes import until

pytestmark = pytest.mark.real

REAL = Path("/usr/lib/postfix/sbin")
OURS = (
    "pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n"
    "rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n"
    "trace unix - - n - 0 bounce\ndiscard unix - - n - 5 discard\nerror unix - - n - - error\n"
    "retry unix - - n - - error\nshowq unix n - n - - showq\n"
)
POSTLOG = "postlog unix-dgram n - n - 1 postlogd\n"


class Instance:
    """A Postfix instance of the test's own, in a directory that the user postfix can enter."""

    def __init__(self, base: Path, master: str, daemons: Path = REAL) -> None:
        self.base = base
        self.etc = base / "etc"
        for name in ("etc", "queue"):
            (base / name).mkdir()
        (self.etc / "main.cf").write_text(
            f"compatibility_level = 3.6\nqueue_directory = {base}/queue\ndata_directory = {base}/data\n"
            f"daemon_directory = {daemons}\nmaillog_file = {base}/log\nmaillog_file_prefixes = {base}\n"
            "myhostname = test.example\ninet_interfaces = loopback-only\ndefault_transport = discard\n"
        )
        (self.etc / "master.cf").write_text(master)
        create_missing(load(str(self.etc)).view())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, argv: list[str]) -> None:
        env = {"PATH": "/usr/sbin:/usr/bin:/bin"}
        self.process = subprocess.Popen(
            [*argv, "-c", str(self.etc), "-d"], env=env, stdin=subprocess.DEVNULL, start_new_session=True
        )
        until(lambda: "daemon started" in self.log)

    @property
    def log(self) -> str:
        path = self.base / "log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def real(self, *words: str, text: str = "") -> str:
        """A command of the real Postfix on this instance."""
        result = subprocess.run(
            [f"/usr/sbin/{words[0]}", "-C" if words[0] == "sendmail" else "-c", str(self.etc), *words[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def processes(self, program: str) -> set[int]:
        """The processes whose command line names a program of this instance."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if f"{self.base}/sbin/{program}".encode() in words:
                    found.add(int(entry.name))
            except OSError:
                pass  # it has just ended
        return found


@pytest.fixture
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def under_real_master(base: Path) -> Iterator[Instance]:
    """The real master and real daemons, but discard and postlogd are ours."""
    daemons = base / "sbin"
    assert link.main(["link", "--daemons", str(base / "ours")]) == 0
    daemons.mkdir()
    for program in REAL.iterdir():
        ours = program.name in ("discard", "postlogd")
        os.symlink(program, daemons / program.name) if not ours else shutil.copy(base / "ours" / program.name, daemons)
    instance = Instance(base, OURS + POSTLOG, daemons)
    instance.start([str(daemons / "master")])
    yield instance
    instance.stop()


def test_our_service_under_the_real_master(under_real_master):
    instance = under_real_master
    for number in range(5):
        instance.real("sendmail", "-f", "a@test.example", f"u{number}@example.com", text="Subject: x\n\nhi\n")
    until(lambda: instance.log.count("status=sent (example.com)") == 5 and instance.log.count(": removed") == 5, 30)
    assert re.search(r" postfix/discard\[\d+\]: \w+: to=<u0@example.com>, relay=none, ", instance.log)
    assert len(instance.processes("discard")) == 2  # one that serves, and its doorkeeper
    assert "warning" not in instance.log


def test_the_real_master_replaces_a_busy_service_at_reload(under_real_master):
    instance = under_real_master
    path = f"{instance.base}/queue/private/discard"
    with connect(path, 10) as busy:
        busy.read_announcement("delivery_request_protocol")
        old = instance.processes("discard")
        os.kill(instance.process.pid, 1)
        until(lambda: len(instance.processes("discard") & old) == 1)  # the doorkeeper has left

        def a_new_process_serves() -> bool:
            with connect(path, 10) as client:  # the old one may take a client that comes before it knows
                client.read_announcement("delivery_request_protocol")
                return len(instance.processes("discard") - old) == 2

        until(a_new_process_serves)
    until(lambda: not instance.processes("discard") & old)


def test_the_real_master_throttles_ours_as_its_own(under_real_master):
    instance = under_real_master
    master_cf = instance.etc / "master.cf"
    master_cf.write_text(master_cf.read_text().replace("5 discard", "5 discard -Q"))
    os.kill(instance.process.pid, 1)
    until(lambda: "reload -- version" in instance.log)
    with connect(f"{instance.base}/queue/private/discard", 10):
        until(lambda: "bad command startup -- throttling" in instance.log)
    assert re.search(r" postfix/discard\[\d+\]: fatal: invalid option: Q\n", instance.log)
    assert re.search(r"warning: process \S+/discard pid \d+ exit status 1\n", instance.log)


def test_real_daemons_under_our_master(base):
    rows = "showq unix n - n - - ./showq\nanvil unix - - y - 1 anvil\n"
    instance = Instance(base, rows + POSTLOG)
    instance.start([sys.executable, "-m", "postfixpy", "master"])
    try:
        assert instance.real("postqueue", "-p") == "Mail queue is empty\n"
        with connect(f"{base}/queue/private/anvil", 10) as anvil:  # chrooted, one process, kept open
            # attr_print_plain: name=value lines
            assert _plain(anvil) == b"protocol=anvil_protocol\n\n"
            for count in (b"1", b"2"):
                anvil.write(b"request=connect\nident=smtp:192.0.2.1\n\n")
                assert _plain(anvil) == b"status=0\ncount=1\nrate=" + count + b"\n\n"
                anvil.write(b"request=disconnect\nident=smtp:192.0.2.1\n\n")
                assert _plain(anvil) == b"status=0\n\n"
        _log_and_end(instance)
        assert "throttling" not in instance.log
    finally:
        instance.stop()


def _plain(client: Client) -> bytes:
    """An attribute list in the plain form."""
    data = b""
    while not data.endswith(b"\n\n"):
        more = client.read_bytes()
        assert more, data
        data += more
    return data


def _log_and_end(instance: Instance) -> None:
    """A reload makes the real daemons leave, through their status channel."""
    os.kill(instance.process.pid, 1)
    until(lambda: "reload -- version" in instance.log)
    assert instance.real("postqueue", "-p") == "Mail queue is empty\n"


def test_real_programs_log_through_our_postlogd(base):
    instance = Instance(base, POSTLOG)
    instance.start([sys.executable, "-m", "postfixpy", "master"])
    try:
        instance.real("postlog", "-t", "probe", "one", "two")
        until(lambda: re.search(r" test probe\[\d+\]: one two\n", instance.log))
    finally:
        instance.stop()


def test_our_records_through_the_real_postlogd(base):
    instance = Instance(base, "postlog unix-dgram n - n - 1 ./postlogd\n")
    instance.start([sys.executable, "-m", "postfixpy", "master"])
    try:
        subprocess.run(
            [sys.executable, "-m", "postfixpy", "postlog", "-c", str(instance.etc), "-t", "probe", "-p", "warn", "hi"],
            check=True,
        )
        until(lambda: re.search(r" test probe\[\d+\]: warning: hi\n", instance.log))
    finally:
        instance.stop()


def test_the_real_postfix_command_runs_our_master(base):
    assert link.main(["link", "--daemons", str(base / "sbin")]) == 0
    instance = Instance(base, OURS + POSTLOG, base / "sbin")

    def command(name: str) -> int:
        argv = ["/usr/sbin/postfix", "-c", str(instance.etc), name]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode

    try:
        assert [command(name) for name in ("status", "start", "status")] == [1, 0, 0]
        pid = int((base / "queue/pid/master.pid").read_text())
        assert b"postfixpy" in Path(f"/proc/{pid}/cmdline").read_bytes()
        instance.real("sendmail", "-f", "a@test.example", "b@example.com", text="Subject: x\n\nx\n")
        until(lambda: "status=sent" in instance.log)
        assert [command(name) for name in ("reload", "check")] == [0, 0]
        until(lambda: "reload -- version" in instance.log)
    finally:
        assert [command(name) for name in ("stop", "stop")] == [0, 1]
    texts = re.findall(r"postfix/postfix-script\[\d+\]: (.*)", instance.log)
    assert [text for text in texts if "warning" not in text] == [
        "the Postfix mail system is not running",
        "starting the Postfix mail system",
        f"the Postfix mail system is running: PID: {pid}",
        "refreshing the Postfix mail system",
        "stopping the Postfix mail system",
        "fatal: the Postfix mail system is not running",
    ]


def test_a_link_by_another_name_among_real_daemons(base):
    assert link.main(["link", "--daemons", str(base / "ours"), "--postfix-version", "3.7"]) == 0
    daemons = base / "sbin"
    daemons.mkdir()
    for program in REAL.iterdir():
        os.symlink(program, daemons / program.name)
    os.symlink(base / "ours/discard", daemons / "discard-py")
    rows = OURS.replace(" discard\n", " discard-py\n") + "discard-py unix - - n - - discard-py\n"
    instance = Instance(base, rows + POSTLOG, daemons)
    (instance.etc / "main.cf").write_text(
        (instance.etc / "main.cf").read_text() + "transport_maps = inline:{other.example=discard-py:}\n"
    )
    instance.start([str(daemons / "master")])
    try:
        instance.real("sendmail", "-f", "a@test.example", "b@example.com", "c@other.example", text="Subject: x\n\nx\n")
        until(lambda: instance.log.count("status=sent") == 2, 20)
        assert len(re.findall(r"postfix/discard\[\d+\]: .*status=sent", instance.log)) == 2
        assert (base / "queue/pid/unix.discard-py").exists()  # the lock of that service, which has that name
    finally:
        instance.stop()
