import json
import os
import socket
from types import SimpleNamespace

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.ipc import logging

NOON = 1763899200.25  # 2025-11-23 12:00:00 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    import time

    sink = log.set_sink(print)
    for name in ("POSTLOG_SERVICE", "POSTLOG_HOSTNAME", "POSTFIXPY_LOG", "POSTFIXPY_LOG_FORMAT", "MAIL_LOGTAG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    last = log.set_sink(sink)
    log.set_utf8(True)
    if isinstance(last, logging.Logger):
        last.close()


def view(tmp_path, **more):
    names = {
        "myhostname": "mx.example.com",
        "syslog_name": "postfix",
        "syslog_facility": "mail",
        "maillog_file": "",
        "maillog_file_prefixes": f"/var, /dev/stdout, {tmp_path}",
        "queue_directory": str(tmp_path),
        "postlog_service_name": "postlog",
        "smtputf8_enable": True,
    }
    return SimpleNamespace(**(names | more))


def test_the_form_of_a_record():
    line = logging.record(NOON, "mx.example.com", "postfix/smtp", 7, "warning", "bad\nthing")
    assert line == "Nov 23 12:00:00 mx postfix/smtp[7]: warning: bad?thing"
    assert logging.record(NOON, "mx", "t", 7, "info", "x" * 3000).endswith(": " + "x" * 2000)


def test_json():
    line = logging.json_record(NOON, "mx.example.com", "postfix/smtp", 7, "info", 'a "b"\n')
    assert json.loads(line) == {
        "time": "2025-11-23T12:00:00.250Z",
        "host": "mx.example.com",
        "program": "postfix/smtp",
        "pid": 7,
        "severity": "info",
        "text": 'a "b"\n',
    }
    assert "\n" not in line


def test_the_tag(tmp_path, monkeypatch):
    assert logging.task("/usr/sbin/postlog") == "postfix/postlog"
    assert logging.task("smtp", view(tmp_path, syslog_name="postfix/relay")) == "postfix/relay/smtp"
    monkeypatch.setenv("MAIL_LOGTAG", "two")  # what master has: for the time before main.cf has been read
    assert logging.task("smtp") == "two/smtp"
    assert logging.task("smtp", view(tmp_path, syslog_name="postfix/relay")) == "postfix/relay/smtp"


def listen(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        sock.bind(path.name)
    finally:
        os.chdir(here)
    sock.settimeout(5)
    return sock


def test_to_postlogd_and_to_the_file_when_it_does_not_answer(tmp_path):
    (tmp_path / "public").mkdir()
    logger = logging.install("smtp", view(tmp_path, maillog_file=f"{tmp_path}/log"), fallback=True)
    logger("info", "one")
    assert (tmp_path / "log").read_text().endswith(f" mx postfix/smtp[{os.getpid()}]: one\n")
    with listen(tmp_path / "public/postlog") as sock:
        log.warning("two")  # connects now that somebody listens
        assert sock.recv(100).endswith(b": warning: two")
    (tmp_path / "public/postlog").unlink()
    with listen(tmp_path / "public/postlog") as sock:
        log.info("three")  # the first socket is gone
        assert sock.recv(100).endswith(b": three")
        logger.without_postlogd()
        log.info("four")
    assert (tmp_path / "log").read_text().splitlines()[1].endswith(": four")
    assert os.environ["POSTLOG_SERVICE"] == f"{tmp_path}/public/postlog"
    assert os.environ["POSTLOG_HOSTNAME"] == "mx.example.com"


def test_a_service_does_not_write_the_file_itself(tmp_path):
    logging.install("smtp", view(tmp_path, maillog_file=f"{tmp_path}/log"))("info", "lost")
    assert not (tmp_path / "log").exists()


def test_before_main_cf_the_environment_says_where(tmp_path, monkeypatch):
    with listen(tmp_path / "s") as sock:
        monkeypatch.setenv("POSTLOG_SERVICE", f"{tmp_path}/s")
        monkeypatch.setenv("POSTLOG_HOSTNAME", "h.example")
        logging.install("smtp")("fatal", "x")
        assert sock.recv(100).endswith(b" h postfix/smtp[%d]: fatal: x" % os.getpid())
        logging.install("smtp", view(tmp_path))  # main.cf wants syslog
        assert "POSTLOG_SERVICE" not in os.environ


def test_to_syslog(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "DEV_LOG", f"{tmp_path}/dev-log")
    with listen(tmp_path / "dev-log") as sock:
        logging.install("smtp", view(tmp_path, syslog_facility="local3"))("error", "x")
        data = sock.recv(200)
    assert data.startswith(b"<155>")  # local3 is 19, error is 3
    assert data.endswith(b" postfix/smtp[%d]: error: x" % os.getpid())


def test_to_standard_output(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("POSTFIXPY_LOG", "stdout")
    logging.install("smtp", view(tmp_path))("info", "caf\udce9")
    monkeypatch.setenv("POSTFIXPY_LOG_FORMAT", "json")
    logging.install("smtp", view(tmp_path))("info", "y")
    first, second = capfd.readouterr().out.splitlines()
    assert first.endswith("]: caf?")
    assert json.loads(second)["text"] == "y"


def test_without_smtputf8_only_ascii(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("POSTFIXPY_LOG", "stdout")
    logging.install("smtp", view(tmp_path, smtputf8_enable=False))("info", "from=<\u00df@example.com>")
    assert capfd.readouterr().out.endswith(": from=<??@example.com>\n")


def test_bad_parameters(tmp_path):
    with pytest.raises(FatalError) as caught:
        logging.install("smtp", view(tmp_path, maillog_file="/etc/passwd"))
    assert str(caught.value) == ("maillog_file value '/etc/passwd' does not match any prefix in maillog_file_prefixes")
    with pytest.raises(FatalError, match="syslog_facility"):
        logging.install("smtp", view(tmp_path, syslog_facility="nosuch"))
    with pytest.raises(FatalError, match="open logfile '/no/such': cannot open file: No such file or directory"):
        logging.open_logfile("/no/such")


def test_facilities_have_their_numbers():
    assert [logging.FACILITIES[name] for name in ("kern", "mail", "daemon", "ftp", "local0", "local7")] == (
        [0, 2, 3, 11, 16, 23]
    )
