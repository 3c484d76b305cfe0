"""Our smtp under a real master and queue manager: how its process lives and dies, and what its options say, beside the
real one. One process serves the row; a delivery that crashes touches no other, a killed process loses nothing."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from real_postfix import PYTHON, RealPostfix, releases

pytestmark = pytest.mark.real

NEWEST = releases()[-1]
ZONE = [
    *(f"d{n}.example MX 10 mx.example.com" for n in range(20)),
    "relay.example MX 10 mx.example.com",
    "mx.example.com A 10.0.0.1",
    "stall.example MX 10 stalled.example.com",
    "stalled.example.com A 10.0.0.4",
    "client.example A 10.0.0.2",
]


def statuses(system: RealPostfix) -> dict[str, list[str]]:
    """Recipient: its statuses, with the reasons of those that are not "sent"."""
    found: dict[str, list[str]] = {}
    for address, status, reason in re.findall(r"to=<([^>]+)>.* status=(\w+) \((.*)\)$", system.text(), re.M):
        found.setdefault(address, []).append(status if status == "sent" else f"{status}: {reason}")
    return found


def serving(system: RealPostfix) -> list[int]:
    """Our processes that serve: those that are not a doorkeeper, which is the parent."""
    found = system.processes("smtp")
    return [pid for pid, parent in found.items() if parent in found]


def master_texts(system: RealPostfix) -> list[str]:
    """What master and the queue manager complained of, without numbers."""
    texts = [line for line in system.log() if re.match(r"postfix/(master|qmgr): (warning|fatal)", line)]
    return [
        re.sub(r"process \S+/smtp pid \d+", "process smtp pid N", re.sub(r"\b[0-9A-F]{6,}:", "ID:", t)) for t in texts
    ]


def stalling_sink(system: RealPostfix, seconds: int) -> "subprocess.Popen[str]":
    """The server of stall.example: it takes a message at once, and answers to the final dot after so many seconds."""
    return system.sink("10.0.0.4:25", f"dot * delay={seconds} ok", options=["--journal", "/tmp/stalling"])


def wait_at_the_dot(system: RealPostfix) -> None:
    """Until the stalling sink has a message that it has not answered."""
    journal = system.path("/tmp/stalling")
    system.wait(lambda: journal.exists() and journal.read_text(), "the message at the sink")


@pytest.mark.parametrize("release", sorted({"3.7", NEWEST}))
def test_killed_in_a_delivery(release: str) -> None:
    """SIGKILL: master and the queue manager say the same as of the real one, and the mail is delivered later."""
    seen = []
    soon = {"service_throttle_time": "5s", "transport_retry_time": "5s"}
    for ours in ([], ["smtp"]):
        with RealPostfix(release, ours=ours, zone=ZONE, **soon) as system:
            stall = stalling_sink(system, 100)
            system.send("a@client.example", "b@stall.example")
            wait_at_the_dot(system)
            for pid in serving(system) if ours else system.processes("smtp"):
                os.kill(pid, signal.SIGKILL)
            deferred = system.path("/var/spool/postfix/deferred")
            system.wait(lambda deferred=deferred: any(p.is_file() for p in deferred.rglob("*")), "the deferral", 20)
            system.wait(
                lambda system=system: any("killed by" in text for text in master_texts(system)), "master's word"
            )
            seen.append(sorted(text for text in master_texts(system) if "throttling" not in text))
            system.kill(stall)
            system.sink("10.0.0.4:25")
            time.sleep(6)
            system.run("postqueue", "-f")
            system.wait(lambda: statuses(system) == {"b@stall.example": ["sent"]}, "the second attempt", 90)
            system.wait(lambda: not system.queued(), "an empty queue")
    assert seen[0] == seen[1]
    assert "postfix/master: warning: process smtp pid N killed by signal 9" in seen[0]


def test_the_doorkeeper_killed() -> None:
    """The serving process finishes what it has begun; master starts another for the next."""
    with RealPostfix(ours=["smtp"], zone=ZONE, service_throttle_time="2s") as system:
        stalling_sink(system, 6)
        system.sink("10.0.0.1:25")
        system.send("a@client.example", "b@stall.example")
        wait_at_the_dot(system)
        (door,) = set(system.processes("smtp")) - set(serving(system))
        os.kill(door, signal.SIGKILL)
        system.wait(lambda: any("killed by" in text for text in master_texts(system)), "master's word")
        system.send("a@client.example", "c@d1.example")
        system.wait(lambda: len(statuses(system)) == 2, "both deliveries", 90)
        assert statuses(system) == {"b@stall.example": ["sent"], "c@d1.example": ["sent"]}
        assert "postfix/master: warning: process smtp pid N killed by signal 9" in master_texts(system)
        system.wait(lambda: not system.queued(), "an empty queue")


def test_a_bug_in_one_delivery() -> None:
    """That one is deferred, and the log says where; the others in the same process go on, and so does the process."""
    with RealPostfix(ours=["smtp"], zone=ZONE) as system:
        script = system.path("/usr/local/libexec/postfixpy/smtp")
        bug = (
            "from postfixpy.smtp import agent\n"
            "real = agent.deliver\n"
            "def deliver(d):\n"
            "    if d.request.recipients[0].address.startswith('crash'):\n"
            "        return 1 / 0\n"
            "    return (yield from real(d))\n"
            "agent.deliver = deliver\n"
        )
        text = script.read_text()
        script.write_text(text.replace("\nsys.exit(", f"\n{bug}\nsys.exit("))
        system.sink("10.0.0.1:25")
        system.send("a@client.example", "b@d1.example")
        system.wait(lambda: len(statuses(system)) == 1, "the first")
        before = system.processes("smtp")
        system.send("a@client.example", "crash@d2.example")
        system.send("a@client.example", "c@d3.example")
        system.wait(lambda: len(statuses(system)) == 3, "the others")
        assert system.processes("smtp") == before
        assert statuses(system)["crash@d2.example"] == ["deferred: mail system error"]
        assert statuses(system)["c@d3.example"] == ["sent"]
        assert any(
            re.match(r"warning: \w+: ZeroDivisionError: division by zero at ", line) for line in system.log("smtp")
        )
        assert master_texts(system) == []
        system.wait(lambda: len(system.queued()) == 1, "the one that crashed alone")


def test_maxproc_is_the_number_of_sessions() -> None:
    rows = ["smtp unix - - n - 3 smtp -o max_use=4"]
    with RealPostfix(ours=["smtp"], zone=ZONE, rows=rows) as system:
        journal = system.path("/tmp/journal")
        system.sink("10.0.0.1:25", "dot * delay=2 ok", options=["--journal", "/tmp/journal"])
        system.send("a@client.example", *(f"u@d{n}.example" for n in range(12)))
        processes = 0
        while len(statuses(system)) < 12:
            processes = max(processes, len(serving(system)))
            time.sleep(0.1)
        assert processes == 1
        # The sink notes the time when it has the message and answers 2 s later. Who comes fourth within 2 s was no less
        # than the fourth at once; who comes third was the third.
        times = [json.loads(line)["time"] for line in journal.read_text().splitlines()]
        assert min(later - earlier for earlier, later in zip(times, times[3:], strict=False)) > 1.99
        assert min(later - earlier for earlier, later in zip(times, times[2:], strict=False)) < 2
        # max_use is for each session: 3 * 4 deliveries, then the process makes room for a new one.
        system.wait(lambda: not system.processes("smtp"), "the end of the process", 30)
        assert master_texts(system) == []


def test_idle() -> None:
    rows = ["smtp unix - - n - - smtp -o max_idle=2s"]
    with RealPostfix(ours=["smtp"], zone=ZONE, rows=rows) as system:
        system.sink("10.0.0.1:25")
        for number in range(2):
            system.send("a@client.example", f"u{number}@d1.example")
            system.wait(lambda number=number: len(statuses(system)) == number + 1, "the delivery")
            assert system.processes("smtp")
            system.wait(lambda: not system.processes("smtp"), "the end of an idle process", 30)
        assert master_texts(system) == []


@pytest.mark.parametrize("word", ["stop", "reload"])
def test_in_the_midst_of_a_delivery(word: str) -> None:
    """A reload lets it finish, and new mail does not wait; a stop ends it, and the mail is there at the start."""
    with RealPostfix(ours=["smtp"], zone=ZONE) as system:
        sink = stalling_sink(system, 15)
        system.sink("10.0.0.1:25")
        system.send("a@client.example", "b@stall.example")
        wait_at_the_dot(system)
        if word == "reload":
            system.reload()
            system.send("a@client.example", "c@d1.example")
            system.wait(lambda: "c@d1.example" in statuses(system), "the new mail", 30)
            assert "b@stall.example" not in statuses(system)
            system.wait(lambda: "b@stall.example" in statuses(system), "the old mail", 60)
            assert statuses(system) == {"b@stall.example": ["sent"], "c@d1.example": ["sent"]}
        else:
            system.stop()
            system.wait(lambda: not system.processes("smtp"), "the end", 30)
            assert statuses(system) == {}
            assert len(system.queued()) == 1
            system.kill(sink)
            system.sink("10.0.0.4:25")
            system.start()
            system.wait(lambda: statuses(system) == {"b@stall.example": ["sent"]}, "the delivery")
            system.wait(lambda: not system.queued(), "an empty queue")
        assert master_texts(system) == []


def test_the_real_services_around_it() -> None:
    """verify (an address that smtpd asks about), flush (postqueue -s), proxymap, all real and ours chrooted."""
    settings = {
        "relay_domains": "relay.example",
        "smtpd_recipient_restrictions": "reject_unverified_recipient permit_mynetworks reject",
        "smtp_generic_maps": "proxy:texthash:/etc/postfix/generic",
        "proxy_read_maps": "$smtp_generic_maps",
    }
    with RealPostfix(NEWEST, ours=["smtp"], zone=ZONE, chroot=True, **settings) as system:
        system.path("/etc/postfix/generic").write_text("a@client.example other@client.example\n")
        system.sink(
            "10.0.0.1:25",
            "rcpt no@* 550 5.1.1 no such user",
            "rcpt later@* times=1 450 4.2.0 later",
            "mail a@* 553 5.1.8 not rewritten",
        )
        ask = (
            "import smtplib, sys\n"
            "with smtplib.SMTP('127.0.0.1', 25) as c:\n"
            "    c.ehlo(); c.mail('x@client.example')\n"
            "    for a in sys.argv[1:]: print(*c.rcpt(a))\n"
        )
        answers = system.run(PYTHON, "-c", ask, "yes@d1.example", "no@d1.example").stdout.splitlines()
        assert answers[0] == "250 b'2.1.5 Ok'"
        assert answers[1].startswith(
            "450 b'4.1.1 <no@d1.example>: Recipient address rejected: unverified address: host"
        )
        system.send("a@client.example", "later@relay.example")
        system.wait(lambda: len(statuses(system).get("later@relay.example", [])) == 1, "the deferral")
        system.wait(
            lambda: any(p.is_file() for p in system.path("/var/spool/postfix/deferred").rglob("*")), "the queue"
        )
        system.run("postqueue", "-s", "relay.example")
        system.wait(lambda: statuses(system)["later@relay.example"][1:] == ["sent"], "the flush", 20)
        assert [line for line in system.troubles() if "/smtp:" in line or "/qmgr:" in line] == []


# The options of the program

ON_A_SOCKET = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
process = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs)
theirs.close()
ours.shutdown(socket.SHUT_WR)
said = b"".join(iter(lambda: ours.recv(4096), b""))
print(said)
sys.exit(process.wait())
"""
"""Run a program with one client, which hangs up at once, on standard input and output."""


