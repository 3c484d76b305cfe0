"""The flush service, request by request. The queue manager is a socket that keeps its triggers."""

import os
import stat
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import flush as wire
from postfixpy.ipc.attributes import encode
from postfixpy.ipc.service import Context
from postfixpy.mail.queue import UNTHROTTLE, Queue
from postfixpy.services.flush import Flush, log_name
from tests.commands.queue_runner import message
from tests.ipc.mail_system import MailSystem

from .agent_client import serve

T = 1_700_000_000
DAY = 86400


@pytest.fixture
def system(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com\nhash_queue_names = hold") as mail_system:
        Path("flush").mkdir()
        yield mail_system


@pytest.fixture
def told(monkeypatch):
    """The trigger bytes that the queue manager gets, and where."""
    calls = []
    monkeypatch.setattr(
        "postfixpy.services.flush.trigger_blocking", lambda path, requests, timeout: calls.append((path, requests))
    )
    return calls


def ask(system, data, now=T, words=()):
    """Send bytes to the service: the status that it answers, None for none."""

    async def main():
        view = system.view(process_name="flush")
        service = Flush(Context(None, view, "flush", "flush", words=list(words)), now=lambda: now)
        await service.pre_jail()
        lists = await serve(service, data, hang_up=True)
        assert lists[0] == [("protocol", "queue_flush_protocol")]
        return wire.Status.parse(lists[1]).status if len(lists) > 1 else None

    Path("private/agent").unlink(missing_ok=True)
    return system.run(main())


def add(system, site, queue_id):
    return ask(system, wire.Add("add", site, queue_id).encode())


def deferred(number=0, commit=True):
    with Queue("").create("deferred", now=T * 1_000_000 + number) as file:
        file.write(message())
        if commit:
            file.commit()
        return file.id


def test_the_name_of_a_log(system):
    assert log_name("Mail.Example.COM") == "mail_example_com"
    assert log_name("[192.0.2.1]") is None
    assert log_name("bücher.example") == "xn__bcher_kva_example"
    assert log_name("") is None
    assert log_name("\ud800.example") is None


def test_add_appends_the_id_to_the_log_of_the_domain(system, told):
    assert add(system, "example.com", "4C1E0D4B7C") == wire.OK
    assert add(system, "EXAMPLE.com", "4C1E0D4B7D") == wire.OK
    assert Path("flush/example_com").read_text() == "4C1E0D4B7C\n4C1E0D4B7D\n"
    assert stat.S_IMODE(os.stat("flush/example_com").st_mode) == 0o600
    assert told == []


def test_requests_that_are_refused(system, told):
    assert add(system, "example.org", "4C1E0D4B7C") == wire.DENY
    assert add(system, "example.com", "../x") == wire.BAD
    assert ask(system, wire.SendSite("send_site", "example.org").encode()) == wire.DENY
    assert ask(system, wire.SendFile("send_file", "a/b").encode()) == wire.BAD
    assert ask(system, encode([("request", "nonsense")])) == wire.BAD
    assert (os.listdir("flush"), told, system.log) == ([], [], [])


def test_requests_that_are_malformed(system):
    assert ask(system, encode([("request", "add"), ("queue_id", "1")])) == wire.BAD
    assert system.log == ["warning: unexpected attribute queue_id from unix.agent (expecting: site)"]
    assert ask(system, b"request\0add\0site") == wire.BAD
    assert ask(system, b"") is None
    assert system.log[2:] == ["warning: end-of-input while reading request from unix.agent"]


def test_send_site_moves_the_messages_of_the_log(system, told):
    first, second, other = deferred(1), deferred(2), deferred(3)
    for queue_id in (first, second, first, "4C1E0D4B7C"):
        add(system, "example.com", queue_id)
    assert ask(system, wire.SendSite("send_site", "example.com").encode(), now=T + 9) == wire.OK
    assert sorted(os.listdir("incoming")) == sorted([first, second])
    assert os.listdir("deferred") == [other]
    assert os.stat(f"incoming/{first}").st_mtime == T + 9
    assert stat.S_IMODE(os.stat(f"incoming/{first}").st_mode) == 0o700
    assert os.stat("flush/example_com").st_size == 0
    assert told == [("public/qmgr", b"F"), ("public/qmgr", b"I")]


def test_a_site_without_log_or_with_an_empty_one(system, told):
    request = wire.SendSite("send_site", "example.com").encode()
    assert ask(system, request) == wire.OK
    Path("flush/example_com").touch()
    assert ask(system, request) == wire.OK
    assert told == [("public/qmgr", b"F")]


def test_a_bad_line_in_a_log(system, told):
    queue_id = deferred()
    Path("flush/example_com").write_text(f"../../etc/passwd\n{queue_id}\n")
    assert ask(system, wire.SendSite("send_site", "example.com").encode()) == wire.OK
    assert os.listdir("incoming") == [queue_id]
    assert system.log == ['warning: bad queue id "../../etc/passwd..." in fast flush logfile example_com']


def test_send_file_marks_the_message(system, told):
    queue_id = deferred()
    assert ask(system, wire.SendFile("send_file", queue_id).encode(), now=T + 9) == wire.OK
    state = os.stat(f"incoming/{queue_id}")
    assert (state.st_mtime, stat.S_IMODE(state.st_mode)) == (T + 9, 0o700 | UNTHROTTLE)
    assert told == [("public/qmgr", b"I")]


def test_send_file_of_what_is_no_message(system, told):
    incomplete = deferred(commit=False)
    Path("target").write_text("x")
    os.chmod("target", 0o700)
    os.symlink("../target", "deferred/4C1E0D4B7C")
    for queue_id in (incomplete, "4C1E0D4B7C", "4C1E0D4B7D"):
        assert ask(system, wire.SendFile("send_file", queue_id).encode()) == wire.OK
    assert stat.S_IMODE(os.stat("target").st_mode) == 0o700
    assert (os.listdir("incoming"), told) == ([], [])
    assert system.log == ["warning: open deferred/4C1E0D4B7C: cannot open file: Too many levels of symbolic links"]


def put_log(name, text, read):
    Path("flush", name).write_text(text)
    os.utime(f"flush/{name}", (read, read))


@pytest.mark.parametrize("wakeup", [b"W", b"W\0", wire.Plain("rfrsh").encode()])
def test_refresh(system, told, wakeup):
    old, young = deferred(1), deferred(2)
    put_log("old", old + "\n", T - DAY)
    put_log("young", young + "\n", T)
    put_log("empty", "", T - 8 * DAY)
    put_log("lately", "", T - DAY)
    assert ask(system, wakeup, now=T + 60) == wire.OK
    assert sorted(os.listdir("flush")) == ["lately", "old", "young"]
    assert os.listdir("incoming") == [old]
    assert told == [("public/qmgr", b"I")]


def test_purge_sends_all(system, told):
    ids = [deferred(1), deferred(2)]
    for number, queue_id in enumerate(ids):
        put_log(f"site{number}", queue_id + "\n", T)
    assert ask(system, wire.Plain("purge").encode(), now=T + 1) == wire.OK
    assert sorted(os.listdir("incoming")) == sorted(ids)


def test_a_log_that_cannot_be_opened(system):
    Path("flush/example_com").mkdir()
    assert add(system, "example.com", "4C1E0D4B7C") == wire.FAIL
    assert system.log == ["error: open fast flush logfile example_com: Is a directory"]


def test_a_list_that_cannot_tell(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = fail:no") as system:
        assert add(system, "example.com", "4C1E0D4B7C") == wire.FAIL


def test_a_queue_manager_that_is_down(system):
    add(system, "example.com", deferred())
    assert ask(system, wire.SendSite("send_site", "example.com").encode()) == wire.OK
    assert system.log == ["warning: unable to look up public/qmgr: No such file or directory"] * 2


def test_words_in_master_cf_are_fatal(system):
    with pytest.raises(FatalError, match=r"^unexpected command-line argument: x$"):
        ask(system, b"W", words=["x"])
