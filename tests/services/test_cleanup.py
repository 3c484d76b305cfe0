"""cleanup(8) over a socket: what goes in, what is in the queue file, what is logged, what the client is told."""

import asyncio
import os
from typing import Any

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.bounce import Notify
from postfixpy.ipc.cleanup import (
    FLAG_AUTOUTF8,
    FLAG_BOUNCE,
    FLAG_DISCARD,
    FLAG_HOLD,
    FLAGS_EXTERNAL,
    FLAGS_INTERNAL,
    STAT_BAD,
    STAT_CONT,
    STAT_DEFER,
    STAT_HOPS,
    STAT_RCPT,
    STAT_SIZE,
    STAT_WRITE,
)
from postfixpy.mail.queue import Queue, lock

from .cleanup_harness import END, TIME, Harness, Outcome, Record, encode, envelope, message, serve_once
from .cleanup_harness import harness as harness


def submit(harness: Harness, records: list[Record], flags: int = FLAGS_EXTERNAL, **options: Any) -> Outcome:
    """One message through a fresh service."""

    async def main() -> Outcome:
        service = await harness.start()
        outcome = await harness.submit(flags, records, **options)
        await service.stop()
        return outcome

    return asyncio.run(main())


MESSAGE = message("From: me@example.com", "To: you@example.com", "Message-Id: <1@x>", "Date: today", "", "body")


def test_a_complete_message(harness: Harness) -> None:
    out = submit(harness, envelope("you@example.com") + MESSAGE + END)
    assert (out.status, out.reason, out.queue) == (0, "", "incoming")
    assert out.envelope == [
        f"T{TIME} 0",
        "Arewrite_context=local",
        "Sme@example.com",
        "Adsn_orig_rcpt=rfc822;you@example.com",
        "Oyou@example.com",
        "Ryou@example.com",
    ]
    assert out.content == ["Received: by here", *[text for _, text in MESSAGE[1:]]]
    assert out.extracted == ["Amessage_id=<1@x>", "E"]
    assert out.log == [
        "ID: message-id=<1@x>",
        "warning: unable to look up public/qmgr: No such file or directory",
    ]


def test_the_size_record_is_filled_in(harness: Harness) -> None:
    out = submit(harness, envelope("a@example.com", "b@example.com") + MESSAGE + END)
    path = harness.directory / "incoming" / out.queue_id
    data = path.read_bytes()
    segment, start, recipients, qmgr, length, options = out.sizes
    assert data[start - 2 : start] == b"M\0"
    assert data[start + segment : start + segment + 2] == b"X\0"
    assert (recipients, qmgr, length, options) == (2, 0, segment, 0)


def test_missing_headers_are_added_to_local_mail(harness: Harness) -> None:
    out = submit(harness, envelope("you@example.com", extra=[("F", "John (Q.) Doe")]) + message("", "body") + END)
    stamp, *rest = out.header
    assert stamp.startswith("Message-Id: <20") and stamp.endswith(".ID@mail.example.com>")
    assert rest == [
        "Date: Tue, 14 Nov 2023 22:13:20 +0000 (UTC)",
        'From: "John (Q.) Doe" <me@example.com>',
        "To: undisclosed-recipients:;",
    ] or rest[:2] == ["Date: Tue, 14 Nov 2023 22:13:20 +0000 (UTC)", 'From: "John (Q.) Doe" <me@example.com>']


def test_remote_mail_is_left_alone(harness: Harness) -> None:
    records = envelope("you@example.com") + message("From: someone", "", "body") + END
    records[1] = ("A", "rewrite_context=remote")
    out = submit(harness, records)
    assert out.header == ["From: someone"]
    assert out.log[0] == "ID: message-id=<>"


def test_remote_header_rewrite_domain(harness: Harness) -> None:
    harness.write_main(remote_header_rewrite_domain="remote.example")
    records = envelope("you@example.com") + message("From: someone", "", "body") + END
    records[1] = ("A", "rewrite_context=remote")
    assert submit(harness, records).header[0] == "From: someone@remote.example"


def test_always_add_missing_headers(harness: Harness) -> None:
    harness.write_main(always_add_missing_headers="yes")
    records = envelope("you@example.com", sender="") + message("Resent-To: x@y", "", "body") + END
    records[1] = ("A", "rewrite_context=remote")
    out = submit(harness, records)
    assert [line.partition(":")[0] for line in out.header] == [
        "Resent-To",
        "Resent-Message-Id",
        "Resent-Date",
        "Resent-From",
    ]
    assert out.header[-1] == "Resent-From: MAILER-DAEMON"
    assert next(line for line in out.log if "message-id" in line).startswith("ID: resent-message-id=<")
    assert "ID: message-id=<>" in out.log


