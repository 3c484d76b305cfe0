"""sendmail -bs, read as a conversation: what the client says, what it is told, what is posted."""

from types import SimpleNamespace
from typing import Any

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.services.standalone.session import Session
from postfixpy.services.standalone.words import Path, original_recipient, printable_xtext, split


class Drop:
    """Keeps what it is given."""

    queue_id = "ABC123"

    def __init__(self) -> None:
        self.records: list[str] = []
        self.reason = ""
        self.status = 0
        self.finished = self.cancelled = False

    def add(self, kind: str, payload: bytes) -> None:
        if b"\0" in payload and kind not in "NL":
            raise FatalError("uid=0: null or line break")
        self.records.append(kind + payload.decode("utf-8", "surrogateescape"))

    def finish(self) -> int:
        self.finished = True
        return self.status

    def cancel(self) -> None:
        self.cancelled = True


VIEW: dict[str, Any] = {
    "myhostname": "mail.example.com",
    "mail_name": "Postfix",
    "smtpd_banner": "mail.example.com ESMTP Postfix",
    "smtpd_discard_ehlo_keywords": "",
    "smtpd_helo_required": False,
    "release": (3, 11),
    "smtpd_hard_error_limit": 20,
    "smtpd_junk_command_limit": 100,
    "smtpd_noop_commands": "",
    "smtpd_forbidden_commands": "",
    "smtpd_recipient_limit": 1000,
    "smtpd_recipient_overshoot_limit": 1000,
    "message_size_limit": 1000,
    "line_length_limit": 2048,
    "disable_vrfy_command": False,
    "smtputf8_enable": True,
    "strict_smtputf8": False,
    "strict_rfc821_envelopes": False,
}


class Talk:
    """A session and what it has posted."""

    def __init__(self, **parameters: Any) -> None:
        self.drops: list[Drop] = []
        self.status = 0
        self.session = Session(
            SimpleNamespace(**{**VIEW, **parameters}),  # type: ignore[arg-type]
            self._open,
            lambda: 1_700_000_000,
        )

    def _open(self) -> Drop:
        drop = Drop()
        drop.status = self.status
        self.drops.append(drop)
        return drop

    def say(self, *lines: str) -> list[str]:
        """The replies to command and content lines."""
        replies: list[str] = []
        for line in lines:
            if self.session.receiving:
                reply = self.session.content("N", line.encode())
            elif self.session.chunk_left:
                reply = self.session.chunk(line.encode())
            else:
                reply = self.session.command(line)
            replies += [] if reply is None else [reply]
        return replies


@pytest.fixture(autouse=True)
def lines() -> Any:
    out: list[str] = []
    previous = log.set_sink(lambda severity, text: out.append(text))
    yield out
    log.set_sink(previous)


