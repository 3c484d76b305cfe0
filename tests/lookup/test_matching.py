"""Matching lists."""

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError
from postfixpy.lookup.matching import AddressList, DomainList, NameAddressList, ServiceList, StringList, matches_parent


def test_strings(settings):
    strings = StringList("x", "A, !b, inline:{c=1} , static:x", settings)
    assert [strings.match(s) for s in ("a", "B", "c", "anything")] == [True, False, True, True]


@pytest.mark.parametrize(
    ("parent", "expected"), [(True, [True, True, False, False]), (False, [True, False, True, False])]
)
def test_domains(settings, parent, expected):
    domains = DomainList("x", "example.com .example.org", settings, parent=parent)
    assert [domains.match(s) for s in ("Example.COM", "a.example.com", "a.example.org", "xexample.com")] == expected


def test_domains_in_tables(settings):
    table = "inline:{example.com=1, .example.org=1}"
    assert DomainList("x", table, settings, parent=True).match("a.b.example.com")
    assert not DomainList("x", table, settings).match("a.b.example.com")
    assert DomainList("x", table, settings).match("a.b.example.org")
    assert not DomainList("x", "pcre:{{/^example.com$/ x}}", settings, parent=True).match("a.example.com")


def test_addresses(settings):
    nets = AddressList("mynetworks", "!10.1.2.3 10.0.0.0/8 [::1]/128 [2001:db8::]/32 192.0.2.1 name.example", settings)
    inside = ["10.1.2.4", "::1", "0:0::1", "2001:DB8::7", "192.0.2.1"]
    outside = ["10.1.2.3", "11.0.0.1", "192.0.2.2", "::2", "name.example"]
    assert [nets.match(a) for a in inside + outside] == [True] * 5 + [False] * 5


def test_a_bad_network_is_an_error_when_it_is_needed(settings, logged):
    nets = AddressList("mynetworks", "10.0.0.1/8", settings)
    with pytest.raises(TableError):
        nets.match("10.0.0.2")
    assert logged[0].startswith('warning: mynetworks: non-null host address bits in "10.0.0.1/8"')


def test_names_and_addresses(settings):
    peers = NameAddressList("debug_peer_list", "example.com 10.0.0.0/8", settings, parent=True)
    assert peers.match("a.example.com", "192.0.2.1")
    assert peers.match("unknown", "10.0.0.1")
    assert not peers.match("unknown", "192.0.2.1")


def test_files(settings, logged, tmp_path):
    (tmp_path / "inner").write_text("c\n")
    (tmp_path / "list").write_text(f"# comment\na\n !b\n/{tmp_path}/inner\n".replace("//", "/"))
    strings = StringList("x", f"!{tmp_path}/list, c, b", settings)
    assert [strings.match(s) for s in ("a", "b", "c", "d")] == [False, True, False, False]
    missing = StringList("x", f"a, {tmp_path}/none", settings)
    assert missing.match("a")
    with pytest.raises(TableError):
        missing.match("b")
    assert f"error: open file {tmp_path}/none: No such file or directory" in logged


def test_a_failing_table_is_no_answer(settings, logged):
    with pytest.raises(TableError):
        StringList("mydestination", "fail:x, a", settings).match("a")
    assert logged == ["warning: mydestination: fail:x: table lookup problem"]


def test_errors_and_comments(settings, logged):
    with pytest.raises(FatalError, match="x: no pattern after '!'"):
        StringList("x", "a ! b", settings)
    assert StringList("x", "a # b c", settings).match("b") is False
    assert logged == ["warning: x: #comment after other text is not allowed: # b c..."]


def test_parent_style(settings):
    assert matches_parent("relay_domains", settings)
    assert not matches_parent("mynetworks", settings)


def test_services():
    services = ServiceList.parse("smtp.inet !relay/unix unix")
    names = ["smtp/inet", "relay/unix", "local/unix", "x/inet"]
    assert [services.match(name) for name in names] == [True, False, True, False]
