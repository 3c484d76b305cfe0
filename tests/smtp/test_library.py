"""The client as a library, over real sockets on loopback."""

import asyncio
import textwrap
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.smtp.library import Client

from .scripted import ScriptedServer, good

MESSAGE = b"Subject: hello\r\n\r\n.dots\r\nbye"


def deliver(tmp_path: Path, *recipients: str, nexthop: str, settings: str = "", times: int = 1) -> list[Outcome]:
    (tmp_path / "main.cf").write_text(f"compatibility_level = 3.6\nmyhostname = client.example\n{settings}\n")

    async def run() -> list[Outcome]:
        async with Client(str(tmp_path)) as client:
            found = []
            for _ in range(times):
                found += await client.deliver(MESSAGE, "me@client.example", recipients, nexthop=nexthop)
            return found

    return asyncio.run(run())


def test_sent(tmp_path: Path) -> None:
    with ScriptedServer(good()) as server:
        (outcome,) = deliver(tmp_path, "you@server.example", nexthop=f"[127.0.0.1]:{server.port}")
    assert (outcome.result, outcome.dsn.status, outcome.dsn.reason) == ("sent", "2.0.0", "250 2.0.0 queued")
    assert b"\r\nSubject: hello\r\n\r\n..dots\r\nbye\r\n.\r\n" in server.received[0]


def test_connection_is_used_again(tmp_path: Path) -> None:
    again = good(None, b"250 ok\r\n", *good()[3:])
    with ScriptedServer(again) as server:
        outcomes = deliver(tmp_path, "you@server.example", nexthop=f"[127.0.0.1]:{server.port}", times=2)
    assert [outcome.result for outcome in outcomes] == ["sent", "sent"]
    assert outcomes[1].stats.reuse_count == 1
    assert b"RSET\r\nMAIL" in server.received[0]


def test_nobody_listens(tmp_path: Path) -> None:
    (outcome,) = deliver(tmp_path, "you@server.example", nexthop="[127.0.0.1]:1")
    assert (outcome.result, outcome.dsn.status, outcome.scope) == ("deferred", "4.4.1", "site")
    assert outcome.dsn.reason == "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"


def test_time_limit(tmp_path: Path) -> None:
    with ScriptedServer(["stall"]) as server:
        settings = "smtp_helo_timeout = 1s"
        (outcome,) = deliver(tmp_path, "a@b.example", nexthop=f"[127.0.0.1]:{server.port}", settings=settings)
    assert outcome.dsn.reason.endswith("timed out while receiving the initial server greeting")


def test_reply_before_the_end_of_the_content(tmp_path: Path) -> None:
    """The server refuses a large message and hangs up while it is still being sent."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")
    refusing = [*good()[:9], b"552 5.3.4 too much\r\n", "close"]

    async def run(port: int) -> Outcome:
        async with Client(str(tmp_path)) as client:
            message = b"Subject: big\n\n" + b"x" * 70 + b"\n" * 1
            message += (b"y" * 70 + b"\n") * 200_000
            (outcome,) = await client.deliver(message, "a@b.example", ["c@d.example"], nexthop=f"[127.0.0.1]:{port}")
            return outcome

    with ScriptedServer(refusing) as server:
        outcome = asyncio.run(run(server.port))
    assert outcome.result in ("bounced", "deferred")
    if outcome.result == "bounced":
        assert outcome.dsn.reason.endswith("said: 552 5.3.4 too much (in reply to end of DATA command)")
    else:  # the kernel dropped the reply when the server reset the connection
        assert outcome.dsn.reason.endswith("while sending message body")


def test_bad_destination(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="missing"):
        deliver(tmp_path, "a@b.example", nexthop="[unclosed")


def test_many_sessions_at_once(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")

    async def run(port: int) -> list[list[Outcome]]:
        async with Client(str(tmp_path), reuse=False) as client:
            work = [client.deliver(MESSAGE, "a@b.example", ["c@d.example"], nexthop=f"[127.0.0.1]:{port}")] * 1
            work += [
                client.deliver(MESSAGE, "a@b.example", ["c@d.example"], nexthop=f"[127.0.0.1]:{port}")
                for _ in range(19)
            ]
            return await asyncio.gather(*work)

    with ScriptedServer(*[good()] * 20) as server:
        outcomes = asyncio.run(run(server.port))
    assert [outcome.result for found in outcomes for outcome in found] == ["sent"] * 20


def example() -> str:
    """The program in README.md."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    block = text.partition("## From Python")[2].partition("    import asyncio")
    return textwrap.dedent((block[1] + block[2]).partition("\n## ")[0])


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(good()) as server:
        settings = f"compatibility_level = 3.6\nmyhostname = client.example\nrelayhost = [127.0.0.1]:{server.port}\n"
        (tmp_path / "main.cf").write_text(settings)
        program = example()
        assert len(program.strip().splitlines()) <= 11
        exec(program.replace("/etc/postfix", str(tmp_path)), {})  # that is what it is there for
    assert capsys.readouterr().out == "you@example.org sent 2.0.0 250 2.0.0 queued\n"


def test_the_documentation_has_the_same_example() -> None:
    from postfixpy.smtp import library

    assert library.__doc__ is not None
    assert textwrap.indent(example().strip(), "    ").replace("    \n", "\n") in library.__doc__


def test_what_the_caller_gives_is_not_changed(tmp_path: Path) -> None:
    mine = Recipient("you@server.example", notify=2)
    script = good()
    script[2] = b"250-server\r\n250 DSN\r\n"
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = client.example\n")

    async def run(port: int) -> Outcome:
        async with Client(str(tmp_path)) as client:
            return (await client.deliver(MESSAGE, "me@client.example", [mine], nexthop=f"[127.0.0.1]:{port}"))[0]

    with ScriptedServer(script) as server:
        assert asyncio.run(run(server.port)).result == "sent"
    assert mine.notify == 2