def test_a_message(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postfixpy.services.standalone.message.mail_date", lambda when: f"date {when}")
    talk = Talk()
    assert talk.say("EHLO me", "MAIL FROM:<a@b> BODY=8BITMIME SIZE=10", "RCPT TO:<c@d>", "DATA")[1:] == [
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "354 End data with <CR><LF>.<CR><LF>",
    ]
    assert talk.say("Subject: x", "", "..dot", ".not", ".") == ["250 2.0.0 Ok: queued as ABC123"]
    assert talk.drops[0].records == [
        "Sa@b",
        "Aencoding=8bit",
        "Adsn_orig_rcpt=rfc822;c@d",
        "Rc@d",
        "M",
        "NReceived: from me (localhost [127.0.0.1])",
        "N\tby mail.example.com (Postfix) with ESMTP id ABC123",
        "N\tfor <c@d>; date 1700000000",
        "NSubject: x",
        "N",
        "N.dot",
        "Nnot",
        "X",
        "E",
    ]
    assert talk.drops[0].finished and not talk.drops[0].cancelled
    assert lines == ["ABC123: client=localhost[127.0.0.1]"]


def test_ehlo() -> None:
    assert Talk().say("EHLO x")[0].split("\n") == [
        "250-mail.example.com",
        "250-PIPELINING",
        "250-SIZE 1000",
        "250-VRFY",
        "250-ETRN",
        "250-ENHANCEDSTATUSCODES",
        "250-8BITMIME",
        "250-DSN",
        "250-SMTPUTF8",
        "250 CHUNKING",
    ]
    short = Talk(smtpd_discard_ehlo_keywords="dsn, smtputf8 VRFY", message_size_limit=0).say("EHLO x")[0]
    assert "DSN" not in short and "VRFY" not in short and "250-SIZE\n" in short


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        (["MAIL FROM:<a@b"], "501 5.1.7 Bad sender address syntax"),
        (["MAIL FROM:a b"], "555 5.5.4 Unsupported option: b"),
        (["MAIL"], "501 5.5.4 Syntax: MAIL FROM:<address>"),
        (["MAIL TO:<a@b>"], "501 5.5.4 Syntax: MAIL FROM:<address>"),
        (["MAIL FROM:<>"], "250 2.1.0 Ok"),
        (["mail from: a@b"], "250 2.1.0 Ok"),
        (["MAIL FROM:<a@b> SIZE=x"], "501 5.5.4 Bad message size syntax"),
        (["MAIL FROM:<a@b> SIZE=1001"], "552 5.3.4 Message size exceeds fixed limit"),
        (["MAIL FROM:<a@b> RET=NONE"], "501 5.5.4 Bad RET parameter syntax"),
        (["MAIL FROM:<a@b> RET=FULL RET=FULL"], "501 5.5.4 Bad RET parameter syntax"),
        (["MAIL FROM:<a@b> ENVID=a+zz"], "501 5.5.4 Bad ENVID parameter syntax"),
        (["MAIL FROM:<a@b> ENVID=a+2Bb"], "250 2.1.0 Ok"),
        (["MAIL FROM:<a@b> AUTH=<> AUTH=x"], "250 2.1.0 Ok"),
        (["MAIL FROM:<a@b> AUTH=x AUTH=x"], "503 5.5.4 Error: multiple AUTH= options"),
        (["MAIL FROM:<a@b> X=y"], "555 5.5.4 Unsupported option: X=y"),
        (["MAIL FROM:<a@b>", "MAIL FROM:<a@b>"], "503 5.5.1 Error: nested MAIL command"),
        (["RCPT TO:<a@b>"], "503 5.5.1 Error: need MAIL command"),
        (["MAIL FROM:<>", "RCPT TO:<>"], "501 5.1.3 Bad recipient address syntax"),
        (["MAIL FROM:<>", "RCPT TO:<a@b> NOTIFY=NEVER,DELAY"], "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        (["MAIL FROM:<>", "RCPT TO:<a@b> ORCPT=x"], "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        (["MAIL FROM:<>", "DATA"], "554 5.5.1 Error: no valid recipients"),
        (["DATA"], "503 5.5.1 Error: need RCPT command"),
        (["MAIL FROM:<>", "RCPT TO:<a@b>", "DATA x"], "501 5.5.4 Syntax: DATA"),
        (["RSET x"], "501 5.5.4 Syntax: RSET"),
        (["RSET"], "250 2.0.0 Ok"),
        (["NOOP anything"], "250 2.0.0 Ok"),
        (["VRFY a@b"], "252 2.0.0 a@b"),
        (["VRFY"], "501 5.5.4 Syntax: VRFY address [SMTPUTF8]"),
        (["HELO"], "501 Syntax: HELO hostname"),
        (["HELO x"], "250 mail.example.com"),
        (["EHLO"], "501 Syntax: EHLO hostname"),
        (["FOO"], "500 5.5.2 Error: command not recognized"),
        ([""], "500 5.5.2 Error: bad syntax"),
        (["Subject: x"], "221 2.7.0 Error: I can break rules, too. Goodbye."),
        (["ETRN"], "500 Syntax: ETRN domain"),
        (["ETRN foo_bar!"], "501 Error: invalid parameter syntax"),
        (["MAIL FROM:<>", "ETRN x"], "503 Error: MAIL transaction in progress"),
        (["ETRN @x"], "458 Unable to queue messages"),
        (["QUIT"], "221 2.0.0 Bye"),
        (["\udcff"], "500 5.5.2 Error: bad UTF-8 syntax"),
        (
            ["HELP"],
            "214 2.0.0 Commands: AUTH BDAT DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY XCLIENT "
            "XFORWARD",
        ),
    ],
)
def test_replies(commands: list[str], reply: str) -> None:
    assert Talk().say(*commands)[-1] == reply


def test_dsn_records() -> None:
    talk = Talk()
    talk.say("EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b> NOTIFY=success,DELAY ORCPT=rfc822;q+2Br", 'RCPT TO:<"x y"@z>')
    assert talk.drops[0].records[1:] == [
        "Anotify_flags=10",
        "Adsn_orig_rcpt=rfc822;q+r",
        "Ra@b",
        'Adsn_orig_rcpt=rfc822;"x y"@z',
        "Rx y@z",
    ]


def test_rset_and_hanging_up_leave_nothing() -> None:
    talk = Talk()
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RSET")
    assert talk.drops[0].cancelled
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "text")
    talk.session.close()
    assert talk.drops[1].cancelled and not talk.drops[1].finished


