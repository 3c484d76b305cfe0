"""The text of notices: what it looks like, and what only releases after 3.7 have.

That it is the real one's, byte by byte, is shown in test_bounce_real.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config import View, load
from postfixpy.mail.bounce_log import Entry
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN, NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, RET_FULL
from postfixpy.services.notices.original import Original
from postfixpy.services.notices.plan import Rules
from postfixpy.services.notices.report import WIDTH, Report, wrap
from postfixpy.services.notices.templates import Templates

ENTRY = Entry(
    Recipient("joe@example.org", "al@example.org", 99, "rfc822;al@example.org"),
    DSN("5.1.1", "failed", "host mx said: no such user", "smtp", "550 5.1.1 no", "dns", "mx.example.org"),
)
RULES = Rules("double-bounce@h.example.com", frozenset({"bounce", "delay"}), "postmaster", "postmaster", "postmaster")
NOW = 1795444800  # Mon, 23 Nov 2026 14:40:00 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def view(directory: Path, settings: str = "") -> View:
    (directory / "main.cf").write_text(f"compatibility_level = 3.6\nmyhostname = h.example.com\n{settings}")
    return load(str(directory)).view(process_name="bounce", service_name="bounce")


def report(config: View, kind: str = "failure", **changes: object) -> Report:
    values: dict[str, object] = {
        "view": config,
        "templates": Templates(),
        "kind": kind,
        "queue_id": "4C1E0D4B7C",
        "encoding": "7bit",
        "sendopts": 0,
        "envelope_id": "",
        "entries": [ENTRY],
        "original": Original("me@example.com", NOW - 60),
        "time": NOW,
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def text(made: Report, number: int = 0) -> str:
    plan = RULES.delay("me@example.com") if made.kind == "delay" else RULES.failure("me@example.com", RET_FULL)
    return "\n".join(payload.decode() for _, payload in made.records(plan.notices[number]))


def test_failure_without_its_message(tmp_path: Path) -> None:
    assert (
        text(report(view(tmp_path), envelope_id="env+1"))
        == """\
From: Mail Delivery System <MAILER-DAEMON>
Subject: Undelivered Mail Returned to Sender
To: me@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="4C1E0D4B7C.1795444800/h.example.com"
Content-Transfer-Encoding: 8bit

This is a MIME-encapsulated message.

--4C1E0D4B7C.1795444800/h.example.com
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the mail system at host h.example.com.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message.

                   The mail system

<joe@example.org> (expanded from <al@example.org>): host mx said: no such user

--4C1E0D4B7C.1795444800/h.example.com
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; h.example.com
Original-Envelope-Id: env+1
X-Postfix-Queue-ID: 4C1E0D4B7C
X-Postfix-Sender: rfc822; me@example.com
Arrival-Date: Mon, 23 Nov 2026 14:39:00 +0000 (UTC)

Final-Recipient: rfc822; joe@example.org
Original-Recipient: rfc822;al@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 no

--4C1E0D4B7C.1795444800/h.example.com
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 8bit

	--- Undelivered message unavailable ---"""
    )


def test_copy_for_postmaster(tmp_path: Path) -> None:
    made = text(report(view(tmp_path)), 1)
    assert "\nTo: postmaster\nAuto-Submitted: auto-generated\n" in made
    assert "Subject: Postmaster Copy: Undelivered Mail\n" in made
    assert "sorry" not in made


def test_delay_says_how_long(tmp_path: Path) -> None:
    made = text(report(view(tmp_path, "maximal_queue_lifetime = 1d\n"), "delay"))
    assert "\nAction: failed\n" in made  # what the log says
    assert "\nWill-Retry-Until: Tue, 24 Nov 2026 14:39:00 +0000 (UTC)\n" in made


def test_without_smtputf8_the_encoding_is_the_original_s(tmp_path: Path) -> None:
    config = view(tmp_path, "smtputf8_enable = no\n")
    made = text(report(config))
    assert "\nContent-Transfer-Encoding: 7bit\n" in made
    assert "charset=us-ascii\n\nThis" in made
    assert text(report(config, encoding="8bit")).count("Content-Transfer-Encoding: 8bit") == 3
    assert "Content-Transfer-Encoding" not in text(report(config, encoding=""))


def test_utf8(tmp_path: Path) -> None:
    entry = ENTRY._replace(recipient=Recipient("jö@example.org", "ü@example.org"))
    made = text(report(view(tmp_path), sendopts=9, entries=[entry], original=Original("mé@x", NOW)))
    assert "\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n" in made
    assert "\nX-Postfix-Sender: utf-8; mé@x\n" in made
    assert "\nFinal-Recipient: utf-8; jö@example.org\nOriginal-Recipient: utf-8; ü@example.org\n" in made
    assert "\nContent-Type: message/global-headers\n" in made
    assert "Final-Recipient: rfc822; jö@example.org" in text(report(view(tmp_path), sendopts=0, entries=[entry]))


def test_threads(tmp_path: Path) -> None:
    made = text(report(view(tmp_path), original=Original("me@x", NOW, "<id@x>")))
    assert "\nTo: me@example.com\nReferences: <id@x>\nIn-Reply-To: <id@x>\nAuto-Submitted" in made


def test_tls_required_no_is_passed_on(tmp_path: Path) -> None:
    assert "\nTLS-Required: no\nAuto-Submitted" in text(report(view(tmp_path), sendopts=16))
    assert "TLS-Required" not in text(report(view(tmp_path, "tls_required_enable = no\n"), sendopts=16))
    assert "TLS-Required" not in text(report(view(tmp_path)))


def test_who_is_reported(tmp_path: Path) -> None:
    late = Entry(Recipient("late@x", notify=NOTIFY_DELAY), DSN("4.4.1", "delayed", "slow"))
    never = Entry(Recipient("never@x", notify=NOTIFY_NEVER), DSN("5.4.1", "failed", "no"))
    made = report(view(tmp_path), entries=[ENTRY, late, never])
    assert (made.count(NOTIFY_FAILURE), made.count(NOTIFY_DELAY), made.count(0xF)) == (1, 2, 3)
    assert "late@x" not in text(made)
    assert "never@x" in text(made, 1)


def test_log_that_is_gone(tmp_path: Path) -> None:
    made = report(view(tmp_path), entries=None)
    assert made.count(NOTIFY_FAILURE) == 1
    assert "\n\t--- Delivery report unavailable ---\n" in text(made)
    assert report(view(tmp_path), "delay", entries=None).count(NOTIFY_DELAY) == 0


@given(st.text("ab é \t", max_size=300))
def test_wrapped_lines(words: str) -> None:
    lines = list(wrap(words))
    assert "".join(lines).split() == "".join(lines).split()
    assert " ".join(line.strip(" \t") for line in lines).split() == words.split()
    for line in lines:
        assert len(line.encode()) <= WIDTH or len(line.split()) == 1


def test_wrapping() -> None:
    assert list(wrap("x" * 100)) == ["x" * 100]
    assert list(wrap("a " * 50 + "b")) == [("a " * 40).strip(), "    " + "a " * 10 + "b"]
    assert list(wrap("é" * 38 + " éé")) == ["é" * 38, "    éé"]