def test_headers_are_rewritten_folded_and_dropped(harness: Harness) -> None:
    addresses = ", ".join(f"Some Person <user{n}>" for n in range(4))
    out = submit(
        harness,
        envelope("you@example.com")
        + message(f"To: {addresses}", "Bcc: secret", "Return-Path: <x>", "cc :x (comment)", "Subject: x", "", "b")
        + END,
    )
    assert out.header[:6] == [
        "To: Some Person <user0@example.com>, Some Person <user1@example.com>,",
        "\tSome Person <user2@example.com>, Some Person <user3@example.com>",
        "cc: x@example.com (comment)",
        "Subject: x",
        *out.header[4:6],
    ]


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_any_slicing_of_the_input_gives_the_same(harness: Harness, pieces: int) -> None:
    records = envelope("you@example.com") + MESSAGE + [("L", "a" * 3000), ("N", "b" * 10), ("N", "c" * 13)] + END
    whole = submit(harness, records)
    sliced = submit(harness, records, pieces=pieces)
    assert sliced.records[1:2] == whole.records[1:2]
    assert sliced.content == whole.content
    assert [len(line) for line in whole.content[-4:]] == [2048, 952, 10, 13]


def test_stray_cr_and_lf_become_spaces(harness: Harness) -> None:
    lines = message("Subject: a\rb", "", "x\ry", "z\n.\r", "n" * 10)
    out = submit(harness, envelope("you@example.com") + lines + END)
    assert out.content[-3:] == ["x y", "z . ", "n" * 10]
    assert "Subject: a b" in out.header
    harness.write_main(cleanup_replace_stray_cr_lf="no")
    assert submit(harness, envelope("you@example.com") + lines + END).content[-3] == "x\ry"


def test_message_size_limit(harness: Harness) -> None:
    harness.write_main(message_size_limit="2000")
    out = submit(harness, envelope("you@example.com") + message("", *["x" * 100] * 30) + END, FLAGS_EXTERNAL)
    assert out.status & STAT_SIZE and out.queue == ""
    assert "warning: ID: queue file size limit exceeded" in out.log
    assert out.log[-1] == "ID: removed (canceled)"


@pytest.mark.parametrize(
    ("records", "status", "text"),
    [
        (envelope(), STAT_RCPT, ""),
        ([("T", f"{TIME} 0"), ("R", "x@y"), ("M", "")], STAT_BAD, "missing sender envelope record"),
        ([("S", "x@y"), ("R", "x@y"), ("M", "")], STAT_BAD, "missing time envelope record"),
        ([("T", f"{TIME} 0"), ("S", "x@y"), ("S", "x@y"), ("R", "a@b"), ("M", "")], STAT_BAD, "multiple envelope"),
        (envelope("a@b", extra=[("A", "nonsense")]), STAT_BAD, "malformed attribute: missing '=' after attribute name"),
        (envelope("a@b", extra=[("A", "rewrite_context=x")]), STAT_BAD, "bad rewriting context: x"),
        (envelope("a@b", extra=[("A", "ret_flags=9")]), STAT_BAD, "bad DSN RET record <ret_flags=9>"),
        (envelope("a@b", extra=[("A", "trace_flags=x")]), STAT_BAD, "bad TFLAG record <trace_flags=x>"),
        (envelope("a@b", extra=[("Z", "")]), STAT_BAD, "unexpected record type 90 in envelope"),
        (envelope("a@b", extra=[("p", "0")]), STAT_BAD, "record type 112 not allowed - discarding this message"),
    ],
)
def test_envelopes_that_are_refused(harness: Harness, records: list[Record], status: int, text: str) -> None:
    out = submit(harness, records + MESSAGE + END)
    assert out.status == status and out.queue == ""
    assert any(text in line for line in out.log)


def test_content_without_received_is_refused(harness: Harness) -> None:
    out = submit(harness, envelope("a@b") + message("Subject: x", "", "b", received=False) + END)
    assert out.status == STAT_BAD
    assert "warning: ID: message rejected: no Received: header" in out.log


def test_hopcount_limit(harness: Harness) -> None:
    harness.write_main(hopcount_limit="3")
    lines = message("Received: 2", "Received: 3", "", "b")
    out = submit(harness, envelope("a@b") + lines + END)
    assert out.status == STAT_HOPS
    assert "warning: ID: message rejected: hopcount exceeded" in out.log
    assert submit(harness, envelope("a@b") + lines[1:] + END).status == 0


def test_a_client_that_hangs_up_leaves_nothing(harness: Harness) -> None:
    out = submit(harness, envelope("a@b") + MESSAGE, cut=True)
    assert out.queue == ""
    assert list((harness.directory / "incoming").iterdir()) == []
    assert out.log[-1] == "ID: removed (canceled)"


def test_records_have_a_limit(harness: Harness) -> None:
    out = submit(harness, envelope("a@b") + message("", "x" * (1 << 20), "y" * ((1 << 20) + 1)) + END)
    assert out.status == STAT_BAD and out.queue == ""
    assert "warning: cleanup socket: illegal length 1048577, record type 78" in out.log


