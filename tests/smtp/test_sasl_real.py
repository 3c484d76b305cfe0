"""The client authenticates to real servers: dovecot's submission service, Postfix's smtpd with dovecot behind it."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from harness import Sink
from real_postfix import RealPostfix

from postfixpy.mail.outcome import Outcome
from postfixpy.smtp.library import Client
from tests.sasl import dovecot_server
from tests.sasl.dovecot_server import MECHANISMS, PASSWORD, USER
from tests.sasl.provider import Provider, token

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root"),
    pytest.mark.timeout(300),
]
MESSAGE = b"Subject: hello\n\nhello\n"


def deliver(directory: Path, port: int, mechanism: str, secret: str, times: int = 1) -> Outcome:
    """Deliveries with one mechanism, one after the other; the last outcome."""
    directory.mkdir()
    (directory / "main.cf").write_text(
        f"myhostname = client.example\nrelayhost = [127.0.0.1]:{port}\ndata_directory = {directory}\n"
        "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
        f"smtp_sasl_password_maps = static:{{{USER}:{secret}}}\nsmtp_sasl_mechanism_filter = {mechanism}\n"
    )

    async def run() -> Outcome:
        async with Client(str(directory)) as client:
            for _ in range(times):
                (outcome,) = await client.deliver(MESSAGE, "me@client.example", ["you@example.org"])
            return outcome

    return asyncio.run(run())


def test_dovecot_submission(tmp_path: Path) -> None:
    """Each mechanism that it offers, with the right secret and a wrong one."""
    good = tmp_path / "good"
    bad = tmp_path / "bad"
    sink = Sink(tmp_path)
    answers = [token(1)] * 2  # for our client, which asks at the same provider
    try:
        with (
            Provider((200, {"active": True, "username": USER})) as accepts,
            Provider(*answers) as provider,
            dovecot_server.running(accepts.url, sink.port) as server,
        ):
            for path, refresh in ((good, "refresh"), (bad, "refresh")):
                text = {"client_id": "me", "refresh_token": refresh, "token_endpoint": provider.url}
                path.write_text(json.dumps(text))
                path.chmod(0o600)
            for mechanism in MECHANISMS:
                bearer = mechanism in ("XOAUTH2", "OAUTHBEARER")
                secret = f"oauth2:{good}" if bearer else PASSWORD
                outcome = deliver(tmp_path / f"{mechanism}-good", server.port, mechanism, secret, times=2)
                assert outcome.result == "sent", (mechanism, outcome.dsn.reason)
                if bearer:
                    continue
                outcome = deliver(tmp_path / f"{mechanism}-bad", server.port, mechanism, "wrong")
                assert (outcome.result, outcome.dsn.status) == ("deferred", "4.7.8"), (mechanism, outcome.dsn.reason)
                assert "SASL authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8" in outcome.dsn.reason
            assert len(sink.recipients()) == 2 * len(MECHANISMS)
            accepts.answers = [(200, {"active": False})]
            outcome = deliver(tmp_path / "refused", server.port, "XOAUTH2", f"oauth2:{bad}")
            assert (outcome.result, outcome.dsn.status) == ("deferred", "4.7.8"), outcome.dsn.reason
            log = server.log()
            for mechanism in MECHANISMS:
                assert f"method={mechanism}" in log, mechanism
    finally:
        sink.stop()


def test_a_real_smtpd_with_dovecot(tmp_path: Path) -> None:
    """Our smtp inside a real Postfix delivers to a real smtpd that wants authentication, by every mechanism."""
    mechanisms = [name for name in MECHANISMS if "OAUTH" not in name]
    rows = [
        "127.0.0.1:2525 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_type=dovecot"
        " -o smtpd_sasl_path=/run/auth-client -o smtpd_sasl_security_options="
        " -o smtpd_relay_restrictions=permit_sasl_authenticated,reject -o content_filter=discard:",
        "discard unix - - n - - discard",
    ]
    for name in mechanisms:
        rows.append(f"relay-{name.lower()} unix - - n - - smtp -o smtp_sasl_mechanism_filter={name}")
    settings = {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_security_options": "",
        "smtp_sasl_password_maps": f"static:{{{USER}:{PASSWORD}}}",
        "transport_maps": "inline:{"
        + ", ".join(f"{{{name.lower()}.example = relay-{name.lower()}:[127.0.0.1]:2525}}" for name in mechanisms)
        + "}",
    }
    with RealPostfix(ours=["smtp"], rows=rows, **settings) as system:
        directory = system.path("/var/dovecot")
        directory.mkdir()
        inside = dovecot_server.Dovecot(directory)
        text = (directory / "dovecot.conf").read_text().replace(str(directory), "/var/dovecot")
        text = text.replace("unix_listener auth-client {", "unix_listener /run/auth-client {")
        (directory / "dovecot.conf").write_text(text)
        assert inside.path
        system.popen("dovecot", "-F", "-c", "/var/dovecot/dovecot.conf")
        system.wait(lambda: system.path("/run/auth-client").exists(), "dovecot")
        for name in mechanisms:
            system.send("me@client.example", f"you@{name.lower()}.example")
        system.wait(lambda: system.text().count("relay=none, delay") >= len(mechanisms), "the deliveries")
        log = system.text()
        for name in mechanisms:
            assert f"sasl_method={name}, sasl_username={USER}" in log, name
            assert f"to=<you@{name.lower()}.example>, relay=127.0.0.1[127.0.0.1]:2525" in log
        assert PASSWORD not in log
        assert not [line for line in system.troubles() if "SASL" in line or "fatal" in line]
