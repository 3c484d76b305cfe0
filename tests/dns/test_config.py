"""resolv.conf(5)."""

from pathlib import Path

from postfixpy.dns.config import ResolverConfig, parse, read


def test_everything() -> None:
    found = parse(
        "# comment\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver nonsense\nnameserver [127.0.0.1]:5353\n"
        "nameserver 192.0.2.9\ndomain first.example\nsearch a.example b.example.\n"
        "options ndots:3 timeout:2 attempts:9 rotate edns0 use-vc unknown:1\n"
    )
    assert found == ResolverConfig(
        servers=(("192.0.2.1", 53), ("2001:db8::1", 53), ("127.0.0.1", 5353)),
        search=("a.example", "b.example"),
        ndots=3,
        timeout=2,
        attempts=5,
        rotate=True,
        edns=True,
        use_tcp=True,
    )


def test_nothing() -> None:
    assert parse("") == ResolverConfig()


def test_the_domain_of_the_host_is_the_search_list_that_is_not_there() -> None:
    assert parse("nameserver 192.0.2.1\n", "mx.a.example").search == ("a.example",)
    assert parse("search b.example\n", "mx.a.example").search == ("b.example",)
    assert parse("", "mx").search == ()


def test_no_file(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none")).servers == (("127.0.0.1", 53),)
