"""Differences side by side."""

from hypothesis import given
from hypothesis import strategies as st

from postfixpy.migrate.ladder import ladder

WIDTH = 43


def show(expected: str, actual: str, **options: int) -> str:
    return ladder(expected, actual, "real", "ours", width=WIDTH, **options)


def test_equal_texts_have_none() -> None:
    assert show("a\nb\n", "a\nb\n") == ""


def test_the_first_difference_is_marked_to_the_character() -> None:
    assert show("same\ndone 1 2\nend\n", "same\ndone 1 3\nend\n") == (
        "real                   ours\n"
        "same                   same\n"
        "done 1 2             > done 1 3\n"
        "       ^                      ^\n"
        "end                    end\n"
    )


def test_lines_of_one_side_only() -> None:
    assert show("a\nb\n", "a\n") == "real                   ours\na                      a\nb                    <\n"
    assert show("a\n", "a\nb\n") == "real                   ours\na                      a\n                     + b\n"


def test_what_is_far_from_a_difference_is_left_out() -> None:
    many = "".join(f"{n}\n" for n in range(9))
    assert show(many + "x\n", many + "y\n", context=1).splitlines()[1:3] == ["...", "8                      8"]


def test_long_lines_go_on_below() -> None:
    text = show("x" * 25 + "a\n", "x" * 25 + "b\n").splitlines()
    assert text[1:] == [
        f"{'x' * 20} > {'x' * 20}",
        "xxxxxa               > xxxxxb",
        "     ^                      ^",
    ]


@given(st.text(alphabet="ab\n", max_size=30), st.text(alphabet="ab\n", max_size=30))
def test_any_difference_is_shown(expected: str, actual: str) -> None:
    shown = show(expected, actual)
    assert bool(shown) == (expected != actual)
