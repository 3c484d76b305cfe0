"""The order of Postfix's hash tables; the expected ones were seen in real output."""

from hypothesis import given
from hypothesis import strategies as st

from postfixpy.config.inspect.hash_order import hash_order


def test_order_of_3_7() -> None:
    # "unused parameter" warnings of 3.7.11 for these settings, config_directory being set first
    keys = ["config_directory", "foo", "bar", "baz", "zot", "qq", "abc"]
    assert [key for key in hash_order(keys) if key != "config_directory"] == ["zot", "abc", "bar", "baz", "foo", "qq"]


def test_order_before_3_7() -> None:
    assert hash_order(["zz", "aa", "mm"], fnv=False) == ["mm", "zz", "aa"]


@given(st.lists(st.text(), unique=True), st.booleans())
def test_nothing_is_lost(keys: list[str], fnv: bool) -> None:
    assert sorted(hash_order(keys, fnv=fnv)) == sorted(keys)
