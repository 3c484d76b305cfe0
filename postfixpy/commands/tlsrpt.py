"""postfixpy tlsrpt: collects TLSRPT events, and writes the aggregate reports of RFC 8460 from them.

    postfixpy tlsrpt collect SOCKET DIR      listen on SOCKET (smtp_tlsrpt_socket_name), keep a file of events a day
    postfixpy tlsrpt report [options] DIR    write the report of a day for each domain, as JSON

Options of report: ``-d YYYY-MM-DD`` the day (UTC), by default yesterday; ``-o NAME`` the organization; ``-c ADDRESS``
the contact; ``-w DIR`` write a file for each domain there, by default all reports go to standard output, a line each.

Events are datagrams in the form of libtlsrpt (protocol version 1), from our smtp or the real one (3.10 and later).
Nothing is sent: where a domain wants its report is in the report's file name (``rua``) and on standard error. What is
no event is dropped, and counted; a day's file ends at 100 megabytes.
"""

import datetime
import getopt
import json
import os
import re
import socket
import sys
from collections.abc import Iterable
from typing import Any

from postfixpy import __version__
from postfixpy.errors import FatalError

_MAX_DATAGRAM = 65536
_MAX_DAY = 100_000_000
_MAX_DETAILS = 10_000
_POLICIES = {1: "tlsa", 2: "sts", 9: "no-policy-found"}
_RESULTS = {
    201: "starttls-not-supported", 202: "certificate-host-mismatch", 203: "certificate-not-trusted",
    204: "certificate-expired", 205: "validation-failure", 301: "sts-policy-fetch-error", 302: "sts-policy-invalid",
    303: "sts-webpki-invalid", 304: "tlsa-invalid", 305: "dnssec-invalid", 306: "dane-required",
}  # fmt: skip
_DETAILS = {
    "s": "sending-mta-ip",
    "n": "receiving-mx-hostname",
    "h": "receiving-mx-helo",
    "r": "receiving-ip",
    "a": "additional-information",
    "f": "failure-reason-code",
}
_DOMAIN = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def main(argv: list[str]) -> int:
    try:
        return _main(argv)
    except FatalError as error:
        sys.stderr.write(f"{os.path.basename(argv[0])}: fatal: {error}\n")
        return 1


def _main(argv: list[str]) -> int:
    usage = "usage: tlsrpt collect SOCKET DIR | tlsrpt report [-d DATE] [-o NAME] [-c ADDRESS] [-w DIR] DIR"
    word, rest = (argv[1], argv[2:]) if len(argv) > 1 else ("", [])
    if word == "collect" and len(rest) == 2:
        return collect(*rest)
    try:
        options, words = getopt.getopt(rest, "d:o:c:w:")
    except getopt.GetoptError as error:
        raise FatalError(f"{error.msg}\n{usage}") from None
    if word != "report" or len(words) != 1:
        raise FatalError(usage)
    given = dict(options)
    try:
        day = datetime.date.fromisoformat(given["-d"]) if "-d" in given else today() - datetime.timedelta(days=1)
    except ValueError:
        raise FatalError(f"bad date: {given['-d']}") from None
    name = given.get("-o") or socket.getfqdn()
    events = list(read(words[0], day))
    for report in aggregate(events, day, name, given.get("-c", f"postmaster@{name}")):
        write(report, given.get("-w", ""))
    return 0


def today() -> datetime.date:
    """The day in UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def collect(path: str, directory: str) -> int:
    """Keep the events that arrive, until the process is ended. Raises FatalError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            if os.path.exists(path):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, 0o666)  # every delivery agent may report; the folder says who comes that far
        except OSError as error:
            raise FatalError(f"cannot listen on {path}: {error.strerror}") from None
        while True:
            data = sock.recv(_MAX_DATAGRAM)
            if parse(data) is not None:
                keep(directory, data)


def keep(directory: str, data: bytes) -> None:
    """Append an event to the file of today."""
    with open(os.path.join(directory, f"{today()}.events"), "ab") as file:
        if file.tell() < _MAX_DAY:
            file.write(data.replace(b"\n", b" ") + b"\n")


