"""The life of a service process: clients, limits, the end."""

import contextlib
import fcntl
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.blocking import Client, connect
from postfixpy.ipc.master_status import AVAIL, TAKEN
from tests.ipc.processes import until
from tests.ipc.started import UNIX, Started, ask


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
    assert "unexpected KeyError at ipc/process.py:" in service.logged()


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


def test_datagrams_that_came_before_the_master_went_are_read(start, tmp_path):
    service = start("datagrams", "-l", "-t", "unix-dgram", f"file={tmp_path}/seen", kind=socket.SOCK_DGRAM)
    from postfixpy.ipc.logging import connect_datagram

    sock = connect_datagram(service.path)
    assert sock is not None
    with sock:
        sock.send(b"one")
        until(lambda: _seen(tmp_path) == b"one")
        os.kill(service.pid, signal.SIGSTOP)
        service.status.close()  # the process learns of both at once, and of the master first
        sock.send(b"two")
    os.kill(service.pid, signal.SIGCONT)
    assert service.wait() == 0
    assert _seen(tmp_path) == b"onetwo"


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


def test_watchdog(start):
    # A stopped event loop is not easily had from outside; a stopped process is: the alarm fires when it goes on.
    service = start("echo", *UNIX, "-o", "daemon_timeout=3")
    service.client().close()
    os.kill(service.pid, signal.SIGSTOP)
    time.sleep(3.2)
    os.kill(service.pid, signal.SIGCONT)
    assert service.wait() == 1
    assert "fatal: watchdog timeout" in service.logged()


def test_a_service_that_does_not_stop_is_ended(start):
    service = start("stubborn", *UNIX)
    service.client().close()
    service.status.shutdown(socket.SHUT_RDWR)
    assert service.wait() == 1
    assert "warning: service stubborn did not stop within 0 s: ending it" in service.logged()
