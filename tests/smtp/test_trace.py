"""Session traces: what is in them, what is not, and how they are shown."""

import json
from pathlib import Path

import pytest

from postfixpy.commands import trace as command
from postfixpy.errors import FatalError
from postfixpy.smtp import trace

from .test_agent import SCRIPT
from .test_starttls import HEAD, KEPT, TX, world_of

RECORD = {
    "time": 0.0,
    "queue_id": "ABC",
    "program": "smtp",
    "server": "h[127.0.0.11]:25",
    "use": 1,
    "events": [[0.0, "<", "220 a"], [0.25, ">", "EHLO me"], [1.5, "data", "20"], [2.0, "closed", ""]],
}


def test_record(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world("postfixpy_session_trace_directory = trace\n", servers={"127.0.0.11:25": [SCRIPT]})
    world.deliver()
    (record,) = world.memory.traces
    assert (record["queue_id"], record["server"], record["use"]) == ("ABC", "127.0.0.11[127.0.0.11]:25", 1)
    assert [(kind, text) for _, kind, text in record["events"]] == [
        ("<", "220 a ESMTP"),
        (">", "EHLO client.example"),
        ("<", "250 a"),
        (">", "MAIL FROM:<s@client.example>"),
        ("<", "250 ok"),
        (">", "RCPT TO:<r0@server.example>"),
        ("<", "250 ok"),
        (">", "DATA"),
        ("<", "354 go"),
        ("data", "20"),
        (">", "."),
        ("<", "250 ok"),
        ("result", "r0@server.example sent 2.0.0"),
        (">", "QUIT"),
        ("closed", ""),
    ]
    json.dumps(record)


def test_handshakes(make_world) -> None:  # type: ignore[no-untyped-def]
    text = "postfixpy_session_trace_directory = trace\n" + KEPT.replace("smtp_tls_loglevel = 1\n", "")
    for script, story in (
        (
            [*HEAD, "> 250 a", *TX, "< QUIT"],
            "Untrusted TLS connection established to server.example[127.0.0.11]:25: TLSv1.3 with cipher ",
        ),
        ([*HEAD[:-2], "hello", "close"], "failed: "),
    ):
        world = world_of(make_world, text, script)
        world.deliver(world.request("server.example"))
        start, result = [event for event in world.memory.traces[0]["events"] if event[1] == "tls"]
        assert start[2] == "starts, level encrypt"
        assert result[2].startswith(story) and len(result[2]) > len("failed: ")


def test_nothing_is_kept_by_default(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world(servers={"127.0.0.11:25": [SCRIPT]})
    world.deliver()
    assert world.memory.traces == []


def test_no_secrets(make_world) -> None:  # type: ignore[no-untyped-def]
    script = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 AUTH LOGIN PLAIN", "< AUTH", "> 535 no"]
    world = make_world(
        "postfixpy_session_trace_directory = trace\nsmtp_sasl_auth_enable = yes\n"
        "smtp_sasl_password_maps = static:user:secret\nsmtp_sasl_security_options =\n",
        servers={"127.0.0.11:25": [script]},
    )
    world.deliver()
    text = json.dumps(world.memory.traces)
    assert "AUTH PLAIN" in text and "535 no" in text
    assert "c2VjcmV0" not in text and "AHVzZXIAc2VjcmV0" not in text and "secret" not in text


def test_the_number_of_events_is_bounded(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world("postfixpy_session_trace_directory = trace\n", servers={"127.0.0.11:25": [SCRIPT]})
    world.deliver(world.request(count=6000))
    (record,) = world.memory.traces
    assert len(record["events"]) <= trace.MAX_EVENTS


def test_file(tmp_path: Path, log_lines) -> None:  # type: ignore[no-untyped-def]
    trace.append(str(tmp_path), "smtp", RECORD)
    trace.append(str(tmp_path), "smtp", RECORD)
    file = tmp_path / "smtp.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line) for line in file.read_text().splitlines()] == [RECORD, RECORD]
    trace.append(str(tmp_path / "none"), "smtp", RECORD)
    assert log_lines == [f"warning: session trace {tmp_path}/none/smtp.jsonl: No such file or directory"]


def test_ladder() -> None:
    lines = command.ladder(RECORD, 60)
    assert lines[0].endswith("  ABC  smtp  h[127.0.0.11]:25")
    assert lines[1:] == [
        "     0.000  " + "<-- 220 a".rjust(48),
        "     0.250  EHLO me -->",
        "     1.500  [content, 20 bytes] -->",
        "     2.000  * closed",
    ]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**RECORD, "queue_id": "DEF", "server": "other[192.0.2.1]:25", "use": 2}
    file = tmp_path / "smtp.jsonl"
    file.write_text(f"{json.dumps(RECORD)}\n{json.dumps(other)}\nnonsense\n[]\n")
    assert command.main(["trace", "-q", "DEF", str(file)]) == 1
    shown, said = capsys.readouterr()
    assert "DEF" in shown and "ABC" not in shown and "(use 2 of the connection)" in shown
    assert said == f"trace: {file}, line 3: not a session\ntrace: {file}, line 4: not a session\n"
    file.write_text(f"{json.dumps(RECORD)}\n{json.dumps(other)}\n")
    assert command.main(["trace", "-s", "h[127", str(file)]) == 0
    assert "DEF" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["-x", "f"], ["-w", "wide", "f"], ["-q"]])
def test_usage(words: list[str]) -> None:
    with pytest.raises(FatalError, match=r"^usage: trace"):
        command.main(["trace", *words])


def test_no_file() -> None:
    with pytest.raises(FatalError, match=r"^open /no/such: No such file or directory$"):
        command.main(["trace", "/no/such"])
