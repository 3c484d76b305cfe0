"""One queue, two systems: what ours queued the real Postfix lists, reads, holds and delivers, and the other way round;
and our programs inside the real mail system. Needs root and Debian's package, in an instance of the test's own."""

import os
import re
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import POSTFIXPY, MailSystem, Sink

pytestmark = pytest.mark.real

REAL_DAEMONS = "/usr/lib/postfix/sbin"
OWNERS = {"mail_owner": "postfix", "setgid_group": "postdrop"}


def real(name: str, system: MailSystem, *words: str, check: bool = True, stdin: str = "") -> str:
    """Run a command of the real Postfix on the system's configuration; its output."""
    option = "-C" if name == "sendmail" else "-c"
    command = [f"/usr/sbin/{name}", option, str(system.config), *words]
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=60)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def real_running(system: MailSystem) -> Iterator[None]:
    """The real Postfix on the same configuration and queue; its log goes to the system's log file."""
    real("postfix", system, "set-permissions", check=False)
    system.check("postconf", "-e", f"maillog_file={system.log_path}", f"maillog_file_prefixes={system.directory}")
    real("postfix", system, "start")
    try:
        yield
    finally:
        real("postfix", system, "stop")
        system.check("postconf", "-e", "maillog_file=/dev/stdout", "maillog_file_prefixes=/var, /dev/stdout")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[MailSystem, Sink]]:
    """A configuration that both can run, its next hop a sink that first says "later" to everybody."""
    assert os.geteuid() == 0, "run this as root: the real Postfix needs it"
    sink = Sink(tmp_path, "rcpt * times=1 450 4.2.0 later")
    settings = {**OWNERS, "relayhost": f"[127.0.0.1]:{sink.port}", "smtp_tls_security_level": "none"}
    settings |= {"daemon_directory": REAL_DAEMONS, "command_directory": "/usr/sbin", "compatibility_level": "3.6"}
    system = MailSystem(tmp_path, **settings)
    system.log_path.touch()
    shutil.chown(system.log_path, "postfix")  # the real commands log there, too, after they gave up root's rights
    try:
        yield system, sink
    finally:
        system.stop()
        sink.stop()


