"""The stock tables start: what is not ours is named in one line each, and mail for it waits, never lost."""

import re
import socket
from pathlib import Path

import pytest
from harness import MailSystem

MISSING = {
    "stock-upstream": "anvil local proxymap proxywrite scache smtp/inet tlsmgr verify virtual",
    "stock-debian": "anvil bsmtp ifmail local maildrop mailman proxymap proxywrite scache scalemail-backend "
    "smtp/inet tlsmgr uucp verify virtual",
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
