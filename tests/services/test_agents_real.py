"""error(8), retry, discard(8) and showq(8): ours and the real ones, each inside the real mail system, do the same."""

import json
import re
import subprocess

import pytest

from .queue_manager.real_system import RealSystem

pytestmark = pytest.mark.real

PROGRAMS = ("error", "discard", "showq")

_PROGRAM = """#!{{python}}
import os, sys
sys.path.insert(0, {{repository!r}})
os.environ["POSTFIXPY_VERSION"] = {{version!r}}
from postfixpy.services.run import main
sys.exit(main([{name!r}, *sys.argv[1:]]))
"""

TRANSPORT = (
    "inline:{ {code.example=error:5.7.1 no thanks}, {text.example=error:just text}, {soft.example=error:4.1.1 odd}, "
    "{later.example=retry:4.2.2 later}, {hard.example=retry:5.1.1 odd}, {gone.example=discard:into the void}, "
    "{silent.example=discard:2.1.5 silently} }"
)
RECIPIENTS = [f"user@{name}.example" for name in ("code", "text", "soft", "later", "hard", "gone", "silent")]


def system(ours, **settings):
    real = RealSystem("rcpt * 250 ok", ours=False, transport_maps=TRANSPORT, **settings)
    if ours:
        for name in PROGRAMS:
            real._program(name, _PROGRAM.format(name=name))
    return real


def said(real):
    """What error, retry and discard logged, in any order, without ids and times."""
    lines = [line for line in real.log() if re.match("(error|discard): ", line)]
    lines = [re.sub(r": [0-9A-F]{9,}: ", ": ID: ", line) for line in lines]
    return sorted(re.sub(r"delays?=[\d./]+", "delay", line) for line in lines)


def converse(ours, *options, lines, listing=False, **settings):
    with system(ours, **settings) as real:
        real.send("sender@sink.example", *RECIPIENTS, options=options)
        real.wait(lambda: len(said(real)) >= lines, f"{lines} log lines", 30)
        outcome = said(real)
        reports = "status notification|non-delivery|delivery report"
        if not settings:
            real.wait(lambda: re.search(reports, "\n".join(real.log())), "a report", 30)
        queue = []
        if listing:
            real.wait(lambda: list((real.queue / "deferred").rglob("[0-9A-F]*[0-9A-F]")), "a deferred message", 30)
            real.wait(lambda: len(real.queued()) == 1, "the reports' delivery", 30)
            out = subprocess.run(
                ["postqueue", "-c", str(real.config), "-j"], capture_output=True, text=True, check=True
            ).stdout
            for line in out.splitlines():
                found = json.loads(line)
                found["queue_id"] = found["arrival_time"] = None
                found["recipients"].sort(key=lambda recipient: recipient["address"])
                queue.append(found)
        trouble = [line for line in real.log() if re.search("fatal:|panic:|Traceback|bad command|premature", line)]
        assert trouble == []
        return outcome, queue


@pytest.mark.parametrize(
    ("options", "lines"),
    [((), 9), (("-N", "success,delay,failure"), 9), (("-v",), 9), (("-bv",), 9)],
    ids=["plain", "reports", "recorded", "probe"],
)
def test_same_log_and_same_queue(options, lines):
    listing = options == ()
    ours = converse(True, *options, lines=lines, listing=listing)
    assert ours == converse(False, *options, lines=lines, listing=listing)
    assert len(ours[0]) == lines


def test_soft_bounce():
    ours, _ = converse(True, lines=9, soft_bounce="yes")
    assert ours == converse(False, lines=9, soft_bounce="yes")[0]
    assert sum("status=SOFTBOUNCE" in line for line in ours) == 3


def test_deferred_mail_is_flushed_by_domain():
    with system(True, fast_flush_domains="later.example") as real:
        real.send("sender@sink.example", "user@later.example")
        real.wait(lambda: said(real), "the deferral", 30)
        real.command("postqueue", "-s", "later.example")
        real.wait(lambda: len(said(real)) >= 2, "the second attempt", 30)
