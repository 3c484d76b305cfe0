"""Mail whose policy demands TLS never goes out in plaintext."""

import pytest

from postfixpy.errors import FatalError
from postfixpy.smtp.policy import global_level
from postfixpy.tls.level import Level

OFFERS = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 STARTTLS", "< QUIT"]
LACKS = ["> 220 a ESMTP", "< EHLO", "> 250 a", "< QUIT"]
MANDATORY = [
    "smtp_tls_security_level = encrypt",
    "smtp_tls_security_level = dane-only",
    "smtp_tls_security_level = verify",
    "smtp_tls_security_level = secure",
    "smtp_tls_security_level = fingerprint",
    "smtp_enforce_tls = yes",
    "smtp_tls_policy_maps = static:encrypt",
    "smtp_tls_policy_maps = static:nonsense",
    "smtp_tls_policy_maps = static:{secure match=x}",
    "smtp_tls_policy_maps = fail:x",
    "smtp_tls_per_site = static:MUST",
    "smtp_tls_per_site = static:nonsense",
    "smtp_tls_per_site = fail:x",
    "smtp_tls_wrappermode = yes",
    "smtp_tls_wrappermode = yes\nsmtp_tls_security_level = encrypt",
]


@pytest.mark.parametrize("text", MANDATORY)
@pytest.mark.parametrize("script", [OFFERS, LACKS])
def test_never_in_plaintext(make_world, log_lines, text: str, script: list[str]) -> None:  # type: ignore[no-untyped-def]
    world = make_world(text + "\n", servers={"127.0.0.11:25": [script]})
    world.deliver()
    (outcome,) = world.outcomes
    assert outcome.result == "deferred" and outcome.dsn.status[:3] in ("4.7", "4.3", "4.4")
    for _, peer in world.network.peers:
        assert b"MAIL" not in b"".join(peer.chunks)


def test_engine_unavailable(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world("smtp_tls_security_level = encrypt\n", servers={"127.0.0.11:25": [OFFERS]}, tls=False)
    world.deliver()
    assert world.outcomes[0].dsn.status == "4.7.5"
    assert world.outcomes[0].dsn.reason == "TLS is required, but our TLS engine is unavailable"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", Level.NONE),
        ("smtp_use_tls = yes", Level.MAY),
        ("smtp_enforce_tls = yes", Level.VERIFY),
        ("smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no", Level.ENCRYPT),
        ("smtp_tls_security_level = May\nsmtp_enforce_tls = yes", Level.MAY),
        ("smtp_tls_security_level = dane-only", Level.DANE_ONLY),
        ("compatibility_level = 3.11", Level.MAY),
    ],
)
def test_global_level(make_settings, text: str, level: Level) -> None:  # type: ignore[no-untyped-def]
    assert global_level(make_settings(text + "\n")) == level


def test_bad_level(make_settings) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FatalError, match='Invalid TLS level "x"'):
        make_settings("smtp_tls_security_level = x\n")


def test_policy_of_parent_domain(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    zone = ["mail.a.example A 127.0.0.11"]
    text = "smtp_tls_policy_maps = inline:{.a.example=encrypt}\n"
    world = make_world(text, servers={"127.0.0.11:25": [OFFERS], "127.0.0.11:2525": [OFFERS]}, zone=zone, tls=False)
    world.deliver(world.request("mail.a.example"))
    assert world.outcomes[0].dsn.status == "4.7.5"
    assert world.outcomes[0].tls == "encrypt?"
