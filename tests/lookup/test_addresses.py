"""Searches by address."""

import pytest

from postfixpy.lookup import Maps, TableError, run
from postfixpy.lookup.addresses import (
    AddressContext,
    Found,
    Mapped,
    Query,
    Strategy,
    acrunch,
    address_find,
    crunch,
    domain_find,
    mail_addr_find,
    mail_addr_map,
    nothing_mapped,
    split_addr,
    strip_addr,
)


class Recorder(Maps):
    """Maps of which every key that is asked for is noted."""


def keys_asked(search):
    """The keys a search asks for when nothing is found."""
    keys = []
    try:
        _, key = next(search)
        while True:
            keys.append(key)
            _, key = search.send(None)
    except StopIteration:
        return keys


@pytest.fixture
def context(settings):
    return AddressContext(settings)


@pytest.fixture
def maps(settings):
    return lambda *pairs: Maps("test_maps", f"inline:{{ {','.join(f'{{{p}}}' for p in pairs)} }}", settings)


def test_the_default_order(maps, context):
    order = ["user+ext@example.com", "user@example.com", "user+ext", "user", "@example.com"]
    assert keys_asked(mail_addr_find(maps("x=y"), "user+ext@example.com", context)) == order


def test_a_remote_domain_has_no_local_part_lookups(maps, context):
    order = ["user@remote.example", "@remote.example"]
    assert keys_asked(mail_addr_find(maps("x=y"), "user@remote.example", context)) == order


def test_transport_and_access_orders(maps, context):
    base = Strategy.FULL | Strategy.NO_EXTENSION | Strategy.DOMAIN
    address = "u+e@a.b.c"
    dotted = keys_asked(mail_addr_find(maps("x=y"), address, context, strategy=base | Strategy.DOT_PARENT))
    assert dotted == ["u+e@a.b.c", "u@a.b.c", "a.b.c", ".b.c", ".c"]
    strategy = base | Strategy.PARENT | Strategy.LOCALPART_AT
    parents = keys_asked(mail_addr_find(maps("x=y"), address, context, strategy=strategy))
    assert parents == ["u+e@a.b.c", "u@a.b.c", "a.b.c", "b.c", "c", "u+e@", "u@"]


def test_the_dropped_extension_is_told(maps, context):
    assert run(mail_addr_find(maps("user=x"), "user+a+b@example.com", context)) == Found("x", "+a+b")
    assert run(mail_addr_find(maps("@example.com=x"), "user+a@example.com", context)) == Found("x", "")
    assert run(mail_addr_find(maps("a=b"), "user@example.com", context)) is None


def test_tables_are_asked_for_quoted_addresses(maps, context):
    address = "a b@example.com"
    first = ['"a b"@example.com', "a b@example.com", '"a b"', "a b", "@example.com"]
    assert keys_asked(mail_addr_find(maps("x=y"), address, context)) == first
    external = keys_asked(mail_addr_find(maps("x=y"), address, context, query=Query.EXTERNAL))
    assert external == ['"a b"@example.com', '"a b"', "@example.com"]


def test_tables_of_patterns_see_whole_addresses_only(settings, context):
    maps = Maps("x", "pcre:{{/^user$/ x} {/^@/ y}}", settings)
    assert run(mail_addr_find(maps, "user+e@example.com", context)) is None


def test_an_error_ends_the_search(settings, context, logged):
    maps = Maps("x", "inline:{a@b=c}, fail:x", settings)
    assert run(mail_addr_find(maps, "a@b", context)) == Found("c", "")
    with pytest.raises(TableError):
        run(mail_addr_find(maps, "b@b", context))
    assert logged == ['warning: fail:x lookup error for "b@b"']


def test_an_empty_result_is_an_error(settings, logged):
    with pytest.raises(TableError):
        Maps("virtual_alias_maps", "inline:{{a=}}", settings).find("a")
    assert logged == [
        "warning: virtual_alias_maps lookup of a returns an empty string result",
        "warning: virtual_alias_maps should return NO RESULT in case of NOT FOUND",
    ]


