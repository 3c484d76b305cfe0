"""Scenarios of a whole mail system: submissions in; log, and mail to scripted servers, out.

The format is that of postfixpy.migrate.scenario, with these sections in place of requests:

    == master.cf            rows that replace or add to those of Debian's master.cf
    == submission           ``sender = ``, ``recipient = `` (may repeat), ``words = `` (more arguments of sendmail(1))
    == command WORDS        after what was submitted before has settled: a command, like ``postqueue -f`` or ``sleep 2``

Mail has settled when nothing is on its way into the queue or active. Recorded are, for each message in the order in
which the log names them first, its log lines; then what each server got.

What is made equal in recordings, because it differs between two runs:

    queue ids           Q1, Q2... in the order of the log
    times               DATE for dates in headers, TIME in message ids and MIME boundaries; delays and delay= in the log
    sizes               size= in the log: queue ids differ in length, and the Received: header has one
    order of lines      a message's lines by program, then by text: programs log at the same time
    process ids         in the prefix of a log line
"""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from real_postfix import PYTHON, REPOSITORY, RealPostfix

from postfixpy.migrate import scenario

_LINE = re.compile(r"^postfix/(\S+): ([0-9A-F]{6,}): (.*)$")
_PROGRAMS = ["pickup", "cleanup", "qmgr", "smtp", "relay/smtp", "lmtp", "error", "retry", "discard", "local", "bounce"]
_RULES = [
    (re.compile(r"[A-Z][a-z]{2}, [ \d]\d [A-Z][a-z]{2} \d{4} [\d:]{8} [+-]\d{4}(?: \([A-Z]+\))?"), "DATE"),
    (re.compile(r"\b\d{14}(?=\.Q\d)"), "TIME"),
    (re.compile(r"(?<=Q\d\.)\d+(?=/client)"), "TIME"),
    (re.compile(r"\bsize=\d+"), "size=#"),
]


class OurSystem(RealPostfix):
    """Our whole system, as one of the release."""

    def __init__(self, release: str, **settings: Any) -> None:
        super().__init__(release, whole=True, **settings)

    def ours(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return self.run("env", f"POSTFIXPY_VERSION={self.release}", PYTHON, "-m", "postfixpy", *words, **options)


def record(path: Path, release: str, *, ours: bool) -> str:
    """What the mail system of a release does; `ours`: our whole system in its place."""
    found = scenario.read(path)
    lines = (line.partition("=") for line in found.main_cf.splitlines() if line.strip())
    settings = {"in_flow_delay": "0"} | {name.strip(): value.strip() for name, _, value in lines}
    system = (OurSystem if ours else RealPostfix)(release, zone=found.zone, rows=found.rows, **settings)
    for name, text in found.tables.items():
        system.path(f"/etc/postfix/{name}").write_text(text)
    with system:
        program = str(REPOSITORY / "tools/recorder/play.py")
        # In the network of that world, but with the file system of this one, where our interpreter has its libraries.
        words = ["nsenter", "-t", str(system.pid), "-n", PYTHON, program, str(path)]
        servers = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert servers.stdout is not None and servers.stdin is not None
        servers.stdout.readline()
        for kind, words in found.steps:
            if kind == "submission":
                submit(system, words, found.message)
            elif words[0] == "sleep":
                time.sleep(float(words[1]))
            else:
                (system.ours if system.whole else system.run)(*words)
            settle(system)
        wires = json.loads(servers.communicate("")[0])
        return render(system.log(), wires)


def submit(system: RealPostfix, lines: list[str], message: str) -> None:
    """Hand a message to sendmail(1)."""
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition("=") for line in lines)]
    sender = next(value for name, value in fields if name == "sender")
    words = [word for name, value in fields if name == "words" for word in value.split()]
    recipients = [value for name, value in fields if name == "recipient"]
    run = system.ours if system.whole else system.run
    run("sendmail", "-f", sender, *words, *recipients, text=message)


def settle(system: RealPostfix) -> None:
    """Wait until nothing moves."""
    queue = system.path("/var/spool/postfix")

    def moving() -> bool:
        return any(path.is_file() for name in ("maildrop", "incoming", "active") for path in (queue / name).rglob("*"))

    still = 0
    deadline = time.monotonic() + 60
    seen = ""
    while still < 8:
        time.sleep(0.1)
        text = system.text()
        still = 0 if moving() or text != seen else still + 1
        seen = text
        if time.monotonic() > deadline:
            raise RuntimeError("mail does not settle:\n" + text[-3000:])


def render(log: list[str], wires: list[tuple[str, list[str]]]) -> str:
    """The recording: log lines by message, and the wire."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for line in log:
        match = _LINE.match(line)
        if match:
            program = match[1]
            place = _PROGRAMS.index(program) if program in _PROGRAMS else len(_PROGRAMS)
            groups.setdefault(match[2], []).append((place, f"{program}: {match[2]}: {match[3]}"))
    out: list[str] = []
    for lines in groups.values():
        out += [f"log {line}" for _, line in sorted(lines)]
    for name, chunks in sorted(wires):
        out += scenario.show_wire(name, [chunk.encode("latin-1") for chunk in chunks])
    text = "\n".join(out) + "\n"
    for number, queue_id in enumerate(groups, 1):
        text = re.sub(rf"\b{queue_id}\b", f"Q{number}", text)
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    lines = map(scenario.normal_log, text.split("\n"))
    return "\n".join(line for line in lines if line is not None)
