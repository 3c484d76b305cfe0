"""The client of bounce(8): what travels, and what an answer means."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.ipc import bounce
from postfixpy.ipc.attributes import parse
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN

ALICE = Recipient("alice@example.com", "al@example.org", 123, "rfc822;al@example.org", 6)
GONE = DSN("5.1.1", "failed", "user unknown", "smtp", "550 5.1.1 no", "dns", "mx.example.com")


def converse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, call: Callable[[], Awaitable[bool]]
) -> tuple[bool, list[tuple[str, str]], list[str]]:
    """The result of `call`, what the service received, and the log; the service says `answer` to the request."""
    monkeypatch.chdir(tmp_path)
    logged: list[str] = []
    received = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        writer.write(bounce.ANNOUNCEMENT)
        received = await reader.readuntil(b"\0\0")
        while (parsed := parse(received)) is None:
            received += await reader.readuntil(b"\0")
        del parsed
        writer.write(answer)
        writer.close()

    async def run() -> bool:
        server = await asyncio.start_unix_server(serve, "bounce")
        async with server:
            result = await call()
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            return result

    previous = log.set_sink(lambda severity, text: logged.append(f"{severity}: {text}"))
    try:
        result = asyncio.run(run())
    finally:
        log.set_sink(previous)
    parsed = parse(received)
    assert parsed is not None
    return result, parsed[0], logged


def test_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, received, logged = converse(
        tmp_path, monkeypatch, b"status\x000\0\0", lambda: bounce.append("bounce", 1024, "4fZx", ALICE, GONE)
    )
    assert ok
    assert logged == []
    assert received == [
        ("nrequest", "0"),
        ("flags", "1024"),
        ("queue_id", "4fZx"),
        ("original_recipient", "al@example.org"),
        ("recipient", "alice@example.com"),
        ("offset", "123"),
        ("dsn_orig_rcpt", "rfc822;al@example.org"),
        ("notify_flags", "6"),
        ("status", "5.1.1"),
        ("diag_type", "smtp"),
        ("diag_text", "550 5.1.1 no"),
        ("mta_type", "dns"),
        ("mta_mname", "mx.example.com"),
        ("action", "failed"),
        ("reason", "user unknown"),
    ]


@pytest.mark.parametrize(("kind", "number"), [(bounce.FLUSH, 1), (bounce.WARN, 2), (bounce.TRACE, 5)])
@pytest.mark.parametrize(("release", "sendopts"), [((3, 7), "smtputf8"), ((3, 11), "sendopts")])
def test_notify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, number: int, release: tuple[int, int], sendopts: str
) -> None:
    ok, received, _ = converse(
        tmp_path,
        monkeypatch,
        b"status\x000\0\0",
        lambda: bounce.request(
            "bounce", bounce.Notify(kind, 2, "active", "4fZx", "8bit", 1, "me@example.com", "env", 2), release=release
        ),
    )
    assert ok
    assert received == [
        ("nrequest", str(number)),
        ("flags", "2"),
        ("queue_name", "active"),
        ("queue_id", "4fZx"),
        ("encoding", "8bit"),
        (sendopts, "1"),
        ("sender", "me@example.com"),
        ("envelope_id", "env"),
        ("ret_flags", "2"),
    ]


def test_verp_and_one_add_their_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = (0, "active", "4fZx", "", 0, "me@example.com", "", 0)

    def received(message: bounce.Message) -> list[tuple[str, str]]:
        (tmp_path / "bounce").unlink(missing_ok=True)
        return converse(tmp_path, monkeypatch, b"status\x000\0\0", lambda: bounce.request("bounce", message))[1]

    verp = received(bounce.NotifyVerp(bounce.VERP, *common, "+="))
    assert verp[0] == ("nrequest", "3")
    assert verp[-1] == ("verp_delimiters", "+=")
    who = (ALICE.original, ALICE.address, ALICE.offset, ALICE.dsn_orcpt, ALICE.notify)
    what = (GONE.status, GONE.diag_type, GONE.diag_text, GONE.mta_type, GONE.mta_name, GONE.action, GONE.reason)
    one = received(bounce.NotifyOne(bounce.ONE, *common, *who, *what))
    assert one[0] == ("nrequest", "4")
    assert one[9:11] == [("original_recipient", "al@example.org"), ("recipient", "alice@example.com")]
    assert one[-1] == ("reason", "user unknown")
    assert bounce.recipient_and_dsn(bounce.NotifyOne.parse(one)) == (ALICE, GONE)


def test_refusal_is_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, _, logged = converse(
        tmp_path, monkeypatch, b"status\x004294967295\0\0", lambda: bounce.append("bounce", 0, "4fZx", ALICE, GONE)
    )
    assert (ok, logged) == (False, [])


def test_hang_up_is_false_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, _, logged = converse(tmp_path, monkeypatch, b"", lambda: bounce.append("bounce", 0, "4fZx", ALICE, GONE))
    assert not ok
    assert logged == ["warning: premature end-of-input on bounce while reading input attribute name"]


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logged: list[str] = []
    previous = log.set_sink(lambda severity, text: logged.append(f"{severity}: {text}"))
    try:
        assert not asyncio.run(bounce.append("private/bounce", 0, "4fZx", ALICE, GONE))
    finally:
        log.set_sink(previous)
    assert logged == ["warning: connect to private/bounce: No such file or directory"]
