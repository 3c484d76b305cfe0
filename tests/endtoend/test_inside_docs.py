"""docs/inside-postfix.md: every command in it is run, in its order, in a real Postfix."""

import re

import pytest
from real_postfix import PYTHON, REPOSITORY, RealPostfix, releases

pytestmark = pytest.mark.real

PAGE = REPOSITORY / "docs/inside-postfix.md"
ZONE = ["example.com MX 10 mx.example.com", "mx.example.com A 10.0.0.1", "example.net A 10.0.0.1"]
INSTALL = ("python3 -m venv ", "/opt/postfixpy/bin/pip install ")
"""The two commands that want a package index: the checkout's interpreter stands in for what they make."""


@pytest.mark.parametrize("release", [releases()[0], releases()[-1]])
def test_every_command(release: str) -> None:
    commands = re.findall(r"^    (.*)$", PAGE.read_text(), re.M)
    assert len(commands) > 20 and all(any(c.startswith(i) for c in commands) for i in INSTALL)
    rows = ["relay unix - - n - - smtp -o syslog_name=postfix/relay"]
    with RealPostfix(release, zone=ZONE, rows=rows) as system:
        system.sink("10.0.0.1:25")
        place = system.path("/opt/postfixpy/bin")
        place.mkdir(parents=True)
        (place / "postfixpy").write_text(f'#!/bin/sh\nexec {PYTHON} -I {REPOSITORY}/postfixpy/__main__.py "$@"\n')
        (place / "postfixpy").chmod(0o755)
        before = system.path("/etc/postfix/master.cf").read_text().split()
        said = {}
        for command in commands:
            if command.startswith("ps ") and not system.path("/usr/bin/ps").exists():
                assert len(system.processes("smtp")) == 2  # what it would show: a minimal root has no ps
            elif not command.startswith(INSTALL):
                said[command] = system.run("sh", "-c", command).stdout
            if command.startswith("sleep "):
                system.wait(lambda: not system.queued(), "the delivery")  # this machine may be slower than most
        assert re.search(r"relay=mx.example.com.*status=sent", said["grep 'postfix/smtp\\[' /var/log/mail.log"])
        assert said["postqueue -p"] == "Mail queue is empty\n"
        assert re.findall(r"status=(\w+)", system.text()) == ["sent"] * 3
        assert system.path("/etc/postfix/master.cf").read_text().split() == before
        assert system.troubles() == []