def test_a_client_with_milters_is_refused(harness: Harness) -> None:
    out = submit(harness, envelope("a@b", extra=[("m", "1")]) + MESSAGE + END)
    assert out.status == STAT_BAD and out.queue == ""
    assert "warning: ID: the client has Milters, which are not supported: message not accepted" in out.log
    assert submit(harness, envelope("a@b", extra=[("m", "0")]) + MESSAGE + END).status == 0


def test_rest_after_an_error_is_read_to_its_end(harness: Harness) -> None:
    """The client would see a broken pipe, not the verdict, if we stopped reading."""
    big: list[Record] = [("N", "x" * 1000)] * 3000
    out = submit(harness, [("T", f"{TIME} 0"), ("R", "x@y"), ("M", ""), *MESSAGE, *big, *END])
    assert out.status == STAT_BAD


def test_hold_and_discard(harness: Harness) -> None:
    out = submit(harness, envelope("a@b") + MESSAGE + END, FLAGS_EXTERNAL | FLAG_HOLD)
    assert (out.status, out.queue) == (0, "hold")
    assert not any("qmgr" in line for line in out.log)
    out = submit(harness, envelope("a@b", extra=[("f", str(FLAG_HOLD))]) + MESSAGE + END)
    assert out.queue == "hold"
    out = submit(harness, envelope("a@b") + MESSAGE + END, FLAGS_EXTERNAL | FLAG_DISCARD)
    assert (out.status, out.queue) == (0, "")
    assert out.log == ["ID: removed (discarded)"]
    out = submit(harness, envelope("a@b", extra=[("f", "16")]) + MESSAGE + END)
    assert "warning: ID: ignoring bad extra flags: 0x10" in out.log


def test_delay_warning_time(harness: Harness) -> None:
    harness.write_main(delay_warning_time="4h")
    assert f"W{TIME + 14400:15d}" in submit(harness, envelope("a@b") + MESSAGE + END).envelope
    bounces = submit(harness, envelope("a@b", sender="") + MESSAGE + END)
    assert not any(line.startswith("W") for line in bounces.envelope)


def test_dsn_records(harness: Harness) -> None:
    extra: list[Record] = [
        ("A", "envelope_id=QQ"),
        ("A", "ret_flags=2"),
        ("A", "notify_flags=6"),
        ("A", "dsn_orig_rcpt=rfc822;orig@x"),
        ("O", "orig@y"),
    ]
    out = submit(harness, envelope("a@b", extra=extra) + MESSAGE + END)
    assert out.envelope[-6:] == [
        "Aenvelope_id=QQ",
        "Aret_flags=2",
        "Anotify_flags=6",
        "Adsn_orig_rcpt=rfc822;orig@x",
        "Oorig@y",
        "Ra@b",
    ]
    assert out.sizes[3] == 12  # the queue manager's NOTIFY hints


def test_mixed_envelope_is_marked_for_the_queue_manager(harness: Harness) -> None:
    records = envelope("a@b")
    records[-1:-1] = [("A", "encoding=8bit")]
    assert submit(harness, records + MESSAGE + END).sizes[3] == 1


def test_recipients_from_the_extracted_segment(harness: Harness) -> None:
    out = submit(harness, envelope() + MESSAGE + [("X", ""), ("R", "late"), ("E", "")])
    assert out.extracted == [
        "Amessage_id=<1@x>",
        "Adsn_orig_rcpt=rfc822;late@example.com",
        "Olate",
        "Rlate@example.com",
        "E",
    ]


def test_duplicates(harness: Harness) -> None:
    out = submit(harness, envelope("a@b", "A@B", "c@d", "a@b") + MESSAGE + END)
    assert [line for line in out.envelope if line[0] == "R"] == ["Ra@b", "Rc@d"]
    assert out.sizes[2] == 2


def test_virtual_aliases(harness: Harness) -> None:
    harness.write_main(
        virtual_alias_maps="inline:{ {list@example.com = a, b@x.example, list2@example.com}"
        " {list2@example.com = b@x.example, c+ext@x.example} {self@example.com = self@example.com, d@x.example} }"
    )
    out = submit(harness, envelope("list@example.com", "self@example.com", "plain@z") + MESSAGE + END)
    assert [line for line in out.envelope if line[0] in "OR"] == [
        "Olist@example.com",
        "Ra@example.com",
        "Olist@example.com",
        "Rb@x.example",
        "Olist@example.com",
        "Rc+ext@x.example",
        "Oself@example.com",
        "Rself@example.com",
        "Oself@example.com",
        "Rd@x.example",
        "Oplain@z",
        "Rplain@z",
    ]
    untouched = submit(harness, envelope("list@example.com") + MESSAGE + END, 0)
    assert [line for line in untouched.envelope if line[0] == "R"] == ["Rlist@example.com"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (r"pcre:{ {/^(.*)@x/ x$$1@x} }", "unreasonable virtual_alias_maps map nesting for a@x"),
        ("static:{a@x,b@x,c@x,d@x,e@x,f@x,g@x}", "unreasonable virtual_alias_maps map expansion size for a@x"),
    ],
)
def test_virtual_alias_limits(harness: Harness, table: str, text: str) -> None:
    harness.write_main(virtual_alias_maps=table, virtual_alias_expansion_limit="5", virtual_alias_recursion_limit="20")
    out = submit(harness, envelope("a@x") + MESSAGE + END)
    assert out.status & STAT_DEFER
    assert out.reason == "4.6.0 Alias expansion error"
    assert f"warning: ID: {text} -- message not accepted, try again later" in out.log