@pytest.fixture(scope="module")
def options() -> Iterator[RealPostfix]:
    with RealPostfix(NEWEST, ours=["smtp", "lmtp"], zone=ZONE) as system:
        yield system


@pytest.mark.parametrize(
    "words",
    [
        "",
        "-Q",
        "-t",
        "-t foo",
        "-d -t fifo",
        "-o nonsense -t unix",
        "-r 0 -t unix",
        "-s x -t unix",
        "-S",
        "-S -V",
        "-S -n other -i 5 -m 1 -l -z -r 100 -s 2 -d",
        "-S -c",
        "-S -u",
        "-S -c -u",
        "-S -D",
        "-S -o smtp_dns_support_level=bogus",
        "-S -o smtp_dns_support_level=bogus -V",
        "-S -o smtp_connect_timeout=1x",
        "-S -i 1x",
        "-S -m x",
        "-S -m x -V",
        "-S -i 1x -V",
        "-S -o daemon_timeout=x -V",
        "-S -o smtp_randomize_addresses=maybe -V",
        "-S -o smtp_mx_session_limit=-1 -V",
        "-S -o smtp_address_verify_target=x",
        "-S -o smtp_host_lookup=x",
        "-S -o lmtp_bad=1 -o {smtp_host_lookup = native, bogus}",
        "-S flags=Z",
        "-S flags=D",
        "-S nonsense",
    ],
)
def test_options(options: RealPostfix, words: str) -> None:
    """Exit status, standard output, standard error and log are those of the real program."""
    seen = []
    split = re.findall(r"\{[^}]*\}|\S+", words)
    split = [word[1:-1] if word.endswith("}") else word for word in split]
    for directory in ("/usr/lib/postfix/sbin", "/usr/local/libexec/postfixpy"):
        before = len(options.log())
        done = options.run(PYTHON, "-c", ON_A_SOCKET, f"{directory}/smtp", *split, check=False)
        options.run("postlog", "-t", "marker", "end")
        options.wait(lambda before=before: "marker: end" in options.log()[before:], "the log")
        lines = [line for line in options.log()[before:] if "marker" not in line]
        seen.append((done.returncode, done.stdout, re.sub(r"\[\d+\]", "[N]", done.stderr), lines))
    assert seen[1] == seen[0]
