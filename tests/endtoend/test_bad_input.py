"""Bad input ends with Postfix's text and the right exit status, never with a traceback."""

import os
import subprocess
from pathlib import Path

import pytest
from harness import POSTFIXPY, MailSystem

HELLO = "Subject: hello\n\nhello\n"


@pytest.fixture
def system(tmp_path: Path) -> MailSystem:
    return MailSystem(tmp_path)


def run(system: MailSystem, name: str, *words: str, stdin: str = "") -> tuple[int, str]:
    """Exit status, and standard output and error together."""
    done = system.command(name, *words, stdin=stdin)
    text = done.stdout + done.stderr
    assert "Traceback" not in text
    return done.returncode, text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("postconf", ("-n",)),
        ("postfix", ("start-fg",)),
        ("postfix", ("check",)),
        ("postqueue", ("-p",)),
        ("sendmail", ("a@b",)),
    ],
)
def test_a_line_without_equals(system: MailSystem, name: str, words: tuple[str, ...]) -> None:
    with open(system.config / "main.cf", "a") as main_cf:
        main_cf.write("what is this\n")
    status, text = run(system, name, *words, stdin=HELLO)
    assert status != 0
    last = len((system.config / "main.cf").read_text().splitlines())
    assert f"fatal: {system.config}/main.cf, line {last}: missing '=' after attribute name: \"what is this\"" in text


def test_no_main_cf(system: MailSystem) -> None:
    (system.config / "main.cf").unlink()
    status, text = run(system, "postfix", "check")
    assert status != 0
    assert f"fatal: open {system.config}/main.cf: No such file or directory" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything; .ci/run also runs the tests as an ordinary user")
def test_unreadable_main_cf(system: MailSystem) -> None:
    (system.config / "main.cf").chmod(0)
    status, text = run(system, "postconf", "-n")
    assert status == 1
    assert f"fatal: open {system.config}/main.cf: Permission denied" in text


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("smtp unix - - n - - ", "file FILE: line 21: bad field count"),
        ("x y - - n - - smtp", 'invalid type field "y" in "x y - - n - - smtp"'),
        ("x unix - - n - many smtp", 'invalid process_limit field "many" in "x unix - - n - many smtp"'),
        ("x unix - - perhaps - - smtp", 'invalid chroot field "perhaps" in "x unix - - perhaps - - smtp"'),
    ],
)
def test_a_malformed_master_cf(system: MailSystem, row: str, complaint: str) -> None:
    with open(system.config / "master.cf", "a") as master_cf:
        master_cf.write(row + "\n")
    status, text = run(system, "postfix", "start-fg")
    assert status != 0
    assert f"postconf: fatal: {complaint}".replace("FILE", f"{system.config}/master.cf") in text
    assert "/postconf!\n" in text


def test_a_bad_number(system: MailSystem) -> None:
    system.check("postconf", "-e", "message_size_limit=huge")
    status, text = run(system, "sendmail", "-f", "a@example.com", "b@example.com", stdin=HELLO)
    assert status != 0
    assert "fatal: bad numerical configuration: message_size_limit = huge" in text


def test_a_message_over_the_limit(system: MailSystem) -> None:
    system.check("postconf", "-e", "message_size_limit=2000")
    system.check("postfix", "check")  # makes the queue directories
    status, text = run(system, "sendmail", "-f", "a@example.com", "b@example.com", stdin=HELLO + "x" * 70 + "\n" * 3000)
    assert status == 75
    assert "fatal: a@example.com(" in text and "): message file too big" in text
    assert system.queued() == []


def test_no_recipients(system: MailSystem) -> None:
    system.check("postfix", "check")
    status, text = run(system, "sendmail", "-f", "a@example.com", stdin=HELLO)
    assert status == 75
    assert "): Recipient addresses must be specified on the command line or via the -t option" in text


def test_a_missing_table_defers_and_says_which(tmp_path: Path) -> None:
    system = MailSystem(tmp_path, transport_maps="texthash:/no/such/transport", relayhost="[127.0.0.1]:9")
    try:
        system.start()
        system.check("sendmail", "-f", "a@example.com", "b@example.com", stdin=HELLO)
        missing = "texthash:/no/such/transport lookup error"
        reason = "open database /no/such/transport: No such file or directory"
        system.wait_for(lambda: missing in system.log() and reason in system.log(), "the complaint")
        assert len(system.queued()) == 1
        assert "Traceback" not in system.log()
    finally:
        system.stop()


def test_an_unknown_name() -> None:
    done = subprocess.run([*POSTFIXPY, "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "postfixpy: unknown command: nonsense\nTry: postfixpy --help\n")