def test_a_table_that_fails_defers(harness: Harness) -> None:
    harness.write_main(virtual_alias_maps="fail:now")
    out = submit(harness, envelope("a@x") + MESSAGE + END)
    assert out.status == STAT_WRITE and out.queue == ""
    assert "warning: ID: virtual_alias_maps map lookup problem for a@x -- message not accepted, try again later" in (
        out.log
    )


def test_canonical_maps_and_classes(harness: Harness) -> None:
    harness.write_main(
        canonical_maps="inline:{ me@example.com=M.E@example.com, you@example.com=Y.O@example.com }",
        sender_canonical_maps="inline:{ other@example.com=me@example.com }",
    )
    records = envelope("you@example.com", sender="other@example.com")
    out = submit(harness, records + message("From: other", "To: you, me", "", "b") + END)
    assert out.envelope[2] == "SM.E@example.com"
    assert out.envelope[-1] == "RY.O@example.com"
    assert out.envelope[-2] == "Oyou@example.com"
    assert out.header[:2] == ["From: M.E@example.com", "To: Y.O@example.com, M.E@example.com"]
    harness.write_main(
        canonical_maps="inline:{ me@example.com=M.E@example.com, you@example.com=Y.O@example.com }",
        canonical_classes="envelope_sender",
    )
    out = submit(harness, envelope("you@example.com") + message("From: me", "", "b") + END)
    assert out.envelope[2] == "SM.E@example.com" and out.envelope[-1] == "Ryou@example.com"
    assert out.header[0] == "From: me@example.com"


def test_masquerading(harness: Harness) -> None:
    harness.write_main(masquerade_domains="!not.example.com example.com", masquerade_exceptions="root")
    out = submit(
        harness,
        envelope("you@host.example.com", sender="me@Host.Example.com")
        + message("From: root@host.example.com, a@host.not.example.com, b@deep.host.example.com", "", "b")
        + END,
    )
    assert out.envelope[2] == "Sme@example.com"
    assert out.envelope[-1] == "Ryou@host.example.com"
    assert out.header[0] == "From: root@host.example.com, a@host.not.example.com, b@example.com"


def test_automatic_copies(harness: Harness) -> None:
    harness.write_main(
        always_bcc="archive",
        sender_bcc_maps="inline:{ me@example.com=out@arch }",
        recipient_bcc_maps="inline:{ @example.com=in@arch }",
    )
    out = submit(harness, envelope("you@example.com") + MESSAGE + END)
    assert out.envelope[3:] == [
        "Anotify_flags=1",
        "Oout@arch",
        "Rout@arch",
        "Adsn_orig_rcpt=rfc822;you@example.com",
        "Oyou@example.com",
        "Ryou@example.com",
        "Anotify_flags=1",
        "Oin@arch",
        "Rin@arch",
    ]
    assert out.extracted[1:] == ["Anotify_flags=1", "Oarchive@example.com", "Rarchive@example.com", "E"]
    assert out.sizes[2] == 4
    none = submit(harness, envelope("you@example.com") + MESSAGE + END, FLAGS_INTERNAL)
    assert none.sizes[2] == 1


def test_mailer_daemon_becomes_the_null_sender(harness: Harness) -> None:
    out = submit(harness, envelope("you@example.com", sender="MAILER-DAEMON") + MESSAGE + END)
    assert out.envelope[2] == "S"


def test_smtputf8_is_detected(harness: Harness) -> None:
    records = envelope("dömi@example.com") + message("Subject: grüße", "", "b") + END
    assert submit(harness, records, FLAGS_EXTERNAL | FLAG_AUTOUTF8).sizes[5] == 1 | 2
    assert submit(harness, records).sizes[5] == 2
    out = submit(harness, envelope("a@b", sender="mé@example.com") + MESSAGE + END, FLAGS_EXTERNAL | FLAG_AUTOUTF8)
    assert out.sizes[5] == 1 | 4
    out = submit(harness, envelope("dömi@example.com") + MESSAGE + END, FLAGS_EXTERNAL | FLAG_AUTOUTF8)
    assert "Adsn_orig_rcpt=utf-8;dömi@example.com" in out.envelope


