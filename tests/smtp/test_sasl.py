"""With a password for the server, mail goes out authenticated or not at all. The dialogues are in the scenarios."""

import base64

import pytest

from postfixpy.sasl.mechanism import TokenError
from postfixpy.smtp import handshake, sasl
from postfixpy.smtp.effects import FetchToken
from postfixpy.tls.handshake import TLSState
from postfixpy.tls.level import Level

SASL = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:user:secret\nsmtp_sasl_security_options =\n"


@pytest.mark.parametrize(
    "after_ehlo",
    [
        ["> 250-AUTH PLAIN", "> 250 x", "< AUTH", "> 535 5.7.8 no"],
        ["> 250-AUTH PLAIN", "> 250 x", "< AUTH", "> 454 4.7.0 later"],
        ["> 250-AUTH PLAIN", "> 250 x", "< AUTH", "close"],
        ["> 250-AUTH PLAIN", "> 250 x", "< AUTH", "stall"],
        ["> 250-AUTH LOGIN", "> 250 x", "< AUTH", "> 334 not base64!"],
        ["> 250-AUTH LOGIN", "> 250 x", "< AUTH", *["> 334 VXNlcg=="] * 200],
        ["> 250-AUTH GSSAPI", "> 250 x"],
        ["> 250-AUTH PLAIN EXTERNAL", "> 250 x"],
        ["> 250-AUTH", "> 250 x"],
    ],
)
def test_never_unauthenticated(make_world, log_lines, after_ehlo: list[str]) -> None:  # type: ignore[no-untyped-def]
    script = ["> 220 a ESMTP", "< EHLO", "> 250-a", *after_ehlo]
    world = make_world(SASL, servers={"127.0.0.11:25": [script]})
    world.deliver()
    (outcome,) = world.outcomes
    assert outcome.result == "deferred"
    assert b"MAIL" not in world.wire()


def test_hard_failure_without_soft_bounce(make_world) -> None:  # type: ignore[no-untyped-def]
    script = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 AUTH PLAIN", "< AUTH", "> 535 5.7.8 no", "< QUIT"]
    world = make_world(SASL + "smtp_sasl_auth_soft_bounce = no\n", servers={"127.0.0.11:25": [script]})
    world.deliver()
    assert (world.outcomes[0].result, world.outcomes[0].dsn.status) == ("bounced", "5.7.8")


def test_secrets_by_sender(make_world) -> None:  # type: ignore[no-untyped-def]
    text = (
        "smtp_sasl_auth_enable = yes\nsmtp_sender_dependent_authentication = yes\nsmtp_sasl_security_options =\n"
        "smtp_sasl_password_maps = inline:{s@client.example=one:1, [127.0.0.11]=two:2}\n"
    )
    script = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 AUTH PLAIN", "< AUTH", "> 235 ok", "< MAIL", "> 550 no"]
    world = make_world(text, servers={"127.0.0.11:25": [script]})
    world.deliver()
    assert b"AUTH PLAIN AG9uZQAx\r\n" in world.wire()  # one, 1
    world.deliver(world.request(sender="t@client.example"))
    assert b"AUTH PLAIN AHR3bwAy\r\n" in world.wire(1)  # two, 2


def script(auth: str, *steps: str) -> dict[str, list[list[str]]]:
    start = ["> 220 a ESMTP", "< EHLO", "> 250-a", f"> 250 AUTH {auth}"]
    return {"127.0.0.11:25": [[*start, *steps]]}


ACCEPTED = (
    "< MAIL",
    "> 250 ok",
    "< RCPT",
    "> 250 ok",
    "< DATA",
    "> 354 go",
    "<data",
    "> 250 ok",
    "< QUIT",
    "> 221 bye",
)


