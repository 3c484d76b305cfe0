"""Records as the reply filter sees them."""

import pytest

from postfixpy.dns.record import CNAME, MX, SRV, TLSA, A, Record, type_name


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (Record("q", "n", A, 60, "192.0.2.1"), "n. 60 IN A 192.0.2.1"),
        (Record("q", "n", MX, 60, "m", 10), "n. 60 IN MX 10 m."),
        (Record("q", "n", SRV, 60, "m", 1, 2, 25), "n. 60 IN SRV 1 2 25 m."),
        (Record("q", "n", CNAME, 60, "m"), "n. 60 IN CNAME m."),
        (Record("q", "n", TLSA, 60, "3 1 1 ab"), "n. 60 IN TLSA 3 1 1 ab"),
    ],
)
def test_line(record: Record, line: str) -> None:
    assert record.line() == line


def test_type_names() -> None:
    assert (type_name(MX), type_name(257)) == ("MX", "TYPE257")