def wait_for(condition: Callable[[], object], system: MailSystem, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{system.log()[-4000:]}"
        time.sleep(0.1)


@pytest.mark.parametrize("long_ids", ["no", "yes"])
def test_queued_by_ours_delivered_by_the_real_one(pair: tuple[MailSystem, Sink], long_ids: str) -> None:
    system, sink = pair
    system.check("postconf", "-e", f"enable_long_queue_ids={long_ids}")
    system.start()
    system.check("sendmail", "-f", "ann@example.com", "a@example.org", "b@example.org", stdin="Subject: x\n\n.x\n")
    system.wait_for(lambda: system.log().count("status=deferred") == 2, "two deferrals")
    system.wait_for(lambda: list((system.queue / "deferred").rglob("[0-9A-Za-z]*")), "the deferred queue")
    system.stop()
    (queue_id,) = system.queued()
    listing = real("postqueue", system, "-p")
    assert queue_id in listing and "450 4.2.0 later" in listing and "-- 0 Kbytes in 1 Request." in listing
    assert re.search(r"^recipient: a@example\.org$", real("postcat", system, "-q", queue_id), re.M)
    assert system.check("postcat", "-q", queue_id) == real("postcat", system, "-q", queue_id)
    system.check("postconf", "-e", f"maillog_file={system.log_path}", f"maillog_file_prefixes={system.directory}")
    real("postsuper", system, "-h", queue_id)
    assert (system.queue / "hold" / queue_id).exists()
    real("postsuper", system, "-H", queue_id)
    with real_running(system):
        real("postqueue", system, "-f")
        wait_for(lambda: not system.queued(), system, "an empty queue")
    assert sorted(sink.recipients()) == ["a@example.org", "b@example.org"]
    assert str(sink.deliveries()[0]["content"]).endswith("\n\n.x\n")


def test_queued_by_the_real_one_delivered_by_ours(pair: tuple[MailSystem, Sink]) -> None:
    system, sink = pair
    with real_running(system):
        real("sendmail", system, "-f", "ann@example.com", "a@example.org", "b@example.org", stdin="Subject: x\n\n.x\n")
        wait_for(lambda: system.log().count("status=deferred") == 2, system, "two deferrals")
        wait_for(lambda: [p for p in (system.queue / "deferred").rglob("*") if p.is_file()], system, "deferred")
    (queue_id,) = system.queued()
    assert "450 4.2.0 later" in system.check("postqueue", "-p")
    assert system.check("postcat", "-q", queue_id) == real("postcat", system, "-q", queue_id)
    system.check("postsuper", "-h", queue_id)
    system.check("postsuper", "-H", queue_id)
    system.start()
    system.check("postqueue", "-f")
    system.wait_for(lambda: not system.queued(), "an empty queue")
    assert sorted(sink.recipients()) == ["a@example.org", "b@example.org"]
    assert str(sink.deliveries()[0]["content"]).endswith("\n\n.x\n")


def test_our_client_inside_the_real_mail_system(pair: tuple[MailSystem, Sink]) -> None:
    system, sink = pair
    daemons = system.directory / "libexec"
    daemons.mkdir()
    for program in Path(REAL_DAEMONS).iterdir():
        (daemons / program.name).symlink_to(program)
    subprocess.run([*POSTFIXPY, "link", "--daemons", str(daemons / "ours"), "--postfix-version", "3.7"], check=True)
    for name in ("smtp", "bounce", "trivial-rewrite", "cleanup", "pickup", "error", "showq"):
        (daemons / name).unlink()
        (daemons / name).symlink_to(daemons / "ours" / name)
    system.check("postconf", "-e", f"daemon_directory={daemons}")
    with real_running(system):
        real("sendmail", system, "-f", "ann@example.com", "a@example.org", "b@example.org", stdin="Subject: x\n\n.x\n")
        wait_for(lambda: system.log().count("status=deferred") == 2, system, "two deferrals")
        wait_for(lambda: "450 4.2.0 later" in real("postqueue", system, "-p"), system, "the queue listing")
        real("postqueue", system, "-f")
        wait_for(lambda: not system.queued(), system, "an empty queue")
    assert sorted(sink.recipients()) == ["a@example.org", "b@example.org"]
    assert not re.search("fatal:|panic:|Traceback|exit status", system.log()), system.log()


def test_real_agents_under_our_master(tmp_path: Path) -> None:
    """Rows whose programs we do not have are those of daemon_directory, and what they do is done as they speak."""
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    boxes.chmod(0o777)
    system = MailSystem(
        tmp_path,
        "stock-debian",
        **OWNERS,
        daemon_directory=REAL_DAEMONS,
        mydestination="local.example",
        alias_maps="inline:{sink=/dev/null}",
        virtual_mailbox_domains="virtual.example",
        virtual_mailbox_maps="inline:{b@virtual.example=b/}",
        virtual_mailbox_base=str(boxes),
        virtual_uid_maps="static:65534",
        virtual_gid_maps="static:65534",
        transport_maps="inline:{pipe.example=cat:}",
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (system.config / "master.cf").read_text().replace("\nsmtp      inet", f"\n127.0.0.1:{port} inet")
    (system.config / "master.cf").write_text(f"{text}cat unix - n n - - pipe user=nobody argv=/bin/cat\n")
    try:
        system.start()
        people = ["sink@local.example", "b@virtual.example", "c@pipe.example", "nobody-there@local.example"]
        system.check("sendmail", "-f", "sink@local.example", *people, stdin="Subject: x\n\nx\n")
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("me@local.example", ["b@virtual.example"], "Subject: y\n\ny\n")
        system.wait_for(lambda: not system.queued(), "an empty queue")
        told = sorted(re.findall(r"to=<(\S+)>, relay=(\S+), .* status=(\w+) ", system.log()))
        assert told == [
            ("b@virtual.example", "virtual", "sent"),  # by sendmail
            ("b@virtual.example", "virtual", "sent"),  # by smtpd
            ("c@pipe.example", "cat", "sent"),
            ("nobody-there@local.example", "local", "bounced"),
            ("sink@local.example", "local", "sent"),  # the message
            ("sink@local.example", "local", "sent"),  # and what was returned
        ]
        assert len([path for path in (boxes / "b").rglob("*") if path.is_file()]) == 2
        assert not re.search("fatal:|panic:|Traceback|unexpected attribute|exit status", system.log()), system.log()
    finally:
        system.stop()
