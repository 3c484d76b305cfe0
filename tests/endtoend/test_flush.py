"""postqueue -i and -s, sendmail -qI and -qR: mail that waits is tried at once, only that which was meant."""

import os
import re
from pathlib import Path

import pytest
from harness import MailSystem, Sink, running


def _deferred(system: MailSystem, *recipients: str) -> dict[str, str]:
    """Send one message to each recipient and wait until all are deferred: recipient -> queue id."""
    for recipient in recipients:
        system.check("sendmail", "-f", "ann@example.net", recipient, stdin="Subject: x\n\nx\n")
    files = system.queue / "deferred"
    system.wait_for(lambda: len([p for p in files.rglob("*") if p.is_file()]) == len(recipients), "the deferred queue")
    found = {}
    for path in files.rglob("*"):
        if path.is_file():
            content = system.check("postcat", "-q", path.name)
            found.update({recipient: path.name for recipient in recipients if f"recipient: {recipient}" in content})
    return found


def _greylisted(tmp_path: Path):  # type: ignore[no-untyped-def]  # a context manager of (MailSystem, Sink)
    return running(
        tmp_path, "rcpt * times=1 450 4.2.0 greylisted", relay_domains="example.com, example.org", notify_classes=""
    )


@pytest.mark.parametrize("option", ["postqueue -s", "sendmail -qR"])
def test_the_mail_for_a_site(tmp_path: Path, option: str) -> None:
    with _greylisted(tmp_path) as (system, sink):
        ids = _deferred(system, "bob@example.com", "eve@example.org")
        assert (system.queue / "flush" / "example_com").read_text() == ids["bob@example.com"] + "\n"
        _try(system, option, "example.com")
        system.wait_for(lambda: "bob@example.com" in sink.recipients(), "the delivery")
        system.wait_for(lambda: system.queued() == [ids["eve@example.org"]], "the other message alone")
        assert (system.queue / "flush" / "example_com").read_text() == ""


@pytest.mark.parametrize("option", ["postqueue -i", "sendmail -qI"])
def test_one_message(tmp_path: Path, option: str) -> None:
    with _greylisted(tmp_path) as (system, sink):
        ids = _deferred(system, "bob@example.com", "eve@example.org")
        _try(system, option, ids["eve@example.org"])
        system.wait_for(lambda: "eve@example.org" in sink.recipients(), "the delivery")
        system.wait_for(lambda: system.queued() == [ids["bob@example.com"]], "the other message alone")


def test_what_is_refused(tmp_path: Path) -> None:
    with _greylisted(tmp_path) as (system, _):
        done = system.command("postqueue", "-s", "example.net")
        text = 'fatal: Flush service is not configured for destination "example.net"'
        assert (done.returncode, done.stderr) == (69, f"postqueue: {text}\n")
        if os.geteuid() == 0:  # without root the log is master's own standard output, where a command cannot write
            line = rf"postfix/postqueue\[\d+\]: {re.escape(text)}\n"
            system.wait_for(lambda: re.search(line, system.log()), "the line")


def _try(system: MailSystem, option: str, value: str) -> None:
    name, letter = option.split()
    system.check(name, *((letter, value) if name == "postqueue" else (letter + value,)))


def test_the_sink_is_asked_again_only_by_order(tmp_path: Path) -> None:
    """The proof that the others prove something: nothing is tried without being asked for."""
    with _greylisted(tmp_path) as (system, sink):
        assert isinstance(sink, Sink)
        _deferred(system, "bob@example.com")
        assert sink.recipients() == []