class TestSecurityOptions:
    """Which mechanisms may be used depends on TLS (smtp_sasl_tls_security_options and ..._verified_...)."""

    OPTIONS = (
        "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:user:secret\n"
        "smtp_sasl_security_options = mutual_auth\nsmtp_sasl_tls_security_options = noplaintext\n"
        "smtp_sasl_tls_verified_security_options = noanonymous\n"
    )

    @pytest.mark.parametrize(
        ("tls", "mechanism"),
        [
            (None, b"AUTH DIGEST-MD5\r\n"),
            (TLSState(Level.MAY), b"AUTH CRAM-MD5\r\n"),
            (TLSState(Level.SECURE, trusted=True, matched=True), b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"),
        ],
        ids=["plaintext", "encrypted", "verified"],
    )
    def test_by_state_of_tls(self, make_world, monkeypatch, tls: TLSState | None, mechanism: bytes) -> None:  # type: ignore[no-untyped-def]
        original = sasl.authenticate

        def authenticate(d, s):  # type: ignore[no-untyped-def]
            s.tls = tls
            # Each mechanism is the strongest that the options of one state allow.
            s.mechanisms = [
                "PLAIN" if tls and tls.matched else "PLAIN CRAM-MD5" if tls else "PLAIN CRAM-MD5 DIGEST-MD5"
            ]
            return original(d, s)

        monkeypatch.setattr(handshake.sasl, "authenticate", authenticate)
        world = make_world(self.OPTIONS, servers=script("PLAIN", "< AUTH", "> 454 later", "< QUIT"))
        world.deliver()
        assert mechanism in world.wire()

    def test_channel_binding(self, make_world, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        original = sasl.authenticate

        def authenticate(d, s):  # type: ignore[no-untyped-def]
            s.tls = TLSState(Level.MAY, bindings={"tls-exporter": b"x" * 32, "tls-server-end-point": b"y"})
            return original(d, s)

        monkeypatch.setattr(handshake.sasl, "authenticate", authenticate)
        servers = script("PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "< AUTH", "> 454 later", "< QUIT")
        world = make_world(SASL, servers=servers)
        world.deliver()
        line = world.wire().split(b"\r\n")[1]
        assert line.startswith(b"AUTH SCRAM-SHA-256-PLUS ")
        assert base64.b64decode(line.split(b" ")[2]).startswith(b"p=tls-exporter,,n=user,r=")


class TestTokens:
    """OAuth 2.0: a password that names a token source."""

    def world(self, make_world, password: str, servers, tokens: list[object], options: str = ""):  # type: ignore[no-untyped-def]
        world = make_world(
            "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
            f"smtp_sasl_password_maps = static:me@example.com:{password}\n{options}",
            servers=servers,
        )
        world.asked = []

        def fetch(effect: FetchToken) -> tuple[str, str]:
            world.asked.append(effect)
            found = tokens.pop(0)
            if isinstance(found, Exception):
                raise found
            return found  # type: ignore[return-value]

        world.memory.fetch_token = fetch
        world.deliver()
        return world

    def test_a_token_is_sent(self, make_world) -> None:  # type: ignore[no-untyped-def]
        servers = script("PLAIN XOAUTH2 SCRAM-SHA-256", "sasl XOAUTH2 me@example.com tok", "> 235 ok", *ACCEPTED)
        world = self.world(make_world, "oauth2:/etc/tokens/me", servers, [("tok", "")])
        assert world.outcomes[0].result == "sent"
        assert world.asked == [FetchToken("/etc/tokens/me", "me@example.com")]

    def test_oauthbearer(self, make_world) -> None:  # type: ignore[no-untyped-def]
        servers = script("OAUTHBEARER", "sasl OAUTHBEARER other@example.com tok", "> 235 ok", *ACCEPTED)
        world = self.world(make_world, "oauth2:/etc/tokens/me", servers, [("tok", "other@example.com")])
        assert world.outcomes[0].result == "sent"

    def test_a_long_token_follows_the_command(self, make_world) -> None:  # type: ignore[no-untyped-def]
        long = "t" * 3000
        servers = script("XOAUTH2", f"sasl XOAUTH2 me@example.com {long}", "> 235 ok", *ACCEPTED)
        world = self.world(make_world, "oauth2:f", servers, [(long, "")])
        assert world.outcomes[0].result == "sent"
        assert b"AUTH XOAUTH2\r\n" in world.wire()

    def test_a_token_that_no_line_holds(self, make_world) -> None:  # type: ignore[no-untyped-def]
        servers = script("XOAUTH2", "< AUTH", "> 334", "< QUIT")
        world = self.world(make_world, "oauth2:f", servers, [("t" * 9300, "")])
        assert "overflowed buffer" in world.outcomes[0].dsn.reason

    def test_a_refused_token_is_replaced_in_the_session(self, make_world) -> None:  # type: ignore[no-untyped-def]
        servers = script(
            "XOAUTH2", "sasl XOAUTH2 me@example.com new", "> 535 5.7.8 expired",
            "sasl XOAUTH2 me@example.com new", "> 235 ok", *ACCEPTED,
        )  # fmt: skip
        world = self.world(make_world, "oauth2:f", servers, [("old", ""), ("new", "")])
        assert world.outcomes[0].result == "sent"
        assert [effect.refused for effect in world.asked] == ["", "old"]
        assert world.wire().count(b"AUTH XOAUTH2 ") == 2

    def test_a_token_that_stays_refused(self, make_world) -> None:  # type: ignore[no-untyped-def]
        servers = script("XOAUTH2", "sasl XOAUTH2 me@example.com other", "> 535 5.7.8 no", "< QUIT")
        world = self.world(make_world, "oauth2:f", servers, [("old", ""), ("old", "")])
        assert (world.outcomes[0].result, world.outcomes[0].dsn.status) == ("deferred", "4.7.8")
        assert world.wire().count(b"AUTH XOAUTH2 ") == 1

    def test_no_token(self, make_world) -> None:  # type: ignore[no-untyped-def]
        error = TokenError("https://idp.example/token answered 400 invalid_grant: get another with: postfixpy oauth")
        world = self.world(make_world, "oauth2:f", script("PLAIN XOAUTH2", "< QUIT"), [error])
        (outcome,) = world.outcomes
        assert (outcome.result, outcome.dsn.status) == ("deferred", "4.7.0")
        assert outcome.dsn.reason.endswith(
            f"cannot authenticate to server 127.0.0.11[127.0.0.11]: no OAuth2 token: {error}"
        )
        assert b"AUTH" not in world.wire()

    def test_no_token_is_fetched_for_a_server_that_takes_none(self, make_world) -> None:  # type: ignore[no-untyped-def]
        for servers, options in ((script("PLAIN LOGIN", "< QUIT"), ""), (script("XOAUTH2", "< QUIT"), "noplaintext")):
            world = self.world(make_world, "oauth2:f", servers, [], f"smtp_sasl_security_options = {options}\n")
            assert "no mechanism available" in world.outcomes[0].dsn.reason
            assert world.asked == [] and b"AUTH" not in world.wire()

    def test_the_path_of_a_file_as_with_the_plugin(self, make_world, tmp_path) -> None:  # type: ignore[no-untyped-def]
        path = tmp_path / "token"
        path.write_text("{}")
        servers = script("PLAIN XOAUTH2", "sasl XOAUTH2 me@example.com tok", "> 235 ok", *ACCEPTED)
        world = self.world(make_world, str(path), servers, [("tok", "")])
        assert world.outcomes[0].result == "sent"

    def test_a_password_that_only_looks_like_a_path(self, make_world, tmp_path) -> None:  # type: ignore[no-untyped-def]
        servers = script("PLAIN XOAUTH2", f"sasl PLAIN me@example.com {tmp_path}/none", "> 235 ok", *ACCEPTED)
        assert self.world(make_world, f"{tmp_path}/none", servers, []).outcomes[0].result == "sent"
        path = tmp_path / "token"
        path.write_text("{}")
        servers = script("PLAIN", f"sasl PLAIN me@example.com {path}", "> 235 ok", *ACCEPTED)
        assert self.world(make_world, str(path), servers, []).outcomes[0].result == "sent"

    def test_a_refusal_is_remembered_for_its_token_only(self, make_world, tmp_path) -> None:  # type: ignore[no-untyped-def]
        servers = script("XOAUTH2", "sasl XOAUTH2 me@example.com x", "> 535 5.7.8 no", "< QUIT")
        tokens: list[object] = [("a", ""), ("a", ""), ("a", ""), ("b", ""), ("b", "")]
        cache = f"smtp_sasl_auth_cache_name = proxy:internal:{tmp_path}\n"
        world = self.world(make_world, "oauth2:f", servers, tokens, cache)
        world.deliver()
        world.deliver()
        reasons = [outcome.dsn.reason for outcome in world.outcomes]
        assert ["[CACHED]" in reason for reason in reasons] == [False, True, False]
