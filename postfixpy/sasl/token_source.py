"""Where an OAuth 2.0 access token comes from: a JSON file of the plug-in sasl-xoauth2, or of ours with more keys.

The plug-in's keys, as strings: ``refresh_token``, ``access_token``, ``expiry`` (seconds since the epoch), ``user``,
``client_id``, ``client_secret``, ``token_endpoint``, ``refresh_window`` (seconds before the expiry when a token is
renewed), ``proxy``, ``ca_bundle_file``, ``ca_certs_dir``, ``scope``, ``use_client_credentials`` (yes: there is no
refresh token), ``manage_token_externally`` (yes: another program renews ``access_token`` in the file); its keys for
logging mean nothing here. What a file does not say, /etc/sasl-xoauth2.conf may; the last word is the plug-in's
default, the endpoint of Google.

Keys of ours: ``grant_type`` = ``client_credentials``, which is ``use_client_credentials``; ``command``, a list of a
program and its arguments that prints the token, alone or as JSON with ``access_token`` and ``expires_in``.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .https import DIRECT, HTTPError, Way, check_endpoint, post_form
from .mechanism import TokenError

CONFIGURATION = "/etc/sasl-xoauth2.conf"
GOOGLE = "https://accounts.google.com/o/oauth2/token"
MAX_FILE = 65536
_LIFETIME = 600
"""Seconds that a token lives if nobody says how long."""
_MAX_TOKEN = 8192
_COMMAND_LIMIT = 30.0

Post = Callable[[str, Mapping[str, str], Way], tuple[int, bytes]]


class Token(NamedTuple):
    """An access token, when it expires (seconds since the epoch), and the refresh token to use from now on."""

    access: str
    expiry: float
    refresh: str = ""

    def __repr__(self) -> str:
        return f"<Token that expires at {self.expiry:.0f}>"


class LastingError(TokenError):
    """No token until somebody changes something."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says."""

    path: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    token_endpoint: str = GOOGLE
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    expiry: float = 0.0
    refresh_window: float = 10.0
    grant_type: str = "refresh_token"
    scope: str = ""
    user: str = ""
    command: tuple[str, ...] = ()
    external: bool = False
    way: Way = DIRECT

    @property
    def identity(self) -> str:
        """Changes with everything that makes a stored token another's."""
        parts = (self.path, self.client_id, self.token_endpoint, self.refresh_token, self.grant_type, self.scope)
        return hashlib.sha256(json.dumps([*parts, self.command]).encode()).hexdigest()

    def hide(self, text: str) -> str:
        """`text` of a provider, short, on one line and without what we sent."""
        for secret in (self.client_secret, self.refresh_token, self.access_token):
            if secret:
                text = text.replace(secret, "[...]")
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


def load(path: str, text: bytes, defaults: Mapping[str, Any], ca_data: str = "") -> Source:
    """The source that the content of a file describes. Raises LastingError."""
    values = {**defaults, **parse(path, text)}
    way = Way(_text(values, "proxy"), _text(values, "ca_bundle_file"), _text(values, "ca_certs_dir"), ca_data)
    command = values.get("command", [])
    if not isinstance(command, list) or not all(isinstance(word, str) and word for word in command):
        raise LastingError(f"{path}: command must be a list of a program and its arguments")
    source = Source(
        path,
        _text(values, "client_id"),
        _text(values, "client_secret"),
        _text(values, "token_endpoint") or GOOGLE,
        _text(values, "refresh_token"),
        _text(values, "access_token"),
        _number(path, values, "expiry", 0),
        _number(path, values, "refresh_window", 10),
        "client_credentials"
        if _switch(path, values, "use_client_credentials")
        else _text(values, "grant_type") or "refresh_token",
        _text(values, "scope"),
        _text(values, "user"),
        tuple(command),
        _switch(path, values, "manage_token_externally"),
        way,
    )
    if source.external and not sendable(source.access_token):
        raise LastingError(f"{path}: manage_token_externally, but no usable access_token")
    if source.command or source.external:
        return source
    if source.grant_type not in ("refresh_token", "client_credentials"):
        raise LastingError(f'{path}: unknown grant_type "{source.grant_type[:40]}"')
    if source.grant_type == "refresh_token" and not source.refresh_token:
        raise LastingError(f"{path}: no refresh_token: get one with: postfixpy oauth get-token")
    if not source.client_id:
        raise LastingError(f"{path}: no client_id, and none in {CONFIGURATION}")
    try:
        check_endpoint(source.token_endpoint)
    except HTTPError as error:
        raise LastingError(f"{path}: token_endpoint: {error}") from None
    return source


