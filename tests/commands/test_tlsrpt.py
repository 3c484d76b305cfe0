"""TLSRPT: events as our client and the real one send them, and the reports that come of them."""

import datetime
import ipaddress
import json
from pathlib import Path
from typing import Any

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
    assert path.name == "me.example!server.example!1795651200!1795737599.json"


RESULTS = {
    "starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted",
    "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required",
    "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid",
}  # fmt: skip
"""RFC 8460 4.3."""


def check_fields(report: Any, day: datetime.date = DAY) -> None:
    """RFC 8460 4.4, field by field: what must be there, what may be, and of what type each is."""
    names = {"organization-name", "date-range", "contact-info", "report-id", "policies"}
    assert set(report) == names
    assert all(isinstance(report[name], str) and report[name] for name in names - {"date-range", "policies"})
    assert report["contact-info"].count("@") == 1
    times = report["date-range"]
    assert times == {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"}  # RFC 3339
    assert report["policies"]
    for entry in report["policies"]:
        assert {"policy", "summary"} <= set(entry) <= {"policy", "summary", "failure-details"}
        policy, summary, details = entry["policy"], entry["summary"], entry.get("failure-details", [])
        assert {"policy-type"} <= set(policy) <= {"policy-type", "policy-string", "policy-domain", "mx-host"}
        assert policy["policy-type"] in ("tlsa", "sts", "no-policy-found")
        assert isinstance(policy.get("policy-domain", ""), str)
        for name in ("policy-string", "mx-host"):  # arrays, as in appendix B
            assert isinstance(policy.get(name, []), list) and all(
                isinstance(text, str) for text in policy.get(name, [])
            )
        assert set(summary) == {"total-successful-session-count", "total-failure-session-count"}
        assert all(type(count) is int and count >= 0 for count in summary.values()) and sum(summary.values()) > 0
        for detail in details:
            texts = {"sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip"}
            texts |= {"additional-information", "failure-reason-code"}
            needed = {"result-type", "failed-session-count"}
            assert needed <= set(detail) <= needed | texts
            assert detail["result-type"] in RESULTS
            assert type(detail["failed-session-count"]) is int and detail["failed-session-count"] > 0
            assert all(isinstance(detail[name], str) for name in texts & set(detail))
            for name in {"sending-mta-ip", "receiving-ip"} & set(detail):
                ipaddress.ip_address(detail[name])


def test_each_recorded_event_makes_a_valid_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.stem for path in PLACE.glob("tlsrpt-*.txt") if recorded(path.stem)] + ["tlsrpt-sts"]
    seen = set()
    for name in names:
        for report in reports(tmp_path, [name], capsys):
            check_fields(report)
            seen |= {entry["policy"]["policy-type"] for entry in report["policies"]}
    assert len(names) > 12 and seen == {"tlsa", "sts", "no-policy-found"}
    (report,) = reports(tmp_path, names, capsys)
    check_fields(report)
    (sts,) = [entry for entry in report["policies"] if entry["policy"].get("mx-host")]
    assert sts["policy"] == {
        "policy-type": "sts",
        "policy-string": ["version: STSv1", "mode: enforce"],
        "policy-domain": "server.example",
        "mx-host": ["*.server.example"],
    }


VALUE = st.text() | st.integers() | st.lists(st.text()) | st.none()
DETAIL = st.fixed_dictionaries(
    {"c": st.sampled_from([201, 205, 306, 7])}, optional=dict.fromkeys("nhaf", VALUE) | {"r": st.just("::1")}
)
POLICY = st.fixed_dictionaries(
    {"policy-type": st.sampled_from([1, 2, 9, 3])},
    optional={"policy-string": VALUE, "mx-host": VALUE, "policy-domain": VALUE, "f": st.integers(0, 1)}
    | {"failure-details": st.lists(DETAIL, max_size=3) | VALUE},
)


@given(policies=st.lists(POLICY, max_size=3))
def test_whatever_counts_as_an_event_makes_a_valid_report(policies: list[Any]) -> None:
    data = json.dumps({"dpv": "1", "d": "a.example", "pr": "v=TLSRPTv1; rua=x", "policies": policies}).encode()
    event = tlsrpt.parse(data)
    for found in tlsrpt.aggregate([event, event] if event else [], DAY, "me.example", "a@me.example"):
        check_fields(found["report"])


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
