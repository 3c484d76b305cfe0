"""postfixpy oauth, against a provider on loopback."""

import io
import json
import os
import re
import stat
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from postfixpy.commands import oauth
from postfixpy.errors import FatalError
from tests.sasl.provider import REVOKED, Provider, token

FIRST = token(1, refresh_token="refresh-1")
DEVICE = (
    200,
    {"device_code": "dev", "user_code": "ABCD", "verification_uri": "https://idp.example/device", "interval": 0},
)


def paste(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str) -> None:
    """The user pastes `answer`, with {state} out of the address that was shown."""

    class Browser(io.StringIO):
        def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
            shown = capsys.readouterr().out
            (address,) = re.findall(r"https?://\S+", shown)
            query = parse_qs(urlsplit(address).query)
            assert query["code_challenge_method"] == ["S256"] and query["client_id"] == ["me"]
            return answer.format(state=query["state"][0]) + "\n"

    monkeypatch.setattr("sys.stdin", Browser())


def words(provider: Provider, path: Path, *more: str) -> list[str]:
    start = ["oauth", "get-token", "other", "--client-id", "me", "--token-url", provider.url]
    return [*start, "--auth-url", "https://idp.example/auth", *more, str(path)]


def test_by_browser(monkeypatch, capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with Provider(FIRST) as provider:
        paste(monkeypatch, capsys, "http://127.0.0.1:54332/oauth2_result?state={state}&code=c%2F1")
        path = tmp_path / "token"
        arguments = words(
            provider, path, "--client-secret-file", str(secret), "--scope", "mail", "--user", "me@x.example"
        )
        assert oauth.main(arguments) == 0
        (form,) = provider.asked
    assert (form["code"], form["client_secret"], form["grant_type"]) == ("c/1", "s3cret", "authorization_code")
    assert len(form["code_verifier"]) >= 43
    found = json.loads(path.read_text())
    expiry = int(found.pop("expiry"))
    assert abs(expiry - time.time() - 3600) < 60
    assert found == {
        "client_id": "me", "client_secret": "s3cret", "token_endpoint": provider.url, "scope": "mail",
        "refresh_token": "refresh-1", "access_token": "access-1", "user": "me@x.example",
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = capsys.readouterr()
    assert "access-1" not in shown.out + shown.err and "s3cret" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("http://127.0.0.1/?state=other&code=c", "not the answer to this request"),
        ("http://127.0.0.1/?state={state}", "not the answer to this request"),
        ("http://127.0.0.1/?error=access_denied&state={state}", "access_denied"),
        ("", "not the answer to this request"),
    ],
)
def test_a_wrong_address(monkeypatch, capsys, tmp_path: Path, answer: str, problem: str) -> None:  # type: ignore[no-untyped-def]
    with Provider(FIRST) as provider:
        paste(monkeypatch, capsys, answer)
        with pytest.raises(FatalError, match=problem):
            oauth.main(words(provider, tmp_path / "token"))
        assert provider.asked == []
    assert not (tmp_path / "token").exists()


def test_by_device(capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pending = (400, {"error": "authorization_pending"})
    with Provider(DEVICE, pending, pending, FIRST) as provider:
        path = tmp_path / "token"
        path.write_text('{"refresh_window": "600"}')
        assert oauth.main(words(provider, path, "--device", "--device-url", provider.url)) == 0
        assert [form.get("device_code") for form in provider.asked] == [None, "dev", "dev", "dev"]
    assert "enter the code ABCD" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert (found["refresh_token"], found["refresh_window"]) == ("refresh-1", "600")


@pytest.mark.parametrize("answer", [(400, {"error": "access_denied"}), (400, b""), (200, b"[]")])
def test_a_device_that_is_refused(tmp_path: Path, answer: tuple[int, object]) -> None:
    with Provider(DEVICE, answer) as provider, pytest.raises(FatalError, match="answered"):
        oauth.main(words(provider, tmp_path / "token", "--device", "--device-url", provider.url))


def test_no_refresh_token(monkeypatch, capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with Provider(DEVICE, token(1)) as provider, pytest.raises(FatalError, match="gave no refresh token"):
        oauth.main(words(provider, tmp_path / "token", "--device", "--device-url", provider.url))


def test_test(capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "token"
    with Provider(token(1, refresh_token="refresh-2"), REVOKED) as provider:
        path.write_text(json.dumps({"client_id": "me", "refresh_token": "refresh-1", "token_endpoint": provider.url}))
        os.chmod(path, 0o600)
        assert oauth.main(["oauth", "test", str(path)]) == 0
        shown = capsys.readouterr().out
        assert f"{provider.url} gave an access token of 8 bytes, good until" in shown and "access-1" not in shown
        assert json.loads(path.read_text())["refresh_token"] == "refresh-2"
        with pytest.raises(FatalError, match="invalid_grant"):
            oauth.main(["oauth", "test", str(path)])
    with pytest.raises(FatalError, match="No such file"):
        oauth.main(["oauth", "test", str(tmp_path / "none")])


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_text("myhostname = x\n")
    with Provider(FIRST) as provider, pytest.raises(FatalError, match="left alone"):
        oauth.main(words(provider, path))
    assert path.read_text() == "myhostname = x\n"


def test_known_services() -> None:
    known = oauth.services("my-tenant")
    assert "my-tenant" in known["outlook"].token_url and "my-tenant" in known["outlook"].device_url
    for name in ("gmail", "outlook"):
        assert known[name].token_url.startswith("https://") and known[name].scope


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["get-token"],
        ["get-token", "gmail", "f"],
        ["get-token", "nobody", "--client-id", "x", "f"],
        ["get-token", "other", "--client-id", "x", "f"],
        ["get-token", "gmail", "--client-id", "x", "--device", "f"],
        ["get-token", "gmail", "--client-id", "x", "--nonsense", "y", "f"],
        ["test"],
    ],
)
def test_wrong_usage(capsys, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert oauth.main(["oauth", *arguments]) == 64
    assert "get-token" in capsys.readouterr().err