def parse(path: str, text: bytes) -> dict[str, Any]:
    """A JSON object. Raises LastingError."""
    if len(text) > MAX_FILE:
        raise LastingError(f"{path}: more than {MAX_FILE} bytes are no token file")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LastingError(f"{path}: not a JSON object")
    return found


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "")
    return str(value) if isinstance(value, str | int | float) else ""


def _switch(path: str, values: Mapping[str, Any], name: str) -> bool:
    text = _text(values, name).lower()
    if text not in ("", "yes", "true", "no", "false"):
        raise LastingError(f"{path}: {name} must be yes or no")
    return text in ("yes", "true")


def _number(path: str, values: Mapping[str, Any], name: str, default: float) -> float:
    text = _text(values, name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        raise LastingError(f"{path}: {name} is not a number") from None
    return number if 0 <= number < 1e12 else default


# Fetching


def fetch(source: Source, refresh_token: str, now: float, post: Post = post_form) -> Token:
    """A new token. Blocks. Raises TokenError."""
    if source.command:
        return _by_command(source, now)
    if source.external:
        return Token(source.access_token, now)  # so that the file is looked at again soon
    fields = {"grant_type": source.grant_type, "client_id": source.client_id}
    if source.client_secret:
        fields["client_secret"] = source.client_secret
    if source.grant_type == "refresh_token":
        fields["refresh_token"] = refresh_token or source.refresh_token
    if source.scope:
        fields["scope"] = source.scope
    return request(source, fields, now, post)


def request(source: Source, fields: Mapping[str, str], now: float, post: Post = post_form) -> Token:
    """The token that the endpoint has for `fields`. Raises TokenError."""
    endpoint = source.token_endpoint
    try:
        status, body = post(endpoint, fields, source.way)
    except HTTPError as error:
        raise TokenError(f"{endpoint}: {error}; trying again later") from None
    answer = answer_of(body)
    if status != 200:
        raise _refusal(source, status, answer)
    found = token_of(answer, now)
    if found is None:
        raise TokenError(f"{endpoint}: an answer without a usable access token; trying again later")
    return found


def answer_of(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer; an empty one if there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def token_of(answer: Mapping[str, Any], now: float) -> Token | None:
    """The token in an answer, if there is one that can be sent."""
    access = answer.get("access_token")
    if not isinstance(access, str) or not sendable(access):
        return None
    try:
        lifetime = float(answer.get("expires_in", _LIFETIME))
    except (TypeError, ValueError):
        return None
    if not 0 < lifetime < 1e9:
        return None
    refresh = answer.get("refresh_token")
    return Token(access, now + lifetime, refresh if isinstance(refresh, str) else "")


def sendable(token: str) -> bool:
    """Whether this can be an access token: visible ASCII."""
    return 0 < len(token) <= _MAX_TOKEN and all("!" <= c <= "~" for c in token)


_ADVICE = {
    "invalid_grant": "the refresh token has been revoked or has expired: get another with: postfixpy oauth get-token",
    "invalid_client": "client_id or client_secret is wrong",
    "unauthorized_client": "the provider does not allow this client this grant_type",
    "invalid_scope": "scope is wrong",
    "unsupported_grant_type": "the provider does not know this grant_type",
}


def _refusal(source: Source, status: int, answer: Mapping[str, Any]) -> TokenError:
    code = source.hide(str(answer.get("error", "")))[:60]
    said = source.hide(str(answer.get("error_description", "")))
    text = f"{source.token_endpoint} answered {status}"
    text += f" {code}" if code else ""
    text += f" ({said})" if said else ""
    if code in _ADVICE:
        return LastingError(f"{text}: {_ADVICE[code]} ({source.path})")
    if 300 <= status < 400:
        return LastingError(f"{text}: redirects are not followed, mend token_endpoint ({source.path})")
    return TokenError(f"{text}; trying again later")


def _by_command(source: Source, now: float) -> Token:
    """The token that a command prints. Its output is never shown."""
    program = source.command[0]
    try:
        with subprocess.Popen(
            source.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                out, _ = process.communicate(timeout=_COMMAND_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise TokenError(f"{program}: not done within {_COMMAND_LIMIT:g} seconds") from None
    except OSError as error:
        raise LastingError(f"{program}: {error.strerror}") from None
    if process.returncode:
        raise TokenError(f"{program}: exit status {process.returncode}: run it by hand to see why")
    text = out[:MAX_FILE].decode("ascii", "replace").strip()
    found = token_of(answer_of(out[:MAX_FILE]), now) if text.startswith("{") else None
    if found is None and sendable(text) and not text.startswith("{"):
        found = Token(text, now + _LIFETIME)
    if found is None:
        raise TokenError(f"{program}: its output is no access token")
    return found
