"""Ours and the real proxymap(8) of 3.7 and of 3.11: the same requests and answers; the real client asks ours."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import real_root

from postfixpy import log
from postfixpy.config import load
from postfixpy.ipc import proxymap as wire
from postfixpy.ipc.attributes import encode, parse
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import announcement
from postfixpy.ipc.service import Context
from postfixpy.lookup import Flags
from postfixpy.services.proxymap import Proxymap

from .real_daemon import DAEMONS, RealDaemon

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "proxymap").exists(), reason="no Postfix here"),
    pytest.mark.timeout(120),
]
TABLES = ["inline:{a=1 B=2}", "regexp:{{/(x)/ <$1>}}", "static:s", "fail:f", "unix:passwd.byname", "texthash:t"]
TABLES.append("pipemap:{static:q}")
FLAGS = [int(flags) for flags in (Flags.MAPS, Flags.LOCK, Flags.LOCK | Flags.FOLD_MUL, Flags.NONE)]


@pytest.fixture(params=["3.7", "3.11"])
def place(request):
    """A folder with a configuration; `root` is where the real programs see it."""
    release = request.param
    if release != "3.7" and not real_root.available(release):
        pytest.skip(f"no real Postfix {release}: tools/real_root.py makes it")
    if os.getuid():
        pytest.skip("the real one wants root")
    root = "" if release == "3.7" else str(real_root.root(release))
    folder = Path(tempfile.mkdtemp(prefix="proxymap.", dir=f"{root}/tmp"))
    folder.chmod(0o755)
    inside = str(folder).removeprefix(root)
    listed = " ".join(f"proxy:{name}" for name in TABLES).replace("$", "$$")
    settings = f"queue_directory = {inside}/q\ndata_directory = {inside}/d\nmaillog_file = /var/log/unused\n"
    settings += f"compatibility_level = 3.6\nproxy_read_maps = {listed}\nproxy_write_maps = proxy:lmdb:{inside}/cache\n"
    (folder / "etc").mkdir()
    (folder / "etc/main.cf").write_text(settings)
    (folder / "etc/master.cf").write_text("")
    (folder / "q").mkdir()
    (folder / "d").mkdir()
    yield folder, root, release
    shutil.rmtree(folder)


def requests(release):
    """Requests as they travel."""
    old = release == "3.7"
    made = []
    for table in [*TABLES, "static:denied", "nocolon"]:
        # In 3.7 the instance of the first client serves those with other flags, too.
        for flags in FLAGS[:1] if old else FLAGS:
            how = [("flags", flags)] if old else [("instance_flags", flags)]
            made.append([("request", "open"), ("table", table), *how])
            kind = Flags.PATTERN if table.startswith(("regexp:", "fail:")) else Flags.FIXED
            how = [("flags", flags)] if old else [("instance_flags", flags), ("flags", flags | int(kind))]
            start = [("table", f"proxy:{table}"), *how]
            for key in ("a", "A", "b", "x", "root", "é"):
                made.append([("request", "lookup"), *start, ("key", key)])
        made.append([("request", "sequence"), *start, ("function", 5)])
        made.append([("request", "update"), *start, ("key", "k"), ("value", "v")])
        made.append([("request", "delete"), *start, ("key", "k")])
    return made


def ask(sock, data):
    """Send a request; the reply, and None when the daemon hung up."""
    sock.sendall(data)
    buffer = b""
    while (parsed := parse(buffer)) is None:
        part = sock.recv(65536)
        if not part:
            return None
        buffer += part
    return parsed[0]


LOCAL = Flags.TRY0NULL | Flags.TRY1NULL | Flags.UTF8_ACTIVE
"""Flags that mean something only where the table is: they are not compared."""


def comparable(pairs, release):
    """A reply. In 3.7 the flags of an open table are those of its first client: there only its kind is compared."""
    seen = Flags.FIXED | Flags.PATTERN if release == "3.7" else ~LOCAL
    return [(name, str(int(value) & int(seen)) if name == "flags" else value) for name, value in pairs]


def test_same_answers(place, monkeypatch):
    folder, root, release = place
    monkeypatch.chdir(folder / "q")
    monkeypatch.setenv("POSTFIXPY_VERSION", release)
    quiet = log.set_sink(lambda severity, text: None)
    try:
        real = []
        (folder / "q/t").write_text("a 1\n")
        with (
            RealDaemon("proxymap", "proxymap", folder / "etc", folder / "q", root=root) as daemon,
            daemon.connect() as sock,
        ):
            sock.recv(1000)  # the announcement
            for request in requests(release):
                real.append(ask(sock, encode(request)))
                daemon.log()  # it waits when nobody reads what it logs
        view = load(str(folder / "etc"), release=release).view()
        service = Proxymap(Context(None, view, "proxymap", "proxymap"))

        async def ours():
            await service.pre_jail()
            replies = []
            for request in requests(release):
                listings = {}
                pairs = parse(encode(request))[0]
                replies.append(parse(encode(await service.answer(pairs, listings)))[0])
            return replies

        for request, theirs, own in zip(requests(release), real, asyncio.run(ours()), strict=True):
            if theirs is None:
                break
            assert comparable(own, release) == comparable(theirs, release), request
        assert None not in real
    finally:
        log.set_sink(quiet)


def test_the_real_client_asks_ours(place, monkeypatch):
    folder, root, release = place
    monkeypatch.chdir(folder / "q")
    monkeypatch.setenv("POSTFIXPY_VERSION", release)
    (folder / "q/private").mkdir()
    settings = (folder / "etc/main.cf").read_text()
    if root:  # ours runs outside
        (folder / "etc-ours").mkdir()
        inside = str(folder).removeprefix(root)
        (folder / "etc-ours/main.cf").write_text(
            settings.replace(f" {inside}/", f" {folder}/").replace(":" + inside, f":{folder}")
        )
        (folder / "etc-ours/master.cf").write_text("")
    started = threading.Event()
    ended = threading.Event()

    async def serve():
        view = load(str(folder / ("etc-ours" if root else "etc")), release=release).view()
        services = [Proxymap(Context(None, view, "proxymap", name)) for name in ("proxymap", "proxywrite")]
        loop = asyncio.get_running_loop()
        servers, clients = [], []
        for service in services:
            await service.pre_jail()
            servers.append(
                await loop.create_unix_server(_server(service, clients), f"private/{service.context.service}")
            )
        started.set()
        await asyncio.to_thread(ended.wait, 60)
        for server, service in zip(servers, services, strict=True):
            server.close()
            await service.stop()
        for client in clients:
            client.transport.abort()
            await client.task

    quiet = log.set_sink(lambda severity, text: sys.stderr.write(f"{severity}: {text}\n"))
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        inside = str(folder).removeprefix(root)

        def postmap(*words, stdin=b""):
            enter = ["chroot", root] if root else []
            command = [*enter, "/usr/sbin/postmap", "-c", f"{inside}/etc", *words]
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=30)
            return done.returncode, done.stdout, done.stderr

        assert postmap("-q", "a", "proxy:inline:{a=1 B=2}") == (0, b"1\n", b"")
        assert postmap("-q", "none", "proxy:inline:{a=1 B=2}") == (1, b"", b"")
        assert postmap("-q", "-", "proxy:regexp:{{/(x)/ <$1>}}", stdin=b"x\ny\nax\n") == (0, b"x\t<x>\nax\t<x>\n", b"")
        status, _, err = postmap("-q", "a", "proxy:static:denied")
        assert status == 1 and b'proxymap service is not configured for table "static:denied"' in err
        if not root:  # a file that both name alike
            spec = f"proxy:lmdb:{folder}/cache"
            (folder / "cache").write_text("k v\nl w\n")
            assert postmap(spec.removeprefix("proxy:")) == (0, b"", b"")
            assert postmap("-d", "l", spec) == (0, b"", b"")
            assert postmap("-s", f"lmdb:{folder}/cache") == (0, b"k\tv\n", b"")
    finally:
        ended.set()
        thread.join()
        log.set_sink(quiet)


def _server(service, clients):
    class Server(Channel):
        def connection_made(self, transport):
            super().connection_made(transport)
            clients.append(self)
            self.write(announcement(wire.PROTOCOL, self.release))
            self.task = asyncio.get_running_loop().create_task(self.work())

        async def work(self):
            await service.serve(self)
            self.close()
            await self.wait_closed()

    return lambda: Server("unix.proxymap")
