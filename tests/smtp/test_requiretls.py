"""A sender's REQUIRETLS without a TLS engine."""

import pytest

GOOD = [
    "> 220 a ESMTP", "< EHLO", "> 250 a", "< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data",
    "> 250 ok",
]  # fmt: skip
ZONE = ["b.example A 127.0.0.11", "x.client.test A 127.0.0.11"]


@pytest.mark.parametrize(
    ("text", "nexthop", "result", "status"),
    [
        ("mydomain = client.test", "b.example", "bounced", "5.7.10"),
        ("", "[127.0.0.11]", "sent", "2.0.0"),
        ("mydomain = client.test", "x.client.test", "sent", "2.0.0"),
        ("smtp_requiretls_policy = opportunistic", "b.example", "sent", "2.0.0"),
        ("smtp_requiretls_policy = opportunistic+starttls", "b.example", "bounced", "5.7.10"),
        (
            "smtp_requiretls_policy = opportunistic+starttls\nsmtp_tls_security_level = may",
            "b.example",
            "bounced",
            "5.7.30",
        ),
        ("smtp_requiretls_policy = disable", "b.example", "sent", "2.0.0"),
        ("smtp_requiretls_policy = error", "b.example", "deferred", "4.7.10"),
        ("smtp_requiretls_policy = nonsense", "b.example", "deferred", "4.7.10"),
        ("smtp_requiretls_policy = fail:x", "b.example", "deferred", "4.7.10"),
        ("requiretls_enable = no", "b.example", "sent", "2.0.0"),
    ],
)
def test_demand(make_world, log_lines, text: str, nexthop: str, result: str, status: str) -> None:  # type: ignore[no-untyped-def]
    world = make_world(text + "\n", servers={"127.0.0.11:25": [GOOD]}, zone=ZONE)
    world.deliver(world.request(nexthop, sendopts=32))
    (outcome,) = world.outcomes
    assert (outcome.result, outcome.dsn.status) == (result, status)
