#!/usr/bin/env python3
"""Records what the real smtp(8) or lmtp(8) does in a scenario, and compares it with what ours does.

    tools/record_smtp.py FILE...            run the real program, compare with our replay, show differences
    tools/record_smtp.py --write FILE...    also store what the real program did in the files
    tools/record_smtp.py --ours FILE...     run our own program over real sockets instead of the real one

The program runs alone, with this tool in the place of master, the queue manager, the bounce, defer, trace, rewrite and
cleanup services, the log, the remote servers and the name server: in a network and mount namespace of its own, so that
every address of 127.0.0.0/8 and port 25 are free and /etc/resolv.conf is ours. Needs root for that.
"""

import argparse
import difflib
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from postfixpy.ipc import delivery as wire
from postfixpy.ipc.attributes import encode, parse
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.mail.dsn import DSN
from postfixpy.mail.records import Kind, encode_record
from postfixpy.migrate import replay_smtp, scenario

ROOT = Path(__file__).resolve().parent.parent
DAEMONS = "/usr/lib/postfix/sbin"
TIME_LIMIT = 20.0


class ScriptedServer(threading.Thread):
    """One server address: each connection plays the next list of steps."""

    def __init__(self, server: scenario.Server, queue_directory: str) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.chunks: list[tuple[str, list[bytes]]] = []
        if server.address.startswith("/") or "/" in server.address:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(os.path.join(queue_directory, server.address))
        else:
            host, _, port = server.address.rpartition(":")
            host = host.strip("[]")
            self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((host, int(port)))
        self.listener.listen(10)
        self.active: list[threading.Thread] = []

    def run(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            number += 1
            steps = self.server.connections[min(number, len(self.server.connections)) - 1]
            chunks: list[bytes] = []
            self.chunks.append((f"{self.server.address} {number}", chunks))
            thread = threading.Thread(target=Play(connection, steps, chunks).run, daemon=True)
            self.active.append(thread)
            thread.start()


class Play:
    """One connection."""

    def __init__(self, sock: socket.socket, steps: list[str], chunks: list[bytes]) -> None:
        self.sock = sock
        self.steps = steps
        self.chunks = chunks
        self.buffer = b""
        self.merge = False
        self.out = b""

    def run(self) -> None:
        try:
            for step in self.steps:
                if not self.play(step):
                    return
            self.flush()
            while self.more():
                pass
        except OSError:
            pass
        finally:
            self.sock.close()

    def flush(self) -> None:
        if self.out:
            self.sock.sendall(self.out)
            self.out = b""

    def more(self) -> bool:
        data = self.sock.recv(65536)
        if not data:
            return False
        if self.merge:
            self.chunks[-1] += data
        else:
            self.chunks.append(data)
        self.buffer += data
        return True

    def play(self, step: str) -> bool:
        word, _, rest = step.partition(" ")
        if word == ">":
            self.out += rest.encode("utf-8", "surrogateescape") + b"\r\n"
            return True
        if word == ">>":
            self.out += scenario.unescape(rest)
            return True
        self.flush()
        if word == "<":
            while b"\r\n" not in self.buffer:
                if not self.more():
                    return False
            self.buffer = self.buffer.partition(b"\r\n")[2]
            return True
        if word == "<data":
            while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
                if not self.more():
                    return False
                self.merge = True
            self.merge = False
            end = 0 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n") + 2
            self.buffer = self.buffer[end + 3 :]
            return True
        if word == "<bytes":
            while len(self.buffer) < int(rest):
                if not self.more():
                    return False
                self.merge = True
            return True
        if word == "sleep":
            time.sleep(float(rest))
            return True
        if word == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if word == "stall":
            while self.more():
                pass
            return False
        if word == "close":
            return False
        raise ValueError(step)


class Services:
    """The mail system's services and the log, on sockets in the queue directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.told: list[str] = []
        self.lines: list[str] = []
        self.notices: list[str] = []
        for name in ("bounce", "defer", "trace"):
            self._listen(f"private/{name}", self._report)
        self._listen("private/rewrite", self._rewrite)
        self._listen("private/other", self._agent)
        self._endpoints: dict[str, tuple[str, int]] = {}
        self._destinations: dict[str, tuple[str, str]] = {}
        self._listen("private/scache", self._cache)
        self._listen("public/cleanup", self._cleanup)
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind(os.path.join(directory, "public/postlog"))
        threading.Thread(target=self._read_log, daemon=True).start()

    def _listen(self, path: str, serve: object) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self.directory, path))
        listener.listen(10)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection, path), daemon=True).start()  # type: ignore[arg-type]

        threading.Thread(target=accept, daemon=True).start()

    def _read_log(self) -> None:
        while True:
            record = self.log.recv(65536).decode("utf-8", "surrogateescape")
            text = re.sub(r"^.*?\[\d+\]: ", "", record.rstrip("\n"), count=1)
            if "tlsmgr" in text or "no entropy for TLS" in text:
                continue  # there is no tlsmgr here: the program goes on without TLS, which is what is recorded
            self.lines.append(f"log {scenario.normal_log(text)}")

    def _report(self, sock: socket.socket, path: str) -> None:
        sock.sendall(encode([("protocol", "delivery_status_protocol")]))
        values = dict(read_list(sock) or [])
        dsn = DSN(
            values["status"],
            values["action"],
            values["reason"],
            values["diag_type"],
            values["diag_text"],
            values["mta_type"],
            values["mta_mname"],
        )
        from postfixpy.mail.delivery import Recipient

        recipient = Recipient(
            values["recipient"],
            values["original_recipient"],
            int(values["offset"]),
            values["dsn_orig_rcpt"],
            int(values["notify_flags"]),
        )
        line = replay_smtp.show_append(path.rpartition("/")[2], int(values["flags"]), recipient, dsn)
        self.told.append(line.replace(" offset=", " @offset=", 1))
        sock.sendall(encode([("status", 0)]))

    def _agent(self, sock: socket.socket, path: str) -> None:
        """Another delivery transport, for best_mx_transport."""
        sock.sendall(wire.ANNOUNCEMENT)
        head = dict(read_list(sock) or [])
        recipient = dict(read_list(sock) or [])
        self.told.append(f"pass {path.rpartition('/')[2]} {head['nexthop']} {recipient['recipient']}")
        sock.sendall(wire.Result.of(None, 0).encode())
        sock.close()

    def _cache(self, sock: socket.socket, path: str) -> None:
        """scache(8), without its time limits."""
        sock.sendall(encode([("protocol", "connection_cache_protocol")]))
        dummy = encode([("dummy", "")])
        while (pairs := read_list(sock)) is not None:
            request, values = pairs[0][1], [value for _, value in pairs[1:]]
            if request == "save_endp":
                sock.sendall(dummy)
                _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
                self._endpoints[values[1]] = (values[2], descriptors[0])
                sock.sendall(encode([("status", 0)]))
            elif request == "save_dest":
                self._destinations[values[1]] = (values[2], values[3])
                sock.sendall(encode([("status", 0)]))
            else:
                self._find(sock, request, values[0])

    def _find(self, sock: socket.socket, request: str, label: str) -> None:
        found = []
        if request == "find_dest":
            properties, label = self._destinations.get(label, ("", ""))
            found.append(("property", properties))
        endpoint = self._endpoints.pop(label, None)
        if endpoint is None:
            empty = [("property", "")] * (2 if request == "find_dest" else 1)
            sock.sendall(encode([("status", 2), *empty]))
            return
        sock.sendall(encode([("status", 0), *found, ("property", endpoint[0])]))
        read_list(sock)
        socket.send_fds(sock, [b"x"], [endpoint[1]])
        os.close(endpoint[1])
        read_list(sock)

    def _rewrite(self, sock: socket.socket, path: str) -> None:
        sock.sendall(encode([("protocol", "trivial_rewrite_protocol")]))
        while (pairs := read_list(sock)) is not None:
            address = dict(pairs)["address"]
            if "@" not in address:
                address += "@client.example"
            sock.sendall(encode([("flags", 0), ("address", address)]))

    def _cleanup(self, sock: socket.socket, path: str) -> None:
        from postfixpy.mail.records import RecordParser

        sock.sendall(encode([("protocol", "cleanup_protocol"), ("queue_id", "NOTICE")]))
        read_list(sock)
        parser = RecordParser("notice")
        while True:
            data = _leftover.pop(sock.fileno(), b"") or sock.recv(65536)
            if not data:
                return
            parser.feed(data)
            for kind, payload in parser:
                text = payload.decode("utf-8", "surrogateescape")
                if kind == "N" and not text.startswith(("Received: ", "\tid ", "Date: ")):
                    self.notices += replay_smtp.show_notice([text])
                if kind == "E":
                    sock.sendall(encode([("status", 0), ("reason", "")]))
                    sock.close()
                    return


_leftover: dict[int, bytes] = {}


def read_list(sock: socket.socket) -> list[tuple[str, str]] | None:
    """One attribute list, None at the end."""
    buffer = _leftover.pop(sock.fileno(), b"")
    while True:
        found = parse(buffer)
        if found is not None:
            if buffer[found[1] :]:
                _leftover[sock.fileno()] = buffer[found[1] :]
            return found[0]
        data = sock.recv(65536)
        if not data:
            return None
        buffer += data


def queue_file(path: str, found: scenario.Scenario, request: DeliveryRequest) -> tuple[int, list[int]]:
    """Write the queue file; returns the offset of the content and those of the recipients."""
    offsets = []
    data = bytearray(encode_record(Kind.SIZE, b" " * 95))
    data += encode_record(Kind.FROM, request.sender.encode())
    for recipient in request.recipients:
        offsets.append(len(data))
        data += encode_record(Kind.RECIPIENT, recipient.address.encode("utf-8", "surrogateescape"))
    data += encode_record(Kind.MESSAGE, b"")
    content = len(data)
    for kind, payload in replay_smtp.records_of(found.message):
        data += encode_record(kind, payload)
    data += encode_record(Kind.END, b"")
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o700)
    return content, offsets


def start_program(
    program: str, daemon_directory: str, directory: str, words: list[str]
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the delivery agent as master(8) does: status channel on 5, its listening socket on 6."""
    path = os.path.join(directory, "private/agent")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)
    listener.setblocking(False)
    status, agent_status = socket.socketpair()
    flow_read, flow_write = os.pipe()
    first = {3: flow_read, 4: flow_write, 5: agent_status.fileno(), 6: listener.fileno()}

    def place() -> None:
        high = {target: os.dup(source) for target, source in first.items()}
        high = {target: fd if fd > 10 else _above(fd) for target, fd in high.items()}
        for target, fd in high.items():
            os.dup2(fd, target)
            os.set_inheritable(target, True)

    executable = os.path.join(daemon_directory, program)
    process = subprocess.Popen(
        [program, "-n", program, "-t", "unix", *words],
        executable=executable,
        cwd=directory,
        env={
            "MAIL_CONFIG": os.path.join(directory, "etc"),
            "GENERATION": "0",
            "LANG": "C",
            "POSTLOG_SERVICE": f"{directory}/public/postlog",
            "POSTLOG_HOSTNAME": "client.example",
            **extra_environment(),
        },
        preexec_fn=place,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    start_program.keep = (status, listener)  # type: ignore[attr-defined]  # they must live as long as the process
    return process, path


def extra_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("POSTFIXPY_VERSION", "PATH") if name in os.environ}


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, 20)


