"""Mechanisms that send what they have."""

import pytest

from postfixpy.sasl.mechanism import Credentials, SASLError
from postfixpy.sasl.simple import Anonymous, External, Login, Plain

ALICE = Credentials("alice", "secret", local_host="client.example")


def test_plain() -> None:
    assert Plain(ALICE).initial() == b"\0alice\0secret"
    assert Plain(Credentials("alice", "secret", authzid="bob")).initial() == b"bob\0alice\0secret"
    assert Plain(Credentials("alice")).initial() == b"\0alice\0"


def test_plain_is_said_once() -> None:
    mechanism = Plain(ALICE)
    mechanism.initial()
    with pytest.raises(SASLError, match="generic failure") as caught:
        mechanism.step(b"")
    assert caught.value.log == "SASL authentication problem: attempting client step after doneflag"


def test_login_does_not_read_its_challenges() -> None:
    mechanism = Login(ALICE)
    assert mechanism.initial() is None
    assert [mechanism.step(b"Password:"), mechanism.step(b"")] == [b"alice", b"secret"]
    with pytest.raises(SASLError):
        mechanism.step(b"")


def test_external_needs_an_identity() -> None:
    with pytest.raises(SASLError, match="no mechanism available"):
        External(ALICE)
    assert External(Credentials("alice", external="CN=alice")).initial() == b""
    assert External(Credentials("alice", external="CN=alice", authzid="bob")).initial() == b"bob"


def test_anonymous() -> None:
    assert Anonymous(ALICE).initial() == b"anonymous@client.example"
    with pytest.raises(SASLError, match="bad protocol"):
        Anonymous(ALICE).step(b"who?")


def test_bytes_survive_and_white_space_around_a_user_does_not() -> None:
    user = b"al\xffice ".decode("utf-8", "surrogateescape")
    assert Plain(Credentials(user, "x ")).initial() == b"\0al\xffice\0x "
    for user in ("", "  "):
        with pytest.raises(SASLError, match="generic failure"):
            Plain(Credentials(user, "x")).initial()


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("alice", "secret", token="tok3n", bindings={"tls-unique": b"b1nd"}))
    assert not any(word in shown for word in ("secret", "tok3n", "b1nd"))
