import pytest

from postfixpy.ipc import flush
from postfixpy.ipc.flush import FlushClient

from .mail_system import MailSystem, status


def ask(system, call):
    async def main():
        return await call(FlushClient.of(system.view()))

    return system.run(main())


def test_add_asks_for_a_domain_of_the_list(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com, example.org") as system:
        system.service("public/flush", flush.ANNOUNCEMENT)
        assert ask(system, lambda client: client.add("example.com", "4C1E0D4B7C")) == flush.OK
        assert system.requests("public/flush") == [{"request": "add", "site": "example.com", "queue_id": "4C1E0D4B7C"}]
        assert ask(system, lambda client: client.add("sub.example.org", "4C1E0D4B7C")) == flush.OK
        assert ask(system, lambda client: client.add("example.net", "4C1E0D4B7C")) == flush.DENY
        assert len(system.seen) == 2
        assert system.log == []


def test_no_list_asks_nothing(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains =") as system:
        assert ask(system, lambda client: client.add("example.com", "1")) == flush.DENY
        assert ask(system, lambda client: client.purge()) == flush.DENY
        assert system.log == []


def test_parent_domains_match_subdomains_by_default(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        system.service("public/flush", flush.ANNOUNCEMENT)
        assert ask(system, lambda client: client.send_site("deep.example.com")) == flush.OK
        assert system.requests("public/flush") == [{"request": "send_site", "site": "deep.example.com"}]


def test_other_requests_and_answers(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        system.service("public/flush", flush.ANNOUNCEMENT, status(flush.BAD))
        assert ask(system, lambda client: client.send_file("4C1E0D4B7C")) == flush.BAD
        assert ask(system, lambda client: client.purge()) == flush.BAD
        assert system.requests("public/flush") == [
            {"request": "send_file", "queue_id": "4C1E0D4B7C"},
            {"request": "purge"},
        ]


def test_no_service(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        assert ask(system, lambda client: client.add("example.com", "1")) == flush.FAIL
        assert system.log == ["warning: connect to public/flush: No such file or directory"]


def test_service_that_hangs_up(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        system.service("public/flush", flush.ANNOUNCEMENT, lambda pairs: b"")
        assert ask(system, lambda client: client.add("example.com", "1")) == flush.FAIL
        [line] = system.log
        assert line == "warning: premature end-of-input on public/flush while reading input attribute name"


def test_list_that_cannot_tell(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = fail:no") as system:
        assert ask(system, lambda client: client.add("example.com", "1")) == flush.FAIL
        assert system.seen == []


@pytest.mark.parametrize(("level", "said"), [("0", True), ("2", False)])
def test_default_of_old_configurations_is_said(tmp_path, level, said):
    with MailSystem(tmp_path, f"mydestination = example.com\ncompatibility_level = {level}") as system:
        system.service("public/flush", flush.ANNOUNCEMENT)
        ask(system, lambda client: client.add("example.com", "1"))
        text = (
            "using backwards-compatible default setting relay_domains=$mydestination to "
            'update fast-flush logfile for domain "example.com"'
        )
        assert system.log == [text] * said