def record(found: scenario.Scenario, daemon_directory: str, release: tuple[int, int]) -> str:
    """What the program does in the scenario, as text."""
    directory = tempfile.mkdtemp(prefix="record")
    os.chmod(directory, 0o755)
    for name in ("etc", "private", "public", "active", "pid", "lib"):
        os.mkdir(os.path.join(directory, name))
    main_cf = scenario.BASE + found.main_cf
    main_cf += f"queue_directory = {directory}\ndata_directory = {directory}/lib\nmail_owner = postfix\n"
    main_cf += "setgid_group = postdrop\nmaillog_file = /var/log/scenario.log\nsyslog_name = x\n"
    Path(directory, "etc/main.cf").write_text(main_cf)
    Path(directory, "etc/master.cf").write_text("")
    for name, text in found.tables.items():
        Path(directory, "etc", name).write_text(text, errors="surrogateescape")
    services = Services(directory)
    servers = [ScriptedServer(server, directory) for server in found.servers]
    for server in servers:
        server.start()
    dns = start_dns(found.zone)
    program = found.value("program", "smtp")
    process, path = start_program(program, daemon_directory, directory, found.value("words").split())
    outcomes, done = [], []
    try:
        for number in range(len(found.requests)):
            outcome, marked = play_request(found, number, directory, path, process, release, services)
            outcomes.append(outcome)
            done += marked
    finally:
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        process.wait()
        dns.terminate()
        dns.wait()
        for server in servers:
            server.listener.shutdown(socket.SHUT_RDWR)
            server.listener.close()
    connections = sorted((c for server in servers for c in server.chunks), key=lambda c: c[0])
    shutil.rmtree(directory)
    lines = services.lines + services.notices
    text = replay_smtp.render(connections, lines, services.told, "\n".join(outcomes), done)
    return text.replace(directory, "$queue")


