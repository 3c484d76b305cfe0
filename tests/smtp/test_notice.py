"""Lines of postmaster notices."""

from postfixpy.smtp.notice import wrap


def test_wrap() -> None:
    assert wrap("short") == ["short"]
    assert wrap("") == [""]
    assert wrap("aaa bbb ccc", 8, 2) == ["aaa bbb", "  ccc"]
    assert wrap("x" * 20, 8, 2) == ["x" * 20]
    assert wrap("aa " + "x" * 20 + " bb", 8, 2) == ["aa", "  " + "x" * 20, "  bb"]
