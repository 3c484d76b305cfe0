"""Token files: those of sasl-xoauth2, and more."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.sasl import token_source
from postfixpy.sasl.mechanism import TokenError
from postfixpy.sasl.token_source import LastingError, Source, fetch, load

from .provider import REVOKED, Provider, token

PLUGIN_FILE = b"""{
  "access_token" : "access token goes here",
  "expiry" : "0",
  "refresh_token" : "refresh-1"
}"""
CLIENT = {"client_id": "me", "client_secret": "s3cret"}


def source(url: str, **more: Any) -> Source:
    return load("f", json.dumps({"refresh_token": "refresh-1", "token_endpoint": url, **more}).encode(), CLIENT)


def test_the_file_of_the_plugin() -> None:
    found = load("f", PLUGIN_FILE, CLIENT)
    assert (found.client_id, found.client_secret, found.refresh_token, found.expiry) == ("me", "s3cret", "refresh-1", 0)
    assert (found.token_endpoint, found.refresh_window) == (token_source.GOOGLE, 10)
    assert "s3cret" not in repr(found) and "refresh-1" not in repr(found)


def test_a_file_overrides_the_configuration() -> None:
    text = (
        b'{"refresh_token": "r", "client_id": "other", "refresh_window": "600", "user": "u", "proxy": "p:1",'
        b'"ca_bundle_file": "/ca", "token_endpoint": "https://login.microsoftonline.com/common/oauth2/v2.0/token"}'
    )
    found = load("f", text, CLIENT)
    assert (found.client_id, found.refresh_window, found.user, found.way.proxy, found.way.ca_file) == (
        "other", 600, "u", "p:1", "/ca",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 100000, "more than"),
        (b"[" * 50000, "not a JSON object"),
        (b"{}", "no refresh_token: get one with: postfixpy oauth"),
        (b'{"refresh_token": "r", "client_id": ""}', "no client_id"),
        (b'{"refresh_token": "r", "expiry": "soon"}', "expiry is not a number"),
        (b'{"refresh_token": "r", "token_endpoint": "http://idp.example/"}', "is not encrypted"),
        (b'{"refresh_token": "r", "grant_type": "password"}', "unknown grant_type"),
        (b'{"refresh_token": "r", "use_client_credentials": "perhaps"}', "use_client_credentials must be yes or no"),
        (b'{"manage_token_externally": "yes"}', "no usable access_token"),
        (b'{"command": "rm -rf /"}', "command must be a list"),
    ],
)
def test_bad_files(text: bytes, problem: str) -> None:
    with pytest.raises(LastingError, match=problem):
        load("f", text, CLIENT)


@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(["expiry", "command", "refresh_token", "proxy"]),
       st.none() | st.integers() | st.text() | st.lists(st.text())).map(lambda d: json.dumps(d).encode()))  # fmt: skip
def test_no_file_does_harm(text: bytes) -> None:
    try:
        load("f", text, CLIENT)
    except LastingError:
        pass


CONFIGURATION = """{
  "client_id": "me", "client_secret": "", "scope": "https://outlook.office365.com/.default",
  "always_log_to_syslog": "no", "log_to_syslog_on_failure": "yes", "log_full_trace_on_failure": "yes",
  "token_endpoint": "https://login.microsoftonline.com/consumers/oauth2/v2.0/token", "proxy": "http://proxy.example:3128",
  "ca_bundle_file": "/etc/ssl/certs/ca-certificates.crt", "ca_certs_dir": "/etc/ssl/certs", "refresh_window": 20,
  "manage_token_externally": "no", "use_client_credentials": "yes"
}"""
"""Every key of sasl-xoauth2.conf(5)."""


def test_every_key_of_the_configuration() -> None:
    found = load("f", b"{}", json.loads(CONFIGURATION))
    assert (found.client_id, found.client_secret, found.grant_type) == ("me", "", "client_credentials")
    assert (found.scope, found.refresh_window) == ("https://outlook.office365.com/.default", 20)
    assert found.token_endpoint == "https://login.microsoftonline.com/consumers/oauth2/v2.0/token"
    way = found.way
    assert (way.proxy, way.ca_file, way.ca_dir) == (
        "http://proxy.example:3128", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs",
    )  # fmt: skip
    # Each may be in the token file as well, and counts there.
    other = load("f", CONFIGURATION.replace('"yes"\n', '"no",\n"refresh_token": "r"\n').encode(), CLIENT)
    assert (other.grant_type, other.client_secret) == ("refresh_token", "")


def test_an_empty_client_secret_is_sent_as_none() -> None:
    with Provider(token(1)) as provider:
        fetch(load("f", json.dumps({"refresh_token": "r", "token_endpoint": provider.url, "client_secret": "",
                                    "client_id": "me"}).encode(), {}), "", 1000)  # fmt: skip
        assert provider.asked == [{"grant_type": "refresh_token", "client_id": "me", "refresh_token": "r"}]


def test_refresh() -> None:
    with Provider(token(1)) as provider:
        found = fetch(source(provider.url), "", 1000)
        assert (found.access, found.expiry, found.refresh) == ("access-1", 4600, "")
        assert provider.asked == [
            {"grant_type": "refresh_token", "client_id": "me", "client_secret": "s3cret", "refresh_token": "refresh-1"}
        ]
        fetch(source(provider.url, scope="a b"), "refresh-2", 1000)
        assert (provider.asked[1]["refresh_token"], provider.asked[1]["scope"]) == ("refresh-2", "a b")


def test_client_credentials() -> None:
    with Provider(token(1)) as provider:
        fetch(source(provider.url, grant_type="client_credentials", scope="smtp", refresh_token=""), "", 0)
        assert provider.asked == [
            {"grant_type": "client_credentials", "client_id": "me", "client_secret": "s3cret", "scope": "smtp"}
        ]


@pytest.mark.parametrize(
    ("answer", "lasting", "text"),
    [
        (REVOKED, True, r"answered 400 invalid_grant \(Token has been expired or revoked\.\): .*postfixpy oauth"),
        ((401, {"error": "invalid_client"}), True, "client_id or client_secret is wrong"),
        ((400, {"error": "invalid_scope"}), True, "scope is wrong"),
        ((302, b""), True, "redirects are not followed"),
        ((503, b"<html>busy</html>"), False, "answered 503; trying again later"),
        ((429, {"error": "slow_down"}), False, "answered 429 slow_down"),
        ((200, b"{}"), False, "without a usable access token"),
        ((200, {"access_token": "a\r\nb", "expires_in": 1}), False, "without a usable access token"),
        ((200, {"access_token": "a", "expires_in": -1}), False, "without a usable access token"),
        ((200, {"access_token": ["a"]}), False, "without a usable access token"),
        ((400, {"error": "x", "error_description": "s3cret refresh-1 \n"}), False, r"x \(\[...\] \[...\]\)"),
    ],
)
def test_refusals(answer: tuple[int, Any], lasting: bool, text: str) -> None:
    with Provider(answer) as provider, pytest.raises(TokenError, match=text) as caught:
        fetch(source(provider.url), "", 0)
    assert isinstance(caught.value, LastingError) == lasting
    assert "s3cret" not in str(caught.value) and "refresh-1" not in str(caught.value)


def by_command(*words: str) -> Source:
    return load("f", json.dumps({"command": [sys.executable, "-c", *words]}).encode(), {})


def test_a_command() -> None:
    assert fetch(by_command("print('tok')"), "", 1000) == ("tok", 1600, "")
    found = fetch(by_command("""print('{"access_token": "tok", "expires_in": 60}')"""), "", 1000)
    assert found == ("tok", 1060, "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["raise SystemExit(3)"], "exit status 3"),
        (["print('two words')"], "no access token"),
        (["print()"], "no access token"),
        (["print('{}')"], "no access token"),
    ],
)
def test_a_command_that_fails(words: list[str], problem: str) -> None:
    with pytest.raises(TokenError, match=problem):
        fetch(by_command(*words), "", 0)
    with pytest.raises(TokenError, match="No such file"):
        fetch(load("f", b'{"command": ["/nonexistent/program"]}', {}), "", 0)


def test_a_command_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_source, "_COMMAND_LIMIT", 0.1)
    with pytest.raises(TokenError, match="not done within"):
        fetch(by_command("import time; time.sleep(60)"), "", 0)
