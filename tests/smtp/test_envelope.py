"""The envelope's commands: encodings, and parameters in Postfix's order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.delivery import Recipient
from postfixpy.smtp import session as feature
from postfixpy.smtp.envelope import downgrading, mail_command, rcpt_command, uxtext, xforward_commands, xtext


def test_xtext() -> None:
    assert xtext("a+b=c d\x7f") == "a+2Bb=c+20d+7F"
    assert xtext("a=b", "=") == "a+3Db"
    assert xtext("é") == "+C3+A9"


def test_uxtext() -> None:
    assert uxtext("utf-8;é\\+=") == "utf-8;\\x{E9}\\x{5C}\\x{2B}\\x{3D}"
    assert uxtext("\t") == "\\x{09}"
    assert uxtext("\udcff") is None


@given(st.text())
def test_encodings_are_printable_ascii(text: str) -> None:
    encoded = xtext(text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), "=")
    assert encoded.isascii() and all(33 <= ord(c) <= 126 for c in encoded)


def session_of(world, delivery, features: int):  # type: ignore[no-untyped-def]  # a World, a Delivery
    from postfixpy.smtp.cache import Policy
    from postfixpy.smtp.connection import new_session
    from postfixpy.smtp.policy import Policy as TLSPolicy

    session = new_session(delivery, None, TLSPolicy(), Policy())
    session.features = features
    return session


ALL = feature.SIZE | feature.EIGHTBITMIME | feature.DSN | feature.SMTPUTF8


@pytest.mark.parametrize(
    ("features", "fields", "expected"),
    [
        (0, {}, "MAIL FROM:<s@client.example>"),
        (ALL, {}, "MAIL FROM:<s@client.example> SIZE=20 BODY=7BIT"),
        (
            ALL,
            {"encoding": "8bit", "envelope_id": "a b", "ret_flags": 1, "sendopts": 1},
            "MAIL FROM:<s@client.example> SIZE=20 BODY=8BITMIME ENVID=a+20b RET=FULL SMTPUTF8",
        ),
        (feature.SIZE, {"encoding": "8bit"}, "MAIL FROM:<s@client.example>"),  # will be converted
        (ALL, {"sender": ""}, "MAIL FROM:<> SIZE=20 BODY=7BIT"),
    ],
)
def test_mail(make_world, features: int, fields: dict[str, object], expected: str) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    delivery = world.delivery(world.request(**fields))
    assert world.memory.run(mail_command(delivery, session_of(world, delivery, features))) == expected


@pytest.mark.parametrize(
    ("recipient", "sendopts", "expected"),
    [
        (Recipient("a@b"), 0, ""),
        (Recipient("a@b", "x y@c"), 0, ' ORCPT=rfc822;"x+20y"@c'),
        (Recipient("a@b", "é@c"), 1, " ORCPT=utf-8;\\x{E9}@c"),
        (Recipient("a@b", "é@c"), 0, " ORCPT=rfc822;+C3+A9@c"),
        (Recipient("a@b", "", dsn_orcpt="UTF-8;\udcff"), 0, ""),
        (
            Recipient("a@b", "", dsn_orcpt="x400;a=b", notify=15),
            0,
            " ORCPT=x400;a+3Db NOTIFY=NEVER,SUCCESS,FAILURE,DELAY",
        ),
    ],
)
def test_rcpt(make_world, recipient: Recipient, sendopts: int, expected: str) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    delivery = world.delivery(world.request(sendopts=sendopts))
    session = session_of(world, delivery, feature.DSN)
    assert world.memory.run(rcpt_command(delivery, session, recipient)) == f"RCPT TO:<a@b>{expected}"


def test_xforward_needs_permission(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    delivery = world.delivery(world.request(client_name="a.example"))
    session = session_of(world, delivery, feature.XFORWARD_NAME)
    assert xforward_commands(delivery, session) == ("", "")


def test_downgrading(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    for encoding, features, expected in (("7bit", 0, False), ("8bit", 0, True), ("", 0, True), ("8bit", ALL, False)):
        delivery = world.delivery(world.request(encoding=encoding))
        assert downgrading(delivery, session_of(world, delivery, features)) is expected
