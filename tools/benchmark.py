"""How fast mail flows: ours against the real Postfix, on the same machine, in the same run, into the same sink.

usage: tools/benchmark.py [-n MESSAGES] [-s SUBMISSIONS] [-r REPEATS] [--ours]

Needs root and Debian's postfix package (for --ours, neither). Every system runs on a configuration and a queue of its
own, in a temporary directory, with its log in a file, written by postlogd(8).

- delivery: MESSAGES (1000) messages of about 2 KB, one recipient each, are in the hold queue; they are released, and
  the clock runs from "postqueue -f" until the log says "removed" for the last. Processor time is that of all processes
  of the mail system, those that ended included, without the sink.
- submission: SUBMISSIONS (100) runs of sendmail, one after another, until the last message is queued.
- starting: the least wall-clock time of 10 runs of a command.
- first reply: from connecting to a service that does not run until it has answered its first request.
- memory: the sum of the processes' proportional set sizes after the deliveries.

Systems take turns, REPEATS (1) times; the best is reported. The sink is smtp-sink(1), or ours.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import MailSystem, Sink

REAL_DAEMONS = "/usr/lib/postfix/sbin"
TICKS = os.sysconf("SC_CLK_TCK")
BODY = "".join(f"Line {n} of a message that says little, at some length.\n" for n in range(34))


@contextmanager
def sink(directory: Path) -> Iterator[int]:
    """Something that takes mail for a port; the port."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:" + os.environ.get("PATH", ""))
    if program is None:
        ours = Sink(directory)
        yield ours.port
        ours.stop()
        return
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, *user, f"127.0.0.1:{port}", "1000"], cwd="/")
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


class System(MailSystem):
    """A mail system of ours to be measured."""

    title = "postfixpy"

    def __init__(self, directory: Path, port: int, **settings: str) -> None:
        directory.mkdir()
        super().__init__(
            directory,
            relayhost=f"[127.0.0.1]:{port}",
            smtp_tls_security_level="none",
            maillog_file=str(directory / "maillog"),
            maillog_file_prefixes=str(directory),
            header_checks="regexp:{{/^Subject:/ HOLD}}",
            compatibility_level="3.6",
            **settings,
        )
        self.log_path.touch()
        if "mail_owner" in settings:
            shutil.chown(self.log_path, settings["mail_owner"])
        self.bin = directory / "bin"
        self.link()

    def link(self) -> None:
        """Executables of the commands, as an installation has them."""
        subprocess.run(
            [sys.executable, "-m", "postfixpy", "link", "--commands", str(self.bin)],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def words(self, name: str, *words: str) -> list[str]:
        """The command line that runs a command on this system."""
        return [str(self.bin / name), "-C" if name == "sendmail" else "-c", str(self.config), *words]

    def run(self, name: str, *words: str, stdin: str = "") -> None:
        """Run a command that must succeed."""
        done = subprocess.run(self.words(name, *words), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.title}: {name} {words}: {done.returncode}\n{done.stderr}\n{self.log()[-3000:]}")

    def until(self, text: str, count: int, seconds: float) -> None:
        """Wait until the log says `text` so often; reads only what is new."""
        deadline, seen, rest = time.monotonic() + seconds, 0, ""
        with open(self.log_path, errors="replace") as file:
            while True:
                rest = rest[-len(text) :] if len(rest) > len(text) else rest
                new = file.read()
                seen += (rest + new).count(text) - rest.count(text)
                rest = (rest + new)[-len(text) + 1 :]
                if seen >= count:
                    return
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.title}: {seen} of {count} {text!r}\n{self.log()[-4000:]}")
                time.sleep(0.01)

    def processes(self) -> list[int]:
        """The daemons. The harness's own child is one of them or has none of the work."""
        return [pid for pid in self.pids() if _directory(pid) == str(self.queue)]

    def cpu(self) -> float:
        """Processor seconds of the daemons so far, with those of the children that they have waited for."""
        return sum(_cpu(pid) for pid in self.processes())

    def memory(self) -> tuple[int, float]:
        """Processes, and megabytes of their proportional set sizes."""
        sizes = [_memory(pid) for pid in self.processes()]
        return len(sizes), sum(sizes) / 1024


class RealSystem(System):
    """The same of the real Postfix."""

    title = "Postfix"

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(
            directory,
            port,
            mail_owner="postfix",
            setgid_group="postdrop",
            daemon_directory=REAL_DAEMONS,
            command_directory="/usr/sbin",
        )

    def link(self) -> None:
        self.bin = Path("/usr/sbin")

    def start(self) -> None:
        subprocess.run(self.words("postfix", "set-permissions"), capture_output=True, check=False)
        self.run("postfix", "start")

    def stop(self, how: str = "stop") -> None:
        subprocess.run(self.words("postfix", how), capture_output=True, check=False)


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has ended; its parent has the sum
    return sum(map(int, fields[11:15])) / TICKS


