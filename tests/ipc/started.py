"""A service process with the test in master's place: it passes descriptors 5 and 6 and reads the status messages."""

import fcntl
import os
import signal
import socket
from pathlib import Path

from postfixpy.ipc.blocking import Client, connect
from postfixpy.ipc.master_status import SIZE, STATUS, unpack
from tests.ipc.processes import environment

UNIX = ("-t", "unix")


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


def ask(client: Client, what: str = "echo") -> dict[str, str]:
    client.send(("do", what))
    return dict(client.read_list())
