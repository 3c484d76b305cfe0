"""A private instance of the real Postfix, with the real queue manager or ours, and a sink for its mail."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tools.harness import REPOSITORY, Sink

DAEMONS = Path("/usr/lib/postfix/sbin")
MASTER_CF = Path("/usr/share/postfix/master.cf.dist")

_LAUNCHER = """#!{python}
import os, sys
sys.path.insert(0, {repository!r})
os.environ["POSTFIXPY_VERSION"] = {version!r}
from postfixpy.services.run import main
sys.exit(main(["qmgr", *sys.argv[1:]]))
"""

_SPY = """#!{python}
import asyncio, json, os, sys
sys.path.insert(0, {repository!r})
os.environ["POSTFIXPY_VERSION"] = {version!r}
from postfixpy.ipc.delivery import ANNOUNCEMENT, Result
from postfixpy.ipc.runner import run
from postfixpy.ipc.service import Service

class Spy(Service):
    async def serve(self, channel):
        channel.write(ANNOUNCEMENT)
        if not await channel.wait_readable():
            return
        head = await channel.read_list()
        lists = [head] + [await channel.read_list() for _ in range(int(head[-1][1]))]
        with open(os.path.join(os.path.dirname(os.getcwd()), "data", "requests"), "a") as file:
            file.write(json.dumps(lists) + "\\n")
        with open(os.path.join("active", dict(head)["queue_id"]), "r+b") as file:
            for recipient in lists[1:]:
                file.seek(int(dict(recipient)["offset"]))
                file.write(b"D")
        while os.path.exists(os.path.join(os.path.dirname(os.getcwd()), "data", "hold")):
            await asyncio.sleep(0.02)
        channel.send_message(Result.of(None, 0))
        await channel.wait_readable()

sys.exit(run(sys.argv, Spy))
"""

_PREFIX = re.compile(r"^\w+ +\d+ [\d:]+ \S+ ([\w/.-]+)\[\d+\]: ")


class RealSystem:
    """Context manager. `ours`: our queue manager in the real one's place; `settings`: main.cf; `rules`: of the sink."""

    def __init__(self, *rules: str, ours: bool = True, master: str = "", **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="qmgr-real-"))
        self.directory.chmod(0o755)
        self.config = self.directory / "etc"
        self.queue = self.directory / "spool"
        self.maillog = self.directory / "maillog"
        for name in ("etc", "spool", "data", "libexec"):
            (self.directory / name).mkdir(mode=0o755)
        shutil.chown(self.directory / "data", "postfix")
        self.rules = rules
        self.settings = settings
        for program in DAEMONS.iterdir():
            (self.directory / "libexec" / program.name).symlink_to(program)
        version = subprocess.check_output(["postconf", "-dh", "mail_version"], text=True)
        self._version = ".".join(version.split(".")[:2])
        if ours:
            self._program("qmgr", _LAUNCHER)
        rows = []
        for line in MASTER_CF.read_text().splitlines():
            words = line.split()
            if line.startswith(("#", "smtp      inet")):
                continue
            if len(words) > 7 and not line[:1].isspace():
                words[4] = "n"
                line = " ".join(words)
            rows.append(line)
        (self.config / "master.cf").write_text("\n".join(rows) + "\n" + master)

    def _program(self, name: str, text: str) -> None:
        """A daemon of our own in daemon_directory."""
        path = self.directory / "libexec" / name
        path.unlink(missing_ok=True)
        path.write_text(text.format(python=sys.executable, repository=str(REPOSITORY), version=self._version))
        path.chmod(0o755)

    def add_spy(self) -> None:
        """The program "spy": a delivery agent that notes its requests for `requests`. Before the start.

        It answers none while the file data/hold exists."""
        self._program("spy", _SPY)

    def requests(self) -> list[list[dict[str, str]]]:
        """The attribute lists of each request that the spy got."""
        path = self.directory / "data" / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        return [[dict(pairs) for pairs in json.loads(line)] for line in lines]

    def __enter__(self) -> "RealSystem":
        self.sink = Sink(self.directory, *self.rules)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.queue),
            "data_directory": str(self.directory / "data"),
            "daemon_directory": str(self.directory / "libexec"),
            "maillog_file": str(self.maillog),
            "maillog_file_prefixes": str(self.directory),
            "myhostname": "real.example",
            "mydestination": "",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "relayhost": f"[127.0.0.1]:{self.sink.port}",
            "smtp_dns_support_level": "disabled",
            "alias_maps": "",
            "alias_database": "",
            **self.settings,
        }
        (self.config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.postfix("stop")
        self.sink.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def postfix(self, command: str) -> None:
        subprocess.run(["postfix", "-c", str(self.config), command], capture_output=True, timeout=60, check=False)

    def start(self) -> None:
        self.postfix("start")
        self.wait(lambda: (self.queue / "public" / "qmgr").exists(), "the queue manager's socket")

    def send(self, sender: str, *recipients: str, options: tuple[str, ...] = (), body: str = "body") -> None:
        """Hand one message to sendmail(1)."""
        command = ["/usr/sbin/sendmail", "-C", str(self.config), "-f", sender, *options, *recipients]
        subprocess.run(command, input=f"Subject: test\n\n{body}\n", text=True, check=True, timeout=30)

    def command(self, *words: str) -> None:
        """A command with -c, such as postqueue -f."""
        subprocess.run([words[0], "-c", str(self.config), *words[1:]], check=True, capture_output=True, timeout=30)

    def log(self) -> list[str]:
        """``program: text`` lines since the start."""
        if not self.maillog.exists():
            return []
        lines = self.maillog.read_text(errors="replace").splitlines()
        return [re.sub(r"^postfix/", "", _PREFIX.sub(r"\1: ", line)) for line in lines]

    def qmgr_log(self, program: str = "qmgr") -> list[str]:
        """What the queue manager said, message by message, with running numbers for queue ids and no times."""
        names: dict[str, str] = {}
        out = []
        for line in self.log():
            for found in re.findall(r"\b[0-9A-F]{9,16}\b(?=:)", line):
                names.setdefault(found, f"ID{len(names):03}")
            if line.startswith(f"{program}: "):
                for found, name in names.items():
                    line = line.replace(found, name)
                out.append(re.sub(r"delays?=[\d./]+", "delay", line.removeprefix(f"{program}: ")))
        return sorted(out, key=lambda line: line[:5])  # messages overlap in time; each has its own order

    def queued(self) -> list[str]:
        """Queue files of mail that waits."""
        queues = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
        return [path.name for queue in queues for path in (self.queue / queue).rglob("*") if path.is_file()]

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}:\n" + "\n".join(self.log()[-60:]))
            time.sleep(0.05)

    def kill_qmgr(self) -> bool:
        """kill -9 the queue manager; False when there is none."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                inside = os.readlink(entry / "cwd") == str(self.queue)
            except OSError:
                continue
            if inside and any(os.path.basename(word) == b"qmgr" for word in words[:2]):
                os.kill(int(entry.name), signal.SIGKILL)
                return True
        return False
