"""Password files and tables."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.lookup.registry import open_table
from postfixpy.sasl.mechanism import Credentials
from postfixpy.sasl.passwords import PasswordFile, Passwords, from_table, matches, scram_secret
from postfixpy.sasl.scram import ScramSHA1, ScramSHA256
from postfixpy.sasl.server import Local, Peer, Refused

from .test_server import converse

SECRET = "wonder"
KEPT = {
    "plain": "{PLAIN}wonder",
    "none": "{NONE}wonder",
    "ssha": "{SSHA512}uoP4sIbVaAt5IPdsG6SeDIuNKfGLY4/mdZH42TDLr5HEhT7BPHhDqQJn4JTXrfsHWtKvZ5ZkSNRV3e8Fjc9rUHNhbHQ=",
}


def doveadm(scheme: str) -> str:
    """What dovecot keeps of the password."""
    return subprocess.check_output(["doveadm", "pw", "-s", scheme, "-p", SECRET], text=True).strip()


@pytest.mark.real
@pytest.mark.parametrize(
    "scheme", ["PLAIN", "SSHA", "SSHA256", "SSHA512", "SCRAM-SHA-1", "SCRAM-SHA-256", "SHA512-CRYPT", "BLF-CRYPT"]
)
def test_what_dovecot_writes(scheme: str) -> None:
    kept = doveadm(scheme).replace("{SHA512-CRYPT}", "{CRYPT}").replace("{BLF-CRYPT}", "{CRYPT}")
    assert matches(kept, SECRET)
    for wrong in ("", "Wonder", SECRET + "x"):
        assert not matches(kept, wrong)


@pytest.mark.real
@pytest.mark.parametrize("kind", [ScramSHA1, ScramSHA256])
def test_scram_with_what_dovecot_writes(kind: type[ScramSHA1 | ScramSHA256], tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"alice:{doveadm(kind.name)}\nbob:{{PLAIN}}{SECRET}\n")
    backend = Local(Passwords(PasswordFile(str(path)), (kind.name,)))
    for user in ("alice", "bob"):
        assert converse(backend.exchange(kind.name, Peer()), kind(Credentials(user, SECRET))) == user
        with pytest.raises(Refused):
            converse(backend.exchange(kind.name, Peer()), kind(Credentials(user, "wrong")))


def test_crypt() -> None:
    # openssl passwd -6 -salt saltstring
    kept = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
    assert matches(kept, "Hello world!")
    assert not matches(kept, "Hello world")
    assert not matches("$6$", "x") and not matches("*", "x") and not matches("", "") and not matches("!", "")


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(Refused, match="unknown password scheme NONE") as caught:
        matches(KEPT["none"], SECRET)
    assert caught.value.temporary


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("# comment\nalice:{PLAIN}won:der\nbob:{SSHA}AAAA:1000:1000::/home/bob\n\n:x\n")
    users = PasswordFile(str(path))

    async def find(user: str) -> str | None:
        return await users(user)

    assert asyncio.run(find("alice")) == "{PLAIN}won:der"
    assert asyncio.run(find("bob")) == "{SSHA}AAAA"
    assert asyncio.run(find("")) is None
    path.write_text("carol:{PLAIN}x\n")
    assert asyncio.run(find("alice")) is None and asyncio.run(find("carol")) == "{PLAIN}x"
    os.unlink(path)
    with pytest.raises(Refused, match="No such file") as caught:
        asyncio.run(find("carol"))
    assert caught.value.temporary


def test_a_table() -> None:
    class View:
        smtputf8_enable = True

    good = Passwords(from_table(open_table("inline:{alice={PLAIN}wonder}", View())))
    assert asyncio.run(good.check("alice", "wonder")) and not asyncio.run(good.check("bob", "wonder"))
    assert not asyncio.run(good.check("bob", ""))
    bad = Passwords(from_table(open_table("fail:x", View())))
    with pytest.raises(Refused) as caught:
        asyncio.run(bad.check("alice", "wonder"))
    assert caught.value.temporary


@given(st.text(max_size=40))
def test_no_kept_password_does_harm(data: str) -> None:
    assert scram_secret(data) is None or data.count(",") == 3
    for scheme in ("{SSHA256}", "{SCRAM-SHA-256}"):
        assert not matches(scheme + data, "x")
