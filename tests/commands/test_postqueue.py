import json
import os
import socket
import stat
import threading
import time

import pytest

from postfixpy.commands.postqueue import EX_UNAVAILABLE
from postfixpy.ipc.attributes import encode, parse

from .queue_runner import T

WHEN = time.asctime(time.localtime(T))
HELLO = encode([("protocol", "mail_queue_list_protocol")])


class Server:
    """A service at `path` that says `hello`, and `answer` when (not empty) it was asked; keeps what it was asked."""

    def __init__(self, path, hello, answer=b""):
        self.requests = []
        self._hello, self._answer = hello, answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._thread.join(10)
        self._socket.close()

    def _serve(self):
        client, _ = self._socket.accept()
        with client:
            client.sendall(self._hello)
            if self._answer:
                data = client.recv(65536)
                parsed = parse(data)
                self.requests.append(dict(parsed[0]) if parsed else data)
                client.sendall(self._answer)


def head(queue="deferred", queue_id="4C1E0D4B7C", expire=0, sender="s@example.org", size=2000):
    numbers = [("time", str(T)), ("size", str(size)), ("forced_expire", str(expire))]
    return encode([("queue_name", queue), ("queue_id", queue_id), *numbers, ("sender", sender)])[:-1]


def new(address, reason="", log="defer", original="o@x"):
    pairs = [("original_recipient", original), ("recipient", address), ("log_class", log), ("reason", reason)]
    return encode(pairs)[:-1]


def old(address, reason=""):
    return encode([("recipient", address), ("reason", reason)])[:-1]


def listing(site, option, *parts):
    with Server("public/showq", HELLO + b"".join(parts)):
        return site.run("postqueue", option)


# Lists


def test_empty(site):
    assert listing(site, "-p", b"\0") == (0, "Mail queue is empty\n", "")
    os.unlink("public/showq")
    assert listing(site, "-j", b"\0") == (0, "", "")


def test_list(site):
    result = listing(
        site,
        "-p",
        head("active"),
        new("a@example.com", "no luck"),
        new("b@example.com", "no luck"),
        new("c@example.com"),
        b"\0",
        head("hold", "1F", 1, "MAILER-DAEMON", 100),
        new("d@example.com", "x" * 80),
        b"\0\0",
    )
    assert result.status == 0
    assert result.err == ""
    assert result.out == (
        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
        f"4C1E0D4B7C*    2000 {WHEN[:19]}  s@example.org\n"
        + " " * 69
        + "(no luck)\n"
        + " " * 41
        + "a@example.com\n"
        + " " * 41
        + "b@example.com\n"
        + " " * 58
        + "(reason unavailable)\n"
        + " " * 41
        + "c@example.com\n\n"
        f"1F!#            100 {WHEN[:19]}  MAILER-DAEMON\n"
        f"({'x' * 80})\n" + " " * 41 + "d@example.com\n\n-- 2 Kbytes in 2 Requests.\n"
    )


def test_list_with_long_ids(site):
    site.configure("enable_long_queue_ids = yes")
    result = listing(site, "-p", head(queue_id="3Xbbkh0000z5"), new("a@example.com"), b"\0\0")
    assert result.out == (
        "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
        f"3Xbbkh0000z5          2000 {WHEN[:19]} s@example.org\n"
        + " " * 47
        + "a@example.com\n\n-- 1 Kbytes in 1 Request.\n"
    )


def test_json(site):
    parts = [new('"a b"@example.com', 'said "no"\\'), new("c@x", "gone", "bounce"), new("d@x", "", ""), b"\0\0"]
    result = listing(site, "-j", head(expire=1), *parts)
    assert result.out.count("\n") == 1
    assert json.loads(result.out) == {
        "queue_name": "deferred",
        "queue_id": "4C1E0D4B7C",
        "arrival_time": T,
        "message_size": 2000,
        "forced_expire": True,
        "sender": "s@example.org",
        "recipients": [
            {"orig_address": "o@x", "address": '"a b"@example.com', "delay_reason": 'said "no"\\'},
            {"orig_address": "o@x", "address": "c@x", "bounce_reason": "gone"},
            {"orig_address": "o@x", "address": "d@x"},
        ],
    }


def test_json_has_no_original_address_before_3_11(site, monkeypatch):
    monkeypatch.setenv("POSTFIXPY_VERSION", "3.7")
    result = listing(site, "-j", head(expire=1), new("c@x", "gone", "bounce"), b"\0\0")
    assert json.loads(result.out)["recipients"] == [{"address": "c@x", "bounce_reason": "gone"}]


def test_json_from_an_older_showq(site):
    result = listing(site, "-j", head(), old("a@example.com", "no"), old("b@example.com"), b"\0\0")
    assert json.loads(result.out)["recipients"] == [
        {"address": "a@example.com", "delay_reason": "no"},
        {"address": "b@example.com"},
    ]


def test_what_the_server_sends_is_made_printable(site):
    result = listing(site, "-j", head(sender="a\x1b[2J\nb@\udcff é"), b"\0\0")
    assert json.loads(result.out)["sender"] == "a?[2J?b@? é"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        head(),
        head() + b"\0",
        head()[:40],
        b"rubbish\0x\0",
        head() + b"bad\0x\0\0\0",
        head().replace(b"2000", b"2x00"),
    ],
)
def test_a_server_that_talks_nonsense(site, answer):
    result = listing(site, "-p", answer)
    assert result.status == EX_UNAVAILABLE
    assert result.err == "postqueue: fatal: malformed showq server response\n"


# The mail system is down


