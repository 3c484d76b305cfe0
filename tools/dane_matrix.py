#!/usr/bin/env python3
"""The DANE matrix: usage x selector x matching type x chain x DNSSEC status, with the verdicts of Postfix and of ours.

    tools/dane_matrix.py --scenarios    writes the scenarios, compat/scenarios/dane, without recordings
    tools/record_smtp.py --write compat/scenarios/dane       records what the real programs do in them
    tools/dane_matrix.py                writes compat/DANE.md from the recordings and from our replay

A scenario is a chain or a status; its requests are the 24 sorts of TLSA record, each for a port of its own. Needs the
package `cryptography`.
"""

import argparse
import hashlib
import re
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from postfixpy.migrate import replay_smtp, scenario

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "compat/scenarios/dane"
REPORT = ROOT / "compat/DANE.md"
HOST, ADDRESS, FIRST_PORT = "mx.server.example", "127.0.0.11", 2501
RECORDS = [(u, s, m) for u in range(4) for s in range(2) for m in range(3)]
CHAINS = {
    "self-signed": ("self-signed", "self-signed", "a self-signed certificate"),
    "root": ("good", "root-ca", "a certificate whose root is not sent"),
    "intermediate": ("chained", "middle-ca", "a certificate with its intermediate"),
    "incomplete": ("incomplete", "middle-ca", "a certificate without its intermediate"),
    "expired": ("expired", "root-ca", "an expired certificate"),
    "wrong-name": ("wrong", "root-ca", "a certificate for another name"),
    "other": ("other", "root-ca", "a certificate of another authority, and records that do not match it"),
}
"""Name: the server's certificate, the authority of usages 0 and 2, and what it is in words."""
STATES = {
    "insecure": "records that were not validated",
    "bogus": "an answer that fails validation (the resolver says SERVFAIL)",
    "absent": "no such name",
    "empty": "a name without TLSA records",
    "failing": "no answer at all",
}


def certificate(name: str) -> x509.Certificate:
    """The first certificate of a file of compat/certificates."""
    return x509.load_pem_x509_certificates((scenario.CERTIFICATES / f"{name}.pem").read_bytes())[0]


def data(found: x509.Certificate, selector: int, mtype: int) -> str:
    """What a TLSA record says of a certificate, in hexadecimal."""
    if selector:
        raw = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        raw = found.public_bytes(Encoding.DER)
    return (raw, hashlib.sha256(raw).digest(), hashlib.sha512(raw).digest())[mtype].hex()


def text_of(name: str) -> str:
    """A scenario, without recording."""
    server, authority, words = CHAINS.get(name, CHAINS["root"])
    claimed = "good" if name == "other" else server
    records, servers, requests = [], [], []
    for port, (usage, selector, mtype) in enumerate(RECORDS, FIRST_PORT):
        owner = f"_{port}._tcp.{HOST}"
        whose = certificate(claimed if usage & 1 else authority)
        record = f"{owner} TLSA {usage} {selector} {mtype} {data(whose, selector, mtype)}"
        line = {"bogus": f"{owner} TLSA SERVFAIL", "failing": f"{owner} TLSA TIMEOUT", "empty": f"{owner} TXT x"}
        records += [] if name == "absent" else [line.get(name, record)]
        servers += [f"== server {ADDRESS}:{port}", *script(server)]
        requests += [
            "== request",
            f"nexthop = [{HOST}]:{port}",
            f"recipient = r{usage}{selector}{mtype}@server.example",
        ]
    zone = ["@ad", ". NS a.root.", f"{HOST} A {ADDRESS}", *(["@insecure"] if name == "insecure" else []), *records]
    title = f"DANE, {STATES.get(name, words)}: each sort of TLSA record."
    settings = ["smtp_tls_security_level = dane", "smtp_dns_support_level = dnssec", "smtp_tls_loglevel = 1"]
    return "\n".join([title, "== main.cf", *settings, "== zone", *zone, *servers, *requests]) + "\n"


def script(server: str) -> list[str]:
    """The steps of a server that takes mail, and of one that gets QUIT instead."""
    tls = [
        "> 220 a ESMTP",
        "< EHLO",
        "> 250-a",
        "> 250 STARTTLS",
        "< STARTTLS",
        "> 220 go",
        f"starttls {server} tickets=0",
    ]
    mail = ["< EHLO", "> 250 a", "< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data", "> 250 ok"]
    return [*tls, *mail, "< QUIT", "> 221 bye"]


def verdicts(output: str) -> dict[tuple[int, int, int], str]:
    """What became of each record's message."""
    found, tls = {}, "in plaintext"
    for line in output.splitlines():
        if match := re.match(r"log (\w+) TLS connection established", line):
            tls = "authenticated" if match[1] == "Verified" else "not authenticated"
        elif match := re.match(r"log \w+: to=<r(\d)(\d)(\d)@.* status=(\w+) \((.*)\)$", line):
            key = (int(match[1]), int(match[2]), int(match[3]))
            found[key] = f"sent, {tls}" if match[4] == "sent" else f"{match[4]}: {match[5].split(' for ')[0]}"
            tls = "in plaintext"
    return found


def write_scenarios() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in [*CHAINS, *STATES]:
        (PLACE / f"{name}.txt").write_text(text_of(name))


def write_report() -> int:
    """Write the table; returns how many verdicts differ."""
    out = [
        "# DANE: what Postfix makes of TLSA records, and what ours does",
        "",
        "Written by tools/dane_matrix.py from the recordings in compat/scenarios/dane. Level `dane`; the address of",
        "the server is validated. A cell is one message to one server with one TLSA record. `u s m`: usage, selector,",
        "matching type. Usages 0 and 2 name the authority, 1 and 3 the server's own certificate.",
        "",
    ]
    total = different = 0
    for name, words in {**{n: v[2] for n, v in CHAINS.items()}, **STATES}.items():
        found = scenario.parse((PLACE / f"{name}.txt").read_text())
        columns: dict[str, dict[tuple[int, int, int], str]] = {}
        for release, recorded in found.recorded.items():
            columns[f"Postfix {release}"] = verdicts(recorded)
            with tempfile.TemporaryDirectory() as directory:
                columns[f"ours as {release}"] = verdicts(replay_smtp.replay(found, directory, release))
        kind = "Chain" if name in CHAINS else "Status"
        out += [f"## {kind}: {words}", "", "| u s m | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for key in RECORDS:
            cells = [column.get(key, "nothing") for column in columns.values()]
            for real, ours in zip(cells[::2], cells[1::2], strict=True):
                total += 1
                different += real != ours
            out.append(f"| {' '.join(map(str, key))} | " + " | ".join(cells) + " |")
        out.append("")
    out.insert(6, f"{total} verdicts of Postfix, {different} of ours differ.\n")
    REPORT.write_text("\n".join(out))
    print(f"{total} verdicts, {different} different: {REPORT.relative_to(ROOT)}")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", action="store_true", help="write the scenarios")
    if parser.parse_args().scenarios:
        write_scenarios()
        return 0
    return 1 if write_report() else 0


if __name__ == "__main__":
    sys.exit(main())
