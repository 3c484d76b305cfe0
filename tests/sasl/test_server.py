"""The server's mechanisms, against those of the client and against clients that do not play by the rules."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sasl import server
from postfixpy.sasl.bearer import OAuthBearer, XOAuth2
from postfixpy.sasl.mechanism import Credentials, Mechanism, SASLError
from postfixpy.sasl.scram import Scram, ScramSHA1, ScramSHA256
from postfixpy.sasl.server import (
    Backend,
    Challenge,
    Check,
    Exchange,
    Local,
    Offer,
    Peer,
    Refused,
    ScramSecret,
    Several,
    Success,
    Users,
)
from postfixpy.sasl.simple import Login, Plain

BOUND = {"tls-exporter": b"exported"}


class Alice(Users):
    """One user."""

    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2")

    async def check(self, user: str, password: str) -> bool:
        return (user, password) == ("alice", "wonder")

    async def secret(self, user: str, digest: str) -> ScramSecret | None:
        return ScramSecret.of("wonder", digest, b"salt") if user == "alice" else None

    async def check_token(self, user: str, token: str) -> bool:
        return (user, token) == ("alice", "t0ken")


def converse(exchange: Exchange, client: Mechanism) -> str:
    """Client and server talk; returns the user's name. Raises Refused or SASLError."""

    async def run() -> str:
        found = await exchange.respond(client.initial())
        while isinstance(found, Challenge):
            found = await exchange.respond(client.step(found.data))
        return found.user

    return asyncio.run(run())


CLIENTS: dict[str, Any] = {
    "PLAIN": Plain,
    "LOGIN": Login,
    "SCRAM-SHA-1": ScramSHA1,
    "SCRAM-SHA-256": ScramSHA256,
    "OAUTHBEARER": OAuthBearer,
    "XOAUTH2": XOAuth2,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_right_and_wrong(name: str) -> None:
    backend = Local(Alice())
    right = Credentials("alice", "wonder", token="t0ken")
    assert converse(backend.exchange(name, Peer()), CLIENTS[name](right)) == "alice"
    for user, password in (("alice", "wrong"), ("bob", "wonder"), ("alice", "")):
        with pytest.raises(Refused) as caught:
            wrong = Credentials(user, password, token=password or "x")
            converse(backend.exchange(name, Peer()), CLIENTS[name](wrong))
        assert not caught.value.temporary


@pytest.mark.parametrize("kind", [ScramSHA1, ScramSHA256])
def test_channel_binding(kind: type[Scram]) -> None:
    backend = Local(Alice())
    peer = Peer(secured=True, bindings=BOUND)
    offered = [offer.name for offer in asyncio.run(backend.offers(peer))]
    assert offered[2:6] == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"]
    credentials = Credentials("alice", "wonder", bindings=BOUND)
    name = f"{kind.name}-PLUS"
    assert converse(backend.exchange(name, peer), kind(credentials, plus=True)) == "alice"
    other = Credentials("alice", "wonder", bindings={"tls-exporter": b"of somebody in between"})
    with pytest.raises(Refused, match="another exchange"):
        converse(backend.exchange(name, peer), kind(other, plus=True))
    with pytest.raises(Refused):
        converse(backend.exchange(name, peer), kind(Credentials("alice", "wonder")))


def test_a_client_that_was_told_that_there_is_no_channel_binding() -> None:
    async def run() -> None:
        exchange = Local(Alice()).exchange("SCRAM-SHA-256", Peer(bindings=BOUND))
        await exchange.respond(b"y,,n=alice,r=abc")

    with pytest.raises(Refused, match="in between"):
        asyncio.run(run())


def test_acting_for_others() -> None:
    for kind in (Plain, ScramSHA256):
        with pytest.raises(Refused, match="may not act for"):
            client: Any = kind(Credentials("alice", "wonder", authzid="bob"))
            converse(Local(Alice()).exchange(kind.name, Peer()), client)
        client = kind(Credentials("alice", "wonder", authzid="alice"))
        assert converse(Local(Alice()).exchange(kind.name, Peer()), client) == "alice"


def test_no_initial_response() -> None:
    async def run() -> Challenge | Success:
        exchange = Local(Alice()).exchange("PLAIN", Peer())
        assert await exchange.respond(None) == Challenge(b"")
        return await exchange.respond(b"\0alice\0wonder")

    assert asyncio.run(run()) == Success("alice")


def test_the_same_answer_for_users_that_do_not_exist() -> None:
    async def challenge(user: str) -> bytes:
        exchange = Local(Alice(), lambda: "nonce").exchange("SCRAM-SHA-256", Peer())
        found = await exchange.respond(b"n,,n=%s,r=abc" % user.encode())
        assert isinstance(found, Challenge)
        return found.data

    first, again, other = (asyncio.run(challenge(user)) for user in ("nobody", "nobody", "noone"))
    assert first == again != other
    assert first.startswith(b"r=abcnonce,s=") and first.endswith(b",i=4096")


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b""),
        ("PLAIN", b"alice\0wonder"),
        ("PLAIN", b"\0\0wonder"),
        ("PLAIN", b"\0alice\0wonder\0"),
        ("PLAIN", b"\0\xff\0wonder"),
        ("SCRAM-SHA-1", b""),
        ("SCRAM-SHA-1", b"n,,r=abc"),
        ("SCRAM-SHA-1", b"n,,n=alice"),
        ("SCRAM-SHA-1", b"n,,m=x,n=alice,r=abc"),
        ("SCRAM-SHA-1", b"x,,n=alice,r=abc"),
        ("SCRAM-SHA-1", b"p=tls-exporter,,n=alice,r=abc"),
        ("OAUTHBEARER", b"n,a=alice,\x01\x01"),
        ("OAUTHBEARER", b"alice"),
        ("OAUTHBEARER", b"n,,\x01auth=Bearer t0ken\x01\x01"),
        ("XOAUTH2", b"user=alice\x01auth=Basic t0ken\x01\x01"),
        ("XOAUTH2", b""),
    ],
)
def test_malformed(mechanism: str, response: bytes) -> None:
    exchange = Local(Alice()).exchange(mechanism, Peer())
    with pytest.raises(Refused) as caught:
        asyncio.run(exchange.respond(response))
    assert caught.value.protocol