def test_eight_bit_encoding_is_noted(harness: Harness) -> None:
    lines = message("Content-Transfer-Encoding: 8BIT", "", "b")
    assert "Aencoding=8bit" in submit(harness, envelope("a@b") + lines + END).extracted
    harness.write_main(detect_8bit_encoding_header="no")
    assert "Aencoding=8bit" not in submit(harness, envelope("a@b") + lines + END).extracted


def checks(harness: Harness, action: str, where: str = "header_checks", pattern: str = "/^Subject: bad/") -> Outcome:
    harness.write_main(**{where: f"pcre:{{ {{ {pattern} {action} }} }}"})
    lines = message("From: me@example.com", "Subject: bad", "", "bad body", "good body")
    return submit(harness, envelope("you@example.com") + lines + END)


ABOUT = "header Subject: bad from local; from=<me@example.com> to=<you@example.com>"


def test_checks_that_refuse(harness: Harness) -> None:
    out = checks(harness, "REJECT go away")
    assert (out.status, out.reason) == (STAT_CONT, "5.7.1 go away")
    assert out.log[0] == f"ID: reject: {ABOUT}: 5.7.1 go away"
    out = checks(harness, "REJECT")
    assert out.reason == "5.7.1 message content rejected"
    out = checks(harness, "REJECT 4.2.2 later")
    assert (out.status, out.reason) == (STAT_DEFER, "4.2.2 later")


def test_checks_that_log(harness: Harness) -> None:
    assert checks(harness, "WARN look").log[0] == f"ID: warning: {ABOUT}: look"
    assert checks(harness, "INFO").log[0] == f"ID: info: {ABOUT}"
    assert checks(harness, "DUNNO").status == 0
    assert checks(harness, "OK").status == 0
    assert "warning: unknown command in header_checks map: NONSENSE x" in checks(harness, "NONSENSE x").log


def test_checks_that_change_headers(harness: Harness) -> None:
    assert "Subject: better" in checks(harness, "REPLACE Subject: better").header
    assert not any(line.startswith("Subject") for line in checks(harness, "IGNORE").header)
    out = checks(harness, "STRIP why")
    assert out.log[0] == f"ID: strip: {ABOUT}: why"
    assert not any(line.startswith("Subject") for line in out.header)
    out = checks(harness, "PREPEND X-Flag: yes")
    assert out.header[1:3] == ["X-Flag: yes", "Subject: bad"]
    bad = 'need "headername: headervalue"'
    assert (
        f'warning: bad PREPEND header text "text" in header_checks map -- {bad}' in checks(harness, "PREPEND text").log
    )
    assert (
        f'warning: bad REPLACE header text "text" in header_checks map -- {bad}' in checks(harness, "REPLACE text").log
    )
    assert "warning: REPLACE action without text in header_checks map" in checks(harness, "REPLACE").log


def test_checks_that_redirect(harness: Harness) -> None:
    assert "Lsmtp:[127.0.0.1]:10025" in checks(harness, "FILTER smtp:[127.0.0.1]:10025").extracted
    assert "warning: missing FILTER command argument in header_checks map" in checks(harness, "FILTER").log
    assert ">other@x" in checks(harness, "REDIRECT other@x").extracted
    assert any("bad REDIRECT target" in line for line in checks(harness, "REDIRECT other").log)
    assert checks(harness, "BCC spy@x").extracted[-4:] == ["Anotify_flags=1", "Ospy@x", "Rspy@x", "E"]
    assert any("bad BCC address" in line for line in checks(harness, "BCC spy").log)
    assert checks(harness, "HOLD").queue == "hold"
    out = checks(harness, "DISCARD")
    assert (out.status, out.queue) == (0, "")
    assert out.log == [f"ID: discard: {ABOUT}", "ID: removed (discarded)"]


def test_pass_ends_the_checks(harness: Harness) -> None:
    harness.write_main(
        header_checks="pcre:{ {/^From/ PASS} {/^Subject/ REJECT} }", body_checks="pcre:{ {/bad/ REJECT} }"
    )
    lines = message("From: me@example.com", "Subject: bad", "", "bad body")
    assert submit(harness, envelope("a@b") + lines + END).status == 0


def test_body_checks(harness: Harness) -> None:
    about = "body bad body from local; from=<me@example.com> to=<you@example.com>"
    out = checks(harness, "REJECT no", "body_checks", "/^bad/")
    assert out.log[-2:] == [f"ID: reject: {about}: 5.7.1 no", "ID: removed (canceled)"]
    assert checks(harness, "REPLACE nice", "body_checks", "/^bad/").content[-2:] == ["nice", "good body"]
    assert checks(harness, "IGNORE", "body_checks", "/^bad/").content[-2:] == ["", "good body"]
    assert checks(harness, "PREPEND first", "body_checks", "/^bad/").content[-3:] == ["first", "bad body", "good body"]


