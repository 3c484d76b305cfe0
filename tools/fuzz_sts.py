#!/usr/bin/env python3
"""Fuzzes what MTA-STS reads from others: TXT records and policies.

    tools/fuzz_sts.py [SECONDS [SEED [TARGET...]]]

The invariants:

policies  a policy reads the same again as it is written anew, and makes an entry of smtp_tls_policy_maps that is no
          weaker than its mode and says nothing but what it says; or it is a PolicyTextError in printable words
records   an id is a short word of letters and digits, or ""
"""

import sys

import fuzz

from postfixpy.smtp.policy_table import parse_entry
from postfixpy.smtp.sts import entry_text
from postfixpy.smtp.sts_policy import PolicyTextError, parse_policy, parse_records
from postfixpy.tls.level import Level


def policies(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except PolicyTextError as error:
        assert str(error).isprintable()
        return
    assert parse_policy("\r\n".join(policy.lines).encode()) == policy
    if policy.mode == "none":
        return
    entry = parse_entry(entry_text("a.example", policy, policy.max_age), "fuzz", (3, 10))
    assert entry.level == (Level.SECURE if policy.mode == "enforce" else Level.MAY)
    assert (entry.external.patterns, entry.external.strings) == (list(policy.mx), policy.lines)
    assert (entry.grade, entry.protocols, entry.exclude, entry.anchors, entry.external.failure) == (*[None] * 4, "")


def records(data: bytes) -> None:
    found = parse_records(data.decode("utf-8", "surrogateescape").split("\n"))
    assert not found or (found.isascii() and found.isalnum() and len(found) <= 32)


POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.example\r\nmx: *.b.example\r\nmax_age: 86400\r\n"
TARGETS = [
    fuzz.Target(
        policies, [POLICY, POLICY.replace(b"enforce", b"testing")], [b"mx: ", b"mode: none\n", b"*.", b"{", b"}"]
    ),
    fuzz.Target(records, [b"v=STSv1; id=1;", b"v=STSv1;id=a;x=y"], [b"v=STSv1;", b"id=", b"\n"]),
]

if __name__ == "__main__":
    sys.exit(fuzz.main(TARGETS))
