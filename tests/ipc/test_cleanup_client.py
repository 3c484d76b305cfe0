"""The client of cleanup: what it sends, and what it makes of the answers."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import cleanup
from postfixpy.ipc.attributes import ProtocolError, encode
from postfixpy.mail.records import RecordParser

_serving: list[asyncio.Task[Any]] = []


async def close(server: asyncio.Server) -> None:
    """Stop, after every connection is done with."""
    server.close()
    await asyncio.gather(*_serving, return_exceptions=True)
    _serving.clear()


async def serve(greeting: bytes, answer: bytes) -> tuple[asyncio.Server, list[Any]]:
    told: list[Any] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        _serving.append(task)
        writer.write(greeting)
        data = b""
        while b"E\0" not in data:
            more = await reader.read(65536)
            if not more:
                break
            data += more
        flags, _, rest = data.partition(b"\0\0")
        told.append(flags)
        parser = RecordParser()
        parser.feed(rest)
        told.extend(kind + payload.decode() for kind, payload in parser)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_unix_server(one, "public/cleanup"), told


GREETING = encode([("protocol", "cleanup_protocol"), ("queue_id", "ABC")])
VIEW: Any = SimpleNamespace(
    cleanup_service_name="cleanup",
    ipc_timeout=5,
    myhostname="mail.example.com",
    mail_name="Postfix",
    smtputf8_autodetect_classes="sendmail, verify",
    internal_mail_filter_classes="bounce",
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "public").mkdir()
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(text))
    yield lines
    log.set_sink(previous)


def test_post_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "mail_date", lambda when: f"date {when}")

    async def main() -> None:
        server, told = await serve(GREETING, encode([("status", 8), ("reason", "5.7.1 no")]))
        mail = await cleanup.post_mail(
            VIEW,
            "",
            "you@x",
            source="bounce",
            now=1000,
            sendopts=1,
        )
        assert mail.queue_id == "ABC"
        mail.line("Subject: x")
        mail.line()
        mail.line("ü")
        result = await mail.finish()
        assert (result.ok, result.status, result.reason) == (False, 8, "5.7.1 no")
        flags = cleanup.FLAG_MAP_OK | cleanup.FLAGS_FILTER_ALL | cleanup.FLAG_SMTPUTF8
        assert told == [
            b"flags\0%d" % flags,
            "T1000 0",
            "Alog_message_origin=local",
            "Atrace_flags=0",
            "S",
            "Ryou@x",
            "M",
            "NReceived: by mail.example.com (Postfix)",
            "N\tid ABC; date 1000",
            "NDate: date 1000",
            "NSubject: x",
            "N",
            "Nü",
            "X",
            "E",
        ]
        await close(server)

    asyncio.run(main())


def test_a_service_that_fails() -> None:
    async def main() -> None:
        server, _ = await serve(GREETING, b"")
        mail = await cleanup.Submission.open(timeout=5)
        assert (await mail.finish()).status == cleanup.STAT_WRITE
        await close(server)
        server, _ = await serve(encode([("protocol", "other")]), b"")
        with pytest.raises(ProtocolError):
            await cleanup.Submission.open(timeout=5)
        await close(server)

    asyncio.run(main())


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch, place: list[str]) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("postfixpy.ipc.cleanup.asyncio.sleep", sleep)

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await cleanup.Submission.open(wait=False)
        with pytest.raises(FatalError, match="connect #11 to subsystem public/cleanup: No such file or directory"):
            await cleanup.Submission.open()

    asyncio.run(main())
    assert waits == [10] * 10
    assert place[0] == "connect #1 to subsystem public/cleanup: No such file or directory"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, (250, "2.0.0", "Success")),
        (cleanup.STAT_SIZE | cleanup.STAT_WRITE, (552, "5.3.4", "message file too big")),
        (cleanup.STAT_DEFER | cleanup.STAT_SIZE, (451, "4.7.1", "service unavailable")),
        (cleanup.STAT_BARE_LF, (521, "5.5.2", "bare <LF> received")),
    ],
)
def test_words_for_a_status(status: int, words: tuple[int, str, str]) -> None:
    assert tuple(cleanup.detail(status)) == words


def test_flags_from_the_configuration() -> None:
    view: Any = SimpleNamespace(smtputf8_autodetect_classes="all", internal_mail_filter_classes="notify")
    assert cleanup.autodetect_flag(view, "bounce") == cleanup.FLAG_AUTOUTF8
    assert cleanup.autodetect_flag(VIEW, "bounce") == 0
    assert cleanup.filter_flag(view, "notify") == cleanup.FLAGS_FILTER_ALL
    assert cleanup.filter_flag(view, "bounce") == 0
