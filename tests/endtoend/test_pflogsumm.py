"""Our log through Debian's pflogsumm: the same totals as the sink saw."""

import re
import subprocess
from pathlib import Path

import pytest
from harness import running

RULES = ("rcpt later@* times=1 450 4.2.0 later", "rcpt never@* 550 5.1.1 never")


@pytest.mark.real
def test_the_totals_are_what_the_sink_saw(tmp_path: Path) -> None:
    with running(tmp_path, *RULES, smtp_tls_security_level="none") as (system, sink):
        for number in range(20):
            to = [f"r{number}@example.org", f"x{number}@example.org"]
            system.check("sendmail", "-f", "ann@example.com", *to, stdin=f"Subject: {number}\n\n{'x' * number}\n")
        for to in ("later@example.org", "never@example.org"):
            system.check("sendmail", "-f", "ann@example.com", [to][0], stdin="Subject: x\n\nx\n")
        system.wait_for(lambda: len(sink.recipients()) == 41 and len(system.queued()) == 1, "41 deliveries")
        system.check("postqueue", "-f")
        system.wait_for(lambda: not system.queued(), "an empty queue")
        system.stop()
        report = subprocess.run(["pflogsumm", str(system.log_path)], capture_output=True, text=True, check=True).stdout
        totals = {
            name: int(n)
            for n, name in re.findall(
                r"^\s*(\d+)\s+(received|delivered|deferred|bounced|rejected|recipients|senders)\b", report, re.M
            )
        }
        assert totals["received"] == 22  # locally submitted messages; the notification is made inside
        assert totals["delivered"] == len(sink.recipients()) == 42
        assert totals["deferred"] == 1
        assert totals["bounced"] == 1
        assert totals["recipients"] == len(set(sink.recipients())) + 1 == 43 - 0
