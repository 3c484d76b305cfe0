"""One scenario with one program: this process stands for everything around it."""

import asyncio
import os
import re
import select
import shutil
import socket
import threading
import time
from pathlib import Path

from postfixpy.dns import testing
from postfixpy.ipc import delivery as wire
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.mail.records import Kind, encode_record
from postfixpy.migrate import replay_smtp, scenario

from .namespace import set_hosts
from .programs import Installation, Process
from .servers import ScriptedServer
from .services import Services
from .stream import Stream


def record(found: scenario.Scenario, installation: Installation) -> str:
    """What the program does in the scenario, as text. Needs namespaces of its own (`recorder.namespace`)."""
    directory = installation.work_directory()
    inside = installation.inside(directory)
    try:
        configure(found, directory, inside)
        keeps = "_session_cache_database" in found.main_cf
        services = Services(directory, tlsmgr=found.tlsmgr, sessions=keeps)
        servers = [ScriptedServer(server, directory) for server in found.servers]
        for server in servers:
            server.start()
        start_dns(found.zone)
        if found.hosts:
            set_hosts(installation.root, found.hosts)
        words = found.value("words").split()
        process = Process(installation, found.value("program", "smtp"), directory, words)
        outcomes, done = [], []
        try:
            for number in range(len(found.requests)):
                outcome, marked = play_request(found, number, directory, process, installation, services)
                outcomes.append(outcome)
                done += marked
            time.sleep(0.3)  # a QUIT after the result may still be under way
        finally:
            process.stop()
            services.close()
            for server in servers:
                server.close()
    finally:
        shutil.rmtree(directory)
    connections = sorted((c for server in servers for c in server.chunks), key=lambda c: c[0])
    lines = services.lines + services.notices
    text = replay_smtp.render(
        connections, lines, [*services.rewritten, *services.told, *services.reports()], "\n".join(outcomes), done
    )
    return found.select(text.replace(directory, "$queue").replace(inside, "$queue"))


def configure(found: scenario.Scenario, directory: str, inside: str) -> None:
    """The queue directory with its configuration."""
    for name in ("etc", "private", "public", "active", "pid", "lib"):
        os.mkdir(os.path.join(directory, name))
    main_cf = scenario.BASE + found.main_cf
    main_cf += f"queue_directory = {inside}\ndata_directory = {inside}/lib\nmail_owner = postfix\n"
    main_cf += "setgid_group = postdrop\nmaillog_file = /var/log/scenario.log\nsyslog_name = x\n"
    path = Path(directory, "etc/main.cf")
    path.write_text(main_cf)
    # A file that was just written makes Postfix wait and read it again, and 3.10 and later then lose $config_directory.
    os.utime(path, (0, 0))
    Path(directory, "etc/master.cf").write_text("")
    if found.uses_certificates:
        shutil.copytree(scenario.CERTIFICATES, Path(directory, "etc/certificates"))
    for name, text in found.tables.items():
        Path(directory, "etc", name).write_text(text, errors="surrogateescape")


def play_request(
    found: scenario.Scenario,
    number: int,
    directory: str,
    process: Process,
    installation: Installation,
    services: Services,
) -> tuple[str, list[int]]:
    """Send one request; returns its final status and which recipients were marked."""
    time.sleep(replay_smtp.after(found, number))
    request = replay_smtp.request_of(found, number)
    file = Path(directory, "active", scenario.QUEUE_ID)
    content, offsets = queue_file(file, found, request, installation.mail_owner())
    request.offset = content
    for recipient, offset in zip(request.recipients, offsets, strict=True):
        recipient.offset = offset
    now = int(time.time() * 1_000_000)
    age = request.stats.active_arrival - request.stats.incoming_arrival
    request.stats.active_arrival, request.stats.incoming_arrival = now, now - age
    request.stats.agent_handoff = 0
    outcome = run_request(wire.pack(request, installation.numbers), process)
    if not file.stat().st_mode & 0o100:
        outcome += " corrupt"
    services.told = [_number_offset(line, offsets) for line in services.told]
    data = file.read_bytes()
    return outcome, [n + 1 for n, offset in enumerate(offsets) if data[offset : offset + 1] == b"D"]


def _number_offset(line: str, offsets: list[int]) -> str:
    return re.sub(r"@offset=(\d+)", lambda match: f"offset={offsets.index(int(match[1])) + 1}", line)


def queue_file(path: Path, found: scenario.Scenario, request: DeliveryRequest, owner: int) -> tuple[int, list[int]]:
    """Write the queue file; returns the offset of the content and those of the recipients."""
    offsets = []
    data = bytearray(encode_record(Kind.SIZE, b" " * 95))
    data += encode_record(Kind.FROM, request.sender.encode())
    for recipient in request.recipients:
        offsets.append(len(data))
        data += encode_record(Kind.RECIPIENT, recipient.address.encode("utf-8", "surrogateescape"))
    data += encode_record(Kind.MESSAGE, b"")
    content = len(data)
    for kind, payload in replay_smtp.records_of(found.message, found.value("end", "X")):
        data += encode_record(kind, payload)
    data += encode_record(Kind.END, b"")
    path.write_bytes(data[: len(data) - int(found.value("cut", "0"))])
    path.chmod(0o700)
    os.chown(path, owner, -1)  # the program marks a file that is corrupt
    return content, offsets


def run_request(request: bytes, process: Process) -> str:
    """Send the request and read the final status."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(process.path)
    stream = Stream(sock)
    deadline = time.monotonic() + replay_smtp.TIME_LIMIT

    def answer() -> list[tuple[str, str]] | None:
        while not select.select([sock], [], [], 0.2)[0]:
            if not process.running() or time.monotonic() > deadline:
                return None
        try:
            return stream.read()
        except ConnectionError:
            return None

    with sock:
        if answer() is None:
            return "result none"
        sock.sendall(request)
        pairs = answer()
    if pairs is None:
        return "result none"
    result = wire.Result.parse(pairs)
    return replay_smtp.show_result(result.status, result.hop())


def start_dns(zone: list[str]) -> None:
    """A name server on 127.0.0.53 for the zone of the scenario, in a thread that ends with the process."""
    ready = threading.Event()

    async def run() -> None:
        await testing.serve(testing.ZoneServer(zone), "127.0.0.53", 53)
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    if not ready.wait(5):
        raise RuntimeError("the name server does not start")
