from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail import queue_id

ARRIVAL = 1_700_000_000_123_456


def test_short_id_is_microseconds_and_inode_in_hexadecimal():
    assert queue_id.make(ARRIVAL, 0xABCDEF) == "1E240ABCDEF"
    assert queue_id.inode_of("1E240ABCDEF") == 0xABCDEF
    assert queue_id.time_of("1E240ABCDEF") is None
    assert not queue_id.is_long("1E240ABCDEF")


def test_long_id_as_postfix_writes_it():
    # Base 52 of the seconds and of the microseconds, "z", base 51 of the inode, without vowels.
    long = queue_id.make(ARRIVAL, 1234567, long=True)
    assert long.endswith("z" + queue_id.encode(1234567, 51))
    assert queue_id.is_long(long)
    assert queue_id.time_of(long) == ARRIVAL
    assert queue_id.inode_of(long) == 1234567


def test_hash_key():
    assert queue_id.hash_key("1E240ABCDEF") == "1E240ABCDEF"
    assert queue_id.hash_key(queue_id.make(ARRIVAL, 9, long=True)) == "1E240"
    assert queue_id.hash_key("example_com") == "example_com"


def test_a_z_too_early_is_a_short_id():
    assert not queue_id.is_long("zzz")
    assert queue_id.hash_key("zzz") == "zzz"


def test_replace_inode_keeps_the_form():
    assert queue_id.replace_inode("1E2401", 0x22) == "1E24022"
    long = queue_id.make(ARRIVAL, 9, long=True)
    assert queue_id.replace_inode(long, 10) == queue_id.make(ARRIVAL, 10, long=True)


def test_valid():
    assert queue_id.valid("1E240ABCDEF")
    assert queue_id.valid("example_com")
    for bad in ("", "a.b", "../x", "a/b", "x#FIX", "a" * 256, "abc\n", "é"):
        assert not queue_id.valid(bad), bad
    assert queue_id.valid_queue_name("deferred")
    for bad in ("", "a_b", "..", "a" * 101, "x\n"):
        assert not queue_id.valid_queue_name(bad), bad


def test_no_inode():
    for bad in ("", "12345", "12345XYZ", "3Xbbkh0000z", "12345" + "F" * 17):
        assert queue_id.inode_of(bad) is None, bad


@given(st.integers(0, 1 << 33), st.integers(0, 999_999), st.integers(1, (1 << 64) - 1))
def test_every_long_id_reads_back(seconds, micro, inode):
    made = queue_id.make(seconds * 1_000_000 + micro, inode, long=True)
    assert queue_id.valid(made)
    assert queue_id.time_of(made) == seconds * 1_000_000 + micro
    assert queue_id.inode_of(made) == inode
    assert queue_id.hash_key(made) == f"{micro:05X}"


@given(st.integers(0, 999_999), st.integers(1, (1 << 64) - 1))
def test_every_short_id_reads_back(micro, inode):
    made = queue_id.make(micro, inode)
    assert queue_id.valid(made)
    assert queue_id.inode_of(made) == inode


@given(st.text())
def test_any_text_is_answered(text):
    queue_id.valid(text)
    queue_id.inode_of(text)
    queue_id.time_of(text)
    queue_id.hash_key(text)
