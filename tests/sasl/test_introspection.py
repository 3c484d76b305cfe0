"""Tokens that a provider vouches for."""

import asyncio

import pytest

from postfixpy.sasl.bearer import OAuthBearer, XOAuth2
from postfixpy.sasl.https import HTTPError
from postfixpy.sasl.introspection import Introspection
from postfixpy.sasl.mechanism import Credentials
from postfixpy.sasl.server import Local, Peer, Refused

from .provider import Provider
from .test_server import converse

ACTIVE = (200, {"active": True, "username": "Alice@example.com", "scope": "smtp"})
ALICE = Credentials("alice@example.com", token="t0ken")


def test_a_token_that_is_good() -> None:
    now = [0.0]
    with Provider(ACTIVE) as provider:
        users = Introspection(provider.url, "me", "s3cret", clock=lambda: now[0])
        backend = Local(users)
        for kind in (OAuthBearer, XOAuth2):
            assert converse(backend.exchange(kind.name, Peer()), kind(ALICE)) == "alice@example.com"
        assert provider.asked == [{"token": "t0ken", "client_id": "me", "client_secret": "s3cret"}]
        with pytest.raises(Refused, match="not one of bob's"):
            converse(backend.exchange("XOAUTH2", Peer()), XOAuth2(Credentials("bob", token="t0ken")))
        now[0] = 61
        converse(backend.exchange("XOAUTH2", Peer()), XOAuth2(ALICE))
        assert len(provider.asked) == 2


@pytest.mark.parametrize("answer", [{"active": False}, {}, {"active": "yes", "username": "alice@example.com"}, [], "x"])
def test_a_token_that_is_not(answer: object) -> None:
    with Provider((200, answer)) as provider:
        users = Introspection(provider.url, "me", "s3cret")
        assert not asyncio.run(users.check_token("alice@example.com", "t0ken"))
        assert not asyncio.run(users.check_token("alice@example.com", "two words"))
        assert not asyncio.run(users.check("alice@example.com", "t0ken"))
        assert len(provider.asked) == 1


def test_a_provider_that_does_not_work() -> None:
    with Provider((503, b"")) as provider, pytest.raises(Refused) as caught:
        asyncio.run(Introspection(provider.url, "me", "s3cret").check_token("alice", "t0ken"))
    assert caught.value.temporary
    with pytest.raises(HTTPError):
        Introspection("http://idp.example/", "me", "s3cret")
