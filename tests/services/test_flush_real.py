"""Ours and the real flush(8), side by side: the same requests in the same queue, and no difference in the answers, the
queue files, the triggers that the queue manager gets, or the log."""

import asyncio
import os
import random
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config import load
from postfixpy.ipc import flush as wire
from postfixpy.ipc.attributes import encode, parse
from postfixpy.ipc.service import Context
from postfixpy.services.flush import Flush

from .agent_client import serve
from .real_daemon import DAEMONS, RealDaemon

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "flush").exists(), reason="no Postfix here"),
    pytest.mark.timeout(300),
]

DAY = 86400
IDS = [f"4C1E0D4B7{digit}" for digit in "0123456789ABCDEF"]
SITES = [
    "example.com",
    "Sub.Example.COM",
    "example.org",
    "[192.0.2.1]",
    "b\u00fccher.example",
    "-x.example.com",
    "a_b.example.com",
    "",
]


def requests(rng: random.Random) -> list[bytes]:
    """A random conversation, one request a connection."""
    made = []
    for _ in range(25):
        site, queue_id = rng.choice(SITES), rng.choice([*IDS, "../x", "", "x" * 300])
        made.append(
            rng.choice(
                [
                    *[wire.Add("add", site, queue_id).encode()] * 4,
                    wire.SendSite("send_site", site).encode(),
                    wire.SendFile("send_file", queue_id).encode(),
                    rng.choice(
                        [
                            wire.Plain("rfrsh").encode(),
                            wire.Plain("purge").encode(),
                            b"W",
                            encode([("request", "add"), ("site", site)]),
                            encode([("request", "send_site"), ("queue_id", queue_id)]),
                            encode([("site", "example.com")]),
                        ]
                    ),
                ]
            )
        )
    return made


class Instance:
    """A configuration and a queue with messages and logs, both as `seed` makes them."""

    def __init__(self, directory: Path, seed: int) -> None:
        rng = random.Random(seed)
        self.config, self.queue = directory / "etc", directory / "spool"
        for path in (self.config, directory / "data"):
            path.mkdir(parents=True)
        self.settings = {
            "queue_directory": str(self.queue),
            "data_directory": str(directory / "data"),
            "maillog_file": "/var/log/unused",
            "compatibility_level": "3.6",
            "myhostname": "h.example.com",
            "hash_queue_names": rng.choice(("deferred", "flush deferred incoming", "hold")),
            "fast_flush_domains": "example.com, [192.0.2.1], b\u00fccher.example, xn--bcher-kva.example",
            "fast_flush_refresh_time": "1h",
            "fast_flush_purge_time": "7d",
        }
        (self.config / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in self.settings.items()))
        (self.config / "master.cf").write_text("")
        for name in ("deferred", "incoming", "flush", "pid", "private", "public"):
            (self.queue / name).mkdir(parents=True)
        hashed = self.settings["hash_queue_names"].split()
        for queue_id in rng.sample(IDS, 12):
            where = rng.choice(("deferred", "deferred", "incoming"))
            path = self.queue / where / (queue_id[0] if where in hashed else "") / queue_id
            path.parent.mkdir(exist_ok=True)
            path.touch()
            path.chmod(rng.choice((0o700, 0o700, 0o600)))
            os.utime(path, (1e9, 1e9))
        now = time.time()
        for name, age in (("old_example", 2 * 3600), ("new_example", 60), ("none", 8 * DAY), ("late", DAY)):
            path = self.queue / "flush" / (name[0] if "flush" in hashed else "") / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{i}\n" for i in rng.sample(IDS, 2)) if "example" in name else "")
            os.utime(path, (now - age, now - age))
        for path in self.queue.rglob("*"):
            if path.name not in ("pid",):
                shutil.chown(path, "postfix")
        self.manager = socket.socket(socket.AF_UNIX)
        self.manager.bind(str(self.queue / "public" / "qmgr"))
        (self.queue / "public" / "qmgr").chmod(0o666)
        self.manager.listen(100)

    def state(self) -> dict[str, tuple[int, str | bool]]:
        """Path -> mode, content of a log or whether a message got the time of now."""
        out: dict[str, tuple[int, str | bool]] = {}
        for path in self.queue.rglob("*"):
            found = path.stat()
            name = str(path.relative_to(self.queue))
            if stat.S_ISREG(found.st_mode) and not name.startswith("pid"):
                out[name] = (found.st_mode, path.read_text() if name.startswith("flush") else found.st_mtime > 1e9 + 1)
        return out

    def grow_older(self) -> None:
        """A minute passes since the logs were read: within one second, what a purge does would be chance."""
        for path in (self.queue / "flush").rglob("*"):
            if path.is_file():
                found = path.stat()
                os.utime(path, (found.st_atime - 60, found.st_mtime))

    def triggers(self) -> list[bytes]:
        out = []
        self.manager.setblocking(False)
        while True:
            try:
                client, _ = self.manager.accept()
            except BlockingIOError:
                return out
            client.settimeout(1)
            out.append(client.recv(10).rstrip(b"\0"))  # unix_trigger(3) sends a NUL, which readers skip
            client.close()


