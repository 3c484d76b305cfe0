"""Master with real processes: the echo services, in a queue directory of the test."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.blocking import Client, connect
from tests.ipc.processes import configuration, environment, until

MASTER_CF = """\
echo      unix  -       n       n       -       2       echo
alone     unix  n       n       n       -       1       echo
broken    unix  -       n       n       -       1       echo {fail=no luck}
wake      unix  n       n       n       1       1       trigger file=woken
later     fifo  n       n       n       1?      1       trigger file=later
local     unix  -       n       n       -       -       nosuch
"""


class Master:
    def __init__(self, base: Path, *options: str, master: str = MASTER_CF, main: str = "", **env: str) -> None:
        self.base = base
        self.etc = configuration(base, master, main)
        self.output = open(base / "log", "ab")  # noqa: SIM115  # closed by stop()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "postfixpy", "master", "-c", str(self.etc), "-d", *options],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env=environment(self.etc, **env),
        )

    def started(self) -> "Master":
        until(lambda: "daemon started" in self.log or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        return self

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    def client(self, service: str = "private/echo", timeout: float = 10) -> Client:
        client = connect(f"{self.base}/queue/{service}", timeout)
        try:
            client.read_announcement("echo_protocol")
        except ProtocolError:
            client.close()
            raise
        return client

    def ask(self, service: str = "private/echo") -> dict[str, str]:
        with self.client(service) as client:
            client.send(("do", "echo"))
            return dict(client.read_list())

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(10)
        self.output.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[object]:
    masters: list[Master] = []

    def begin(*options: str, **more: str) -> Master:
        masters.append(Master(tmp_path, *options, **more))
        return masters[-1]

    yield begin
    for master in masters:
        master.stop()


def test_starts_services_on_demand_and_sockets_at_once(run, tmp_path):
    master = run().started()
    assert oct(os.stat(tmp_path / "queue/private/echo").st_mode & 0o777) == "0o666"
    assert not any(b"echo" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in master.children())
    assert master.ask()["sessions"] == "2"
    assert master.ask("public/alone")["sessions"] == "1"


def test_a_row_without_a_program_is_said_and_has_no_socket(run, tmp_path):
    master = run().started()
    assert (
        f"warning: service local/unix: program nosuch is not available (not one of ours, and no {tmp_path}/daemons/"
        "nosuch): mail for it is deferred\n"
    ) in master.log
    assert not (tmp_path / "queue/private/local").exists()


def test_wakeup_timer(run, tmp_path):
    run().started()
    woken = tmp_path / "queue/woken"
    until(lambda: woken.exists() and woken.read_bytes().startswith(b"W\nW\n"))  # at once, and each second
    assert not (tmp_path / "queue/later").exists()  # "1?": only once somebody has used it
    with open(tmp_path / "queue/public/later", "wb") as fifo:
        fifo.write(b"X")
    later = tmp_path / "queue/later"
    until(lambda: later.exists() and b"W" in later.read_bytes())


def test_a_broken_service_is_throttled_and_tried_again(run, tmp_path):
    master = run(main="service_throttle_time = 1s").started()
    with connect(f"{tmp_path}/queue/private/broken"):
        until(lambda: master.log.count("bad command startup -- throttling") == 2)
    path = f"{tmp_path}/daemons/echo"
    assert re.search(rf"warning: process {path} pid \d+ exit status 1\n", master.log)
    assert f"warning: {path}: bad command startup -- throttling\n" in master.log
    assert "]: fatal: no luck\n" in master.log


def test_a_child_that_dies_is_logged_and_replaced(run, tmp_path):
    master = run().started()
    first = int(master.ask()["pid"])
    for _ in range(5):
        master.ask()  # so that it has told master of the first
    os.kill(first, signal.SIGKILL)
    until(lambda: "killed by signal 9" in master.log)
    assert int(master.ask()["pid"]) != first
    assert f"warning: process {tmp_path}/daemons/echo pid {first} killed by signal 9\n" in master.log
    assert "throttling" not in master.log  # it had served before


def test_reload(run, tmp_path):
    master = run().started()
    with master.client() as busy:
        busy.send(("do", "hold"))
        old = dict(busy.read_list())["held"]
        (tmp_path / "etc/master.cf").write_text("echo unix - n n - 7 echo\nnew unix - n n - - echo\n")
        master.process.send_signal(signal.SIGHUP)
        until(lambda: (tmp_path / "queue/private/new").exists())
        assert "reload -- version" in master.log
        answer = master.ask()
        assert (answer["sessions"], answer["pid"] != old) == ("7", True)  # while the old one still serves
        busy.send(("go", "on"))
        assert dict(busy.read_list())["pid"] == old
    assert master.ask("private/new")["sessions"] == "100"
    with pytest.raises(ConnectionRefusedError):
        master.client("public/alone")


def test_a_reload_with_a_broken_file_changes_nothing(run, tmp_path):
    master = run().started()
    (tmp_path / "etc/master.cf").write_text("echo unix\n")
    master.process.send_signal(signal.SIGHUP)
    until(lambda: "reload failed" in master.log)
    assert f'{tmp_path}/etc/master.cf: line 1: missing "private" field' in master.log
    assert master.ask()["do"] == "echo"


def test_a_signal_ends_everything(run):
    master = run().started()
    master.ask()
    children = master.children()
    master.process.terminate()
    assert master.process.wait(10) == -signal.SIGTERM
    assert "terminating on signal 15" in master.log
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))


def test_kill_9_lets_children_finish_and_the_next_master_start(run, tmp_path):
    master = run().started()
    with master.client() as busy:
        busy.send(("do", "hold"))
        pid = dict(busy.read_list())["held"]
        master.process.kill()
        master.process.wait(10)
        (tmp_path / "log").write_text("")
        second = run().started()
        busy.send(("go", "on"))
        assert dict(busy.read_list())["pid"] == pid  # in flight: finished
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert second.ask()["pid"] != pid


def test_one_master_a_queue(run, tmp_path):
    master = run().started()
    assert (tmp_path / "queue/pid/master.pid").read_text() == f"{master.process.pid:32d}\n"
    again = Master(tmp_path)
    try:
        assert again.process.wait(20) == 1
    finally:
        again.stop()
    text = "open lock file pid/master.pid: unable to set exclusive lock: Resource temporarily unavailable"
    assert f"fatal: {text}" in master.log


def test_the_test_option(run, tmp_path):
    master = run("-t")
    assert master.process.wait(20) == 0
    run().started()
    assert run("-t").process.wait(20) == 1


def test_the_exit_time(run):
    master = run("-e", "1")
    assert master.process.wait(20) == 0
    assert "master exit time has arrived" in master.log


def test_the_debugger(run, tmp_path):
    run("-D", main=f"debugger_command = touch {tmp_path}/debugged").started()
    assert (tmp_path / "debugged").exists()


def test_inet_services(run, tmp_path):
    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    master = run(master=f"{port} inet n n n - 2 echo\n").started()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        client = Client(sock, "inet", 10)
        client.read_announcement("echo_protocol")
        client.send(("do", "echo"))
        assert dict(client.read_list())["sessions"] == "2"
    (tmp_path / "etc/main.cf").write_text((tmp_path / "etc/main.cf").read_text() + "inet_interfaces = all\n")
    master.process.send_signal(signal.SIGHUP)
    until(lambda: "ignoring inet_interfaces change" in master.log)


def test_a_port_in_use_is_fatal(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        master = run(master=f"127.0.0.1:{port} inet n n n - 2 echo\n")
        assert master.process.wait(20) == 1
        assert f"fatal: bind 127.0.0.1 port {port}: Address already in use" in master.log


def may_bind_any_port() -> bool:
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return os.geteuid() == 0 or (lowest.exists() and int(lowest.read_text()) <= 25)


@pytest.mark.skipif(may_bind_any_port(), reason="root may bind any port")
def test_a_port_that_needs_root_is_named_and_the_rest_starts(run):
    master = run(master="127.0.0.1:25 inet n n n - 2 echo\necho unix - n n - 2 echo\n").started()
    assert (
        "warning: service 127.0.0.1:25/inet: bind 127.0.0.1 port 25: Permission denied: connections to it are refused\n"
    ) in master.log
    assert master.ask()


def test_the_log_service_is_implied_by_a_log_file(run, tmp_path):
    master = run(main=f"maillog_file = {tmp_path}/file\nmaillog_file_prefixes = {tmp_path}").started()
    assert master.log.count("warning: missing 'postlog' service in master.cf - using \"postlog unix-dgram n") == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(f"{tmp_path}/queue/public/postlog")
        sock.send(b"Nov 23 16:00:00 host postfix/x[1]: hello")
    until(lambda: (tmp_path / "file").exists() and "hello" in (tmp_path / "file").read_text())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"master": "echo unix - n n - x echo\n"}, 'fatal: {}/etc/master.cf: line 1: field "max_proc": bad value: "x"'),
        ({"main": "queue_directory = /no/such"}, "fatal: chdir /no/such: No such file or directory"),
        ({"main": "service_throttle_time = x"}, "fatal: parameter service_throttle_time: bad time value or unit: x"),
    ],
)
def test_what_is_fatal(run, tmp_path, more, text):
    master = run(**more)
    assert master.process.wait(20) == 1
    assert text.format(tmp_path) in master.log


@pytest.mark.parametrize("options", [["-x"], ["word"], ["-t", "-w"], ["-i"]])
def test_usage(options, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "postfixpy", "master", *options],
        capture_output=True,
        text=True,
        env=environment(configuration(tmp_path)),
    )
    assert result.returncode == 1
    assert result.stderr.startswith("master: fatal: ")


def test_a_disabled_service_is_not_started(run, tmp_path):
    master = run(main="master_service_disable = alone/unix").started()
    assert not (tmp_path / "queue/public/alone").exists()
    assert master.ask()


def test_a_client_waits_while_the_only_process_is_busy(run):
    master = run().started()
    with master.client("public/alone") as busy:
        with pytest.raises(ProtocolError, match="timeout"):
            master.client("public/alone", timeout=0.3)
        busy.close()
        assert master.ask("public/alone")["do"] == "echo"


def test_a_lock_file_that_cannot_be(tmp_path: Path) -> None:
    """Postfix's words for a file that is not there, and for one that is."""
    from postfixpy.services.master import open_lock

    with pytest.raises(FatalError, match=r"lock: cannot create file exclusively: No such file or directory$"):
        open_lock(str(tmp_path / "missing" / "lock"))
    with pytest.raises(FatalError, match=r": cannot open file: Is a directory$"):
        open_lock(str(tmp_path))
