"""What no recording of the real smtp(8) shows: kept TLS connections, early replies, an engine that is not there."""

from typing import Any

from postfixpy.migrate.scenario import CERTIFICATES
from postfixpy.smtp.peers import Network

TX = ["< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data", "> 250 ok"]
HEAD = ["> 220 a ESMTP", "< EHLO", "> 250-a", "> 250 STARTTLS", "< STARTTLS", "> 220 go", "starttls good", "< EHLO"]
KEPT = "smtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 1\nsmtp_connection_cache_destinations = server.example\n"
ZONE = ["server.example A 127.0.0.11"]


def world_of(make_world: Any, text: str, *scripts: list[str]) -> Any:
    world = make_world(text, zone=ZONE)
    network = Network({"127.0.0.11:25": list(scripts)}, world.clock, str(CERTIFICATES))
    world.network = world.memory.network = network
    return world


def test_kept_connections_stay_in_tls(make_world: Any, log_lines: list[str]) -> None:
    script = [*HEAD, "> 250 a", *TX, "< RSET", "> 250 ok", *TX]
    world = world_of(make_world, KEPT + "smtp_tls_connection_reuse = yes\n", script)
    for _ in range(2):
        world.deliver(world.request("server.example"))
    assert [outcome.result for outcome in world.outcomes] == ["sent", "sent"]
    assert len(world.network.peers) == 1
    first, second = (line for line in log_lines if " TLS connection " in line)
    assert " TLS connection established to server.example[127.0.0.11]:25: TLSv1.3 " in first
    assert second == first.replace(" established ", " reused ")
    assert world.outcomes[1].stats.reuse_count == 1


def test_without_the_parameter_they_are_not_kept(make_world: Any, log_lines: list[str]) -> None:
    script = [*HEAD, "> 250 a", *TX, "< QUIT"]
    world = world_of(make_world, KEPT, script)
    for _ in range(2):
        world.deliver(world.request("server.example"))
    assert len(world.network.peers) == 2


def test_a_reply_before_mail_is_an_attack(make_world: Any, log_lines: list[str]) -> None:
    script = [*HEAD, r">> 250 a\r\n250 early\r\n", *TX]
    text = "smtp_tls_security_level = encrypt\nsmtp_tls_block_early_mail_reply = yes\n"
    world = world_of(make_world, text, script)
    world.deliver(world.request("server.example"))
    (outcome,) = world.outcomes
    assert (outcome.result, outcome.dsn.status, outcome.dsn.reason) == (
        "deferred",
        "4.7.0",
        "unexpected server message",
    )
    assert "warning: server server.example[127.0.0.11] violates smtp_tls_block_early_mail_reply policy" in log_lines


def test_wrapper_mode_without_engine(make_world: Any) -> None:
    text = "smtp_tls_security_level = encrypt\nsmtp_tls_wrappermode = yes\n"
    world = make_world(text, zone=ZONE, servers={"127.0.0.11:25": [["> 220 a"]]}, tls=False)
    world.deliver(world.request("server.example"))
    assert world.outcomes[0].dsn.reason == "TLS is required, but our TLS engine is unavailable"
    assert world.wire() == b""
