#!/usr/bin/env python3
"""The same mail through a real Postfix twice, once with its own smtp(8) and once with ours: the logs must be equal.

    tools/side_by_side.py [--release 3.7] [--messages 5000] [--system]

Each run is a whole mail system in a world of its own (real_postfix.py): real smtpd, cleanup, queue manager, bounce...,
with a name server and a farm of scripted servers. Half of the domains go through the transport `relay`. Among the
messages are refused and deferred recipients, content that is refused, dead hosts, hosts of which the first is dead,
names without servers or with a broken name server, hosts that hang up at once or at the end of the message, and
messages with several recipients of several fates. What happens is a function of the recipient, so both runs see the
same. The system is reloaded while mail is delivered; then the deferred mail is tried once more.

Compared, as multisets: every line that the client logged, without queue ids, times and `conn_use=`. Any warning of
master or the queue manager is a failure, too, but for "problem talking to service": that is the moment of a reload.
With --system the second run is our whole system instead: our master, queue manager, client and all that we have.

Deferrals are not mixed with reloads: a queue manager that is replaced tries again what was deferred a moment before,
which is right and not the same twice.
"""

import argparse
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from real_postfix import INSTALLED, PYTHON, REPOSITORY, RealPostfix

DOMAINS = 200
RELOADS = 3
"""While mail is submitted and delivered; there is one more before the deferred mail is tried again."""
GOOD, DROPPER, DEAD = ("10.1.0.1", "10.1.0.2"), "10.1.0.3", "10.9.9.9"
RULES = (
    "rcpt no*@* 550 5.1.1 no such user",
    "rcpt later*@* 450 4.2.0 mailbox busy",
    "rcpt grey*@* times=1 451 4.7.1 greylisted",
    "dot bad*@* 554 5.7.1 content refused",
    "dot drop*@* drop",
    "rcpt full*@* close 421 4.3.2 shutting down",
)
SENDER = "sender@client.example"


@dataclass(slots=True)
class Result:
    """One run: what the client logged, normalised, and what should not have been logged."""

    name: str
    lines: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    left: int = 0
    seconds: float = 0.0

    @property
    def statuses(self) -> Counter[str]:
        """How many recipients had which status."""
        found: Counter[str] = Counter()
        for line, count in self.lines.items():
            status = re.search(r" status=(\w+)", line)
            if status:
                found[status[1]] += count
        return found


# The mail


def steady(number: int) -> list[str]:
    """The recipients of a message of the part that is delivered or returned, whatever else happens."""
    home = f"good{number * 7 % DOMAINS}.example"
    match number % 10:
        case 0 | 1 | 2 | 3:
            return [f"user{number}@{home}"]
        case 4 | 5:
            return [f"user{number}@relay{number * 3 % DOMAINS}.example"]
        case 6:
            return [f"no{number}@{home}"]
        case 7:
            several = [f"user{number}.{n}@good{(number + n) % DOMAINS}.example" for n in range(4)]
            return [*several, f"no{number}@good{number % DOMAINS}.example"]
        case 8:
            return [f"bad{number}@{home}"]
        case _:
            return [f"user{number}@two{number}.example"]


def troubled(number: int) -> list[str]:
    """The recipients of a message of the part that is deferred, for one reason or another."""
    home = f"good{number * 7 % DOMAINS}.example"
    match number % 10:
        case 0 | 1:
            return [f"later{number}@{home}"]
        case 2 | 3:
            return [f"grey{number}@relay{number % DOMAINS}.example"]
        case 4:
            return [f"user{number}@{home}", f"later{number}@{home}", f"no{number}@{home}"]
        case 5:
            return [f"user{number}@dead{number}.example"]
        case 6:
            return [f"user{number}@{('missing', 'broken', 'null')[number // 10 % 3]}{number}.example"]
        case 7:
            return [f"user{number}@hangup{number}.example"]
        case 8:
            return [f"drop{number}@once{number}.example"]
        case _:
            return [f"full{number}@once{number}.example", f"user{number}@{home}"]


def zone(messages: int) -> Iterator[str]:
    """The name server's records."""
    for n, address in enumerate(GOOD):
        yield f"mx{n}.hosts.example A {address}"
    yield f"dropper.hosts.example A {DROPPER}"
    yield f"dead.hosts.example A {DEAD}"
    yield "client.example MX 10 mx0.hosts.example"
    for n in range(DOMAINS):
        for kind in ("good", "relay"):
            yield f"{kind}{n}.example MX 10 mx{n % 2}.hosts.example"
    for n in range(messages):
        yield f"two{n}.example MX 10 dead.hosts.example"
        yield f"two{n}.example MX 20 mx{n % 2}.hosts.example"
        yield f"dead{n}.example MX 10 dead.hosts.example"
        yield f"broken{n}.example MX SERVFAIL"
        yield f"null{n}.example MX 0 ."
        yield f"hangup{n}.example MX 10 dropper.hosts.example"
        yield f"once{n}.example MX 10 mx{n % 2}.hosts.example"