def _memory(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def message(number: int) -> str:
    """About 2 KB."""
    return f"Subject: message {number}\nFrom: ann@example.com\nTo: r{number:04}@example.org\n\n{BODY}"


def held(system: System) -> list[Path]:
    """The complete messages on hold."""
    return [p for p in (system.queue / "hold").rglob("*") if p.is_file() and p.stat().st_mode & 0o100]


def submit(system: System, count: int) -> float:
    """Submissions a second through sendmail, one after another."""
    before = len(held(system))
    start = time.perf_counter()
    for number in range(count):
        system.run("sendmail", "-f", "ann@example.com", f"r{number:04}@example.org", stdin=message(number))
    system.wait_for(lambda: len(held(system)) >= before + count, "messages on hold")
    return count / (time.perf_counter() - start)


def deliver(system: System, count: int) -> tuple[float, float]:
    """(Messages a second, processor seconds) of delivering what is held."""
    before = system.log().count(": removed")
    system.run("postsuper", "-H", "ALL")
    cpu = system.cpu()
    start = time.perf_counter()
    system.run("postqueue", "-f")
    system.until(": removed", before + count, 60 + count / 20)
    took = time.perf_counter() - start
    return count / took, system.cpu() - cpu


def fill(system: System, count: int) -> None:
    """Messages into the hold queue: the submitted ones, and copies of the first with other recipients."""
    have = held(system)
    source = next(p for p in have if b"r0000@example.org" in p.read_bytes())
    data, status = source.read_bytes(), source.stat()
    missing, number = count - len(have), 0
    while missing > 0:
        copy = source.with_name(f"{source.name[:-4]}{number:04X}")
        if not copy.exists():
            copy.write_bytes(data.replace(b"r0000@example.org", b"x%04d@example.org" % number))
            os.chown(copy, status.st_uid, status.st_gid)
            copy.chmod(status.st_mode & 0o777)
            missing -= 1
        number += 1
    for extra in held(system)[count:]:
        extra.unlink()


def starting(command: list[str]) -> float:
    """The least milliseconds of ten runs of a command."""
    best = 1e9
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
    return best * 1000


def first_reply(system: System) -> float:
    """Milliseconds from connecting to showq, which does not run, to the whole listing of the queue."""
    import socket

    start = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(system.queue / "public" / "showq"))
        while sock.recv(65536):
            pass
    return (time.perf_counter() - start) * 1000


def measure(system: System, messages: int, submissions: int) -> dict[str, float]:
    """All numbers of one system."""
    found: dict[str, float] = {}
    system.start()
    try:
        found["first reply of showq, ms"] = first_reply(system)
        found["submissions/s"] = submit(system, submissions)
        fill(system, messages)
        found["messages/s"], cpu = deliver(system, messages)
        found["processor ms/message"] = cpu * 1000 / messages
        found["processes"], found["memory, MB"] = system.memory()
        for name, words in (("sendmail", ["-bv", "-t"]), ("postconf", ["-n"]), ("postqueue", ["-p"])):
            found[f"{name} {' '.join(words)}, ms"] = starting(system.words(name, *words))
    finally:
        start = time.perf_counter()
        system.stop()
        found["stop, ms"] = (time.perf_counter() - start) * 1000
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1000, metavar="MESSAGES")
    parser.add_argument("-s", type=int, default=100, metavar="SUBMISSIONS")
    parser.add_argument("-r", type=int, default=1, metavar="REPEATS")
    parser.add_argument("--ours", action="store_true", help="ours alone")
    options = parser.parse_args()
    kinds: list[Callable[[Path, int], System]] = [System] if options.ours else [System, RealSystem]
    results: list[list[dict[str, float]]] = [[] for _ in kinds]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = Path(tempfile.mkdtemp(prefix="postfixpy-benchmark-"))
    directory.chmod(0o755)
    try:
        with sink(directory) as port:
            for turn in range(options.r):
                for kind, found in zip(kinds, results, strict=True):
                    system = kind(directory / f"{kind.__name__}{turn}", port)  # type: ignore[attr-defined]  # a class
                    found.append(measure(system, options.n, options.s))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(
        f"{options.n} messages of {len(message(0))} bytes; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':28}" + "".join(f"{kind.title:>12}" for kind in kinds) + f"{'ratio':>10}")  # type: ignore[attr-defined]  # classes
    for name in results[0][0]:
        pick = max if name.endswith("/s") else min
        best = [pick(one[name] for one in found) for found in results]
        ratio = f"{best[0] / best[-1]:10.2f}" if len(best) > 1 and best[-1] else ""
        print(f"{name:28}" + "".join(f"{value:12.1f}" for value in best) + ratio)


if __name__ == "__main__":
    main()
