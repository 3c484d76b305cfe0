"""Users of the system: a real account, made by the test, with the right and the wrong password, locked, expired."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.sasl import pam
from postfixpy.sasl.mechanism import Credentials
from postfixpy.sasl.server import Local, Peer, Refused
from postfixpy.sasl.simple import Login, Plain

from .test_server import converse

USER, PASSWORD = "postfixpypam", "Kr4ut-und-Rueben"
SERVICE = "postfixpy-test"


@pytest.fixture
def account() -> Iterator[str]:
    """A user of the system and a PAM service, for the time of the test."""
    subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", USER], check=True)
    service = Path("/etc/pam.d", SERVICE)
    try:
        subprocess.run(["chpasswd"], input=f"{USER}:{PASSWORD}", text=True, check=True)
        service.write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
        yield USER
    finally:
        service.unlink(missing_ok=True)
        subprocess.run(["userdel", USER], check=True)


def check(user: str, password: str) -> bool:
    return asyncio.run(pam.Pam(SERVICE).check(user, password))


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root")
def test_an_account(account: str) -> None:
    assert check(account, PASSWORD)
    for user, password in ((account, "wrong"), (account, ""), ("nobody-of-that-name", PASSWORD), (account, "a\0b")):
        assert not check(user, password)
    for client in (Plain, Login):
        backend = Local(pam.Pam(SERVICE))
        assert converse(backend.exchange(client.name, Peer()), client(Credentials(account, PASSWORD))) == account
        with pytest.raises(Refused):
            converse(backend.exchange(client.name, Peer()), client(Credentials(account, "wrong")))
    subprocess.run(["usermod", "--lock", account], check=True)
    assert not check(account, PASSWORD)
    subprocess.run(["usermod", "--unlock", account], check=True)
    assert check(account, PASSWORD)
    subprocess.run(["chage", "--expiredate", "0", account], check=True)
    assert not check(account, PASSWORD)


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root")
def test_many_at_once(account: str) -> None:
    async def run() -> list[bool]:
        users = pam.Pam(SERVICE)
        words = [PASSWORD, "wrong"] * 20
        return await asyncio.gather(*(users.check(account, word) for word in words))

    assert asyncio.run(run()) == [True, False] * 20


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root")
def test_a_service_that_is_broken(account: str) -> None:
    Path("/etc/pam.d", SERVICE).write_text("auth required pam_of_nobody.so\naccount required pam_unix.so\n")
    with pytest.raises(Refused) as caught:
        check(account, PASSWORD)
    assert caught.value.temporary and PASSWORD not in str(caught.value)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FatalError, match=r"postfixpy\[pam\]"):
        pam.Pam()
