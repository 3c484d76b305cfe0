import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import bounce
from postfixpy.services.error import Error
from tests.ipc.mail_system import MailSystem

from .agent_client import deliver, kinds, queue_message


@pytest.fixture
def system(tmp_path):
    with MailSystem(tmp_path) as mail_system:
        mail_system.service("private/defer", bounce.ANNOUNCEMENT)
        mail_system.service("private/bounce", bounce.ANNOUNCEMENT)
        yield mail_system


def test_error_bounces_with_the_text(system):
    request = queue_message("a@example.com", "b@example.com")
    request.nexthop = "5.1.1 no such user"
    assert deliver(system, Error, request, service="error") == (None, 0)
    assert kinds(request) == "DD"
    assert [r["recipient"] for r in system.requests("private/bounce")] == ["a@example.com", "b@example.com"]
    assert system.log[0].startswith(f"{request.queue_id}: to=<a@example.com>, relay=none, delay=")
    assert system.log[0].endswith(", dsn=5.1.1, status=bounced (no such user)")


def test_error_without_a_code(system):
    request = queue_message("a@example.com")
    request.nexthop = "go away"
    assert deliver(system, Error, request, service="error") == (None, 0)
    assert system.log[0].endswith(", dsn=5.0.0, status=bounced (go away)")


def test_retry_defers(system):
    request = queue_message("a@example.com")
    request.nexthop = "4.3.2 mail system is down"
    assert deliver(system, Error, request, service="retry") == (None, -1)
    assert kinds(request) == "R"
    assert system.log[0].endswith(", dsn=4.3.2, status=deferred (mail system is down)")


def test_retry_with_a_code_of_another_class(system):
    request = queue_message("a@example.com")
    request.nexthop = "5.1.1 never"
    assert deliver(system, Error, request, service="retry") == (None, -1)
    assert system.log[0] == 'warning: defer_append: ignoring dsn code "5.1.1"'
    assert system.log[1].endswith(", dsn=4.0.0, status=deferred (never)")


@pytest.mark.parametrize(
    ("service", "nexthop", "words", "text"),
    [
        ("error", "", [], "empty nexthop hostname"),
        ("other", "x", [], "bad error service name: other"),
        ("error", "x", ["flags=D"], "unexpected command-line argument: flags=D"),
    ],
)
def test_fatal(system, service, nexthop, words, text):
    request = queue_message("a@example.com")
    request.nexthop = nexthop
    with pytest.raises(FatalError, match=f"^{text}$"):
        deliver(system, Error, request, service=service, words=words)
