"""The stock tables start: what is not ours is named in one line each, and mail for it waits, never lost."""

import os
import re
import socket
from pathlib import Path

import pytest
from harness import MailSystem, Sink

MISSING = {
    "stock-upstream": "anvil local smtp/inet verify virtual",
    "stock-debian": "anvil bsmtp ifmail local maildrop mailman scalemail-backend smtp/inet uucp verify virtual",
}


@pytest.mark.parametrize("fixture", sorted(MISSING))
def test_rows_that_are_not_ours_are_named(fixture: str, tmp_path: Path) -> None:
    settings = {
        "daemon_directory": "/nonexistent",
        "myhostname": "host.example.com",
        "mydestination": "host.example.com",
    }
    system = MailSystem(tmp_path, fixture, **settings)
    try:
        system.start()
        lines = [
            line for line in system.log().splitlines() if re.search("master.*(not available|no such program)", line)
        ]
        named = sorted(re.findall(r"service (\S+?)(?:/unix)?[ :]", "\n".join(lines)))
        assert named == MISSING[fixture].split()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", 25), 1):
            pass
        system.check("sendmail", "-f", "ann@host.example.com", "root@host.example.com", stdin="Subject: x\n\nx\n")
        system.wait_for(lambda: "status=deferred" in system.log(), "the deferral")
        assert re.search(
            r"to=<root@host\.example\.com>, relay=none, .*dsn=4\.3\.0, status=deferred \(mail transport unavailable\)",
            system.log(),
        )
        system.wait_for(lambda: '"queue_name": "deferred"' in system.check("postqueue", "-j"), "the deferred queue")
        assert len(system.queued()) == 1
    finally:
        system.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="the real one wants root")
@pytest.mark.parametrize("release", ["2.11", "3.5", "3.7", "3.10"])
def test_chrooted_services_of_older_releases(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the jail nothing is left to read of what an older release needs: mail is delivered, and returned."""
    monkeypatch.setenv("POSTFIXPY_VERSION", release)
    sink = Sink(tmp_path, "rcpt no@example.com 550 5.1.1 no")
    settings = {"myhostname": "host.example.com", "mydestination": "", "relayhost": f"[127.0.0.1]:{sink.port}"}
    system = MailSystem(
        tmp_path, "stock-debian", daemon_directory="/nonexistent", inet_interfaces="127.0.0.1", **settings
    )
    try:
        assert re.search(r"^cleanup +unix +n +- +y ", system.check("postconf", "-M", "cleanup/unix"), re.M)
        system.start()
        for to in ("yes@example.com", "no@example.com"):
            system.check("sendmail", "-f", "ann@example.com", to, stdin="Subject: x\n\nx\n")
        system.wait_for(lambda: not system.queued(), "an empty queue")
        assert sorted(sink.recipients()) == ["ann@example.com", "yes@example.com"]
        assert "panic" not in system.log()
    finally:
        system.stop()
        sink.stop()