def test_content_limits_and_oddities() -> None:
    talk = Talk()
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
    assert talk.say("x" * 600, "x" * 600, ".") == ["552 5.3.4 Error: message file too big"]
    assert talk.drops[0].cancelled and not talk.drops[0].finished
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", " starts with blank", ".")
    assert talk.drops[1].records[-4:] == ["N", "N starts with blank", "X", "E"]
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "From mbox", ".")
    assert talk.drops[2].records[-4:] == ["LX-Mailbox-Line: ", "NFrom mbox", "X", "E"]


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (1, "451 4.3.0 Error: internal error 1"),
        (2, "451 4.3.0 Error: queue file write error"),
        (4, "552 5.3.4 Error: message file too big"),
        (512, "550 5.7.1 Error: service denied"),
    ],
)
def test_what_cannot_be_posted(status: int, reply: str) -> None:
    talk = Talk()
    talk.status = status
    assert talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", ".")[-1] == reply


def test_too_many_errors_and_recipients() -> None:
    talk = Talk(smtpd_hard_error_limit=2)
    assert talk.say("FOO", "FOO", "NOOP")[-1] == "421 4.7.0 mail.example.com Error: too many errors"
    assert talk.session.over
    talk = Talk(smtpd_recipient_limit=1)
    assert talk.say("MAIL FROM:<>", "RCPT TO:<a@b>", "RCPT TO:<a@c>")[-1] == "452 4.5.3 Error: too many recipients"


def test_help_is_for_releases_from_3_9_on() -> None:
    assert Talk(release=(3, 7)).say("HELP") == ["500 5.5.2 Error: command not recognized"]


def test_where_a_connection_is_lost() -> None:
    talk = Talk()
    assert talk.session.where_lost(0) == "CONNECT"
    assert talk.session.summary() == "disconnect from localhost[127.0.0.1] commands=0/0"
    talk.say("EHLO a b")
    assert talk.session.where_lost(3) == "EHLO"
    talk.say("FOO")
    assert talk.session.where_lost(3) == "UNKNOWN"
    talk.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
    talk.session.content("N", b"hello")
    assert talk.session.where_lost(3) == "DATA (10 bytes)"
    talk.session.content("N", b".")
    assert talk.session.where == "END-OF-MESSAGE"


def test_helo_and_utf8_requirements() -> None:
    assert Talk(smtpd_helo_required=True).say("MAIL FROM:<a@b>") == ["503 5.5.1 Error: send HELO/EHLO first"]
    talk = Talk(strict_smtputf8=True)
    hint = "553 5.6.7 Must declare SMTPUTF8 to send unicode address"
    assert talk.say("EHLO x", "MAIL FROM:<ü@b>")[-1] == hint
    assert talk.say("MAIL FROM:<ü@b> SMTPUTF8")[-1] == "250 2.1.0 Ok"


def test_strict_envelopes(lines: list[str]) -> None:
    talk = Talk(strict_rfc821_envelopes=True)
    assert talk.say("MAIL FROM:a@b") == ["501 5.1.7 Bad sender address syntax"]
    assert lines == ["Illegal address syntax from localhost[127.0.0.1] in MAIL command: a@b"]


