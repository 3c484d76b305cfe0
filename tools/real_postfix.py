"""A whole real Postfix of any release, with none, some or all of its daemons ours, in a world of its own.

    with RealPostfix("3.11", ours=["smtp"], zone=["example.com MX 10 mx.example.com", ...]) as system:
        system.send("a@client.example", "b@example.com")
        system.wait(lambda: "status=" in system.text(), "a delivery")

The world is a network, mount and process namespace: every address of 10.0.0.0/8 is local and free, 127.0.0.53 is a name
server with `zone`, and the file system is a throw-away copy (overlayfs) of the machine's, or of a root that
tools/real_root.py made. It sees this checkout and its interpreter. Nothing outlives the context manager, whatever it
starts, and nothing outside is changed. Needs root and Linux.

The Postfix in it is Debian's as installed, its master.cf included, so that what works here works where a user tries it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from real_root import SUITES, available, root

REPOSITORY = Path(__file__).resolve().parent.parent
INSTALLED = "3.7"
"""The release of the machine's own package."""
DAEMONS = "/usr/lib/postfix/sbin"
OURS = "/usr/local/libexec/postfixpy"
"""Where `postfixpy link` writes inside."""
PYTHON = sys.executable
MAILLOG = "var/log/mail.log"

_GLIBC = "libc.so.6 ld-linux-x86-64.so.2 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1 libresolv.so.2 libutil.so.1"
_LIBRARIES = "libffi.so.8 libssl.so.3 libcrypto.so.3 libz.so.1 libbz2.so.1.0 liblzma.so.5 libexpat.so.1 libuuid.so.1"
"""What our interpreter's extension modules want, and a root may lack."""
_HOLDER = """
import os, signal, sys
os.chroot(sys.argv[1])
os.chdir("/")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()
"""
"""Process 1 of the world: it ends when we do, and everything else with it."""

_PREFIX = re.compile(r"^(?:\w+ +\d+ [\d:]+|[\d-]+T\S+) \S+ ([\w/.-]+)\[\d+\]: ")


def releases() -> list[str]:
    """The releases that this machine can run."""
    return [INSTALLED, *(release for release in sorted(SUITES, key=_key) if available(release))]


