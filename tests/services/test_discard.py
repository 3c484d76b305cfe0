import pytest

from postfixpy.errors import FatalError
from postfixpy.services.discard import Discard
from tests.ipc.mail_system import MailSystem

from .agent_client import deliver, kinds, queue_message


def test_discard_says_sent(tmp_path):
    with MailSystem(tmp_path) as system:
        request = queue_message("a@example.com", "b@example.com")
        request.nexthop = "into the void"
        assert deliver(system, Discard, request, service="discard") == (None, 0)
        assert kinds(request) == "DD"
        assert system.log[1].startswith(f"{request.queue_id}: to=<b@example.com>, relay=none, delay=")
        assert system.log[1].endswith(", dsn=2.0.0, status=sent (into the void)")


def test_discard_with_a_code(tmp_path):
    with MailSystem(tmp_path) as system:
        request = queue_message("a@example.com")
        request.nexthop = "2.1.5 silently"
        deliver(system, Discard, request, service="discard")
        assert system.log[0].endswith(", dsn=2.1.5, status=sent (silently)")


def test_fatal(tmp_path):
    with MailSystem(tmp_path) as system:
        request = queue_message("a@example.com")
        request.nexthop = ""
        with pytest.raises(FatalError, match=r"^empty nexthop hostname$"):
            deliver(system, Discard, request, service="discard")
