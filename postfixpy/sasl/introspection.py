"""Users whose access tokens a provider vouches for (RFC 7662): for OAUTHBEARER and XOAUTH2 of the server.

The provider is asked once for a token; what it says is good for a minute. A token is the user's when the provider has
the user's name in one of the `names`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from .https import DIRECT, HTTPError, Way, check_endpoint, post_form
from .server import Refused, Users
from .token_source import answer_of, sendable

_GOOD_FOR = 60.0
_MOST = 10_000


class Introspection(Users):
    """Tokens that the endpoint knows. Raises HTTPError for an endpoint that is not a https URL."""

    mechanisms = ("OAUTHBEARER", "XOAUTH2")

    def __init__(
        self,
        endpoint: str,
        client_id: str,
        client_secret: str,
        *,
        names: tuple[str, ...] = ("username", "email"),
        way: Way = DIRECT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_endpoint(endpoint)
        self._endpoint = endpoint
        self._client = {"client_id": client_id, "client_secret": client_secret}
        self._names, self._way, self._clock = names, way, clock
        self._known: dict[bytes, tuple[float, frozenset[str]]] = {}

    async def check(self, user: str, password: str) -> bool:
        return False  # there are tokens only

    async def check_token(self, user: str, token: str) -> bool:
        if not sendable(token):
            return False
        key = hashlib.sha256(token.encode()).digest()
        until, users = self._known.get(key, (0.0, frozenset()))
        if until <= self._clock():
            users = await asyncio.to_thread(self._ask, token)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = (self._clock() + _GOOD_FOR, users)
        return user.lower() in users

    def _ask(self, token: str) -> frozenset[str]:
        """The names that the token's user has; none for a token that is not valid. Raises Refused."""
        form: Mapping[str, str] = {"token": token, **self._client}
        try:
            status, body = post_form(self._endpoint, form, self._way)
        except HTTPError as error:
            raise Refused(f"{self._endpoint}: {error}", temporary=True) from None
        if status != 200:
            raise Refused(f"{self._endpoint} answered {status}", temporary=True)
        answer: dict[str, Any] = answer_of(body)
        if answer.get("active") is not True:
            return frozenset()
        return frozenset(str(answer[name]).lower() for name in self._names if answer.get(name))
