import pytest

from postfixpy.options import OptionError, parse


@pytest.mark.parametrize(
    ("arguments", "found", "words"),
    [
        ([], [], []),
        (["-v", "-v", "x"], [("v", ""), ("v", "")], ["x"]),
        (["-vc", "/etc", "x", "-v"], [("v", ""), ("c", "/etc")], ["x", "-v"]),
        (["-c/etc", "--", "-v"], [("c", "/etc")], ["-v"]),
        (["-", "-v"], [], ["-", "-v"]),
        (["-c", "-v"], [("c", "-v")], []),
    ],
)
def test_as_getopt_reads_them(arguments, found, words):
    assert parse(arguments, "c:v") == (found, words)


@pytest.mark.parametrize(("arguments", "letter"), [(["-x"], "x"), (["-vc"], "c"), (["-:"], ":"), (["--help"], "-")])
def test_wrong_options_name_their_letter(arguments, letter):
    with pytest.raises(OptionError, match=letter):
        parse(arguments, "c:v")
