"""TLSRPT: events as our client and the real one send them, and the reports that come of them."""

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.commands import tlsrpt
from postfixpy.migrate import scenario

DAY = datetime.date(2026, 11, 26)
PLACE = Path(__file__).parents[2] / "compat/scenarios/tls"


def recorded(name: str) -> list[bytes]:
    """The datagrams of the real smtp(8) 3.11 in a scenario."""
    text = scenario.parse((PLACE / f"{name}.txt").read_text()).recorded["3.11"]
    return [line.removeprefix("tlsrpt ").encode() for line in text.splitlines() if line.startswith("tlsrpt ")]


def reports(directory: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict]:  # type: ignore[type-arg]
    data = b"".join(line + b"\n" for name in names for line in recorded(name))
    (directory / f"{DAY}.events").write_bytes(data + b"garbage\n")
    assert tlsrpt.main(["tlsrpt", "report", "-d", str(DAY), "-o", "me.example", str(directory)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["tlsrpt-success", "tlsrpt-may", "tlsrpt-handshake", "tlsrpt-handshake", "tlsrpt-dane"]
    (report,) = reports(tmp_path, names, capsys)
    assert report["report-id"] == "2026-11-26T00:00:00Z_server.example@me.example"
    none, dane = report["policies"]
    assert none["policy"] == {"policy-type": "no-policy-found", "policy-domain": "server.example"}
    assert none["summary"] == {"total-successful-session-count": 2, "total-failure-session-count": 2}
    assert none["failure-details"] == [
        {
            "result-type": "validation-failure",
            "sending-mta-ip": "127.0.0.1",
            "receiving-mx-hostname": "mx.server.example",
            "receiving-mx-helo": "250-a.example\r\n250 STARTTLS",
            "receiving-ip": "127.0.0.11",
            "failure-reason-code": "tls-handshake-failure",
            "failed-session-count": 2,
        }
    ]
    assert dane["policy"]["policy-type"] == "tlsa" and dane["policy"]["policy-string"][0].startswith("3 1 1 ")


def test_file(tmp_path: Path) -> None:
    (tmp_path / f"{DAY}.events").write_bytes(recorded("tlsrpt-success")[0])
    arguments = ["-d", str(DAY), "-o", "me.example", "-w", str(tmp_path), str(tmp_path)]
    assert tlsrpt.main(["tlsrpt", "report", *arguments]) == 0
    (path,) = tmp_path.glob("*.json")
    assert path.name == "me.example!server.example!2026-11-26T000000Z!2026-11-26T235959Z.json"


@pytest.mark.parametrize(
    "arguments", [[], ["collect"], ["report"], ["report", "-d", "today", "x"], ["report", "-z", "x"]]
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tlsrpt.main(["tlsrpt", *arguments]) == 1
    assert capsys.readouterr().err.startswith("tlsrpt: fatal: ")


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_whatever_arrives(data: object) -> None:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    assert tlsrpt.parse(raw) is None
