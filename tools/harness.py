"""A whole mail system in a directory of its own, without root: for the demo, the end-to-end tests and the benchmarks.

`MailSystem` copies a configuration, points it at its own queue and at a sink with `postconf -e`, starts both in the
foreground, and gives the commands people type. Everything it starts it also stops; every wait has a limit.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FIXTURES = REPOSITORY / "fixtures" / "main.cf.d"
POSTFIXPY = [sys.executable, "-m", "postfixpy"]


class Sink:
    """A ``postfixpy sink`` process with a journal."""

    def __init__(self, directory: Path, *rules: str, options: tuple[str, ...] = ()) -> None:
        self.journal = directory / "sink.journal"
        words = [word for rule in rules for word in ("--rule", rule)]
        command = [*POSTFIXPY, "sink", *options, *words, "--journal", str(self.journal), "--journal-content"]
        self.process = subprocess.Popen([*command, "--print-port", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def deliveries(self) -> list[dict[str, object]]:
        """What was accepted so far, one entry a transaction."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines() if line.endswith("}")]

    def recipients(self) -> list[str]:
        """Every recipient accepted so far, bare, once for each time."""
        return [r for d in self.deliveries() for r in d["recipients"]]  # type: ignore[attr-defined]  # a list in JSON

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def _open_to_mail_owner(directory: Path) -> dict[str, str]:
    """Started by root, a mail system gives up its privileges: its owner is then an account that every machine
    has, which can enter `directory`. Returns the settings."""
    directory.chmod(0o755)
    return {"mail_owner": "mail", "setgid_group": "daemon"}


class MailSystem:
    """A configuration running under our master, in `directory`."""

    def __init__(self, directory: Path, fixture: str | Path = "relay", **settings: str) -> None:
        self.directory = directory
        self.config = directory / "etc"
        self.queue = directory / "spool"
        self.log_path = directory / "maillog"
        shutil.copytree(FIXTURES / fixture, self.config)
        for name in ("spool", "lib"):
            (directory / name).mkdir(exist_ok=True)
        owner = _open_to_mail_owner(directory) if os.geteuid() == 0 else {}
        settings = {
            **owner,
            "queue_directory": str(self.queue),
            "data_directory": str(directory / "lib"),
            "maillog_file": "/dev/stdout",
            **settings,
        }
        if "mail_owner" in settings:
            shutil.chown(directory / "lib", settings["mail_owner"])
        self.process: subprocess.Popen[bytes] | None = None
        self.check("postconf", "-e", *(f"{name}={value}" for name, value in settings.items()))

    def command(self, name: str, *words: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        """Run a command of ours on this system."""
        option = "-C" if name in ("sendmail", "mailq", "newaliases") else "-c"
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*POSTFIXPY, name, option, str(self.config), *words],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "MAIL_CONFIG": str(self.config)},
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def check(self, name: str, *words: str, stdin: str | bytes = "") -> str:
        """Run a command that must succeed; its output."""
        done = self.command(name, *words, stdin=stdin)
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Start the mail system in the foreground, its log going to `log_path`; returns when it serves."""
        seen = len(self.log())
        with open(self.log_path, "ab") as log:
            start = [*POSTFIXPY, "postfix", "-c", str(self.config), "start-fg"]
            self.process = subprocess.Popen(start, stdout=log, stderr=log, start_new_session=True)
        self.wait_for(lambda: "daemon started" in self.log()[seen:], "start")

    def stop(self, how: str = "stop") -> None:
        """Stop it, and whatever a kill left behind."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.command("postfix", how)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """kill -9 every process of the system."""
        if self.process is not None:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait(10)

    def pids(self) -> list[int]:
        """The processes of this system, found by their working directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "cwd") == str(self.queue):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended, or is not ours to see
        if self.process is not None and self.process.poll() is None:
            found.append(self.process.pid)
        return sorted(set(found))

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def queued(self) -> list[str]:
        """The queue ids of complete messages that wait somewhere in the queue; a file that a killed process had begun
        to write is none."""
        names = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
        files = (p for name in names for p in (self.queue / name).rglob("*"))
        found = []
        for path in files:
            try:
                if path.is_file() and path.stat().st_mode & 0o100:
                    found.append(path.name)
            except FileNotFoundError:
                continue  # it has moved on
        return sorted(set(found))  # pickup gives a file the name of the message that it becomes

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until `condition` holds. Raises RuntimeError with the end of the log when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                left = self.queued()
                about = [line for line in self.log().splitlines() if any(queue_id in line for queue_id in left[:3])]
                text = "\n".join(about[-20:])
                raise RuntimeError(
                    f"waited {seconds:.0f} s for: {what}\nqueued: {left[:20]}\n{text}\n{self.log()[-4000:]}"
                )
            if self.process is not None and self.process.poll() is not None and what == "start":
                raise RuntimeError(f"the mail system ended at start\n{self.log()[-6000:]}")
            time.sleep(0.05)


@contextmanager
def running(directory: Path, *rules: str, fixture: str = "relay", **settings: str) -> Iterator[tuple[MailSystem, Sink]]:
    """A mail system whose relayhost is a sink with `rules`."""
    sink = Sink(directory, *rules)
    system = MailSystem(directory, fixture, **{"relayhost": f"[127.0.0.1]:{sink.port}", **settings})
    try:
        system.start()
        yield system, sink
    finally:
        system.stop()
        sink.stop()
