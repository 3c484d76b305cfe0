"""Lines and bytes from a descriptor."""

import os

import pytest

from postfixpy.services.standalone.conversation import Input


def source(data: bytes, limit: int = 2048, timeout: float = 5) -> Input:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return Input(read, limit, timeout)


def test_lines_and_bytes_in_turns() -> None:
    given = source(b"BDAT 5\r\nab\ncdQUIT\r\nlost")
    assert given.line() == ("N", b"BDAT 5")
    assert given.take(3) + given.take(2) == b"ab\ncd"
    assert given.line() == ("N", b"QUIT")
    assert not given.more
    with pytest.raises(EOFError):
        given.line()
    assert given.waiting == 4


def test_long_lines_come_in_parts() -> None:
    given = source(b"abcdefghij\nx\n", limit=4)
    assert [given.line() for _ in range(4)] == [("L", b"abcd"), ("L", b"efgh"), ("N", b"ij"), ("N", b"x")]


def test_the_time_limit() -> None:
    read, write = os.pipe()
    with pytest.raises(TimeoutError):
        Input(read, 100, 0).line()
    os.close(write)
    os.close(read)