def parse(data: bytes) -> dict[str, Any] | None:
    """An event, None for what is none."""
    try:
        event = json.loads(data)
        good = event["dpv"] == "1" and _DOMAIN.fullmatch(event["d"]) and isinstance(event["pr"], str)
        return event if good and event["policies"] and all(map(_is_policy, event["policies"])) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_policy(policy: dict[str, Any]) -> bool:
    """Whether everything that goes into a report has its type."""
    lists = [policy.get(name, []) for name in ("policy-string", "mx-host")]
    details = policy.get("failure-details", [])
    texts = [detail.get(name, "") for detail in details for name in _DETAILS]
    return (
        policy["policy-type"] in _POLICIES
        and isinstance(policy.get("policy-domain", ""), str)
        and all(isinstance(found, list) and all(isinstance(text, str) for text in found) for found in lists)
        and isinstance(details, list)
        and all(detail["c"] in _RESULTS for detail in details)
        and all(isinstance(text, str) for text in texts)
    )


def read(directory: str, day: datetime.date) -> Iterable[dict[str, Any]]:
    """The events of a day. Raises FatalError."""
    path = os.path.join(directory, f"{day}.events")
    bad = 0
    try:
        with open(path, "rb") as file:
            for line in file:
                event = parse(line)
                if event is None:
                    bad += 1
                else:
                    yield event
    except FileNotFoundError:
        return
    except OSError as error:
        raise FatalError(f"open {path}: {error.strerror}") from None
    if bad:
        sys.stderr.write(f"tlsrpt: warning: {path}: {bad} lines are no events\n")


def aggregate(events: Iterable[dict[str, Any]], day: datetime.date, name: str, contact: str) -> list[dict[str, Any]]:
    """One report for each domain, in the order of the domains; ``rua`` is the domain's record, not for the report."""
    domains: dict[str, dict[str, Any]] = {}
    records: dict[str, str] = {}
    for event in events:
        domain = event["d"].lower()
        records[domain] = event["pr"]
        policies = domains.setdefault(domain, {})
        for found in event["policies"]:
            policy = {"policy-type": _POLICIES[found["policy-type"]]}
            policy |= {key: found[key] for key in ("policy-string", "policy-domain", "mx-host") if key in found}
            entry = policies.setdefault(json.dumps(policy, sort_keys=True), [policy, 0, 0, {}])
            entry[2 if found.get("f") else 1] += 1
            for detail in found.get("failure-details", []):
                shown = {"result-type": _RESULTS[detail["c"]]}
                shown |= {long: detail[short] for short, long in _DETAILS.items() if short in detail}
                key = json.dumps(shown, sort_keys=True)
                if key in entry[3] or len(entry[3]) < _MAX_DETAILS:
                    entry[3].setdefault(key, [shown, 0])[1] += 1
    return [_report(domain, domains[domain], records[domain], day, name, contact) for domain in sorted(domains)]


def _report(
    domain: str, policies: dict[str, Any], record: str, day: datetime.date, name: str, contact: str
) -> dict[str, Any]:
    out = []
    for policy, good, bad, details in policies.values():
        entry: dict[str, Any] = {
            "policy": policy,
            "summary": {"total-successful-session-count": good, "total-failure-session-count": bad},
        }
        if details:
            entry["failure-details"] = [shown | {"failed-session-count": count} for shown, count in details.values()]
        out.append(entry)
    return {
        "rua": record,
        "report": {
            "organization-name": name,
            "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
            "contact-info": contact,
            "report-id": f"{day}T00:00:00Z_{domain}@{name}",
            "policies": out,
        },
    }


def write(found: dict[str, Any], directory: str) -> None:
    """Write one report: to standard output, or to a file named as RFC 8460 5.1 says. Raises FatalError."""
    report = found["report"]
    domain = report["report-id"].partition("_")[2].rpartition("@")[0]
    sys.stderr.write(f"tlsrpt: {domain} ({found['rua']}), postfixpy {__version__}\n")
    text = json.dumps(report, ensure_ascii=False)
    if not directory:
        print(text)
        return
    times = (datetime.datetime.fromisoformat(text) for text in report["date-range"].values())
    start, end = (int(time.timestamp()) for time in times)
    sender = report["contact-info"].rpartition("@")[2]
    path = os.path.join(directory, f"{sender}!{domain}!{start}!{end}.json")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise FatalError(f"open {path}: {error.strerror}") from None
