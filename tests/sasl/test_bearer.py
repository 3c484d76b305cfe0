"""XOAUTH2 and OAUTHBEARER."""

import pytest

from postfixpy.sasl.bearer import OAuthBearer, XOAuth2
from postfixpy.sasl.mechanism import Credentials, SASLError

SOMEUSER = Credentials("someuser@example.com", token="vF9dft4qmTc2Nvb3R", host="server.example.com", port=143)


def test_xoauth2() -> None:
    mechanism = XOAuth2(SOMEUSER)
    assert mechanism.initial() == b"user=someuser@example.com\x01auth=Bearer vF9dft4qmTc2Nvb3R\x01\x01"
    assert mechanism.step(b'{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}') == b""
    assert mechanism.refusal == "401"
    with pytest.raises(SASLError):
        mechanism.step(b"")


def test_oauthbearer_of_the_rfc() -> None:
    mechanism = OAuthBearer(SOMEUSER)
    assert mechanism.initial() == (
        b"n,a=someuser@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3R\x01\x01"
    )
    assert mechanism.step(b'{"status":"invalid_token"}') == b"\x01"
    assert mechanism.refusal == "invalid_token"


@pytest.mark.parametrize("challenge", [b"", b"[]", b"[" * 100000, b"\xff", b'{"status":{}}'])
def test_odd_refusals(challenge: bytes) -> None:
    mechanism = XOAuth2(SOMEUSER)
    mechanism.initial()
    mechanism.step(challenge)
    assert mechanism.refusal
