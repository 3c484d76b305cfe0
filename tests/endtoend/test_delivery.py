"""A relay configuration under our master, from sendmail to the sink: the main job, in each of its endings."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import MailSystem, Sink, running

RULES = (
    "rcpt greylisted@* times=1 450 4.2.0 greylisted, come back later",
    "rcpt nobody@* 550 5.1.1 no such user here",
)
HELLO = "Subject: hello\n\nhello\n"

pytestmark = pytest.mark.xdist_group("endtoend")


@pytest.fixture(scope="module")
def mail(module_path: Path) -> Iterator[tuple[MailSystem, Sink]]:
    with running(module_path, *RULES, smtp_tls_security_level="none") as pair:
        yield pair


def submit(system: MailSystem, *recipients: str, message: str = HELLO, options: tuple[str, ...] = ()) -> None:
    system.check("sendmail", "-f", "ann@example.com", *options, *recipients, stdin=message)


def test_one_message_for_five(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    five = [f"five{n}@example.org" for n in range(5)]
    submit(system, *five)
    system.wait_for(lambda: {*five} <= {*sink.recipients()}, "five deliveries")
    (delivery,) = [d for d in sink.deliveries() if "five0@example.org" in str(d["recipients"])]
    assert len(delivery["recipients"]) == 5  # type: ignore[arg-type]  # one transaction for all of them
    head, _, body = str(delivery["content"]).partition("\n\n")
    assert body == "hello\n"
    names = [line.split(":")[0] for line in head.splitlines() if line[0] not in " \t"]
    assert names == ["Received", "Subject", "Message-Id", "Date", "From"]
    assert re.search(r"by app\.example\.com \(Postfix, from userid \d+\)\n\tid \w+; ", head)
    line = (
        r": to=<five0@example\.org>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, delay=[\d.]+, delays=[\d./]+, tls=none, "
        r"dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok\)"
    )
    system.wait_for(lambda: re.search(line, system.log()), "the log line")


def test_recipients_from_the_headers(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    message = (
        'To: To Person <to@example.org>, "x" <x@example.org>\nCc: cc@example.org (cc)\nBcc: bcc@example.org\n\nbody\n'
    )
    system.check("sendmail", "-t", "-f", "ann@example.com", stdin=message)
    wanted = {"to@example.org", "x@example.org", "cc@example.org", "bcc@example.org"}
    system.wait_for(lambda: wanted <= {*sink.recipients()}, "four deliveries")
    (delivery,) = [d for d in sink.deliveries() if "bcc@example.org" in str(d["recipients"])]
    assert "bcc@" not in str(delivery["content"]).lower()


def test_deferred_then_delivered(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    submit(system, "greylisted@example.org")
    system.wait_for(lambda: "status=deferred" in system.log(), "the deferral")
    system.wait_for(
        lambda: (system.queue / "deferred").exists() and system.check("postqueue", "-j"), "the queue listing"
    )
    system.wait_for(lambda: '"queue_name": "deferred"' in system.check("postqueue", "-j"), "the deferred queue")
    entry = json.loads(system.check("postqueue", "-j").splitlines()[0])
    assert entry["sender"] == "ann@example.com"
    assert entry["recipients"][0]["address"] == "greylisted@example.org"
    assert "450 4.2.0 greylisted" in entry["recipients"][0]["delay_reason"]
    listing = system.check("mailq")
    assert listing.startswith("-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n")
    assert f"{entry['queue_id']} " in listing
    assert listing.endswith("1 Request.\n")
    system.check("postqueue", "-f")
    system.wait_for(lambda: "greylisted@example.org" in sink.recipients(), "the delivery")
    system.wait_for(lambda: not system.queued(), "an empty queue")
    assert system.check("mailq") == "Mail queue is empty\n"


def test_refused_then_returned(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    submit(system, "nobody@example.org", "somebody@example.org")
    system.wait_for(lambda: "ann@example.com" in sink.recipients(), "the notification")
    (notice,) = [d for d in sink.deliveries() if d["recipients"] == ["ann@example.com"]]
    text = str(notice["content"])
    assert notice["sender"] == ""
    assert "From: Mail Delivery System <MAILER-DAEMON@example.com>" in text
    assert "Subject: Undelivered Mail Returned to Sender" in text
    assert "Final-Recipient: rfc822; nobody@example.org" in text
    assert "Diagnostic-Code: smtp; 550 5.1.1 no such user here" in text
    assert "somebody@example.org" not in text
    assert "somebody@example.org" in sink.recipients()


def test_dsn_options_travel(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    submit(system, "dsn@example.org", options=("-V", "envelope+id", "-N", "success,delay", "-R", "hdrs"))
    system.wait_for(lambda: "dsn@example.org" in sink.recipients(), "the delivery")
    (delivery,) = [d for d in sink.deliveries() if d["recipients"] == ["dsn@example.org"]]
    assert delivery["mail"] == "<ann@example.com> ENVID=envelope+2Bid RET=HDRS"
    assert delivery["rcpt"] == ["<dsn@example.org> ORCPT=rfc822;dsn@example.org NOTIFY=SUCCESS,DELAY"]


def test_a_hold_release_and_delete(mail: tuple[MailSystem, Sink]) -> None:
    system, sink = mail
    before = len(sink.deliveries())
    system.check("postconf", "-e", "defer_transports=smtp")
    system.check("postfix", "reload")
    submit(system, "hold1@example.org")
    submit(system, "hold2@example.org")
    system.wait_for(lambda: system.check("postqueue", "-j").count('"queue_name": "deferred"') == 2, "two deferred")
    ids = {
        e["recipients"][0]["address"]: e["queue_id"]
        for e in map(json.loads, system.check("postqueue", "-j").splitlines())
    }
    assert "deferred transport" in system.check("postqueue", "-j")
    system.check("postsuper", "-h", "ALL")
    assert system.check("mailq").count("!") == 2
    system.check("postsuper", "-d", ids["hold1@example.org"])
    system.check("postconf", "-e", "defer_transports=")
    system.check("postfix", "reload")
    system.check("postsuper", "-H", "ALL")
    system.check("postqueue", "-f")
    system.wait_for(lambda: "hold2@example.org" in sink.recipients(), "the released message")
    system.wait_for(lambda: not system.queued(), "an empty queue")
    assert "hold1@example.org" not in sink.recipients()
    assert len(sink.deliveries()) == before + 1


def test_the_log_has_no_surprises(mail: tuple[MailSystem, Sink]) -> None:
    """Runs last in this file: whatever happened above, nothing panicked, died or printed a traceback."""
    system, _ = mail
    unwelcome = [
        line for line in system.log().splitlines() if re.search(r"panic:|fatal:|Traceback|exit status [1-9]", line)
    ]
    assert unwelcome == []
    assert Path(system.queue, "corrupt").is_dir()
    assert list(Path(system.queue, "corrupt").iterdir()) == []
