"""The programs that scenarios run: the real smtp(8) and lmtp(8) of each installed release, and ours."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import real_root

TOP = Path(__file__).resolve().parents[2]
RECORDED = ("3.7", "3.11")
"""The releases whose recordings are kept."""


@dataclass(frozen=True)
class Installation:
    """A Postfix of some release, real or ours. `root` is the folder that it must be run in by chroot, "" for none."""

    release: str
    daemons: str
    root: str = ""

    @property
    def numbers(self) -> tuple[int, int]:
        major, minor = self.release.split(".")
        return int(major), int(minor)

    def work_directory(self) -> str:
        """A new directory that both sides see."""
        path = tempfile.mkdtemp(prefix="record", dir=f"{self.root}/tmp")
        os.chmod(path, 0o755)
        return path

    def mail_owner(self) -> int:
        """The user number of "postfix"."""
        lines = Path(f"{self.root}/etc/passwd").read_text().splitlines()
        return next(int(line.split(":")[2]) for line in lines if line.startswith("postfix:"))

    def inside(self, path: str) -> str:
        """What the program calls a path of ours."""
        return path.removeprefix(self.root)


def machine_release() -> str:
    """The release of the Postfix package that is installed on the machine, "" for none."""
    if shutil.which("postconf", path="/usr/sbin") is None:
        return ""
    version = subprocess.check_output(["/usr/sbin/postconf", "-dh", "mail_version"], text=True)
    return ".".join(version.split(".")[:2])


def installed() -> list[str]:
    """The releases of `RECORDED` that can be run here."""
    machine = machine_release()
    return [release for release in RECORDED if release == machine or real_root.available(release)]


def real(release: str) -> Installation:
    """The real Postfix of a release. Raises SystemExit when it is not there."""
    if release == machine_release():
        return Installation(release, "/usr/lib/postfix/sbin")
    if not real_root.available(release):
        raise SystemExit(f"Postfix {release} is not installed: tools/real_root.py {release}")
    return Installation(release, "/usr/lib/postfix/sbin", str(real_root.root(release)))


def own_programs() -> str:
    """A new folder with our programs under their plain names."""
    directory = tempfile.mkdtemp(prefix="daemons")
    for name in ("smtp", "lmtp"):
        path = Path(directory, name)
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(TOP)!r})\n"
            f"from postfixpy.services.run import main\nsys.exit(main([{name!r}, *sys.argv[1:]]))\n"
        )
        path.chmod(0o755)
    return directory


class Process:
    """A delivery agent, started as master(8) does: status channel on 5, its listening socket on 6."""

    def __init__(self, installation: Installation, program: str, directory: str, words: list[str]) -> None:
        self.path = os.path.join(directory, "private/agent")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(5)
        self._listener.setblocking(False)
        self._status, agent_status = socket.socketpair()
        flow_read, flow_write = os.pipe()
        first = {3: flow_read, 4: flow_write, 5: agent_status.fileno(), 6: self._listener.fileno()}
        inside = installation.inside(directory)

        def place() -> None:
            high = {target: fcntl.fcntl(source, fcntl.F_DUPFD, 20) for target, source in first.items()}
            for target, fd in high.items():
                os.dup2(fd, target)
                os.set_inheritable(target, True)
            if installation.root:
                os.chroot(installation.root)
            os.chdir(inside)

        self.process = subprocess.Popen(
            [program, "-n", program, "-t", "unix", *words],
            executable=f"{installation.daemons}/{program}",
            env={
                "MAIL_CONFIG": f"{inside}/etc",
                "GENERATION": "0",
                "LANG": "C",
                "POSTLOG_SERVICE": f"{inside}/public/postlog",
                "POSTLOG_HOSTNAME": "client.example",
                "POSTFIXPY_VERSION": installation.release,
                "PATH": os.environ["PATH"],
            },
            preexec_fn=place,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        agent_status.close()
        threading.Thread(target=self._read_status, daemon=True).start()

    def _read_status(self) -> None:
        """As master(8) does: a program that nobody listens to stops after some requests."""
        while self._status.recv(4096):
            pass

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
