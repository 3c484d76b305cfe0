"""Tokens shared by sessions and processes: fetched once, renewed in time, and what happens when they cannot be had."""

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from postfixpy.sasl.https import Way
from postfixpy.sasl.mechanism import TokenError
from postfixpy.sasl.oauth2 import Tokens

from .provider import REVOKED, Provider, token


class World:
    """A token file, a directory for tokens and a clock."""

    def __init__(self, directory: Path, provider: Provider, **more: str) -> None:
        self.now = 1_000_000.0
        self.path = str(directory / "token.json")
        self.provider = provider
        self.data = directory / "data"
        self.data.mkdir(exist_ok=True)
        self.write(refresh_token="refresh-1", **more)

    def write(self, **values: str) -> None:
        values = {"client_id": "me", "client_secret": "s3cret", "token_endpoint": self.provider.url, **values}
        Path(self.path).write_text(json.dumps(values))
        os.chmod(self.path, 0o600)

    def kept(self) -> list[Path]:
        """The files that processes share, without their locks."""
        return [path for path in self.data.iterdir() if path.suffix != ".lock"]

    def tokens(self, **more: Any) -> Tokens:
        return Tokens(str(self.data), configuration="/nonexistent", clock=lambda: self.now, **more)


def run(*sessions: Any) -> list[Any]:
    """What sessions get, at once; a failure is its exception."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*sessions, return_exceptions=True)

    return asyncio.run(gather())


def test_a_token_that_somebody_else_renews(tmp_path: Path) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider, access_token="mine-1", expiry="1", manage_token_externally="yes")
        tokens = world.tokens()
        assert run(tokens.get(world.path)) == [("mine-1", "")]
        world.write(access_token="mine-2", manage_token_externally="yes")
        world.now += 2
        assert run(tokens.get(world.path)) == [("mine-2", "")]
        assert run(tokens.get(world.path, "mine-2")) == [("mine-2", "")]  # there is no other
        world.write(manage_token_externally="yes")
        world.now += 2
        (error,) = run(tokens.get(world.path))
        assert str(error).endswith("manage_token_externally, but no usable access_token")
        assert provider.asked == [] and not list(world.data.glob("oauth2.*[!k]"))


def test_two_hundred_sessions_fetch_one_token_once(tmp_path: Path) -> None:
    with Provider(token(1), token(2), delay=0.1) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        assert run(*[tokens.get(world.path) for _ in range(200)]) == [("access-1", "")] * 200
        assert len(provider.asked) == 1
        tokens.close()


def test_two_processes_fetch_one_token_once(tmp_path: Path) -> None:
    with Provider(token(1), token(2), delay=0.1) as provider:
        world = World(tmp_path, provider)
        both = [world.tokens(), world.tokens()]
        assert run(*[tokens.get(world.path) for tokens in both]) == [("access-1", "")] * 2
        assert len(provider.asked) == 1
        (kept,) = world.kept()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        for tokens in both:
            tokens.close()


def test_renewed_before_it_expires(tmp_path: Path) -> None:
    with Provider(token(1), token(2)) as provider:
        world = World(tmp_path, provider, refresh_window="60")
        tokens = world.tokens()
        assert run(tokens.get(world.path)) == [("access-1", "")]
        world.now += 3539
        assert run(tokens.get(world.path)) == [("access-1", "")]
        world.now += 1
        assert run(tokens.get(world.path)) == [("access-2", "")]
        assert len(provider.asked) == 2
        tokens.close()


def test_the_token_of_the_file_is_used_while_it_is_good(tmp_path: Path) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider, access_token="from-the-plugin", expiry="1000100", user="other@example.com")
        tokens = world.tokens()
        assert run(tokens.get(world.path)) == [("from-the-plugin", "other@example.com")]
        world.now += 100
        assert run(tokens.get(world.path)) == [("access-1", "other@example.com")]
        tokens.close()


def test_a_refused_token_is_replaced(tmp_path: Path) -> None:
    with Provider(token(1), token(2)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        run(tokens.get(world.path))
        assert run(*[tokens.get(world.path, "access-1") for _ in range(20)]) == [("access-2", "")] * 20
        assert len(provider.asked) == 2
        tokens.close()


def test_a_provider_that_has_no_other_token(tmp_path: Path) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        assert run(tokens.get(world.path), tokens.get(world.path, "access-1")) == [("access-1", "")] * 2
        tokens.close()


def test_a_new_refresh_token_is_kept_for_all(tmp_path: Path) -> None:
    with Provider(token(1, 60, refresh_token="refresh-2"), token(2)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        run(tokens.get(world.path))
        tokens.close()
        world.now += 60
        again = world.tokens()
        assert run(again.get(world.path)) == [("access-2", "")]
        assert [form["refresh_token"] for form in provider.asked] == ["refresh-1", "refresh-2"]
        again.close()


def test_a_new_file_decides_again(tmp_path: Path) -> None:
    with Provider(token(1, 60, refresh_token="refresh-2"), token(2)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        run(tokens.get(world.path))
        world.now += 60
        world.write(refresh_token="refresh-by-hand")
        assert run(tokens.get(world.path)) == [("access-2", "")]
        assert provider.asked[1]["refresh_token"] == "refresh-by-hand"
        tokens.close()


def test_revoked_until_the_file_changes(tmp_path: Path) -> None:
    with Provider(REVOKED, token(1)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        for _ in range(2):
            (error,) = run(tokens.get(world.path))
            assert isinstance(error, TokenError) and "postfixpy oauth get-token" in str(error)
            world.now += 600
        assert len(provider.asked) == 1
        world.write(refresh_token="refresh-by-hand")
        assert run(tokens.get(world.path)) == [("access-1", "")]
        tokens.close()


def test_endpoint_down_is_asked_again_after_a_minute(tmp_path: Path) -> None:
    with Provider((503, b"down"), token(1)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        errors = run(*[tokens.get(world.path) for _ in range(50)])
        assert {type(error) for error in errors} == {TokenError}
        assert len(provider.asked) == 1
        world.now += 59
        assert "answered 503" in str(run(tokens.get(world.path))[0])
        world.now += 1
        assert run(tokens.get(world.path)) == [("access-1", "")]
        tokens.close()


def test_endpoint_down_while_the_token_is_good_for_a_while(tmp_path: Path) -> None:
    with Provider(token(1), (503, b"down")) as provider:
        world = World(tmp_path, provider, refresh_window="600")
        tokens = world.tokens()
        run(tokens.get(world.path))
        world.now += 3100
        assert run(tokens.get(world.path)) == [("access-1", "")]
        world.now += 500
        assert isinstance(run(tokens.get(world.path))[0], TokenError)
        tokens.close()


def test_a_session_that_gives_up_does_not_take_the_token_from_others(tmp_path: Path) -> None:
    with Provider(token(1), delay=0.1) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()

        async def both() -> Any:
            first = asyncio.create_task(tokens.get(world.path))
            second = asyncio.create_task(tokens.get(world.path))
            await asyncio.sleep(0)
            first.cancel()
            return await second

        assert asyncio.run(both()) == ("access-1", "")
        tokens.close()


def test_without_a_place_to_keep_tokens(tmp_path: Path) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider)
        tokens = Tokens("/nonexistent", configuration="/nonexistent", clock=lambda: world.now)
        assert run(tokens.get(world.path)) == [("access-1", "")]
        tokens.close()


def test_stored_tokens_are_not_trusted_blindly(tmp_path: Path) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider)
        tokens = world.tokens()
        run(tokens.get(world.path))
        (kept,) = world.kept()
        for text in ("", "[]", '{"source": "x", "access_token": "evil", "expiry": 9e9, "refresh_token": ""}'):
            kept.write_text(text)
            fresh = world.tokens()
            assert run(fresh.get(world.path)) == [("access-1", "")]
            fresh.close()
        kept.unlink()
        kept.symlink_to("/etc/passwd")
        fresh = world.tokens()
        assert run(fresh.get(world.path)) == [("access-1", "")]
        fresh.close()
        tokens.close()


def test_files_that_everybody_reads_are_told_once(tmp_path: Path, log_lines: list[str]) -> None:
    with Provider(token(1)) as provider:
        world = World(tmp_path, provider)
        os.chmod(world.path, 0o644)
        tokens = world.tokens()
        run(tokens.get(world.path), tokens.get(world.path, "access-1"))
        assert log_lines == [f"warning: {world.path} has secrets, and is accessible for everybody (mode 644)"]
        tokens.close()


def test_defaults_of_the_plugin(tmp_path: Path, log_lines: list[str]) -> None:
    forms: list[Mapping[str, str]] = []

    def post(url: str, form: Mapping[str, str], way: Way) -> tuple[int, bytes]:
        forms.append(form)
        return 200, b'{"access_token": "t"}'

    configuration = tmp_path / "sasl-xoauth2.conf"
    configuration.write_text('{"client_id": "from-conf", "client_secret": ""}')
    path = tmp_path / "token"
    path.write_text('{"refresh_token": "r"}')
    path.chmod(0o600)
    tokens = Tokens("", configuration=str(configuration), post=post)
    assert run(tokens.get(str(path))) == [("t", "")]
    assert forms == [{"grant_type": "refresh_token", "client_id": "from-conf", "refresh_token": "r"}]
    tokens.close()
    configuration.write_text("nonsense")
    Tokens("", configuration=str(configuration)).close()
    assert log_lines == [f"warning: {configuration}: not a JSON object: ignoring it"]
