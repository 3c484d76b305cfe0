"""CRAM-MD5."""

import pytest

from postfixpy.sasl.cram_md5 import CramMD5
from postfixpy.sasl.mechanism import Credentials, SASLError


def test_the_example_of_the_rfc() -> None:
    mechanism = CramMD5(Credentials("tim", "tanstaaftanstaaf"))
    assert mechanism.initial() is None
    answer = mechanism.step(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"
    with pytest.raises(SASLError):
        mechanism.step(b"")


def test_long_challenge() -> None:
    assert CramMD5(Credentials("u", "p")).step(b"x" * 1024)
    with pytest.raises(SASLError, match="bad protocol"):
        CramMD5(Credentials("u", "p")).step(b"x" * 1025)
