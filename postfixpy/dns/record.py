"""What a DNS lookup gives: records and a status, as plain values (spec/smtp-client.md 3.2)."""

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, TLSA = 1, 2, 5, 6, 12, 15, 16, 28, 33, 52
"""Record types."""

TYPE_NAMES = {
    A: "A",
    NS: "NS",
    CNAME: "CNAME",
    SOA: "SOA",
    PTR: "PTR",
    MX: "MX",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    TLSA: "TLSA",
}


def type_name(rtype: int) -> str:
    """The mnemonic of a record type; ``TYPE<n>`` when it has none here."""
    return TYPE_NAMES.get(rtype) or f"TYPE{rtype}"


class Status(enum.IntEnum):
    """How a lookup ended, from the worst to the best: of several, the highest counts."""

    NOTFOUND = 1
    NULLSRV = 2
    NULLMX = 3
    FAIL = 4
    INVAL = 5
    RETRY = 6
    POLICY = 7
    OK = 8


class Record(NamedTuple):
    """One resource record.

    query       the name that was asked for, before CNAMEs
    name        the record's own name
    text        host name of MX, SRV, CNAME, NS and PTR; numeric address of A and AAAA; text of TXT; "u s m hex" of TLSA
    preference  of MX; priority of SRV; of an address, that of the MX or SRV record that led to it
    validated   the reply was DNSSEC-validated by the resolver, as were the CNAME replies that led here
    """

    query: str
    name: str
    rtype: int
    ttl: int
    text: str
    preference: int = 0
    weight: int = 0
    port: int = 0
    validated: bool = False

    def line(self) -> str:
        """The record as smtp_dns_reply_filter sees it, and as the log shows it."""
        if self.rtype == MX:
            data = f"{self.preference} {self.text}."
        elif self.rtype == SRV:
            data = f"{self.preference} {self.weight} {self.port} {self.text}."
        elif self.rtype in (CNAME, NS, PTR):
            data = f"{self.text}."
        else:
            data = self.text
        return f"{self.name}. {self.ttl} IN {type_name(self.rtype)} {data}"


@dataclass(slots=True)
class Answer:
    """The records of a lookup, or why there are none: `text` is Postfix's reason.

    `canonical` is the last name of the CNAME chain; `validated` says whether the whole chain was DNSSEC-validated.
    """

    status: Status
    text: str = ""
    records: list[Record] = field(default_factory=list)
    canonical: str = ""
    validated: bool = False
