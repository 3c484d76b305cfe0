"""Which line is a header, what names mean, dates."""

import time

import pytest

from postfixpy.mail.headers import DROP, RESENT, SENDER, HeaderTable, is_header, mail_date, name_length


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"Subject: hello", 7),
        (b"Subject : hello", 7),
        (b"Subject \t:", 7),
        (b"x:", 1),
        (b":", 0),
        (b"", 0),
        (b" Subject: folded", 0),
        (b"Sub ject: two words", 0),
        (b"Subj\xc3\xa9ct: 8-bit name", 0),
        (b"no colon here", 0),
        (b"nul\0l: x", 0),
    ],
)
def test_header_lines(line: bytes, length: int) -> None:
    assert name_length(line) == length


def test_is_header_takes_configuration_text() -> None:
    assert is_header("X-Spam: yes")
    assert not is_header("just text")


def test_roles() -> None:
    table = HeaderTable(["Bcc", "Content-Length", "X-Secret"])
    found = table.find(b"FROM: me")
    assert found is not None and found.name == "From" and found.roles == SENDER
    bcc = table.find(b"bcc : you")
    assert bcc is not None and bcc.roles & DROP
    secret = table.find(b"X-SECRET: 1")
    assert secret is not None and secret.roles == DROP
    assert table.find(b"X-Other: 1") is None
    resent = table.find(b"Resent-From: a")
    assert resent is not None and resent.roles & RESENT


def test_drop_list_leaves_other_tables_alone() -> None:
    HeaderTable(["from"])
    found = HeaderTable().find(b"From: x")
    assert found is not None and not found.roles & DROP


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "Sat, 09 Jan 2021 01:02:03 +0000 (UTC)"),
        ("Europe/Berlin", "Sat, 09 Jan 2021 02:02:03 +0100 (CET)"),
        ("America/St_Johns", "Fri, 08 Jan 2021 21:32:03 -0330 (NST)"),
    ],
)
def test_mail_date(zone: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert mail_date(1610154123) == text
    finally:
        monkeypatch.undo()
        time.tzset()
