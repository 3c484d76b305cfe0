"""Labels and properties of the connection cache, as Postfix's scache(8) has them."""

import pytest

from postfixpy.smtp import cache
from postfixpy.smtp.delivery import Server
from postfixpy.smtp.policy import Policy
from postfixpy.tls.level import Level


@pytest.mark.parametrize(
    ("release", "text", "level", "destination", "endpoint"),
    [
        ("3.7", "", Level.NONE, "smtp\n[127.0.0.1]:43137\n", "smtp\n127.0.0.1\n43137\n0\n"),
        ("3.11", "", Level.NONE, "smtp\n[127.0.0.1]:43137\n0\n0\n0\n", "smtp\n127.0.0.1\n43137\n0\n0\n0\n"),
        (
            "3.7",
            "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n",
            Level.NONE,
            "smtp\n[127.0.0.1]:43137\n",
            "smtp\n[127.0.0.1]:43137\nhost\n127.0.0.1\n43137\n0\n",
        ),
        (
            "3.7",
            "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n"
            "smtp_sender_dependent_authentication = yes\n",
            Level.VERIFY,
            "smtp\ns@client.example\n[127.0.0.1]:43137\n",
            "smtp\ns@client.example\n[127.0.0.1]:43137\nhost\n127.0.0.1\n43137\n7\n",
        ),
    ],
)
def test_labels(make_world, release: str, text: str, level: Level, destination: str, endpoint: str) -> None:  # type: ignore[no-untyped-def]
    world = make_world(text, release=release)
    delivery = world.delivery()
    delivery.server = Server("[127.0.0.1]:43137", "host", "127.0.0.1", 43137)
    assert cache.destination_label(delivery, cache.Policy(nexthop="[127.0.0.1]:43137"), level) == destination
    assert cache.endpoint_label(delivery, Policy(level)) == endpoint


def test_fields() -> None:
    assert cache._field("") == "*\n"
    assert cache._field("a*b") == "YSpi\n"
    assert cache._field(0) == "0\n"


def test_bad_properties(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    assert cache._activate(world.delivery(), (None, "reuse_count=x\n\n", ""), Policy()) is None
    assert log_lines == ["warning: smtp_session_activate: bad cached endp properties"]
