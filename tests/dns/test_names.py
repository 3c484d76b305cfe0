"""Host names and addresses, with the words of Postfix's validator."""

import pytest

from postfixpy.dns.names import family_of, hostname_problem, to_ascii, valid_hostname


@pytest.mark.parametrize("name", ["a", "a.example", "_25._tcp.mail.example", "1a.example", "x-y.z", "3com.com"])
def test_valid(name: str) -> None:
    assert hostname_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty hostname"),
        ("x!y", "invalid character 33(decimal): x!y"),
        ("a..b", "misplaced delimiter: a..b"),
        (".a", "misplaced delimiter: .a"),
        ("a.", "misplaced delimiter: a."),
        ("-a", "misplaced hyphen: -a"),
        ("a-.b", "misplaced hyphen: a-.b"),
        ("1.2.3", "numeric hostname: 1.2.3"),
        ("a" * 64, "hostname label too long: " + "a" * 64),
        ("*.a", "invalid character 42(decimal): *.a"),
        ("é.example", "invalid character 195(decimal): é.example"),
        (".".join(["abcdefghi"] * 26), "bad length 259 for " + ".".join(["abcdefghi"] * 26)[:100] + "..."),
    ],
)
def test_invalid(name: str, problem: str) -> None:
    assert hostname_problem(name) == problem


def test_wildcard() -> None:
    assert hostname_problem("*.example", wildcard=True) == ""
    assert hostname_problem("a.*.example", wildcard=True).startswith("'*' can be the first label only")


def test_family() -> None:
    assert [family_of(a) for a in ("127.0.0.1", "::1", "a.example", "1.2.3", "")] == [4, 6, 0, 0, 0]


def test_names_that_are_not_ascii() -> None:
    assert to_ascii("Bücher.example") == "xn--bcher-kva.example"
    assert to_ascii("a\u0300.\u2026") is None
    assert valid_hostname("bücher.example", utf8=True)
    assert not valid_hostname("bücher.example")