def test_another_exchange_s_nonce() -> None:
    async def run() -> None:
        exchange = Local(Alice()).exchange("SCRAM-SHA-1", Peer())
        await exchange.respond(b"n,,n=alice,r=abc")
        await exchange.respond(b"c=biws,r=abcdef,p=AAAA")

    with pytest.raises(Refused, match="another exchange"):
        asyncio.run(run())


def test_an_exchange_that_is_over_stays_over() -> None:
    async def run(response: bytes) -> None:
        exchange = Local(Alice()).exchange("PLAIN", Peer())
        for _ in range(2):
            try:
                await exchange.respond(response)
            except Refused:
                pass
        with pytest.raises(Refused, match="over"):
            await exchange.respond(b"\0alice\0wonder")

    asyncio.run(run(b"\0alice\0wrong"))
    asyncio.run(run(b"\0alice\0wonder"))


def test_mechanisms_that_are_not_there() -> None:
    class PasswordsOnly(Alice):
        mechanisms = ("PLAIN",)

    with pytest.raises(Refused):
        Local(PasswordsOnly()).exchange("SCRAM-SHA-1", Peer())
    with pytest.raises(Refused):
        server.start("KERBEROS_V4", b"", {}, "n")


def test_several_back_ends() -> None:
    class Others(Alice):
        mechanisms = ("LOGIN", "XOAUTH2")

        async def check(self, user: str, password: str) -> bool:
            return False

    class PasswordsOnly(Alice):
        mechanisms = ("PLAIN", "LOGIN")

    both: Backend = Several(Local(PasswordsOnly()), Local(Others()))
    offers = asyncio.run(both.offers(Peer()))
    assert [offer.name for offer in offers] == ["PLAIN", "LOGIN", "XOAUTH2"]
    assert offers[0] == Offer("PLAIN", plaintext=True, active=True, dictionary=True)
    alice = Credentials("alice", "wonder", token="t0ken")
    assert converse(both.exchange("LOGIN", Peer()), Login(alice)) == "alice"
    assert converse(both.exchange("XOAUTH2", Peer()), XOAuth2(alice)) == "alice"
    with pytest.raises(Refused, match="no such mechanism"):
        converse(both.exchange("SCRAM-SHA-1", Peer()), ScramSHA1(alice))
    asyncio.run(both.close())


def test_questions_do_not_show_secrets() -> None:
    assert "wonder" not in repr(Check("alice", "wonder")) and "wonder" not in repr(Challenge(b"wonder"))


@given(
    st.sampled_from(Alice.mechanisms),
    st.lists(st.binary(max_size=60) | st.sampled_from([b"n,,n=alice,r=abc", b"c=biws,r=abc,p=AAAA"]), max_size=4),
)
def test_no_response_does_harm(mechanism: str, responses: list[bytes]) -> None:
    async def run() -> None:
        exchange = Local(Alice()).exchange(mechanism, Peer())
        for response in responses:
            if isinstance(await exchange.respond(response), Success):
                raise AssertionError("nobody knows the password")

    try:
        asyncio.run(run())
    except Refused:
        pass


@given(st.text(max_size=30), st.text(max_size=30))
def test_scram_with_any_name_and_password(user: str, password: str) -> None:
    class One(Users):
        mechanisms = ("SCRAM-SHA-1",)

        async def check(self, user: str, password: str) -> bool:
            return False

        async def secret(self, name: str, digest: str) -> ScramSecret | None:
            return ScramSecret.of(password, digest, b"salt", 1) if name == user else None

    try:
        ScramSecret.of(password, "sha1", b"salt", 1)
        client = ScramSHA1(Credentials(user, password))
        found = converse(Local(One()).exchange("SCRAM-SHA-1", Peer()), client)
    except (ValueError, SASLError, Refused):
        return  # SASLprep does not allow the password, or there is nothing left of the name
    assert found.strip() == user.strip()
