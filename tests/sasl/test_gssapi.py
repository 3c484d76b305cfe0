"""GSSAPI, with a real key distribution centre and a real dovecot. The extra needs a compiler: .ci/run installs it."""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.sasl.choice import choose
from postfixpy.sasl.dovecot import Dovecot
from postfixpy.sasl.gssapi import Gssapi, available
from postfixpy.sasl.mechanism import Credentials, SASLError
from postfixpy.sasl.server import Challenge, Peer

from . import dovecot_server

HOST = "dovecot.example"
KRB5 = """\
[libdefaults]
 default_realm = TEST.EXAMPLE
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 TEST.EXAMPLE = {{
  kdc = 127.0.0.1:{port}
 }}
"""
KDC = """\
[kdcdefaults]
 kdc_ports = {port}
 kdc_tcp_ports = {port}
[realms]
 TEST.EXAMPLE = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/acl
  max_life = 1h
 }}
"""

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root"),
    pytest.mark.skipif(not available(), reason="the extra gssapi is not installed"),
]


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the configuration, a keytab and the tickets of alice, in a realm that has a centre."""
    port = dovecot_server.free_port()
    with tempfile.TemporaryDirectory(prefix="realm") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "krb5.conf").write_text(KRB5.format(port=port))
        (directory / "kdc.conf").write_text(KDC.format(port=port, directory=directory))
        monkeypatch.setenv("KRB5_CONFIG", f"{directory}/krb5.conf")
        monkeypatch.setenv("KRB5_KDC_PROFILE", f"{directory}/kdc.conf")
        monkeypatch.setenv("KRB5CCNAME", f"{directory}/cache")
        commands = [
            ["kdb5_util", "create", "-s", "-P", "master", "-r", "TEST.EXAMPLE"],
            ["kadmin.local", "-q", "addprinc -pw secret alice"],
            ["kadmin.local", "-q", f"addprinc -randkey smtp/{HOST}"],
            ["kadmin.local", "-q", f"ktadd -k {directory}/keytab smtp/{HOST}"],
        ]
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        (directory / "keytab").chmod(0o644)
        centre = subprocess.Popen(["krb5kdc", "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            subprocess.run(["kinit", "alice"], input=b"secret\n", check=True, capture_output=True)
            yield directory
        finally:
            centre.send_signal(signal.SIGTERM)
            centre.wait(10)


def wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the key distribution centre does not start")


def converse(path: str, host: str, authzid: str = "") -> tuple[str, int]:
    """The user, and how many challenges there were."""

    async def run() -> tuple[str, int]:
        backend = Dovecot(path)
        try:
            name, client = choose("PLAIN DIGEST-MD5 GSSAPI", (), Credentials("alice", "x", host=host, authzid=authzid))
            assert (name, type(client)) == ("GSSAPI", Gssapi)
            exchange = backend.exchange(name, Peer())
            found, rounds = await exchange.respond(client.initial()), 0
            while isinstance(found, Challenge):
                found, rounds = await exchange.respond(client.step(found.data)), rounds + 1
            return found.user, rounds
        finally:
            await backend.close()

    return asyncio.run(run())


def test_a_ticket(realm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        server = dovecot_server.Dovecot(Path(name))
        path = Path(name, "dovecot.conf")
        text = path.read_text().replace("auth_mechanisms = ", "auth_mechanisms = gssapi ")
        path.write_text(
            f"{text}auth_krb5_keytab = {realm}/keytab\nauth_gssapi_hostname = {HOST}\nauth_username_format = %n\n"
            f"import_environment = KRB5_CONFIG={realm}/krb5.conf\nauth_realms = TEST.EXAMPLE\n"
        )
        try:
            server.start()
            assert converse(server.path, HOST) == ("alice", 2)
            assert converse(server.path, HOST, "alice") == ("alice", 2)
            with pytest.raises(SASLError) as caught:
                converse(server.path, "other.example")
            assert "GSSAPI Error" in caught.value.log and "not found in Kerberos database" in caught.value.log
            monkeypatch.setenv("KRB5CCNAME", f"{realm}/none")
            with pytest.raises(SASLError) as caught:
                converse(server.path, HOST)
            assert "No Kerberos credentials available" in caught.value.log
        finally:
            server.stop()


def test_no_challenge(realm: Path) -> None:
    for challenge in (b"", b"x" * 100, b"x" * 70000):
        client = Gssapi(Credentials("alice", host=HOST))
        client.initial()
        with pytest.raises(SASLError):
            for _ in range(3):
                client.step(challenge)