def play_request(
    found: scenario.Scenario,
    number: int,
    directory: str,
    path: str,
    process: subprocess.Popen[bytes],
    release: tuple[int, int],
    services: Services,
) -> tuple[str, list[int]]:
    """Send one request; returns its final status and which recipients were marked."""
    request = replay_smtp.request_of(found, number)
    file = Path(directory, "active", scenario.QUEUE_ID)
    content, offsets = queue_file(str(file), found, request)
    request.offset = content
    for recipient, offset in zip(request.recipients, offsets, strict=True):
        recipient.offset = offset
    now = int(time.time() * 1_000_000)
    age = request.stats.active_arrival - request.stats.incoming_arrival
    request.stats.active_arrival, request.stats.incoming_arrival = now, now - age
    request.stats.agent_handoff = 0
    outcome = run_request(path, wire.pack(request, release), process)
    services.told = [_number_offset(line, offsets) for line in services.told]
    data = file.read_bytes()
    return outcome, [n + 1 for n, offset in enumerate(offsets) if data[offset : offset + 1] == b"D"]


def _number_offset(line: str, offsets: list[int]) -> str:
    return re.sub(r"@offset=(\d+)", lambda match: f"offset={offsets.index(int(match[1])) + 1}", line)


def run_request(path: str, request: bytes, process: subprocess.Popen[bytes]) -> str:
    """Send the request and read the final status."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.settimeout(TIME_LIMIT)
    _leftover.pop(sock.fileno(), None)
    deadline = time.time() + TIME_LIMIT
    while not select.select([sock], [], [], 0.2)[0]:
        if process.poll() is not None or time.time() > deadline:
            return "result none"
    if read_list(sock) is None:
        return "result none"
    sock.sendall(request)
    while not select.select([sock], [], [], 0.2)[0]:
        if process.poll() is not None or time.time() > deadline:
            return "result none"
    try:
        pairs = read_list(sock)
    except ConnectionError:
        pairs = None
    sock.close()
    if pairs is None:
        return "result none"
    result = wire.Result.parse(pairs)
    return replay_smtp.show_result(result.status, result.hop())


def start_dns(zone: list[str]) -> subprocess.Popen[bytes]:
    """A name server on 127.0.0.53 for the zone of the scenario."""
    process = subprocess.Popen(
        [sys.executable, "-m", "postfixpy.dns.testing", "127.0.0.53", "53"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(("\n".join(zone) + "\n").encode())
    process.stdin.close()
    process.stdout.readline()
    return process


def enter_namespace() -> None:
    """Run this program again inside namespaces of its own, with its own resolv.conf."""
    if os.environ.get("RECORD_SMTP_INSIDE"):
        return
    os.environ["RECORD_SMTP_INSIDE"] = "1"
    with tempfile.NamedTemporaryFile("w", suffix=".resolv.conf", delete=False) as file:
        file.write("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")
    script = f'ip link set lo up && mount --bind {file.name} /etc/resolv.conf && exec "$@"'
    os.execvp("unshare", ["unshare", "-n", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv])


def own_programs() -> str:
    """A folder with our programs under their plain names."""
    directory = tempfile.mkdtemp(prefix="daemons")
    for name in ("smtp", "lmtp"):
        path = Path(directory, name)
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from postfixpy.services.run import main\nsys.exit(main([{name!r}, *sys.argv[1:]]))\n"
        )
        path.chmod(0o755)
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--write", action="store_true", help="store the recording in the files")
    parser.add_argument("--ours", action="store_true", help="run our program instead, against the stored recording")
    parser.add_argument("--show", action="store_true", help="print what was recorded")
    options = parser.parse_args()
    enter_namespace()
    version = subprocess.check_output(["/usr/sbin/postconf", "-dh", "mail_version"], text=True).strip()
    release = ".".join(version.split(".")[:2])
    os.environ["POSTFIXPY_VERSION"] = release
    numbers = (int(release.split(".")[0]), int(release.split(".")[1]))
    daemons = own_programs() if options.ours else DAEMONS
    different = 0
    for name in options.files:
        text = Path(name).read_text()
        found = scenario.parse(text)
        recorded = record(found, daemons, numbers)
        if options.show:
            print(recorded)
        if options.ours:
            expected = found.recorded[release]
            label = "ours over sockets"
            other = recorded
        else:
            expected = recorded
            with tempfile.TemporaryDirectory() as directory:
                other = replay_smtp.replay(found, directory, release)
            label = "replay"
        if expected != other:
            different += 1
            print(f"DIFFERENT {name}", flush=True)
            lines = difflib.unified_diff(expected.splitlines(), other.splitlines(), "real", label, lineterm="", n=2)
            print("\n".join(lines))
        if options.write:
            body = re.sub(rf"^== recorded {re.escape(release)}\n.*?(?=^== |\Z)", "", text, flags=re.M | re.S)
            Path(name).write_text(body.rstrip("\n") + f"\n== recorded {release}\n{recorded}")
    print(f"{len(options.files)} scenarios, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