def answer_of(data: bytes) -> list[list[tuple[str, str]]]:
    lists = []
    while (parsed := parse(data)) is not None:
        lists.append(parsed[0])
        data = data[parsed[1] :]
    return lists


def _said(lines: list[str]) -> list[str]:
    """What is comparable of the log: a domain is complained about once by the real one, which caches the answer, and
    the reason is in ICU's words there; the texts on malformed requests name the socket."""
    return sorted({line.partition(" to ASCII form")[0] for line in lines if "attribute" not in line})


def real_run(instance: Instance, conversation: list[bytes]) -> list[object]:
    out: list[object] = []
    with RealDaemon("flush", "flush", instance.config, instance.queue, "-z") as daemon:
        for request in conversation:
            instance.grow_older()
            with daemon.connect() as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                data = b""
                while block := client.recv(4096):
                    data += block
            out.append((answer_of(data)[1:], instance.triggers(), instance.state()))
        out.append(_said(daemon.log()))
    return out


def our_run(instance: Instance, conversation: list[bytes], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    out: list[object] = []
    monkeypatch.chdir(instance.queue)
    said: list[str] = []
    before = log.set_sink(lambda severity, text: said.append(text if severity == "info" else f"{severity}: {text}"))
    try:
        view = load(str(instance.config)).view(process_name="flush")
        for request in conversation:

            async def main(request: bytes = request) -> list[list[tuple[str, str]]]:
                service = Flush(Context(None, view, "flush", "flush"))  # type: ignore[arg-type]  # not used
                await service.pre_jail()
                return await serve(service, request, hang_up=True)

            instance.grow_older()
            Path("private/agent").unlink(missing_ok=True)
            lists = asyncio.run(main())
            out.append((lists[1:], instance.triggers(), instance.state()))
    finally:
        log.set_sink(before)
    out.append(_said(said))
    return out


def _with(instance: Instance, work: Callable[[Instance], list[object]]) -> list[object]:
    try:
        return work(instance)
    finally:
        instance.manager.close()


@pytest.mark.parametrize("seed", range(int(os.environ.get("POSTFIXPY_ROUNDS", "8"))))
def test_side_by_side(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    conversation = requests(random.Random(1000 + seed))
    with tempfile.TemporaryDirectory(prefix="flush-real-") as name:
        top = Path(name)
        top.chmod(0o755)
        theirs = _with(Instance(top / "real", seed), lambda it: real_run(it, conversation))
        ours = _with(Instance(top / "ours", seed), lambda it: our_run(it, conversation, monkeypatch))
        for number, (request, one, other) in enumerate(zip([*conversation, b"log"], theirs, ours, strict=True)):
            assert other == one, f"step {number}: {request!r}"
