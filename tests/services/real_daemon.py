"""Starts one daemon of the real Postfix as master(8) would, with a private configuration and queue directory."""

import os
import signal
import socket
from pathlib import Path

DAEMONS = Path("/usr/lib/postfix/sbin")


class RealDaemon:
    """A running daemon, as a context manager. Its socket is `path`.

    main.cf must set maillog_file, so that the daemon logs to postlogd: we listen there, and `log()` gives the records.
    """

    def __init__(self, program: str, service: str, config: Path, queue: Path, *options: str, root: str = "") -> None:
        self.program, self.service, self.config, self.queue = program, service, config, queue
        self.options = options
        self.root = root
        """Where the daemon lies, and what it sees as "/": `config` and `queue` are below it."""
        self.path = queue / "private" / service

    def __enter__(self) -> "RealDaemon":
        for name in ("pid", "private", "public"):
            (self.queue / name).mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        postlog = self.queue / "public" / "postlog"
        postlog.unlink(missing_ok=True)
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log.bind(str(postlog))
        self._log.setblocking(False)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(100)
        flow = os.pipe()
        status_read, status_write = os.pipe()
        self._status = status_read
        high = {
            target: os.dup2(fd, 100 + target) for target, fd in enumerate((*flow, status_write, listener.fileno()), 3)
        }
        config, queue = (str(path).removeprefix(self.root) for path in (self.config, self.queue))
        enter = ["/usr/sbin/chroot", self.root] if self.root else []
        shell = [*enter, "/bin/sh", "-c", 'cd "$0" && exec "$@"', queue]
        argv = [*shell, str(DAEMONS / self.program), *self.options, "-n", self.service, "-t", "unix"]
        environment = {"MAIL_CONFIG": config, "GENERATION": "0", "LANG": "C"}
        if "TZ" in os.environ:
            environment["TZ"] = os.environ["TZ"]
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        moved = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in high.items()]
        self.process = os.posix_spawn(argv[0], argv, environment, file_actions=[*null, *moved])
        for fd in (*flow, status_write, *high.values()):
            os.close(fd)
        listener.close()
        return self

    def __exit__(self, *exc: object) -> None:
        os.kill(self.process, signal.SIGTERM)
        os.waitpid(self.process, 0)
        os.close(self._status)
        self._log.close()

    def connect(self, timeout: float = 20.0) -> socket.socket:
        """A connection to the daemon."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(str(self.path))
        return client

    def log(self) -> list[str]:
        """What was logged since the last call, without time stamp, host and process."""
        lines = []
        while True:
            try:
                record = self._log.recv(65536).decode("utf-8", "surrogateescape")
            except BlockingIOError:
                return lines
            lines.append(record.rstrip("\n").partition("]: ")[2])
