import os

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.service import Context
from postfixpy.mail.queue import Queue
from postfixpy.services.showq import Showq
from tests.commands.queue_runner import T, message
from tests.ipc.mail_system import MailSystem

from .agent_client import serve


def add(queue, number=0, **more):
    with Queue("").create(queue, now=T * 1_000_000 + number) as file:
        file.write(message(**more))
        file.commit()
        return file.id


def ask(system, words=(), release=None):
    async def main():
        view = system.view(process_name="showq")
        if release is not None:
            view.__dict__["release"] = release
        return await serve(Showq(Context(None, view, "showq", "showq", words=list(words))), b"", count=1000)

    return system.run(main())


@pytest.fixture
def system(tmp_path):
    with MailSystem(tmp_path) as mail_system:
        yield mail_system


def test_empty_queue(system):
    assert ask(system) == [[("protocol", "mail_queue_list_protocol")], []]


def test_a_message_is_one_list(system):
    queue_id = add("active")
    first, only, end = ask(system)
    assert first == [("protocol", "mail_queue_list_protocol")]
    assert only == [
        ("queue_name", "active"),
        ("queue_id", queue_id),
        ("time", str(T)),
        ("size", "39"),
        ("forced_expire", "0"),
        ("sender", "sender@example.org"),
        ("original_recipient", "orig-a@example.com"),
        ("recipient", "a@example.com"),
        ("log_class", ""),
        ("reason", ""),
    ]
    assert end == []


def test_a_long_queue_with_many_recipients(system):
    many = [f"user{n}@example.com" for n in range(3000)]
    for number in range(5):
        add("active", number, recipients=many)
    lists = ask(system)
    assert [len(pairs) for pairs in lists] == [1, *[6 + 4 * 3000] * 5, 0]


def test_words_in_master_cf_are_fatal(system):
    with pytest.raises(FatalError, match=r"^unexpected command-line argument: x$"):
        ask(system, ["x"])


def test_a_client_that_leaves_is_no_error(system):
    for number in range(200):
        add("active", number, recipients=[f"user{n}@example.com" for n in range(500)])

    async def main():
        view = system.view(process_name="showq")
        service = Showq(Context(None, view, "showq", "showq"))
        return await serve(service, b"", count=1)

    lists = system.run(main())
    assert len(lists) >= 1
    assert system.log == []


@pytest.mark.parametrize("queue", ["maildrop", "hold"])
def test_a_queue_that_cannot_be_read_is_not_an_empty_one(system, queue):
    os.rmdir(queue)
    with pytest.raises(FatalError, match=rf"^open directory {queue}: No such file or directory$"):
        ask(system)
