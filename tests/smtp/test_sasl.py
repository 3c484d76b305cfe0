"""With a password for the server, mail goes out authenticated or not at all. The dialogues are in the scenarios."""

import pytest

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
