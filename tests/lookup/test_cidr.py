"""cidr: tables and network patterns."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.lookup import cidr, open_table


@pytest.fixture
def table(tmp_path, settings):
    def make(text):
        (tmp_path / "nets").write_text(text)
        return open_table(f"cidr:{tmp_path}/nets", settings, surrogates=False)

    return make


def test_the_first_network_counts(table):
    nets = table("10.1.0.0/16 a\n10.0.0.0/8 b\n10.1.2.3 never\n::1 c\n2001:db8::/32 d\n")
    keys = ["10.1.2.3", "10.2.0.0", "11.0.0.0", "::1", "0::0:1", "2001:db8:1::2", "x", "10.1", "", "10.1.2.03"]
    assert [nets.lookup(key) for key in keys] == ["a", "b", None, "c", "c", "d", None, None, None, None]


def test_if_and_negation(table):
    nets = table("if !10.0.0.0/8\n192.0.2.1 x\n!192.0.2.0/24 y\nendif\n192.0.2.0/24 z\n0.0.0.0/0 all\n")
    keys = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "10.0.0.1", "::1"]
    assert [nets.lookup(key) for key in keys] == ["x", "z", "y", "all", None]


def test_warnings(table, logged):
    table("10.0.0.1/8 x\n10/8 x\n1.2.3.4/33 x\n1.2.3.4/x x\n[1.2.3.4 x\n1.2.3.4\nx y\nendif\nif\nif 1.1.1.1\n")
    assert [line.partition(": ")[2].partition(": ")[2] for line in logged] == [
        'non-null host address bits in "10.0.0.1/8", perhaps you should use "10.0.0.0/8" instead: skipping this rule',
        'bad network value in "10/8": skipping this rule',
        'bad mask length in "1.2.3.4/33": skipping this rule',
        'bad mask value in "1.2.3.4/x": skipping this rule',
        "missing ']' character after \"[1.2.3.4\": skipping this rule",
        "no lookup result: skipping this rule",
        'bad address pattern: "x": skipping this rule',
        "ENDIF without IF: skipping this rule",
        "no address pattern: skipping this rule",
        "IF has no matching ENDIF",
    ]


def test_a_hundred_thousand_networks(table):
    nets = table("".join(f"10.{i >> 8}.{i & 255}.0/{24 + n} {i}\n" for i in range(50_000) for n in (1, 8)))
    start = time.process_time()
    for number in range(1000):
        assert nets.lookup(f"10.{number >> 8}.{number & 255}.1") == str(number)
    assert time.process_time() - start < 1  # one walk through the rules would take ten times this, a thousand do not


@given(st.text(alphabet="0123456789abc./:[]", max_size=30))
def test_any_pattern_is_a_network_or_an_error(pattern):
    try:
        network = cidr.parse_network(pattern)
    except ValueError:
        return
    assert network.contains(network.bits, network.number)
