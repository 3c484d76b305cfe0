"""Our log through Debian's pflogsumm: the same totals as the sink saw."""

import re
import subprocess
from pathlib import Path

import pytest
from harness import running

RULES = ("rcpt later@* times=1 450 4.2.0 later", "rcpt never@* 550 5.1.1 never")


@pytest.mark.real
def test_the_totals_are_what_the_sink_saw(tmp_path: Path) -> None:
    # 3.11 logs "tls=" by default, which the pflogsumm of 2022 does not expect: that default is Postfix's, not ours.
    settings = {"smtp_tls_security_level": "none", "smtp_log_tls_feature_status": "no"}
    with running(tmp_path, *RULES, **settings) as (system, sink):
        for number in range(20):
            to = [f"r{number}@example.org", f"x{number}@example.org"]
            system.check("sendmail", "-f", "ann@example.com", *to, stdin=f"Subject: {number}\n\n{'x' * number}\n")
        for to in ("later@example.org", "never@example.org"):
            system.check("sendmail", "-f", "ann@example.com", [to][0], stdin="Subject: x\n\nx\n")
        system.wait_for(lambda: len(sink.recipients()) == 41 and len(system.queued()) == 1, "41 deliveries")
        system.wait_for(lambda: any(p.is_file() for p in (system.queue / "deferred").rglob("*")), "the deferred queue")
        system.check("postqueue", "-f")
        system.wait_for(lambda: not system.queued(), "an empty queue")
        system.stop()
        report = subprocess.run(["pflogsumm", str(system.log_path)], capture_output=True, text=True, check=True).stdout
        grand = report.partition("Per-Day")[0].partition("Per-Hour")[0]
        totals = {name: int(number) for number, name in re.findall(r"^ +(\d+)k?  +(\w+)", grand, re.M)}
        assert totals["received"] == 22  # locally submitted messages; the notification is made inside
        assert totals["delivered"] == len(sink.recipients()) == 42
        assert totals["deferred"] == 1
        assert totals["bounced"] == 1
        assert totals["recipients"] == len(set(sink.recipients()))  # pflogsumm counts who got mail
