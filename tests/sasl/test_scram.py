"""SCRAM: the examples of RFC 5802 and RFC 7677, and what a server may not say."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sasl.mechanism import Credentials, SASLError
from postfixpy.sasl.scram import Scram, ScramSHA1, ScramSHA256


def mechanism(kind: type[Scram], nonce: str, **options: object) -> Scram:
    credentials = Credentials("user", "pencil", **options)  # type: ignore[arg-type]
    credentials.nonce = lambda: nonce
    return kind(credentials, plus=bool(options.get("bindings")))


def test_the_example_of_rfc_5802() -> None:
    user = mechanism(ScramSHA1, "fyko+d2lbbFgONRv9qkxdawL")
    assert user.initial() == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
    final = user.step(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
    assert final == b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert user.step(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=") == b""
    assert user.done


def test_the_example_of_rfc_7677() -> None:
    user = mechanism(ScramSHA256, "rOprNGfwEbeRWgbNEkqO")
    user.initial()
    challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert user.step(challenge).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    assert user.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""


def test_channel_binding() -> None:
    assert mechanism(ScramSHA1, "abc", bindings={"tls-exporter": b"e", "tls-unique": b"u"}).initial() == (
        b"p=tls-unique,,n=user,r=abc"
    )
    user = mechanism(ScramSHA256, "abc", bindings={"tls-server-end-point": b"s", "tls-exporter": b"e"})
    assert user.initial() == b"p=tls-exporter,,n=user,r=abc"
    bound = base64.b64encode(b"p=tls-exporter,,e")
    assert user.step(b"r=abcd,s=QSXCR+Q6sek8bf92,i=4096").startswith(b"c=" + bound + b",r=abcd,p=")


def test_a_server_without_channel_binding() -> None:
    credentials = Credentials("user", "pencil", bindings={"tls-exporter": b"e"})
    assert (ScramSHA256(credentials).initial() or b"").startswith(b"n,,n=user,r=")


def test_names_are_escaped_and_passwords_prepared() -> None:
    credentials = Credentials("a=b,c", "p", authzid="d,")
    assert (ScramSHA1(credentials).initial() or b"").startswith(b"n,a=d=2C,n=a=3Db=2Cc,r=")
    finals = set()
    for password in ("IX", "I\u00adX", "\u2168"):  # RFC 4013, 3
        credentials = Credentials("u", password)
        credentials.nonce = lambda: "abc"
        user = ScramSHA1(credentials)
        user.initial()
        finals.add(user.step(b"r=abcd,s=QSXCR+Q6sek8bf92,i=4096"))
    assert len(finals) == 1


@pytest.mark.parametrize(
    ("challenge", "log"),
    [
        (b"", "SCRAM-SHA-1 input expected"),
        (b"nonsense", "Invalid SCRAM-SHA-1 input"),
        (b"m=x,r=abcd", "Unsupported mandatory extension to SCRAM-SHA-1"),
        (b"e=other-error", "Nonce (r=) expected in SCRAM-SHA-1 input"),
        (b"r=abcd", "Salt expected after the nonce"),
        (b"r=abcd,s=QSXC", "iteration-count expected after the salt"),
        (b"r=abcd,s=QSXC,i=many", "Invalid iteration-count"),
        (b"r=abcd,s=QSXC,i=99999999", "iteration-count is too big"),
        (b"r=abc,s=QSXC,i=4096", "The nonce received from the server"),
        (b"r=xbcd,s=QSXC,i=4096", "The nonce received from the server"),
        (b"r=abcd,s=,i=4096", "The salt can't be empty"),
        (b"r=abcd,s=QSX,i=4096", "Invalid base64 encoding of the salt"),
        (b"r=abcd,s=QS!C,i=4096", "Invalid base64 encoding of the salt in"),
        (b"r=a\0bcd,s=QSXC,i=4096", "NULs found"),
        (b"r=abcd" + b"x" * 2048, "input longer than (2048) bytes"),
    ],
)
def test_bad_first_messages(challenge: bytes, log: str) -> None:
    user = mechanism(ScramSHA1, "abc")
    user.initial()
    with pytest.raises(SASLError, match="bad protocol / cancel") as caught:
        user.step(challenge)
    assert log in caught.value.log


@pytest.mark.parametrize(
    ("challenge", "error"),
    [
        (b"", "bad protocol"),
        (b"e=invalid-proof", "bad protocol"),
        (b"v=!!!!", "bad protocol"),
        (b"v=QSXC", "bad protocol"),
        (b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "authentication failure"),
    ],
)
def test_a_server_that_does_not_know_the_password(challenge: bytes, error: str) -> None:
    user = mechanism(ScramSHA1, "abc")
    user.initial()
    user.step(b"r=abcd,s=QSXCR+Q6sek8bf92,i=4096")
    with pytest.raises(SASLError, match=error):
        user.step(challenge)


@given(
    st.lists(st.binary(max_size=80) | st.from_regex(rb"r=abc[a-z]?,s=[A-Za-z=]{0,4},i=[0-9]{1,3}.{0,3}"), max_size=3)
)
def test_no_message_does_harm(challenges: list[bytes]) -> None:
    user = mechanism(ScramSHA1, "abc")
    user.initial()
    try:
        for challenge in challenges:
            user.step(challenge)
    except SASLError:
        pass
