"""The runner, with the test in master's place: it passes descriptors 5 and 6 and reads the status messages."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.blocking import Client, connect
from postfixpy.ipc.master_status import AVAIL, SIZE, STATUS, TAKEN, unpack
from tests.ipc.processes import configuration, environment, until

MASTER_CF = """\
echo     unix  n  n  n  -  2  echo
many     unix  n  n  n  -  0  echo
"""


class Started:
    """A service process, with the test as its master."""

    def __init__(self, base: Path, program: str, *words: str, kind: int = socket.SOCK_STREAM, **env: str) -> None:
        self.base = base
        self.path = f"{base}/queue/private/echo"
        self.listener = socket.socket(socket.AF_UNIX, kind)
        directory = os.getcwd()
        os.chdir(f"{base}/queue")  # a socket's path is short when it is relative
        try:
            self.listener.bind("private/echo")
        finally:
            os.chdir(directory)
        if kind == socket.SOCK_STREAM:
            self.listener.listen(50)
        self._run(program, words, [self.listener.fileno()], env)

    def _run(self, program: str, words: tuple[str, ...], sockets: list[int], env: dict[str, str]) -> None:
        self.status, theirs = socket.socketpair()
        self.status.settimeout(10)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (theirs.fileno(), *sockets)]
        self.log = open(f"{self.base}/log", "a+b")  # noqa: SIM115  # closed by stop()
        null = os.open(os.devnull, os.O_RDWR)
        log = fcntl.fcntl(self.log.fileno(), fcntl.F_DUPFD_CLOEXEC, 100)
        places = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        places += [(os.POSIX_SPAWN_DUP2, fd, STATUS + n) for n, fd in enumerate(high)]
        self.pid = os.posix_spawn(
            f"{self.base}/daemons/{program}",
            [program, *words],
            environment(self.base / "etc", GENERATION="12", **env),
            file_actions=places,
        )
        for fd in (*high, null, log):
            os.close(fd)
        theirs.close()
        self.ended = False

    def client(self) -> Client:
        client = connect(self.path, timeout=10)
        client.read_announcement("echo_protocol")
        return client

    def told(self) -> tuple[int, int, int]:
        """The next status message."""
        return unpack(self.status.recv(SIZE))

    def wait(self) -> int:
        """The exit status, or minus the signal."""
        self.ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def logged(self) -> str:
        return Path(f"{self.base}/log").read_text()

    def stop(self) -> None:
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.status.close()
        self.listener.close()
        self.log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    configuration(tmp_path, MASTER_CF, "max_idle = 50s")
    with contextlib.ExitStack() as stack:

        def begin(program: str = "echo", *words: str, **options: object) -> Started:
            started = Started(tmp_path, program, *words, **options)  # type: ignore[arg-type]
            stack.callback(started.stop)
            return started

        yield begin


UNIX = ("-t", "unix")


def ask(client: Client, what: str = "echo") -> dict[str, str]:
    client.send(("do", what))
    return dict(client.read_list())


def test_serves_clients_and_counts_one_to_master(start):
    service = start("echo", *UNIX)
    with service.client() as client:
        assert ask(client) == {"do": "echo", "pid": str(service.pid), "sessions": "2"}
    assert service.told() == (service.pid, 0o12, TAKEN)
    assert service.told() == (service.pid, 0o12, AVAIL)


def test_one_process_serves_as_many_clients_as_its_row_allows_processes(start):
    service = start("echo", *UNIX)
    with service.client() as one, service.client() as two:
        assert ask(one)["pid"] == ask(two)["pid"]
        with connect(service.path, timeout=0.2) as three:
            with pytest.raises(ProtocolError, match="timeout"):
                three.read_announcement("echo_protocol")
            one.close()
            three.socket.settimeout(10)
            three.read_announcement("echo_protocol")  # a session became free


def test_no_process_limit_is_no_session_limit(start):
    service = start("echo", "-z", *UNIX, "-n", "many")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.client()) for _ in range(30)]
        assert {ask(client)["sessions"] for client in clients} == {"0"}


def test_end_of_master_finishes_clients_in_flight(start, tmp_path):
    service = start("echo", *UNIX, f"stopped={tmp_path}/stopped")
    with service.client() as client:
        assert "held" in ask(client, "hold")
        service.status.close()
        service.listener.close()
        until(lambda: _refused(service))
        client.send(("go", "on"))
        assert dict(client.read_list())["do"] == "hold"
        assert client.at_end()  # asked to leave: it keeps no connection between requests
    assert service.wait() == 0
    assert os.path.exists(tmp_path / "stopped")


def _refused(service: Started) -> bool:
    try:
        connect(service.path).close()
    except ConnectionRefusedError:
        return True
    return False


def test_end_of_master_ends_a_client_that_waits_between_requests(start):
    service = start("echo", *UNIX)
    with service.client() as client:
        ask(client)
        service.status.close()
        assert client.at_end()
    assert service.wait() == 0


def test_a_client_that_has_not_spoken_yet_is_still_served(start):
    service = start("echo", *UNIX)
    with service.client() as client:
        service.status.close()
        service.listener.close()
        until(lambda: _refused(service))
        assert ask(client)["do"] == "echo"
    assert service.wait() == 0


def test_idle_process_ends(start):
    service = start("echo", *UNIX, "-i", "1")
    service.client().close()
    assert service.wait() == 0
    assert [service.told()[2] for _ in range(3)] == [TAKEN, AVAIL, TAKEN]


def test_max_use_counts_for_each_session(start):
    service = start("echo", *UNIX, "-m", "2")
    pids = set()
    for _ in range(4):
        with service.client() as client:
            pids.add(ask(client)["pid"])
    assert service.wait() == 0
    assert pids == {str(service.pid)}


def test_retires(start):
    service = start("echo", *UNIX, "-r", "1", "-v")
    assert service.wait() == 0
    assert "time to retire -- exiting" in service.logged()


def test_changed_table_restarts_before_the_client_is_accepted(start, tmp_path):
    service = start("echo", *UNIX, f"table={tmp_path}/changed")
    service.client().close()
    (tmp_path / "changed").touch()
    with connect(service.path) as client:
        assert service.wait() == 0
        connection, _ = service.listener.accept()  # it still waits for the next process
        connection.close()
        client.close()
    assert "table hash:/x(0,lock|fold_fix) has changed -- restarting" in service.logged()


def test_fatal_while_serving_ends_with_status_1(start):
    service = start("echo", *UNIX)
    with service.client() as client:
        client.send(("do", "fatal"))
        assert client.at_end()
    assert service.wait() == 1
    assert "fatal: told to" in service.logged()


def test_a_bug_costs_one_connection_and_is_logged_with_its_place(start):
    service = start("echo", *UNIX)
    with service.client() as client:
        client.send(("do", "bug"))
        assert client.at_end()
    with service.client() as client:
        assert ask(client)["pid"] == str(service.pid)
    assert "unexpected KeyError at echo_service.py:" in service.logged()


FATAL_AT_START = [
    ((), "fatal: no transport type specified"),
    (("-t", "dgram"), "fatal: unsupported transport type: dgram"),
    (("-o", "x"), "fatal: invalid \"-o x\" option value: missing '=' after attribute name"),
    (("-t", "unix", "-Q"), "fatal: invalid option: Q"),
    (("-t", "unix", "-s", "0"), "fatal: invalid socket_count: 0"),
    (("-t", "unix", "-r", "x"), "fatal: invalid retirement time: x"),
    (("-t", "unix", "fail=no luck"), "fatal: no luck"),
    (("-t", "unix", "-o", "max_idle=x"), "fatal: parameter max_idle: bad time value or unit: x"),
    (("-t", "unix", "-o", "queue_directory=/no/such"), 'fatal: chdir("/no/such"): No such file or directory'),
    (("-t", "unix", "-D"), "fatal: no debugger_command variable set up"),
]


def test_fatal_at_start(tmp_path):
    etc = configuration(tmp_path)
    cases = [("echo", words, {}, text) for words, text in FATAL_AT_START]
    cases.append(("echo", UNIX, {"GENERATION": "8"}, "fatal: bad generation: 8"))
    cases.append(("solitary", UNIX, {}, "fatal: service solitary requires a process limit of 1"))
    running = [
        subprocess.Popen(
            [str(tmp_path / "daemons" / program), *words],
            env=environment(etc, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for program, words, env, _ in cases
    ]
    for process, (_, words, _, text) in zip(running, cases, strict=True):
        output, _ = process.communicate(timeout=30)
        assert text in output, words
        assert process.returncode == 1, words


def test_triggers(start, tmp_path):
    service = start("trigger", *UNIX, f"file={tmp_path}/seen")
    for request in (b"W", b"FA\0"):
        with connect(service.path) as client:
            client.socket.sendall(request)
    until(lambda: _seen(tmp_path) == b"WFA")


def _seen(base: Path) -> bytes:
    path = base / "seen"
    return path.read_bytes().replace(b"\n", b"") if path.exists() else b""


def test_datagrams(start, tmp_path):
    service = start("datagrams", "-l", "-t", "unix-dgram", f"file={tmp_path}/seen", kind=socket.SOCK_DGRAM)
    from postfixpy.ipc.logging import connect_datagram

    sock = connect_datagram(service.path)
    assert sock is not None
    with sock:
        sock.send(b"one")
        sock.send(b"two")
    until(lambda: _seen(tmp_path) == b"onetwo")


def test_fifo(start, tmp_path):
    service = start("echo", "-Q")  # its listener is not used
    service.wait()
    service.status.close()
    service.log.close()
    os.mkfifo(tmp_path / "queue/public/fifo")
    fd = os.open(tmp_path / "queue/public/fifo", os.O_RDWR | os.O_NONBLOCK)
    service._run("trigger", ("-t", "fifo", f"file={tmp_path}/seen"), [fd], {})
    os.write(fd, b"W")
    until(lambda: _seen(tmp_path) == b"W")
    os.close(fd)


def test_passed_descriptor(start):
    service = start("echo", "-t", "pass")
    near, far = socket.socketpair()
    with near, far, connect(service.path) as client:
        socket.send_fds(client.socket, [b"\0"], [far.fileno()])
        client.send(("client_address", "192.0.2.1"))
        passed = Client(near, "passed", 10)
        passed.read_announcement("echo_protocol")
        assert ask(passed)["client_address"] == "192.0.2.1"


def test_shares_the_accept_lock_with_siblings(start, tmp_path):
    with open(tmp_path / "queue/pid/unix.echo", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a sibling of the real Postfix waits for a client
        service = start("echo", *UNIX)
        with connect(service.path, timeout=0.5) as client, pytest.raises(ProtocolError, match="timeout"):
            client.read_list()
        fcntl.flock(lock, fcntl.LOCK_UN)
    with service.client() as client:
        assert ask(client)["pid"] == str(service.pid)
    assert oct(os.stat(tmp_path / "queue/pid/unix.echo").st_mode & 0o777) in ("0o600", "0o644")


def test_stand_alone(tmp_path):
    configuration(tmp_path)
    result = subprocess.run(
        [str(tmp_path / "daemons/echo"), "-S"],
        input=b"do\0echo\0\0",
        env=environment(tmp_path / "etc"),
        capture_output=True,
        timeout=20,
    )
    assert result.stdout.startswith(b"protocol\0echo_protocol\0\0do\0echo\0pid\0")
    assert result.returncode == 0


def test_not_by_hand(tmp_path):
    import pty

    configuration(tmp_path)
    near, far = pty.openpty()
    result = subprocess.run(
        [str(tmp_path / "daemons/echo"), *UNIX],
        stdin=far,
        env=environment(tmp_path / "etc"),
        capture_output=True,
        text=True,
    )
    os.close(near)
    os.close(far)
    assert result.returncode == 1
    assert "fatal: do not run this command by hand" in result.stderr


def test_debugger_command_runs(start, tmp_path):
    service = start("echo", *UNIX, "-D", "-o", f"debugger_command=touch {tmp_path}/debugged")
    until((tmp_path / "debugged").exists)
    assert "running: touch" in service.logged()


def test_watchdog(start):
    # A stopped event loop is not easily had from outside; a stopped process is: the alarm fires when it goes on.
    service = start("echo", *UNIX, "-o", "daemon_timeout=3")
    service.client().close()
    os.kill(service.pid, signal.SIGSTOP)
    time.sleep(3.2)
    os.kill(service.pid, signal.SIGCONT)
    assert service.wait() == 1
    assert "fatal: watchdog timeout" in service.logged()
