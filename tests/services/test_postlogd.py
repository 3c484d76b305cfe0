"""postlogd(8), as a class, and as a process that our master starts."""

import asyncio
import json
import os
import re
import signal
import socket
from types import SimpleNamespace

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import logging
from postfixpy.ipc.logging import connect_datagram
from postfixpy.ipc.service import Context
from postfixpy.services.postlogd import Postlogd, split_record
from tests.ipc.processes import until
from tests.services.test_master import Master

RECORD = "Nov 23 14:00:00 mx postfix/smtp[123]: warning: text: more"


@pytest.fixture(autouse=True)
def sink():
    previous = log.set_sink(print)
    yield
    log.set_sink(previous)


def postlogd(maillog_file="", words=()):
    view = SimpleNamespace(
        maillog_file=maillog_file,
        myhostname="mx",
        syslog_name="postfix",
        syslog_facility="mail",
        postlogd_watchdog_timeout=10,
    )
    return Postlogd(Context(config=None, view=view, program="postlogd", service="postlog", words=list(words)))


def test_splits_a_record():
    assert split_record(RECORD) == ("postfix/smtp[123]", "warning: text: more")
    assert split_record("too short") is None
    assert split_record("") is None


def test_appends_records_to_the_file(tmp_path):
    service = postlogd(f"{tmp_path}/log")
    asyncio.run(service.pre_jail())
    service.datagram(RECORD.encode())
    service.datagram(b"caf\xe9")
    log.info("of postlogd itself")
    asyncio.run(service.stop())
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert lines[:2] == [RECORD.encode(), b"caf\xe9"]
    assert lines[2].endswith(b" mx postfix/postlogd[%d]: of postlogd itself" % os.getpid())
    assert oct(os.stat(tmp_path / "log").st_mode & 0o777) == "0o600"
    assert service.watchdog_time() == 10


def test_without_a_file_records_go_to_syslog_under_their_own_name(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "DEV_LOG", f"{tmp_path}/dev-log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(f"{tmp_path}/dev-log")
        service = postlogd()
        asyncio.run(service.pre_jail())
        service.datagram(RECORD.encode())
        service.datagram(b"Nov 23 14:00:00 mx other: no process id")
        assert re.fullmatch(rb"<22>\w+ [ \d]+ [\d:]+ postfix/smtp\[123\]: warning: text: more", syslog.recv(200))
        assert re.fullmatch(rb"<22>\w+ [ \d]+ [\d:]+ other\[\d+\]: no process id", syslog.recv(200))
        asyncio.run(service.stop())


def test_json_on_standard_output(monkeypatch, capfd):
    monkeypatch.setenv("POSTFIXPY_LOG_FORMAT", "json")
    service = postlogd("/dev/stdout")
    asyncio.run(service.pre_jail())
    for record in (RECORD, "Nov 23 14:00:00 mx postfix/qmgr[9]: ABC: removed", "caf\xe9"):
        service.datagram(record.encode())
    asyncio.run(service.stop())
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(entry["program"], entry["pid"], entry["severity"], entry["text"]) for entry in found] == [
        ("postfix/smtp", 123, "warning", "text: more"),
        ("postfix/qmgr", 9, "info", "ABC: removed"),
        ("unknown", 0, "info", "caf\xe9"),
    ]


def test_what_is_fatal(tmp_path):
    with pytest.raises(FatalError, match="unexpected command-line argument: x"):
        asyncio.run(postlogd(words=["x"]).pre_jail())
    with pytest.raises(FatalError, match="open logfile '/no/such/log'"):
        asyncio.run(postlogd("/no/such/log").pre_jail())


def test_master_logs_through_it_and_reload_opens_a_new_file(tmp_path):
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs/mail"
    master = Master(
        tmp_path,
        master="postlog unix-dgram n n n - 1 postlogd\necho unix - n n - 2 echo\n",
        main=f"maillog_file = {path}\nmaillog_file_prefixes = {tmp_path}/logs",
        POSTFIXPY_LOG="",
    )
    try:
        until(lambda: path.exists() and "daemon started" in path.read_text())
        os.rename(path, tmp_path / "logs/old")
        master.process.send_signal(signal.SIGHUP)
        until(lambda: "reload -- version" in (tmp_path / "logs/old").read_text())
        sock = connect_datagram(f"{tmp_path}/queue/public/postlog")
        assert sock is not None
        with sock:
            sock.send(b"the one that ends may still take this")
            until(lambda: path.exists() or sock.send(RECORD.encode()) == 0)
            sock.send(RECORD.encode())
        until(lambda: RECORD in path.read_text())
    finally:
        master.stop()
    assert "terminating on signal 15" in path.read_text()
    assert master.log == ""