def test_summary() -> None:
    talk = Talk()
    talk.say("EHLO x", "FOO", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", ".", "QUIT")
    assert talk.session.summary() == (
        "disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 unknown=0/1 commands=5/6"
    )


def test_words_and_paths() -> None:
    assert split('rcpt  to: <"a b>"@c> X=y') == ["rcpt", "to:", '<"a b>"@c>', "X=y"]
    assert split("NOOP a b") == ["NOOP", "a", "b"]
    assert Path("<@route,@x:user@host>").address == "user@host"
    assert Path('"a b"@c').address == "a b@c"


def test_xtext() -> None:
    assert original_recipient("rfc822;a+2Bb") == "rfc822;a+b"
    assert original_recipient("utf-8;\\x{FC}@x") == "utf-8;ü@x"
    for bad in ("rfc822", ";x", "rfc822;a+2bb", "rfc822;a+00"):
        assert original_recipient(bad) == ""
    assert printable_xtext("a+20b") and not printable_xtext("a+07b")


ENVELOPE = ("EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>")


def test_chunks(lines: list[str]) -> None:
    talk = Talk()
    said = talk.say(*ENVELOPE, "BDAT 12", "Subject: x\r\n", "BDAT 6", "\r\n.\r", "\ny", "BDAT 2 last", "z\0", "QUIT")
    assert said[3:] == [
        "250 2.0.0 Ok: 12 bytes",
        "250 2.0.0 Ok: 6 bytes",
        "250 2.0.0 Ok: 22 bytes queued as ABC123",
        "221 2.0.0 Bye",
    ]
    assert talk.drops[0].records[7:] == ["NSubject: x", "N", "N.", "Nyz\0", "X", "E"]
    assert "bdat=3 quit=1 commands=7" in talk.session.summary()


def test_a_line_of_many_chunks_is_cut_where_any_line_is() -> None:
    talk = Talk(line_length_limit=4)
    talk.say(*ENVELOPE, "BDAT 3", "abc", "BDAT 5 LAST", "defgh")
    assert talk.drops[0].records[7:-2] == ["Labcd", "Lefgh", "N"]


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        (["BDAT 3", "abc", "MAIL FROM:<>", "BDAT 3 LAST", "abc", "BDAT 1", "x"], [
            "503 5.5.1 Error: need RCPT command",
            "503 5.5.1 Error: MAIL after BDAT",
            "551 5.0.0 Discarded 3 bytes after earlier error",
            "503 5.5.1 Error: need RCPT command",
        ]),
        ([*ENVELOPE[1:], "BDAT 0", "BDAT 5", "12345", "BDAT 0 LAST", "MAIL FROM:<>"], [
            "250 2.1.0 Ok",
            "250 2.1.5 Ok",
            "551 5.7.1 Null BDAT request",
            "551 5.0.0 Discarded 5 bytes after earlier error",
            "551 5.0.0 Discarded 0 bytes after earlier error",
            "250 2.1.0 Ok",
        ]),
        ([*ENVELOPE[1:], "BDAT 1", "x", "DATA", "RCPT TO:<e@f>", "RSET", "BDAT 1", "x"], [
            "250 2.1.0 Ok",
            "250 2.1.5 Ok",
            "250 2.0.0 Ok: 1 bytes",
            "503 5.5.1 Error: DATA after BDAT",
            "503 5.5.1 Error: RCPT after BDAT",
            "250 2.0.0 Ok",
            "503 5.5.1 Error: need RCPT command",
        ]),
        (["MAIL FROM:<>", "BDAT 1 LAST", "x"], ["250 2.1.0 Ok", "554 5.5.1 Error: no valid recipients"]),
        ([*ENVELOPE[1:], "BDAT 1001 LAST", "x" * 1001], [
            "250 2.1.0 Ok",
            "250 2.1.5 Ok",
            "552 5.3.4 Chunk exceeds message size limit",
        ]),
    ],
)  # fmt: skip
def test_refused_chunks_are_skipped(commands: list[str], replies: list[str]) -> None:
    talk = Talk(release=(3, 7))
    assert talk.say(*commands) == replies
    assert not any(drop.finished for drop in talk.drops)


@pytest.mark.parametrize("command", ["BDAT", "BDAT x", "BDAT -1", "BDAT 3 FIRST", "BDAT 3 LAST x", "BDAT " + "9" * 40])
def test_a_malformed_chunk_ends_the_session(command: str, lines: list[str]) -> None:
    talk = Talk()
    assert talk.say(command) == ["521 5.5.4 Syntax: BDAT count [LAST]"]
    assert talk.session.over
    assert lines == [f"NOQUEUE: malformed BDAT command syntax from localhost[127.0.0.1]: {command}"]


def test_keywords_that_are_not_offered(lines: list[str]) -> None:
    talk = Talk(smtpd_discard_ehlo_keywords="chunking, etrn")
    talk.say("EHLO x")
    assert talk.say("BDAT 3") == ["521 5.5.1 Error: command not implemented"]
    assert lines == ["discarding EHLO keywords: ETRN, CHUNKING"]
    lines.clear()
    Talk(smtpd_discard_ehlo_keywords="dsn, silent-discard").say("EHLO x")
    assert lines == []


def test_where_a_chunk_is_lost() -> None:
    talk = Talk()
    talk.say(*ENVELOPE, "BDAT 10", "ab\r\ncd")
    assert talk.session.where_lost(0) == "BDAT (6 bytes)"
    talk = Talk(release=(3, 7))
    talk.say(*ENVELOPE, "BDAT 9999", "abc")
    assert (talk.session.prefix, talk.session.where_lost(0)) == ("", "BDAT")
    talk = Talk()
    assert talk.say(*ENVELOPE, "BDAT 9999")[-1] == "552 5.3.4 Chunk exceeds message size limit"
    assert talk.session.over and talk.session.prefix == "ABC123: "


def test_a_nested_mail_command_takes_the_options_of_the_first() -> None:
    talk = Talk()
    talk.say("MAIL FROM:<a@b> BODY=8BITMIME", "MAIL FROM:<a@b>", "RCPT TO:<c@d>")
    assert not any("encoding" in record for record in talk.drops[0].records)


def test_addresses_of_vrfy(lines: list[str]) -> None:
    assert Talk().say("VRFY <a b>") == ["501 5.1.3 Bad recipient address syntax"]
    assert lines == ["Illegal address syntax from localhost[127.0.0.1] in VRFY command: <a b>"]
