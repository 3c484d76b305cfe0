"""Our smtp, relay and lmtp inside a real Postfix of each release that the machine can run, with nothing configured:
under its master and queue manager, with its bounce, defer, trace, verify, flush, rewrite, scache and postlogd."""

import os
import re

import pytest
from real_postfix import RealPostfix, releases

pytestmark = pytest.mark.real

ZONE = [
    "example.com MX 10 mx.example.com",
    "relay.example MX 10 mx.example.com",
    "later.example MX 10 mx.example.com",
    "mx.example.com A 10.0.0.1",
    "client.example A 10.0.0.2",
]


def statuses(system: RealPostfix) -> list[str]:
    """Recipient, DSN and status of each delivery, and by which program."""
    found = re.findall(r"^(\S+): \w+: to=<([^>]+)>.*? dsn=(\S+), status=(\w+)", "\n".join(system.log()), re.M)
    return sorted(f"{program} {address} {dsn} {status}" for program, address, dsn, status in found)


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("chroot", [False, True], ids=["plain", "chroot"])
def test_deliveries(release: str, chroot: bool) -> None:
    rows = ["relay unix - - n - - smtp -o syslog_name=postfix/relay"]
    settings = {"relay_domains": "relay.example", "transport_maps": "inline:{mailbox.example=lmtp:inet:10.0.0.3:24}"}
    with RealPostfix(release, ours=["smtp", "lmtp"], zone=ZONE, chroot=chroot, rows=rows, **settings) as system:
        system.sink("10.0.0.1:25", "rcpt *@later.example 450 4.2.0 later")
        system.sink("10.0.0.2:25")
        system.sink("10.0.0.3:24", options=["-L"])
        everybody = ["b@example.com", "c@nowhere.example", "d@relay.example", "e@later.example", "f@mailbox.example"]
        system.send("a@client.example", *everybody)
        system.send("a@client.example", "g@later.example", "h@example.com", options=["-v"])  # with a report
        system.send("a@client.example", "i@example.com", options=["-bv"])  # a probe
        system.wait(lambda: len(statuses(system)) >= 11, "the deliveries")
        roots = {os.readlink(f"/proc/{pid}/root") for pid in system.processes("lmtp")}
        assert any(root.endswith("/var/spool/postfix") for root in roots) == chroot, roots
        assert statuses(system) == [
            "postfix/lmtp f@mailbox.example 2.2.0 sent",
            "postfix/relay/smtp d@relay.example 2.0.0 sent",
            *["postfix/smtp a@client.example 2.0.0 sent"] * 3,
            "postfix/smtp b@example.com 2.0.0 sent",
            "postfix/smtp c@nowhere.example 5.4.4 bounced",
            "postfix/smtp e@later.example 4.2.0 deferred",
            "postfix/smtp g@later.example 4.2.0 deferred",
            "postfix/smtp h@example.com 2.0.0 sent",
            "postfix/smtp i@example.com 2.1.5 deliverable",
        ]
        system.wait(lambda: len(system.queued()) == 2, "the two that wait")
        listing = system.run("postqueue", "-p").stdout
        assert listing.count("450 4.2.0 later (in reply to RCPT TO command)") == 2
        system.reload()
        system.wait(lambda: not system.processes("smtp"), "ours to leave at the reload", 60)
        system.run("postqueue", "-f")
        system.wait(lambda: len(statuses(system)) == 13, "the second attempt")
        system.stop()
        system.wait(lambda: not system.processes("smtp"), "ours to end at the stop", 60)
        assert system.troubles() == []


@pytest.mark.parametrize("release", releases())
def test_connections_are_lent_to_the_real_smtp_and_by_it(release: str) -> None:
    """One connection, four deliveries: by the real smtp, by ours, by ours, by the real one, each in a new process."""
    command = "../../../local/libexec/smtp"
    rows = [f"smtp unix - - n - 1 {command} -o max_use=1 -o syslog_name=postfix/turn"]
    settings = {
        "smtp_connection_cache_destinations": "example.com",
        "smtp_connection_cache_time_limit": "60s",
        "connection_cache_ttl_limit": "60s",
    }
    with RealPostfix(release, zone=ZONE, rows=rows, ours=["nothing"], **settings) as system:
        system.sink("10.0.0.1:25", options=["-v"])
        place = system.path("/usr/local/libexec/smtp")
        for number, program in enumerate(["real", "ours", "ours", "real"], 1):
            place.unlink(missing_ok=True)
            ours, real = "/usr/local/libexec/postfixpy/smtp", "/usr/lib/postfix/sbin/smtp"
            place.symlink_to(ours if program == "ours" else real)
            system.send("a@client.example", f"b{number}@example.com")
            system.wait(lambda number=number: system.text().count("status=sent") == number, f"delivery {number}", 20)
            system.wait(lambda: not system.processes("smtp"), "the process to end", 60)
        found = re.findall(r"to=<b(\d)@example.com>, relay=\S+, (conn_use=\d, )?delay", system.text())
        assert found == [("1", ""), ("2", "conn_use=2, "), ("3", "conn_use=3, "), ("4", "conn_use=4, ")]
        assert system.troubles() == []
