"""DIGEST-MD5: the example of RFC 2831, and what a challenge may not be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sasl.digest_md5 import DigestMD5, parse, quote
from postfixpy.sasl.mechanism import Credentials, SASLError

CHALLENGE = b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'


def mechanism() -> DigestMD5:
    credentials = Credentials("chris", "secret", service="imap", host="elwood.innosoft.com")
    credentials.nonce = lambda: "OA6MHXh6VqTrRk"
    return DigestMD5(credentials)


def test_the_example_of_the_rfc() -> None:
    chris = mechanism()
    answer = dict(parse(chris.step(CHALLENGE)))
    assert answer["response"] == b"d388dad90d4bbd760a152321f2143af7"
    assert (answer["username"], answer["realm"], answer["digest-uri"]) == (
        b"chris",
        b"elwood.innosoft.com",
        b"imap/elwood.innosoft.com",
    )
    assert chris.step(b"rspauth=ea40f60335c427b5527b84dbabcdfffd") == b""
    with pytest.raises(SASLError, match="generic failure"):
        chris.step(b"")


def test_a_server_that_does_not_know_the_password() -> None:
    chris = mechanism()
    chris.step(CHALLENGE)
    with pytest.raises(SASLError, match="server failed mutual authentication step"):
        chris.step(b"rspauth=00000000000000000000000000000000")


@pytest.mark.parametrize(
    ("challenge", "error", "log"),
    [
        (b"", "generic failure", "no server challenge"),
        (b"x" * 2049, "bad protocol / cancel", ""),
        (b"nonsense", "authentication failure", "Parse error"),
        (b'nonce="a', "authentication failure", "Parse error"),
        (b'nonce="a"', "generic failure", "Must see 'algorithm' once. Didn't see at all"),
        (b"algorithm=md5-sess", "generic failure", "Don't have nonce."),
        (b"algorithm=md5,nonce=a", "generic failure", "'algorithm' isn't 'md5-sess'"),
        (b"algorithm=md5-sess,algorithm=md5-sess", "generic failure", "Must see 'algorithm' only once"),
        (b'qop="auth-int",nonce=a,algorithm=md5-sess', "generic failure", 'Server doesn\'t support "no layer"'),
        (b"qop=none,nonce=a,algorithm=md5-sess", "authentication failure", "Server doesn't support any known qop"),
        (b"charset=latin1,nonce=a", "authentication failure", "Charset must be UTF-8"),
        (b"maxbuf=1,nonce=a", "authentication failure", "too small: 1"),
        (b"maxbuf=9999999999,nonce=a", "authentication failure", "Invalid maxbuf"),
        (b"maxbuf=100,maxbuf=100", "authentication failure", "At least two maxbuf"),
    ],
)
def test_bad_challenges(challenge: bytes, error: str, log: str) -> None:
    with pytest.raises(SASLError, match=error) as caught:
        mechanism().step(challenge)
    assert log in caught.value.log


def test_realms() -> None:
    one = mechanism().step(b'realm="a\\"b",nonce="n",algorithm=md5-sess')
    assert dict(parse(one))["realm"] == b'a"b'
    two = mechanism().step(b'realm="a",realm="b",nonce="n",algorithm=md5-sess')
    assert dict(parse(two))["realm"] == b"elwood.innosoft.com"


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\0", b"")))
def test_a_quoted_value_comes_back(value: bytes) -> None:
    assert list(parse(b"name=" + quote(value))) == [("name", value)]


@given(st.binary(max_size=300) | st.text('realm=",nonce\\ qopauth\0', max_size=60).map(str.encode))
def test_no_challenge_does_harm(challenge: bytes) -> None:
    chris = mechanism()
    for _ in range(2):
        try:
            chris.step(challenge)
        except SASLError:
            return