def test_body_checks_size_limit(harness: Harness) -> None:
    harness.write_main(body_checks="pcre:{ {/bad/ REJECT} }", body_checks_size_limit="100")
    lines = message("", *["x" * 49] * 4, "bad")
    assert submit(harness, envelope("a@b") + lines + END).status == 0
    assert submit(harness, envelope("a@b") + lines[:2] + [("N", "bad")] + END).status == STAT_CONT


def test_mime_and_nested_header_checks(harness: Harness) -> None:
    harness.write_main(
        mime_header_checks="pcre:{ {/name=virus/ REJECT mime} }",
        nested_header_checks="pcre:{ {/^X-In/ REJECT nested} }",
    )
    part = ["Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: a/b; name=virus", "", "x", "--b--"]
    assert submit(harness, envelope("a@b") + message(*part) + END).reason == "5.7.1 mime"
    nested = ["Content-Type: message/rfc822", "", "X-In: y", "", "x"]
    assert submit(harness, envelope("a@b") + message(*nested) + END).reason == "5.7.1 nested"
    harness.write_main(nested_header_checks="pcre:{ {/^X-In/ REJECT nested} }", disable_mime_input_processing="yes")
    assert submit(harness, envelope("a@b") + message(*nested) + END).status == 0


def test_strict_mime(harness: Harness) -> None:
    harness.write_main(strict_8bitmime="yes")
    out = submit(harness, envelope("a@b") + message("Subject: é", "", "x") + END)
    text = "improper use of 8-bit data in message header"
    assert (out.status, out.reason) == (STAT_CONT, f"5.6.0 {text}")
    assert out.log[0] == (f"ID: reject: mime-error {text}: Subject: é from local; from=<me@example.com> to=<a@b>")


@pytest.mark.parametrize(
    ("action", "status", "added"), [("fix_quietly", 0, False), ("add_header", 0, True), ("reject", STAT_CONT, False)]
)
def test_text_in_place_of_headers(harness: Harness, action: str, status: int, added: bool) -> None:
    harness.write_main(non_empty_end_of_header_action=action)
    out = submit(harness, envelope("a@b") + message("Subject: x", "garbage", "more") + END)
    assert out.status == status
    if not status:
        assert ("MIME-Error: message header was not terminated by empty line" in out.content) == added
        assert out.content[-3:] == ["", "garbage", "more"]


def test_character_filters(harness: Harness) -> None:
    harness.write_main(message_reject_characters=r"\0")
    out = submit(harness, envelope("a@b") + message("", b"a\0b") + END)
    assert (out.status, out.reason) == (STAT_CONT, "5.7.1 disallowed character")
    harness.write_main(message_strip_characters=r"\0\a")
    assert submit(harness, envelope("a@b") + message("", b"a\0b\x07c") + END).content[-1] == "abc"


def test_force_mime_input_conversion(harness: Harness) -> None:
    harness.write_main(force_mime_input_conversion="yes")
    out = submit(harness, envelope("a@b") + message("Content-Transfer-Encoding: 8bit", "", "é") + END)
    assert "Content-Transfer-Encoding: quoted-printable" in out.header
    assert out.content[-1] == "=C3=A9"


def test_header_limits(harness: Harness) -> None:
    harness.write_main(header_size_limit="100")
    out = submit(harness, envelope("a@b") + message("X: " + "y" * 50, " " + "z" * 44, " more", "", "b") + END)
    assert out.header[:2] == ["X: " + "y" * 50, " " + "z" * 44]
    out = submit(harness, envelope("a@b") + message("X: " + "y" * 300, "", "b") + END)
    assert out.header[0] == "X: " + "y" * 97


def test_verp_and_attribute_limit(harness: Harness) -> None:
    assert "V+=" in submit(harness, envelope("a@b", extra=[("V", "+=")]) + MESSAGE + END).envelope
    out = submit(harness, envelope("a@b", extra=[("V", "ab")]) + MESSAGE + END)
    assert 'warning: ID: ignoring bad VERP request: "ab"' in out.log
    extra: list[Record] = [("A", f"x{n}=y") for n in range(120)]
    out = submit(harness, envelope("a@b", extra=extra) + MESSAGE + END)
    assert out.status == STAT_BAD
    assert "warning: ID: message rejected: attribute count exceeds limit 100" in out.log


def test_long_queue_ids(harness: Harness) -> None:
    harness.write_main(enable_long_queue_ids="yes")
    out = submit(harness, envelope("a@b") + message("", "b") + END)
    assert len(out.queue_id) >= 13
    assert out.header[0] == "Message-Id: <ID@mail.example.com>"


UNREACHABLE = "warning: connect to Milter service inet:localhost:8891: Protocol not supported"
FROM_HERE = "CONNECT from localhost[127.0.0.1]"


