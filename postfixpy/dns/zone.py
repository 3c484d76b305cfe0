r"""The resource records of scenarios and tests: a few lines of text.

A line is ``name TYPE data``. Data in place of a record: ``SERVFAIL``, ``REFUSED``, ``FORMERR``, ``NXDOMAIN``,
``NOTIMP`` is that response code, ``TIMEOUT`` no answer at all; the type ``ANY`` is for them to hold for every type.
``\# length hex`` is a record's data in wire form (RFC 3597). A name without a line does not exist.

DNSSEC, as a validating resolver tells of it: what follows a line ``@ad`` was validated, up to a line ``@insecure``. An
answer has the AD bit when all of its records were. (What fails validation is ``SERVFAIL``.)
"""

from collections.abc import Iterable
from typing import NamedTuple

CODES = frozenset(("SERVFAIL", "REFUSED", "FORMERR", "NXDOMAIN", "NOTIMP", "TIMEOUT"))
"""What stands in place of a record."""


class ZoneRecord(NamedTuple):
    """One line; `validated` is its AD bit."""

    kind: str
    data: str
    validated: bool

    def answers(self, wanted: str) -> bool:
        """Whether the line is about queries of the type `wanted`."""
        return self.kind in ((wanted, "ANY") if self.data in CODES else (wanted, "CNAME"))


def parse(lines: Iterable[str]) -> dict[str, list[ZoneRecord]]:
    """Records by name, in lower case and without final dot."""
    records: dict[str, list[ZoneRecord]] = {}
    validated = False
    for line in lines:
        if line.strip() in ("@ad", "@insecure"):
            validated = line.strip() == "@ad"
        elif line.strip():
            name, kind, data = [*line.split(None, 2), ""][:3]
            record = ZoneRecord(kind.upper(), data.strip(), validated)
            records.setdefault(name.rstrip(".").lower(), []).append(record)
    return records