def submit(first: int, last: int, part: str) -> None:
    """Run inside: hand messages to the real smtpd, over four connections."""
    recipients = steady if part == "steady" else troubled

    def one(start: int) -> None:
        with socket.create_connection(("127.0.0.1", 25)) as sock, sock.makefile("rwb") as stream:

            def reply() -> None:
                while True:
                    line = stream.readline()
                    if line[3:4] != b"-":
                        break
                if line[:1] not in b"23" or not line:
                    raise SystemExit(f"smtpd says: {line!r}")

            reply()
            stream.write(b"EHLO load.example\r\n")
            stream.flush()
            reply()
            for number in range(start, last, 4):
                to = recipients(number)
                lines = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{address}>" for address in to), "DATA"]
                stream.write("".join(f"{line}\r\n" for line in lines).encode())
                stream.flush()
                for _ in lines:
                    reply()
                stream.write(f"Subject: message {number}\r\n\r\n{'x' * 60}\r\n.\r\n".encode())
                stream.flush()
                reply()

    threads = [threading.Thread(target=one, args=(first + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# One run


def run(release: str, messages: int, ours: Sequence[str] = (), *, whole: bool = False, say: bool = True) -> Result:
    """Send `messages` messages through a mail system of a release in which the programs `ours` are ours.

    `whole`: the system is ours, and only what we do not have is real.
    """
    name = "our whole system" if whole else f"Postfix {release} with {'our' if ours else 'its own'} smtp"
    result = Result(name)
    settings = {
        "relay_domains": " ".join(f"relay{n}.example" for n in range(DOMAINS)),
        "in_flow_delay": "0",
        "minimal_backoff_time": "2h",
        "queue_run_delay": "2h",
        "smtp_connect_timeout": "10s",
        "smtpd_recipient_restrictions": "permit_mynetworks reject",
        "smtpd_client_connection_rate_limit": "0",
    }
    rows = ["relay unix - - n - - smtp -o syslog_name=postfix/relay"]
    with RealPostfix(release, ours=ours, zone=list(zone(messages)), rows=rows, whole=whole, **settings) as system:
        for address in GOOD:
            system.sink(f"{address}:25", *RULES, options=["-m", "1000"])
        system.sink(f"{DROPPER}:25", "connect * drop")
        begun = time.monotonic()
        many = messages * 7 // 10
        feeder = system.popen(PYTHON, str(REPOSITORY / "tools/side_by_side.py"), "--submit", f"0,{many},steady")
        for _ in range(RELOADS):
            time.sleep(3)
            system.reload()
        feeder.wait(300)
        if feeder.returncode:
            raise SystemExit("the messages could not be submitted")
        settle(system)
        system.run(PYTHON, str(REPOSITORY / "tools/side_by_side.py"), "--submit", f"{many},{messages},troubled")
        settle(system)
        system.reload()
        active, waiting = system.text().count("(queue active)"), len(system.queued())
        system.run("postqueue", "-f")
        system.wait(lambda: system.text().count("(queue active)") >= active + waiting, "the second attempts", 120)
        settle(system)
        result.left = len(system.queued())
        result.seconds = time.monotonic() - begun
        reloads = system.text().count("reload -- version")
        system.stop()
        system.wait(lambda: not system.processes("smtp"), "the end of every smtp process", 10)
        result.lines = Counter(normalised(line) for line in system.log() if client_line(line))
        result.troubles = [line for line in system.troubles() if re.match(r"postfix/(master|qmgr): ", line)]
        result.troubles = [line for line in result.troubles if "problem talking to service" not in line]
        if say:
            counts = ", ".join(f"{count} {status}" for status, count in sorted(result.statuses.items()))
            print(
                f"{result.name}: {messages} messages, {reloads} reloads, {result.seconds:.0f} s: {counts}", flush=True
            )
    return result


def settle(system: RealPostfix) -> None:
    """Wait until nothing is on its way: incoming and active are empty, and stay so.

    A message that an agent of the time before a reload still had when the new queue manager met it waits in incoming
    for the next flush.
    """
    queue = system.path("/var/spool/postfix")

    def busy() -> bool:
        return any(any(p.is_file() for p in (queue / name).rglob("*")) for name in ("maildrop", "incoming", "active"))

    quiet = still = size = 0
    deadline = time.monotonic() + 240
    while quiet < 5:
        time.sleep(0.2)
        quiet = 0 if busy() else quiet + 1
        before, size = size, len(system.text())
        still = still + 1 if size == before else 0
        if still == 15:
            system.run("postqueue", "-f")
            still = 0
        if time.monotonic() > deadline:
            raise AssertionError(f"mail is stuck: {system.queued()[:10]}\n{system.text()[-3000:]}")


def client_line(line: str) -> bool:
    """Whether the client logged it. Of a service that a reload has taken away each tells at the time it needs it."""
    return bool(re.match(r"postfix/(relay/)?smtp: (?!warning: problem talking to service)", line))


def normalised(line: str) -> str:
    """A line without what is never the same twice."""
    line = re.sub(r": [0-9A-F]{6,}: ", ": ID: ", line)
    # Since 3.11 "tls=none" tells, too, whether a connection was reused, which is a matter of the moment.
    return re.sub(r" (conn_use=\d+, )?delay=[\d.]+, delays=[\d./]+,( tls=none\??,)?", "", line)


def differences(real: Result, ours: Result) -> list[str]:
    """What one run logged and the other did not."""
    out = [f"- {count} x {line}" for line, count in sorted((real.lines - ours.lines).items())]
    out += [f"+ {count} x {line}" for line, count in sorted((ours.lines - real.lines).items())]
    if real.left != ours.left:
        out.append(f"left in the queue: {real.left} and {ours.left}")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", default=INSTALLED)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--system", action="store_true", help="compare with our whole system")
    parser.add_argument("--submit", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.submit:
        first, last, part = options.submit.split(",")
        submit(int(first), int(last), part)
        return 0
    real = run(options.release, options.messages)
    ours = run(options.release, options.messages, () if options.system else ["smtp"], whole=options.system)
    found = differences(real, ours)
    print(f"{sum(real.lines.values())} lines of the client and {sum(ours.lines.values())}; {len(found)} differ")
    print("\n".join(found[:40]))
    for result in (real, ours):
        for line in result.troubles[:20]:
            print(f"{result.name}: {line}")
    return 1 if found or ours.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