def _key(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _setup(place: Path, lower: Path) -> str:
    """A shell script that makes the world in `place`."""
    prefix = Path(sys.base_prefix)
    lines = [
        "set -e",
        "ip link set lo up",
        "ip route add local 10.0.0.0/8 dev lo",
        f"mount -t tmpfs tmpfs {place}",
        f"mkdir {place}/up {place}/work {place}/root",
        f"mount -t overlay overlay -o lowerdir={lower},upperdir={place}/up,workdir={place}/work {place}/root",
    ]
    for path in (REPOSITORY, prefix):
        lines += [f"mkdir -p {place}/root{path}", f"mount --rbind {path} {place}/root{path}"]
    lines += [
        f"mount -t proc proc {place}/root/proc",
        f"mount --rbind /dev {place}/root/dev",
        f"mount -t tmpfs -o mode=1777 tmpfs {place}/root/tmp",
        f"printf 'nameserver 127.0.0.53\\noptions timeout:5 attempts:2\\n' > {place}/resolv.conf",
        f"rm -f {place}/root/etc/resolv.conf",
        f"cp {place}/resolv.conf {place}/root/etc/resolv.conf",
    ]
    if lower != Path("/"):
        # Our interpreter may need a younger C library than the root has; older programs run with a younger one.
        for name in _GLIBC.split():
            path = f"lib/x86_64-linux-gnu/{name}"
            lines.append(f"[ ! -e {place}/root/{path} ] || mount --bind /{path} {place}/root/{path}")
        for name in _LIBRARIES.split():
            path = f"usr/lib/x86_64-linux-gnu/{name}"
            lines.append(f"[ -e {place}/root/{path} ] || [ ! -e /{path} ] || cp -L /{path} {place}/root/{path}")
    lines.append(f"exec {PYTHON} -c '{_HOLDER}' {place}/root")
    return "\n".join(lines)


def _needs_our_libc(release: str) -> bool:
    return _key(release) < _key(INSTALLED)


class World:
    """The namespaces. `path` gives a path inside as seen from here."""

    def __init__(self, release: str) -> None:
        self.release = release
        lower = Path("/") if release == INSTALLED else root(release)
        self._started: list[subprocess.Popen[str]] = []
        self._place = Path(tempfile.mkdtemp(prefix="postfixpy-world-"))
        script = _setup(self._place, lower)
        if lower != Path("/") and not _needs_our_libc(release):
            script = "\n".join(line for line in script.splitlines() if "mount --bind /lib/" not in line)
        command = ["unshare", "-n", "-m", "-p", "-f", "--kill-child", "sh", "-c", script]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError(f"cannot make a world for Postfix {release}: not root, or no overlayfs?")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.pid = int(children[0])
        self.root = Path(f"/proc/{self.pid}/root")

    def path(self, inside: str) -> Path:
        """A path inside, from here."""
        return self.root / inside.lstrip("/")

    def command(self, *words: str) -> list[str]:
        """What runs a command inside."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-r", "-w", *words]

    def popen(self, *words: str, **options: object) -> "subprocess.Popen[str]":
        """Start a command inside; it ends with the world at the latest."""
        process = subprocess.Popen(self.command(*words), text=True, env=_ENVIRONMENT, **options)  # type: ignore[call-overload]  # passed on
        self._started.append(process)
        return process  # type: ignore[no-any-return]  # it is one of text

    @staticmethod
    def kill(process: "subprocess.Popen[str]") -> None:
        """End a command that `popen` started: nsenter(1) is only its parent."""
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.wait(10)

    def run(
        self, *words: str, text: str = "", check: bool = True, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end. Raises RuntimeError when it fails, unless `check` is false."""
        done = subprocess.run(
            self.command(*words),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=_ENVIRONMENT,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def close(self) -> None:
        """End everything in it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in (self._process, *self._started):
            process.wait(10)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self._place, ignore_errors=True)


_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "TZ": "UTC"}


class RealPostfix(World):
    """A running mail system. Context manager.

    release     "3.7", "3.10"...
    ours        programs that are ours, in every row of master.cf that has them: ["smtp"]
    zone        lines for the name server (postfixpy.dns.testing)
    settings    main.cf
    rows        more lines for master.cf; a row whose service and type exist replaces the old one
    chroot      services are chrooted where Debian's master.cf said so until 3.10; otherwise none is
    whole       our whole system on the same configuration: our master, and real daemons only for what we do not have
    """

    def __init__(
        self,
        release: str = INSTALLED,
        *,
        ours: Sequence[str] = (),
        zone: Sequence[str] = (),
        rows: Sequence[str] = (),
        chroot: bool = False,
        whole: bool = False,
        **settings: str,
    ) -> None:
        super().__init__(release)
        self.whole = whole
        try:
            self._install(ours, rows, chroot, settings)
            self._names = self.popen(
                PYTHON, "-m", "postfixpy.dns.testing", "127.0.0.53", "53",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            )  # fmt: skip
            self._names.stdin.write("\n".join(zone) + "\n")  # type: ignore[union-attr]  # it is a pipe
            self._names.stdin.close()  # type: ignore[union-attr]
            self._names.stdout.readline()  # type: ignore[union-attr]
        except BaseException:
            self.close()
            raise

    def _install(self, ours: Sequence[str], rows: Sequence[str], chroot: bool, settings: dict[str, str]) -> None:
        everything = {
            "compatibility_level": "2" if self.release == "3.5" else self.release,
            "maillog_file": f"/{MAILLOG}",
            "myhostname": "client.example",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "smtp_randomize_addresses": "no",
            "smtp_tls_security_level": "",
            **settings,
        }
        etc = self.path("/etc/postfix")
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in everything.items()))
        (etc / "master.cf").write_text(_master(self.path("/usr/share/postfix/master.cf.dist"), rows, ours, chroot))
        self.path(f"/{MAILLOG}").unlink(missing_ok=True)
        queue = self.path("/var/spool/postfix")
        for name in ("maildrop", "incoming", "active", "deferred", "hold", "corrupt", "bounce", "defer", "trace"):
            for path in (queue / name).rglob("*"):
                if path.is_file():
                    path.unlink()
        jail = queue / "etc"
        jail.mkdir(exist_ok=True)
        for name in ("resolv.conf", "hosts", "services", "nsswitch.conf"):
            if self.path(f"/etc/{name}").exists():
                shutil.copy(self.path(f"/etc/{name}"), jail / name)
        if ours:
            self.ours("link", "--daemons", OURS)  # as a user does

    def ours(self, *words: str, **options: object) -> "subprocess.CompletedProcess[str]":
        """Run one of our commands inside."""
        return self.run(PYTHON, "-m", "postfixpy", *words, **options)  # type: ignore[arg-type]  # passed on

    def __enter__(self) -> "RealPostfix":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _postfix(self, word: str, check: bool = True) -> None:
        if self.whole:
            self.ours("postfix", word, check=check)
        else:
            self.run("postfix", word, check=check)

    def start(self) -> None:
        """``postfix start``."""
        seen = len(self.text())
        self._postfix("start")
        self.wait(lambda: "daemon started" in self.text()[seen:], "the start")

    def stop(self) -> None:
        """``postfix stop``."""
        self._postfix("stop", check=False)

    def reload(self) -> None:
        """``postfix reload``, until master has done it."""
        seen = self.text().count("reload -- version")
        self._postfix("reload")
        self.wait(lambda: self.text().count("reload -- version") > seen, "the reload")

    def sink(self, address: str, *rules: str, options: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """A ``postfixpy sink`` on ``address:port``, for as long as the world lasts or until it is killed."""
        words = [word for rule in rules for word in ("--rule", rule)]
        sink = self.popen(
            PYTHON, "-m", "postfixpy", "sink", *options, *words, "--print-port", address, "1000", stdout=subprocess.PIPE
        )
        sink.stdout.readline()  # type: ignore[union-attr]  # it is a pipe
        return sink

    def send(self, sender: str, *recipients: str, options: Sequence[str] = (), body: str = "Subject: x\n\nx\n") -> None:
        """Hand one message to sendmail(1)."""
        self.run("sendmail", "-f", sender, *options, *recipients, text=body)

    def text(self) -> str:
        """The mail log so far."""
        path = self.path(f"/{MAILLOG}")
        return path.read_text(errors="replace") if path.exists() else ""

    def log(self, program: str = "") -> list[str]:
        """``postfix/smtp: text`` lines; those of one program, ``smtp``, without its name."""
        lines = [_PREFIX.sub(r"\1: ", line) for line in self.text().splitlines()]
        if not program:
            return lines
        start = f"postfix/{program}: "
        return [line.removeprefix(start) for line in lines if line.startswith(start)]

    def troubles(self) -> list[str]:
        """What no log of a healthy system has: warnings, errors and worse of master, qmgr and ours."""
        return [line for line in self.log() if re.search(r"(warning|error|fatal|panic): ", line.split(": to=<")[0])]

    def queued(self) -> list[str]:
        """Queue ids of mail that waits."""
        queues = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
        found = []
        for queue in queues:
            for path in self.path(f"/var/spool/postfix/{queue}").rglob("*"):
                if path.is_file():
                    found.append(path.name)
        return found

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Until `condition` holds. Raises AssertionError with the end of the log when it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                lines = self.text().splitlines()
                raise AssertionError(f"waited in vain for {what}:\n" + "\n".join(lines[-60:]))
            time.sleep(0.05)

    def processes(self, program: str) -> dict[int, int]:
        """The processes whose program is called so: id as seen here, and parent. Ours too: they name themselves."""
        found = {}
        here = os.readlink(f"/proc/{self.pid}/ns/pid")
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == here:
                    status = (entry / "status").read_text()
                    if re.search(rf"^Name:\t{re.escape(program)}$", status, re.M):
                        found[int(entry.name)] = int(re.search(r"^PPid:\t(\d+)$", status, re.M)[1])  # type: ignore[index]  # always there
            except OSError:
                continue  # it has just ended
        return found


NOT_JAILED = ("local", "pipe", "postlogd", "proxymap", "qmgr", "virtual")
"""The programs that Debian's master.cf never had in a jail."""


def _master(path: Path, rows: Sequence[str], ours: Sequence[str], chroot: bool) -> str:
    """master.cf as the package has it, with changed rows; master starts a program by a path below daemon_directory."""
    replaced = {tuple(row.split()[:2]) for row in rows}
    out: list[str] = []
    skipping = False
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[:1].isspace():
            if not skipping:
                out.append(line)
            continue
        words = line.split()
        skipping = tuple(words[:2]) in replaced
        if skipping:
            continue
        words[4] = "y" if chroot and words[7] not in NOT_JAILED else "n"
        out.append(" ".join(words))
    text = "\n".join([*out, *rows]) + "\n"
    for program in ours:
        command = os.path.relpath(f"{OURS}/{program}", DAEMONS)
        text = re.sub(rf"^(\w\S*(?: +\S+){{6}}) +{re.escape(program)}(?= |$)", rf"\1 {command}", text, flags=re.M)
    return text