@pytest.mark.parametrize(
    ("milters", "action", "status", "queue", "log"),
    [
        (
            "inet:localhost:8891",
            "tempfail",
            STAT_DEFER,
            "",
            [
                UNREACHABLE,
                f"ID: milter-reject: {FROM_HERE}: 4.7.1 Service unavailable - try again later; from=<me@example.com>",
            ],
        ),
        (
            "inet:localhost:8891",
            "",
            STAT_DEFER,
            "",
            [
                UNREACHABLE,
                f"ID: milter-reject: {FROM_HERE}: 4.7.1 Service unavailable - try again later; from=<me@example.com>",
            ],
        ),
        (
            "inet:localhost:8891",
            "Reject",
            STAT_CONT,
            "",
            [UNREACHABLE, f"ID: milter-reject: {FROM_HERE}: 5.5.0 Service unavailable; from=<me@example.com>"],
        ),
        (
            "inet:localhost:8891",
            "quarantine",
            0,
            "hold",
            [UNREACHABLE, f"ID: milter-hold: {FROM_HERE}: default_action; from=<me@example.com>"],
        ),
        ("inet:localhost:8891", "accept", 0, "incoming", [UNREACHABLE]),
        (
            "inet:localhost:8891",
            "odd",
            STAT_DEFER,
            "",
            [
                UNREACHABLE,
                "warning: milter inet:localhost:8891: unrecognized default action: odd",
                f"ID: milter-reject: {FROM_HERE}: 4.3.5 Server configuration problem - try again later; "
                "from=<me@example.com>",
            ],
        ),
        (
            "{ inet:localhost:8891, {default_action = accept}, connect_timeout=3s } unix:other",
            "tempfail",
            STAT_DEFER,
            "",
            [
                UNREACHABLE,
                "warning: connect to Milter service unix:other: Protocol not supported",
                f"ID: milter-reject: {FROM_HERE}: 4.7.1 Service unavailable - try again later; from=<me@example.com>",
            ],
        ),
        (
            "elsewhere",
            "reject",
            STAT_DEFER,
            "",
            [
                'warning: Milter service needs transport:endpoint instead of "elsewhere"',
                f"ID: milter-reject: {FROM_HERE}: 4.3.5 Server configuration problem - try again later; "
                "from=<me@example.com>",
            ],
        ),
        (
            "tcp:x",
            "quarantine",
            0,
            "hold",
            [
                "warning: invalid transport name: tcp in Milter service: tcp:x",
                f"ID: milter-hold: {FROM_HERE}: default_action; from=<me@example.com>",
            ],
        ),
    ],
)
def test_milters_cannot_be_reached(
    harness: Harness, milters: str, action: str, status: int, queue: str, log: list[str]
) -> None:
    settings = {"milter_default_action": action} if action else {}
    harness.write_main(non_smtpd_milters=milters, **settings)
    out = submit(harness, envelope("a@b") + MESSAGE + END)
    assert (out.status, out.queue) == (status, queue)
    assert [line for line in out.log if "ilter" in line] == log
    if status:
        assert out.reason and out.reason in log[-1]


def test_milters_for_other_mail_are_not_asked(harness: Harness) -> None:
    harness.write_main(smtpd_milters="inet:localhost:8891")
    assert submit(harness, envelope("a@b") + MESSAGE + END).queue == "incoming"
    harness.write_main(non_smtpd_milters="inet:localhost:8891")
    assert submit(harness, envelope("a@b") + MESSAGE + END, FLAGS_INTERNAL).queue == "incoming"
    seen: list[Record] = [("m", "0")]
    assert submit(harness, seen + envelope("a@b") + MESSAGE + END).queue == "incoming"
    assert not any("ilter" in line for line in harness.lines)


def test_who_is_in_the_line_about_a_milter(harness: Harness) -> None:
    harness.write_main(non_smtpd_milters="inet:localhost:8891", inet_protocols="ipv6", inet_interfaces="::1")
    assert "CONNECT from localhost[::1]: " in submit(harness, envelope("a@b") + MESSAGE + END).log[1]
    about = {
        "client_name": "there.example",
        "client_address": "192.0.2.1",
        "client_address_type": "2",
        "log_protocol_name": "ESMTP",
        "log_helo_name": "hi",
    }
    records: list[Record] = [*(("A", f"{key}={value}") for key, value in about.items()), *envelope("a@b")]
    line = submit(harness, records + MESSAGE + END).log[1]
    assert "CONNECT from there.example[192.0.2.1]: " in line
    assert line.endswith("; from=<me@example.com> proto=ESMTP helo=<hi>")


