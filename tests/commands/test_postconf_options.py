"""The command line of postconf."""

import pytest

from postfixpy.commands.postconf_options import Request, check_options, own_options, parse
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError


def request(*words: str, release: str = "3.11") -> Request:
    parameters = database(release, "upstream")
    result, rest = own_options(["postconf", *words])
    parse(result, rest, parameters)
    check_options(result, parameters.release)
    return result


def test_options_end_at_the_first_argument() -> None:
    result = request("-nx", "biff", "-h")
    assert (sorted(result.options), result.arguments) == (["n", "p", "x"], ["biff", "-h"])
    assert request("-n", "--", "-h").arguments == ["-h"]


def test_values() -> None:
    result = request("-c/x", "-o", "a=b", "-oc=d", "-C", "USER,service", "-v", "-vq")
    assert (result.directory, result.overrides, result.classes) == ("/x", ["a=b", "c=d"], {"user", "service"})
    assert (result.verbose, result.quiet) == (2, True)
    assert "PP" in request("-PP").options


def test_ours() -> None:
    result = request("-n", "--postfix-version", "3.5", "--profile=debian", "--origin", "--json", "biff", "--json")
    assert (result.release, result.profile, result.origin, result.json) == ("3.5", "debian", True, True)
    assert result.arguments == ["biff", "--json"]
    assert request("-c", "--json").directory == "--json"  # the value of an option is never one of ours


def test_a_value_in_the_first_argument_means_edit() -> None:
    assert request("a=b").has("e")
    assert not request("a", "b=c").has("e")
    assert not request("a=b", release="2.7").has("e")


@pytest.mark.parametrize(
    ("release", "words", "message"),
    [
        ("3.11", ["-h", "-H"], "specify one of -h, -H"),
        ("3.10", ["-h", "-H"], "specify one of -h -H"),
        ("3.11", ["-j", "-h"], "with option -j, do not specify -h"),
        ("2.10", ["-d", "-n"], "do not specify -n with -a, -A, -b, -d, -e, -#, -l, -m, -M, or -X"),
        ("2.8", ["-d", "-n"], "specify one of -a, -A, -b, -d, -e, -#, -m, -l and -n"),
        ("2.3", ["-d", "-n"], "specify one of -a, -A, -b, -d, -e, -m, -l and -n"),
    ],
)
def test_what_does_not_go_together(release: str, words: list[str], message: str) -> None:
    with pytest.raises(FatalError) as error:
        request(*words, release=release)
    assert str(error.value) == message


def test_our_options_after_a_value_that_looks_like_an_option() -> None:
    request, rest = own_options(["postconf", "-c/etc/c", "--json", "-xo", "a=--json", "-n", "biff"])
    assert (request.json, rest) == (True, ["-c/etc/c", "-xo", "a=--json", "-n", "biff"])
    request, rest = own_options(["postconf", "-c", "--json", "-n"])
    assert (request.json, rest) == (False, ["-c", "--json", "-n"])