def test_down_superuser_reads_the_queue(site):
    name = site.add("deferred")
    site.note("defer", name, b"recipient=a@example.com\nreason=no luck\n\n")
    site.add("hold", number=1)
    result = site.run("postqueue", "-p")
    assert result.status == 0
    assert result.err == (
        "postqueue: warning: Mail system is down -- accessing queue directly "
        "(Connect to the Postfix showq service: No such file or directory)\n"
    )
    assert f"{name}      39 {WHEN[:19]}  sender@example.org\n{' ' * 69}(no luck)\n" in result.out
    assert result.out.endswith("-- 0 Kbytes in 2 Requests.\n")
    assert len(site.run("postqueue", "-j").out.splitlines()) == 2


@pytest.mark.parametrize("option", ["-p", "-j"])
def test_down_and_a_queue_directory_is_missing(site, option):
    """The queue is not said to be empty."""
    os.rmdir("hold")
    result = site.run("postqueue", option)
    assert (result.status, result.out) == (EX_UNAVAILABLE, "")
    assert result.err.splitlines()[1:] == [
        "postqueue: warning: open directory hold: No such file or directory",
        "postqueue: fatal: malformed showq server response",
    ]


def test_down_others_may_not(site, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.stat(site.directory).st_uid + 12345)
    result = site.run("postqueue", "-p")
    assert result == (
        EX_UNAVAILABLE,
        "",
        "postqueue: fatal: Queue report unavailable - mail system is down "
        "(Connect to the Postfix showq service: No such file or directory)\n",
    )


# Who may


@pytest.mark.parametrize(
    ("option", "parameter", "action"),
    [
        (["-p"], "authorized_mailq_users", "view"),
        (["-j"], "authorized_mailq_users", "view"),
        (["-f"], "authorized_flush_users", "flush"),
        (["-i", "AB"], "authorized_flush_users", "flush"),
        (["-s", "example.com"], "authorized_flush_users", "flush"),
    ],
)
def test_users_who_are_not_listed(site, monkeypatch, option, parameter, action):
    monkeypatch.setattr("os.getuid", lambda: 65534)
    site.configure(f"{parameter} = root")
    result = site.run("postqueue", *option)
    assert result.status == EX_UNAVAILABLE
    assert result.err == f"postqueue: fatal: User nobody(65534) is not allowed to {action} the mail queue\n"


# Flush


def test_flush_wakes_up_the_queue_manager_and_pickup(site):
    readers = []
    for name in ("qmgr", "pickup"):
        os.mkfifo(f"public/{name}")
        readers.append(os.open(f"public/{name}", os.O_RDWR | os.O_NONBLOCK))
    assert stat.S_ISFIFO(os.stat("public/qmgr").st_mode)
    assert site.run("postqueue", "-f") == (0, "", "")
    assert [os.read(fd, 100) for fd in readers] == [b"FADI", b"W"]
    for fd in readers:
        os.close(fd)


def test_flush_while_the_mail_system_is_down(site):
    result = site.run("postqueue", "-f")
    assert result.status == EX_UNAVAILABLE
    assert result.err == (
        "postqueue: warning: unable to look up public/qmgr: No such file or directory\n"
        "postqueue: fatal: Cannot flush mail queue - mail system is down\n"
    )


FLUSH_HELLO = encode([("protocol", "queue_flush_protocol")])


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (0, 0, ""),
        (-1, EX_UNAVAILABLE, "Cannot flush mail queue - mail system is down"),
        (3, EX_UNAVAILABLE, 'Invalid request: "example.com"'),
        (4, EX_UNAVAILABLE, 'Flush service is not configured for destination "example.com"'),
        (9, EX_UNAVAILABLE, "Unknown flush server reply status 9"),
    ],
)
def test_flush_a_site(site, answer, status, text):
    site.configure("fast_flush_domains = example.com")
    with Server("public/flush", FLUSH_HELLO, encode([("status", answer)])) as server:
        result = site.run("postqueue", "-s", "example.com")
    assert result == (status, "", f"postqueue: fatal: {text}\n" if text else "")
    assert server.requests == [{"request": "send_site", "site": "example.com"}]


def test_flush_a_site_that_is_not_listed(site):
    result = site.run("postqueue", "-s", "example.net")
    assert result.status == EX_UNAVAILABLE
    assert result.err == 'postqueue: fatal: Flush service is not configured for destination "example.net"\n'


def test_flush_a_message(site):
    with Server("public/flush", FLUSH_HELLO, encode([("status", 0)])) as server:
        assert site.run("postqueue", "-i", "4C1E0D4B7C") == (0, "", "")
    assert server.requests == [{"request": "send_file", "queue_id": "4C1E0D4B7C"}]


def test_flush_a_message_while_the_mail_system_is_down(site):
    assert site.run("postqueue", "-i", "4C1E0D4B7C") == (
        EX_UNAVAILABLE,
        "",
        "postqueue: warning: connect to public/flush: No such file or directory\n"
        "postqueue: fatal: Cannot flush mail queue - mail system is down\n",
    )


# The command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-s", "no/site"], 'Cannot flush mail queue - invalid destination: "no/site"'),
        (["-s", "[1.2.3]"], 'Cannot flush mail queue - invalid destination: "[1.2.3]"'),
        (["-s", "x/" * 60], f'Cannot flush mail queue - invalid destination: "{"x/" * 50}..."'),
        (["-i", "../x"], 'Cannot flush queue ID - invalid name: "../x"'),
        ([], "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"),
        (["-p", "-f"], "usage: postqueue -f"),
        (["-p", "word"], "usage: postqueue -f"),
        (["-x"], "usage: postqueue -f"),
    ],
)
def test_bad_arguments(site, arguments, text):
    result = site.run("postqueue", *arguments)
    assert result.status == EX_UNAVAILABLE
    assert f"postqueue: fatal: {text}" in result.err