@pytest.mark.parametrize(
    ("milters", "text"),
    [
        ("{ inet:x:1", "milter service syntax error: missing '}' in \"{ inet:x:1\""),
        ("{ }", 'empty milter definition: "{ }"'),
        ("{ inet:x:1, odd=1 }", 'unknown option: "odd = 1"'),
        ("{ inet:x:1, odd }", "malformed option: missing '=' after attribute name: \"...odd...\""),
    ],
)
def test_bad_lists_of_milters(harness: Harness, milters: str, text: str) -> None:
    harness.write_main(non_smtpd_milters=milters)
    with pytest.raises(FatalError) as found:
        submit(harness, envelope("a@b") + MESSAGE + END)
    assert str(found.value) == text


def test_refused_mail_is_returned(harness: Harness) -> None:
    harness.write_main(header_checks="pcre:{ {/^Subject/ REJECT no} }")

    async def main() -> tuple[Outcome, list[Any]]:
        service = await harness.start()
        server, told = await serve_once("private/bounce", "delivery_status_protocol", [("status", 0)])
        flags = FLAGS_EXTERNAL | FLAG_BOUNCE
        out = await harness.submit(flags, envelope("a@b", "c@d") + message("Subject: x", "", "b", *["x"] * 1000) + END)
        server.close()
        await service.stop()
        return out, told

    out, told = asyncio.run(main())
    assert (out.status, out.queue) == (0, "")
    assert [(d["nrequest"], d.get("recipient"), d.get("reason"), d.get("ret_flags")) for d in told] == [
        ("0", "a@b", "no", None),
        ("0", "c@d", "no", None),
        ("1", None, None, "2"),
    ]
    assert [line.partition(" (")[2] for line in out.log if "status=bounced" in line] == ["no)", "no)"]
    assert out.log[-1] == "ID: removed (discarded)"


def test_the_bounce_service_can_lock_what_is_returned(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write_main(non_smtpd_milters="inet:localhost:8891", milter_default_action="reject")
    locked: list[bool] = []

    async def accepted(*_: Any, **__: Any) -> int:
        return 0

    async def request(path: str, message: Notify, **_: Any) -> bool:
        with Queue("").open(message.queue_name, message.queue_id, os.O_RDONLY) as file:
            locked.append(lock(file.fd, exclusive=False))
        return True

    monkeypatch.setattr("postfixpy.services.cleaning.refusal.bounce.request", request)
    monkeypatch.setattr("postfixpy.ipc.disposition.Reporter.bounce", accepted)
    out = submit(harness, envelope("a@b") + MESSAGE + END, FLAGS_EXTERNAL | FLAG_BOUNCE)
    assert (out.status, out.queue, locked) == (0, "", [True])


def test_mail_that_cannot_be_returned_stays_with_the_client(harness: Harness) -> None:
    harness.write_main(header_checks="pcre:{ {/^Subject/ REJECT no} }")
    out = submit(harness, envelope("a@b") + message("Subject: x", "", "b") + END, FLAGS_EXTERNAL | FLAG_BOUNCE)
    assert out.status == STAT_WRITE and out.queue == ""


def test_success_notification_of_an_alias(harness: Harness) -> None:
    harness.write_main(virtual_alias_maps="inline:{ a@b=c@d }")

    async def main() -> tuple[Outcome, list[Any]]:
        await harness.start()
        server, told = await serve_once("private/trace", "delivery_status_protocol", [("status", 0)])
        out = await harness.submit(FLAGS_EXTERNAL, envelope("a@b", extra=[("A", "notify_flags=6")]) + MESSAGE + END)
        server.close()
        return out, told

    out, told = asyncio.run(main())
    assert [(d["action"], d["reason"], d["recipient"]) for d in told] == [("expanded", "alias expanded", "a@b")]
    assert "Anotify_flags=4" in out.envelope


def test_bad_parameters_are_fatal(harness: Harness) -> None:
    from postfixpy.errors import FatalError

    for name, value, text in (
        ("canonical_classes", "nobody", 'unknown canonical_classes value "nobody" in "nobody"'),
        ("header_from_format", "x", 'invalid setting: "header_from_format = x"'),
        ("non_empty_end_of_header_action", "x", "bad non_empty_end_of_header_action value: 'x'"),
    ):
        harness.write_main(**{name: value})
        with pytest.raises(FatalError, match=text.replace("?", ".")):
            asyncio.run(harness.start())


def test_memory_does_not_grow_with_the_message(harness: Harness) -> None:
    import tracemalloc

    harness.write_main(message_size_limit="0")
    harness.read_back = False
    data = encode(envelope("a@b") + MESSAGE + [("N", "x" * 70)] * 100_000 + END)

    async def main() -> tuple[int, int]:
        await harness.start()
        await harness.submit(FLAGS_EXTERNAL, envelope("a@b") + MESSAGE + END)
        tracemalloc.start()
        try:
            out = await harness.submit(FLAGS_EXTERNAL, data, pieces=65536)
            return out.status, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    status, peak = asyncio.run(main())
    assert status == 0
    assert peak < len(data)  # nearly all of it is the client's buffer