def test_own_addresses_are_local(settings, maps):
    from postfixpy.lookup.addresses import LocalDomains

    local = LocalDomains(settings, {"192.0.2.1", "2001:db8::1"}.__contains__)
    context = AddressContext(settings, local)
    for domain in ("[192.0.2.1]", "[IPv6:2001:DB8:0::1]", "Here.Example", "localhost.", "EXAMPLE.com"):
        assert run(context.is_local(domain)), domain
    for domain in ("[192.0.2.2]", "[x]", "other.example", "localhost..", ""):
        assert not run(context.is_local(domain)), domain


def test_mapping(maps, context):
    def mapped(value, address, propagate=True):
        return run(mail_addr_map(maps(f"u@example.com={value}"), address, context, propagate=propagate))

    assert mapped("a@b c@d", "u+x@example.com") == Mapped("a@b c@d", "+x")
    assert mapped("a@b", "u+x@example.com", propagate=False) == Mapped("a@b", "")
    domain = maps("@example.com=@other.example")
    expected = Mapped('"a b+x"@other.example', "")
    assert run(mail_addr_map(domain, "a b+x@example.com", context, propagate=True)) == expected


def test_crunch():
    mapped = Mapped("a, b@c", "+x")
    assert crunch(mapped, lambda t: t.split(", "), lambda a: a if "@" in a else a + "@d") == ["a+x@d", "b+x@c"]
    assert crunch(Mapped("<>", ""), lambda t: [t], lambda a: a) == [""]
    assert crunch(Mapped("x", "+y z"), lambda t: [t], lambda a: a, internal=False) == ['"x+y z"']


async def canonical(address):
    return address + "@d"


def test_crunch_in_a_service():
    coroutine = acrunch(Mapped("a", "+x"), lambda t: [t], canonical)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == ["a+x@d"]


def test_no_address_in_a_result(maps, logged):
    nothing_mapped(maps("x=y"), "a@b", Mapped(",", ""))
    assert logged == ['warning: test_maps lookup of a@b returns non-address result ","']


@pytest.mark.parametrize(
    ("local", "split"),
    [
        ("user+ext", ("user", "ext")),
        ("user-ext", ("user", "ext")),
        ("user+", ("user", "")),
        ("+ext", None),
        ("user", None),
        ("Postmaster", None),
        ("double-bounce", None),
        ("owner-list", None),
        ("list-request", None),
        ("-request", None),
    ],
)
def test_splitting(settings, local, split):
    assert split_addr(local, "+-", settings) == split


def test_owner_and_request_may_be_ordinary(settings):
    settings.owner_request_special = False
    assert split_addr("owner-list", "-", settings) == ("owner", "list")


def test_stripping(settings):
    assert strip_addr("user+ext@dom+x", "+", settings) == ("user@dom+x", "+ext")
    assert strip_addr("a bar+ext", "+", settings) == ("a bar", "+ext")
    assert strip_addr("user@dom", "+", settings) is None
    assert strip_addr("user+ext@dom", "", settings) is None


def test_access_orders(maps):
    assert keys_asked(domain_find(maps("x=y"), "a.b.c", parent=True)) == ["a.b.c", "b.c", "c"]
    assert keys_asked(domain_find(maps("x=y"), "a.b.c.", parent=False)) == ["a.b.c.", ".b.c.", ".c.", "."]
    assert keys_asked(domain_find(maps("x=y"), "1.2.3.4", parent=True)) == ["1.2.3.4"]
    assert keys_asked(address_find(maps("x=y"), "1.2.3.4")) == ["1.2.3.4", "1.2.3", "1.2", "1"]
    assert keys_asked(address_find(maps("x=y"), "2001:db8::1")) == ["2001:db8::1", "2001:db8:", "2001:db8", "2001"]
